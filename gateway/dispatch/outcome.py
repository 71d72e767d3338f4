"""What a command_status means for a message, and what is done next: one table and one pure decision.

Knows no socket, clock or store. The table is that of the delivery contract (§1.7 there); a channel's `outcomes`
override it code by code, because practice differs. What the table does not name asks the next channel once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY
from gateway.settings import CategorySettings
from gateway.store.moves import HOLD_MS, RESEND_GRACE_MS


class Outcome(Enum):
    """What we decide from an answer, or from its absence."""

    SENT = "sent"
    SLOW = "slow"  # the carrier's rate: again, no attempt used
    WITHOUT = "without"  # a field that this SMSC will not have: again here at once, without it
    SAME = "same"  # a passing fault: again on this channel after a delay, then the next one
    NEXT = "next"  # this channel will not: the next one at once
    CHANNEL = "channel"  # the channel's own fault: elsewhere at once, no attempt used, and the channel closes
    BUG = "bug"  # our encoding or configuration: the next channel once, then final, and an alarm
    PERMANENT = "permanent"  # the message's own fault
    UNCERTAIN = "uncertain"  # nobody knows


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the class, how often SAME tries again here, and whether NEXT is asked only once."""

    outcome: Outcome
    retries: int = 2
    once: bool = False
    alarm: bool = False
    """Whether an operator should hear of it: it will not pass by itself."""
    auth: bool = False
    """Whether asking again soon may lock the account: the channel stays closed for longer."""
    without: int = 0
    """The field (WITHOUT_*) that is left out first, once: the row holds when it was out already, or is never sent."""


_OK = Row(Outcome.SENT)
_SLOW = Row(Outcome.SLOW)
_SAME = Row(Outcome.SAME)
_SAME_ONCE = Row(Outcome.SAME, retries=1)
_NEXT = Row(Outcome.NEXT)
_NEXT_ONCE = Row(Outcome.NEXT, once=True)
_PERMANENT = Row(Outcome.PERMANENT)
_CHANNEL = Row(Outcome.CHANNEL, alarm=True)
_AUTH = Row(Outcome.CHANNEL, alarm=True, auth=True)
_BUG = Row(Outcome.BUG, once=True, alarm=True)
_NO_VALIDITY = Row(Outcome.BUG, once=True, alarm=True, without=WITHOUT_VALIDITY)
_NO_TLVS = Row(Outcome.BUG, once=True, alarm=True, without=WITHOUT_TLVS)

TABLE: dict[int, Row] = {
    0x00: _OK,
    0x01: Row(Outcome.PERMANENT, alarm=True),  # ESME_RINVMSGLEN: our segmentation, or the route's limit
    0x02: _BUG,  # ESME_RINVCMDLEN
    0x03: _BUG,  # ESME_RINVCMDID; also said when an account is restricted
    0x04: _CHANNEL,  # ESME_RINVBNDSTS: not bound as we think
    0x05: _CHANNEL,  # ESME_RALYBND
    0x06: _BUG,  # ESME_RINVPRTFLG
    0x07: _BUG,  # ESME_RINVREGDLVFLG
    0x08: _SAME,  # ESME_RSYSERR
    0x0A: _NEXT_ONCE,  # ESME_RINVSRCADR: another channel may have the sender
    0x0B: _NEXT_ONCE,  # ESME_RINVDSTADR: some say it for "network not enabled on your account"
    0x0C: _BUG,  # ESME_RINVMSGID: belongs to query_sm and its like, as do the next two
    0x0D: _AUTH,  # ESME_RBINDFAIL
    0x0E: _AUTH,  # ESME_RINVPASWD
    0x0F: _AUTH,  # ESME_RINVSYSID
    0x11: _BUG,  # ESME_RCANCELFAIL
    0x13: _BUG,  # ESME_RREPLACEFAIL
    0x14: _SLOW,  # ESME_RMSGQFUL
    0x15: _BUG,  # ESME_RINVSERTYP
    0x33: _BUG,  # ESME_RINVNUMDESTS: submit_multi, lists and replacing, down to 0x44
    0x34: _BUG,
    0x40: _BUG,
    0x42: _BUG,
    0x43: _BUG,  # ESME_RINVESMCLASS: UDH or store-and-forward not supported
    0x44: _BUG,
    0x45: _NEXT_ONCE,  # ESME_RSUBMITFAIL: the commonest catch-all
    0x48: _BUG,  # ESME_RINVSRCTON
    0x49: _BUG,  # ESME_RINVSRCNPI
    0x4A: _BUG,  # 3.4 says 0x50 and 0x51 for the destination's TON and NPI, some tables these two
    0x4B: _BUG,
    0x50: _BUG,  # ESME_RINVDSTTON
    0x51: _BUG,  # ESME_RINVDSTNPI
    0x53: _AUTH,  # ESME_RINVSYSTYP
    0x54: _BUG,  # ESME_RINVREPFLAG
    0x55: _BUG,  # ESME_RINVNUMMSGS
    0x58: _SLOW,  # ESME_RTHROTTLED
    0x61: _NO_VALIDITY,  # ESME_RINVSCHED; said of validity_period too, we never send schedule_delivery_time
    0x62: _NO_VALIDITY,  # ESME_RINVEXPIRY: mostly its clock or zone
    0x63: _BUG,  # ESME_RINVDFTMSGID
    0x64: _SAME,  # ESME_RX_T_APPN
    0x65: _PERMANENT,  # ESME_RX_P_APPN
    0x66: _PERMANENT,  # ESME_RX_R_APPN: content or sender rejected
    0x67: _CHANNEL,  # ESME_RQUERYFAIL; said for "quota violation, add credit"
    0xC0: _NO_TLVS,  # ESME_RINVOPTPARSTREAM: optional parameters, down to 0xC4
    0xC1: _NO_TLVS,
    0xC2: _NO_TLVS,
    0xC3: _NO_TLVS,
    0xC4: _NO_TLVS,
    0xFE: _SAME_ONCE,  # ESME_RDELIVERYFAILURE
    0xFF: _SAME_ONCE,  # ESME_RUNKNOWNERR
    **dict.fromkeys(range(0x100, 0x113), _BUG),  # SMPP 5.0
    0x101: _PERMANENT,  # 5.0: the message's validity has lapsed at the SMSC
    0x102: _NEXT_ONCE,
}
INVALID_DESTINATION, QUEUE_FULL = 0x0B, 0x14
"""Statuses that may be about a whole prefix, or about one recipient's queue (see `destinations`)."""
_VENDOR = Row(Outcome.NEXT, once=True, alarm=True)
_UNKNOWN = _NEXT_ONCE

OVERRIDES: dict[str, Row] = {
    "slow": _SLOW,
    "same": _SAME,
    "next": _NEXT,
    "permanent": _PERMANENT,
    "channel": _CHANNEL,
    "bug": _BUG,
}
"""The words of a channel's `outcomes`."""

SAME_DELAYS_MS = (5_000, 30_000)
SLOW_FIRST_MS, SLOW_MOST_MS = 500, 30_000
SLOW_PATIENCE_MS = {0x58: 3_000, 0x14: 5_000}
"""How long a code waits for a carrier that says it is slow, before it asks another channel."""
ONE_QUEUE_MS = (30_000, 180_000)
"""How long a notification or marketing waits whose recipient's queue at the carrier is full, while others pass."""
CHANNEL_WAIT_MS = 5_000
"""How long a message waits that nobody else can take while its channel is closed."""
AROUND_MS = (
    (2_000, 5_000, 10_000),
    (60_000, 180_000, 600_000, 900_000, 1_800_000),
    (600_000, 3_600_000, 14_400_000, 28_800_000, 36_000_000),
)
"""By category, the waits of a message that every channel has refused once, twice and so on: a code's within seconds, a
notification's within about an hour, marketing's within about a day."""


def classify(status: int, overrides: Mapping[int, Row] | None = None) -> Row:
    """Return the row of a submit_sm_resp's command_status."""
    if overrides and status in overrides:
        return overrides[status]
    row = TABLE.get(status)
    if row is None:
        row = _VENDOR if 0x400 <= status <= 0x4FF else _UNKNOWN
    return row


@dataclass(slots=True)
class Choice:
    """Another channel of the message's route that can submit now: its rank and how often it refused this message."""

    channel: str
    rank: int
    refusals: int
    shares: bool
    """Whether others of its rank could take the message from the rank's queue in its place."""


@dataclass(slots=True)
class Decision:
    """A settle verb (see the store's settle script) with what it needs."""

    verb: str
    delay_ms: int = 0
    rank: int = 0
    reason: str = ""
    target: str = ""
    """The channel alone that is to take it, where its rank has others; '' for anyone of the rank."""
    permanent: bool = False
    """Whether the reason will hold the next time too."""


@dataclass(slots=True)
class Situation:
    """What the decision depends on besides the outcome."""

    category: int
    attempt: int
    slow: int  # retries of this kind so far
    rank: int
    status: int | None
    row: Row
    parts: int
    accepted: int  # mask of the parts the SMSC has accepted, this attempt's included
    jitter: float  # 0..1
    refusals: int = 0  # by other channels before this attempt
    choices: tuple[Choice, ...] = ()  # by rank, without the channel of this attempt
    waited_ms: float = 0.0  # since the message was due
    channel: str = ""  # of this attempt
    one_queue: bool = False  # the full queue is that of its recipient alone
    unreached: bool = False  # the channel refuses the recipient's whole network


def decide(outcome: Outcome, rules: CategorySettings, at: Situation) -> Decision:
    """Decide what becomes of a message after one attempt.

    A message of which some parts were accepted stays on its channel (`p`, `P`): another channel's parts would never be
    put together by the handset. Delays carry jitter so that a refused burst does not come back as a burst.
    """
    if outcome is Outcome.SENT:
        if at.accepted != (1 << at.parts) - 1:
            return Decision("P", 0, at.rank)  # longer than the window: the next parts at once
        return Decision("s", rules.dlr_wait_s * 1000)
    if outcome is Outcome.UNCERTAIN:
        return _uncertain(rules, at)
    if outcome is Outcome.PERMANENT:
        return Decision("F", reason="refused")
    keeps_its_attempt = _NO_ATTEMPT_USED.get(outcome)
    if keeps_its_attempt is not None:
        return keeps_its_attempt(at)
    return _refused(outcome, rules, at)


def _without(at: Situation) -> Decision:
    """Again here at once, a field left out; by name, for the rank may have other channels."""
    return Decision("P", 0, at.rank) if at.accepted else Decision("N", 0, at.rank, target=at.channel)


def _slow(at: Situation) -> Decision:
    if not at.accepted and at.category == 0 and at.waited_ms > SLOW_PATIENCE_MS.get(at.status or 0, 5_000):
        other = _fewest(at)
        if other is not None and not other.refusals:
            return _to(other, "N")
    delay = _spread(min(SLOW_FIRST_MS * 2 ** min(at.slow, 6), SLOW_MOST_MS), at.jitter)
    if at.one_queue and at.category:
        delay = int(ONE_QUEUE_MS[0] + (ONE_QUEUE_MS[1] - ONE_QUEUE_MS[0]) * at.jitter)
    return Decision("P" if at.accepted else "l", delay, at.rank)


def _channel(at: Situation) -> Decision:
    other = _fewest(at)
    if at.accepted or other is None:
        return Decision("P" if at.accepted else "l", _spread(CHANNEL_WAIT_MS, at.jitter), at.rank)
    return _to(other, "N")


_NO_ATTEMPT_USED = {Outcome.WITHOUT: _without, Outcome.SLOW: _slow, Outcome.CHANNEL: _channel}
"""What is not the message's doing."""


def _refused(outcome: Outcome, rules: CategorySettings, at: Situation) -> Decision:
    partly = at.accepted > 0
    if at.attempt >= rules.max_attempts:
        return Decision("F", reason="attempts_exhausted")
    if outcome is Outcome.SAME and (at.slow < at.row.retries or partly):
        delay = SAME_DELAYS_MS[min(at.slow, len(SAME_DELAYS_MS) - 1)]
        return Decision("p" if partly else "r", _spread(delay, at.jitter), at.rank)
    if partly:
        return Decision("F", reason="partly_refused")
    return _elsewhere(at)


def _elsewhere(at: Situation) -> Decision:
    """Ask another channel: one that has not refused it at once, else whoever refused least, later and later."""
    other = _fewest(at)
    if at.unreached and other is not None and not other.refusals:
        return _to(other, "N")  # the channel's fault, not the number's
    if at.row.once and at.refusals:
        return Decision("F", reason="refused")  # two channels say so
    if other is not None and not other.refusals:
        return _to(other, "n")
    if at.row.once:
        return Decision("F", reason="refused")
    # Everybody who could take it has refused it: round again, later and later.
    waits = AROUND_MS[at.category]
    delay = _spread(waits[min(at.attempt - 1, len(waits) - 1)], at.jitter)
    if other is None:
        return Decision("n", delay, at.rank)
    return Decision("n", delay, other.rank, target=other.channel if other.shares else "")


def _fewest(at: Situation) -> Choice | None:
    """Return the channel that refused least; of equals the nearest: this rank, later ones, earlier ones."""
    return min(at.choices, key=lambda c: (c.refusals, c.rank < at.rank, c.rank), default=None)


def _to(other: Choice, verb: str) -> Decision:
    return Decision(verb, 0, other.rank, target=other.channel if other.shares else "")


def _uncertain(rules: CategorySettings, at: Situation) -> Decision:
    if rules.on_uncertain == "fail":
        return Decision("u", 0)
    if rules.on_uncertain == "hold":
        return Decision("u", HOLD_MS)
    # A lost code locks a user out, and its copy carries the same code: verification goes again at once.
    return Decision("U" if at.category == 0 else "u", 0 if at.category == 0 else RESEND_GRACE_MS)


def _spread(delay_ms: int, jitter: float) -> int:
    return int(delay_ms * (0.75 + 0.5 * jitter))
