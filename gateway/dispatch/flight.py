"""One claimed message on its way through a channel: which parts went out, what came back, and the sum of it.

Plain data and arithmetic; knows no store and no protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.dispatch.outcome import Outcome
from gateway.store.records import Claimed

_SEVERITY = {
    Outcome.SENT: 0,
    Outcome.SLOW: 1,
    Outcome.WITHOUT: 2,
    Outcome.SAME: 3,
    Outcome.NEXT: 4,
    Outcome.BUG: 5,
    Outcome.CHANNEL: 6,
    Outcome.UNCERTAIN: 7,
    Outcome.PERMANENT: 8,
}


@dataclass(slots=True)
class Taken:
    """What one claim call took for one channel: the store forgets it when all of it is settled."""

    shard: int
    field: str
    left: int


@dataclass(slots=True)
class Flight:
    """A claimed message and what its parts' answers add up to."""

    message: Claimed
    shard: int
    channel: str
    taken: Taken | None = None
    pending: int = 0  # parts without an answer
    accepted: int = 0  # mask of parts accepted in this attempt
    unsent: int = 0  # parts that never left
    status: int | None = None  # of the worst answer
    outcome: Outcome = Outcome.SENT
    smsc_ids: list[tuple[int, str]] = field(default_factory=list)
    late: bool = False  # answered after it had been settled as uncertain
    done: bool = False  # waits to be settled
    cause: str = ""
    one_queue: bool = False  # the full queue that refused it is its recipient's
    unreached: bool = False  # its channel refuses the recipient's whole network
    without: int = 0  # fields (WITHOUT_*) that this attempt went without

    def note(self, outcome: Outcome, status: int | None) -> None:
        """Take one part's outcome in; the worst one stands for the message."""
        if outcome is Outcome.SENT:
            if self.outcome is Outcome.SENT:
                self.status = status
        elif _SEVERITY[outcome] > _SEVERITY[self.outcome]:
            self.outcome = outcome
            self.status = status

    @property
    def all_accepted(self) -> int:
        """Mask of the parts the SMSC has accepted in this attempt or before."""
        return self.accepted | self.message.accepted

    @property
    def complete(self) -> bool:
        """Whether every part of the message has been accepted."""
        return self.all_accepted == (1 << self.message.parts) - 1
