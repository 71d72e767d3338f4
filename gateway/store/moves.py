"""What goes into the store's moves and what comes out of them: plain values, no I/O.

Dispatch and the receipt processor build these; `store.Store` lays them out for the scripts. Pure, so that a decision
that only needs the words need not import the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEASE_MS = 10_000
HOLD_MS = 600_000
"""How long an uncertain message of a category that holds waits for a receipt."""
RESEND_GRACE_MS = 30_000
"""How long after the response timer an uncertain message that may be sent again waits for one."""


@dataclass(slots=True)
class ClaimSource:
    """One place a channel may take from: a route's queues of a rank, and how long their heads must have waited.

    `min_wait_ms` has one value a category: 0 at once, more for overflow, -1 not at all. `share` says how the channel
    shares it with others that may take from it (see `lua/claim.lua`), '' where it is alone.
    """

    route: str
    rank: int
    min_wait_ms: tuple[int, int, int]
    share: str = ""


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


@dataclass(frozen=True, slots=True)
class Health:
    """What all workers agree on about a channel: its breaker, and what an operator said."""

    state: str = "closed"  # closed | half | open
    since_ms: int = 0
    cause: str = ""
    operator: str = "run"  # run | pause | drain


@dataclass(frozen=True, slots=True)
class Recipient:
    """What the store knows of a number: blacklists (scope → mask of categories, reason), and when it was written to.

    `sent` has the times (epoch s) that count for per-number limits, by category and account.
    """

    blacklists: dict[str, tuple[int, str]]
    sent: dict[tuple[int, str], tuple[int, ...]]


@dataclass(slots=True)
class Settlement:
    """What became of one claimed attempt; see `lua/settle.lua` for the verbs."""

    claim: bytes
    """The message's id and the time its record bore when it was claimed (`Claimed.claim`)."""
    attempt: int
    verb: str
    channel: str
    delay_ms: int = 0
    accepted_mask: int = 0
    rank: int = 0
    reason: str = ""
    code: str = ""
    target: str = ""
    redeliver_ms: int = 0
    """When to send a copy on another channel unless a receipt came; 0: never."""
    price: int = 0
    """Of one part, in millionths of the price's unit; counted for the parts accepted now."""
    permanent: bool = False
    """Whether the reason will hold the next time too."""
    log: str = ""

    def row(self) -> SettleRow:
        """Return the item as the script takes it."""
        return (
            self.claim,
            self.attempt,
            self.verb,
            self.channel,
            self.delay_ms,
            self.accepted_mask,
            self.rank,
            self.reason,
            self.code,
            self.target,
            self.redeliver_ms,
            self.price,
            "1" if self.permanent else "",
            self.log,
        )


@dataclass(frozen=True, slots=True)
class Feedback:
    """What an application tells of a message that was sent; '' where it did not say. Its values hold no separators."""

    outcome: str  # clicked | converted | complained
    event_id: str
    amount: str = ""
    currency: str = ""
    customer: str = ""  # new | returning
    at_ms: int = 0
    """When it happened; in a record, when it was told where the application did not say. 0: not said."""


SettleRow = tuple[bytes, int, str, str, int, int, int, str, str, str, int, int, str, str]

SmscId = tuple[str, bytes]
"""channel:smsc_id in the canonical spelling of the channel's id_format, and what it names (`named`)."""


ALL_PARTS = 16
"""In place of a part's number: the id names the whole message, whose parts went as one submit_sm."""


def named(sid: bytes, part: int) -> bytes:
    """Return what an SMSC id names, as the scripts read it: a message and one of its parts (from 0), or ALL_PARTS."""
    return sid + _PARTS[part]


_PARTS = [bytes((48 + part,)) for part in range(ALL_PARTS + 1)]

ReceiptRow = tuple[str, str, bytes, str, str, str, bool, bool]
"""A final receipt: channel, its id's spellings (`spellings`), address digits, state letter, reason, carrier code,
whether another channel may do better, and whether the reason will hold the next time too."""

BY_ADDRESS = 8
"""In place of a spelling: nobody knows the id, but to its address there is one attempt it must be the outcome of."""

RATING_S = 300
"""Grain of the counts of how channels do."""


@dataclass(slots=True)
class Redelivery:
    """What was decided about a message whose redelivery was asked for; see `lua/redeliver.lua` for the verbs."""

    id: bytes
    verb: str
    rank: int = 0
    target: str = ""
    delay_ms: int = 0


ID_SEPARATOR = "\x1f"
GUESS_SEPARATOR = "\x1e"
GUESS_AFTER_S = 10
"""How long a receipt waits for its submit's response before a guess at its id's spelling may name another message."""


def spellings(channel: str, keys: Iterable[str], guesses: Iterable[str] = ()) -> str:
    """Return the spellings of a receipt's id, the likeliest first, as the scripts take them.

    `guesses` are believed only where they cannot mean another message to the same number.
    """
    sure = ID_SEPARATOR.join([f"{channel}:{key}" for key in keys])
    return sure + "".join([f"{GUESS_SEPARATOR}{channel}:{key}" for key in guesses])


@dataclass(slots=True)
class ParkedReceipt:
    """A receipt that waits until its message is known."""

    row: ReceiptRow
    payload: bytes
    """What it is kept as; the scripts compare it, so that the same receipt is kept once."""
    again: bool = True
    """Whether to look first if its id is known by now."""
