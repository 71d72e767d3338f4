"""A carrier's SMSC that misbehaves on request: for tests, the demo and the bench. Beside the gateway's path.

In the order of a short message: `smsc` (sockets, time), `behaviour` (what to do with it), `receipts` (what is
sent back), `ledger` (what was seen), `wheel` (when), `cli` (`smsgw simulate`).
"""
