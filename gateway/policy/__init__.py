"""What may be sent to whom and when: the rules of each category, as pure functions with the clock as an argument.

`optout` reads a handset's reply; `windows` is the arithmetic of hours in time zones, `time_zones` says where a number's
clock may stand, `quiet_hours` puts both together by category and country, and `send_window` adds `send_hours` and the
campaign's own. `caps` says which limits a number has, `texts` and `content` what a text must and must not hold, and
`policy` reads all tables. Nothing here knows HTTP, the store or SMPP, so intake, dispatch and a mere question get the
same answer from the same call.
"""
