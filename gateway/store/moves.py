"""What goes into the store's moves and what comes out of them: plain values, no I/O.

Dispatch and the receipt processor build these; `store.Store` lays them out for the scripts. Pure, so that a decision
that only needs the words need not import the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEASE_MS = 10_000
HOLD_MS = 600_000
"""How long an uncertain message of a category that holds waits for a receipt."""
RESEND_GRACE_MS = 30_000
"""How long after the response timer an uncertain message that may be sent again waits for one."""


@dataclass(slots=True)
class ClaimSource:
    """One place a channel may take from: a route's queues of a rank, and how long their heads must have waited.

    `min_wait_ms` has one value a category: 0 at once, more for overflow, -1 not at all.
    """

    route: str
    rank: int
    min_wait_ms: tuple[int, int, int]


@dataclass(slots=True)
class ClaimRequest:
    """What one channel could send now: parts for verification, parts for the other categories (never more)."""

    channel: str
    parts: int
    parts_rest: int
    sources: list[ClaimSource]


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's lease: its heartbeats so far, its end (epoch ms) and the channels on which it can submit."""

    heartbeats: int
    ends_at_ms: int
    channels: frozenset[str]


@dataclass(slots=True)
class Settlement:
    """What became of one claimed attempt; see `lua/settle.lua` for the verbs."""

    id: str
    shard: int
    attempt: int
    verb: str
    channel: str
    delay_ms: int = 0
    accepted_mask: int = 0
    rank: int = 0
    reason: str = ""
    code: str = ""
    log: str = ""

    def row(self) -> SettleRow:
        """Return the item as the script takes it."""
        return (
            self.id,
            self.attempt,
            self.verb,
            self.channel,
            self.delay_ms,
            self.accepted_mask,
            self.rank,
            self.reason,
            self.code,
            self.log,
        )


SettleRow = tuple[str, int, str, str, int, int, int, str, str, str]


@dataclass(slots=True)
class Correlation:
    """The SMSC's id of one part of one message."""

    channel: str
    smsc_id: str  # in the canonical spelling of the channel's id_format
    id: str
    part: int


@dataclass(slots=True)
class FoundReceipt:
    """A receipt to look up: candidates for its id, best first, and what to keep when nobody knows it."""

    channel: str
    candidates: tuple[str, ...]
    payload: bytes
    not_of: set[str] = field(default_factory=set)
    """Messages that have such an id but another number."""


@dataclass(slots=True)
class ReceiptMatch:
    """The message part a receipt names, and by which of its spellings it was found."""

    id: str
    part: int
    candidate: int


ReceiptRow = tuple[str, str | int, str, str, str | bytes, str, str]


@dataclass(slots=True)
class AppliedReceipt:
    """A final receipt whose message is known."""

    id: str
    shard: int
    part: int
    channel: str
    state: str
    address: str
    reason: str
    code: str
