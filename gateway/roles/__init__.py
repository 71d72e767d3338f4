"""The roles of worker processes, one file each, as prose: which parts it needs, and in which order they start and stop.

Each owns nothing of its own: it builds the parts, hands them to each other, and builds new ones beside them when other
settings are proposed (`prepare`, see `reload.Prepare`). Refuses to decide anything about a message. Stands below `app`,
above everything that does something.
"""
