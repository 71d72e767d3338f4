"""What a channel is like in one word, why and since when: out of what workers, breakers and operators agreed on.

Pure. Owns the words (`STATES`) and which of several truths comes first: what an operator said, then sessions, then the
breaker. `channels_v1`, overview and problems all ask here, so that they never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.settings import ChannelSettings
from gateway.smpp.trouble import ALARM
from gateway.store.changes import Sessions
from gateway.store.moves import Health

UP, PARTIAL, STARTING, DOWN = "up", "partial", "starting", "down"
PAUSED, DRAINING, OPEN, HALF = "paused", "draining", "breaker_open", "breaker_half"
STATES: Final = (UP, PARTIAL, STARTING, DOWN, PAUSED, DRAINING, OPEN, HALF)
USABLE: Final = (UP, PARTIAL)
_OPERATOR: Final = {"pause": PAUSED, "drain": DRAINING}


@dataclass(frozen=True, slots=True)
class State:
    """A channel's state; `cause` is {kind, detail} or None, `since_ms` None where nobody knows."""

    word: str
    cause: dict[str, str] | None
    since_ms: int | None

    @property
    def usable(self) -> bool:
        """Whether a message could be sent there."""
        return self.word in USABLE


def state_of(channel: ChannelSettings, health: Health, *, bound: bool, sessions: Sessions) -> State:
    """Return what a channel is like. `bound`: some worker's lease says that it can submit there."""
    trouble = sessions.trouble
    why = {"kind": trouble.kind, "detail": trouble.detail} if trouble is not None else None
    if health.operator in _OPERATOR:
        return State(_OPERATOR[health.operator], {"kind": "operator", "detail": health.operator}, None)
    if not bound:
        return _unbound(sessions, why)
    if health.state in ("open", "half"):
        word = OPEN if health.state == "open" else HALF
        return State(word, {"kind": "breaker", "detail": health.cause}, health.since_ms or None)
    # A session that only receives may be the one that is missing. A fault of the channel is over where all are bound.
    if trouble is not None and (sessions.bound < channel.binds or trouble.kind != ALARM):
        return State(PARTIAL, why, trouble.since_ms)
    return State(UP, None, sessions.since_ms if sessions.word == "up" else None)


def _unbound(sessions: Sessions, why: dict[str, str] | None) -> State:
    trouble = sessions.trouble
    if trouble is not None:
        return State(DOWN, why, sessions.since_ms if sessions.word == "down" else trouble.since_ms)
    if sessions.slots:
        return State(STARTING, None, None)
    return State(DOWN, {"kind": "no_worker", "detail": ""}, None)


def trouble_view(sessions: Sessions) -> dict[str, Any] | None:
    """Return the latest trouble of a channel's sessions, for an answer."""
    trouble = sessions.trouble
    if trouble is None:
        return None
    return {
        "kind": trouble.kind,
        "detail": trouble.detail,
        "since_ms": trouble.since_ms,
        "at_ms": trouble.at_ms,
    }
