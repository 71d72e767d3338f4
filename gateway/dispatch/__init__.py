"""From the queues to the carriers and back: claim, submit, settle, and the clocks of the store."""
