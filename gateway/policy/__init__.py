"""What may be sent to whom and when: the rules of each category, as pure functions with the clock as an argument.

`optout` reads a handset's reply; `windows` is the arithmetic of hours in time zones, `time_zones` says where a number's
clock may stand, `quiet_hours` puts both together by category and country. Nothing here knows HTTP, the store or SMPP,
so intake, dispatch and a mere question get the same answer from the same call.
"""
