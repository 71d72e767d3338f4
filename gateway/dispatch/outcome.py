"""What a command_status means for a message, and what is done next: one table and one pure decision.

Knows no socket, clock or store. The classes are those of the delivery contract; the table names the statuses whose
class differs from the default (`next`), and carriers' own codes fall under it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gateway.settings import CategorySettings
from gateway.store.moves import HOLD_MS, RESEND_GRACE_MS


class Outcome(Enum):
    """What we decide from an answer, or from its absence."""

    SENT = "sent"
    SLOW = "slow"  # the carrier's rate: again, no attempt used
    SAME = "same"  # a passing fault: again on this channel after a delay, then the next one
    NEXT = "next"  # this channel will not: the next rank at once
    PERMANENT = "permanent"  # the message's own fault
    UNCERTAIN = "uncertain"  # nobody knows


_S, _A, _N, _P = Outcome.SLOW, Outcome.SAME, Outcome.NEXT, Outcome.PERMANENT

TABLE: dict[int, Outcome] = {
    0x00: Outcome.SENT,
    0x01: _P,  # ESME_RINVMSGLEN
    0x08: _A,  # ESME_RSYSERR
    0x0B: _N,  # ESME_RINVDSTADR: some say it for "network not enabled on your account"
    0x14: _S,  # ESME_RMSGQFUL
    0x45: _N,  # ESME_RSUBMITFAIL
    0x58: _S,  # ESME_RTHROTTLED
    0x64: _A,  # ESME_RX_T_APPN
    0x65: _P,  # ESME_RX_P_APPN
    0x66: _P,  # ESME_RX_R_APPN
    0xFE: _A,  # ESME_RDELIVERYFAILURE
    0xFF: _A,  # ESME_RUNKNOWNERR
    0x101: _P,  # SMPP 5.0
}
SAME_DELAYS_MS = (5_000, 30_000)
SLOW_FIRST_MS, SLOW_MOST_MS = 500, 30_000


def classify(status: int) -> Outcome:
    """Return the class of a submit_sm_resp's command_status; an unknown one asks the next channel."""
    return TABLE.get(status, Outcome.NEXT)


@dataclass(slots=True)
class Decision:
    """A settle verb (see the store's settle script) with what it needs."""

    verb: str
    delay_ms: int = 0
    rank: int = 0
    reason: str = ""


@dataclass(slots=True)
class Situation:
    """What the decision depends on besides the outcome."""

    category: int
    attempt: int
    slow: int  # retries of this kind so far
    rank: int
    next_rank: int | None
    status: int | None
    parts: int
    accepted: int  # mask of the parts the SMSC has accepted, this attempt's included
    jitter: float  # 0..1


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
    if outcome is Outcome.SLOW:
        delay = min(SLOW_FIRST_MS * 2 ** min(at.slow, 6), SLOW_MOST_MS)
        return Decision("P" if at.accepted else "l", _spread(delay, at.jitter), at.rank)
    return _refused(outcome, rules, at)


def _refused(outcome: Outcome, rules: CategorySettings, at: Situation) -> Decision:
    partly = at.accepted > 0
    if at.attempt >= rules.max_attempts:
        return Decision("F", reason="attempts_exhausted")
    if outcome is Outcome.SAME and (at.slow < len(SAME_DELAYS_MS) or partly):
        delay = SAME_DELAYS_MS[min(at.slow, len(SAME_DELAYS_MS) - 1)]
        return Decision("p" if partly else "r", _spread(delay, at.jitter), at.rank)
    if partly:
        return Decision("F", reason="partly_refused")
    if at.next_rank is not None:
        return Decision("n", 0, at.next_rank)
    return Decision("F", reason="refused")


def _uncertain(rules: CategorySettings, at: Situation) -> Decision:
    if rules.on_uncertain == "fail":
        return Decision("u", 0)
    if rules.on_uncertain == "hold":
        return Decision("u", HOLD_MS)
    # A lost code locks a user out, and its copy carries the same code: verification goes again at once.
    return Decision("U" if at.category == 0 else "u", 0 if at.category == 0 else RESEND_GRACE_MS)


def _spread(delay_ms: int, jitter: float) -> int:
    return int(delay_ms * (0.75 + 0.5 * jitter))
