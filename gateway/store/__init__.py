"""Everything that touches Redis: keys, scripts, records, the client and the moves of a message's life."""
