"""Hot reload: how a change of the configuration comes into force on all machines, or on none.

    machine    what a machine remembers, what it starts with, and whose turn it is: files or revision in force
    keeper     a worker's side: sees a proposal, builds the new parts, votes, swaps; follows the revision in force
    publisher  whoever proposes: reload, rollback, publication at the start; one a machine
    files      the machine's files while it runs: what they say, whether they changed, writing a revision into them
    changes    what differs between two configurations, for logs and people; secrets masked

Owns the protocol above the store's moves (`store.revisions`). Refuses to know what a role builds out of settings: it
calls `Prepare`. Stands below `app` and the admin listener, above the checks.
"""

from gateway.reload.keeper import ConfigKeeper, Prepare
from gateway.reload.machine import Start, begin, resume

__all__ = ["ConfigKeeper", "Prepare", "Start", "begin", "resume"]
