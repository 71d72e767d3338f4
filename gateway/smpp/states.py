"""The states of a session and the one table of what leads from each to the next.

Plain data; `session` is the only one that moves along it. Short messages may be sent by the end that is bound
for it in the three bound states only; answers are still taken in `UNBINDING` and `LEAVING`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Role(Enum):
    """Which end of the session we are."""

    ESME = "esme"
    SMSC = "smsc"


class SessionState(Enum):
    """Where the session stands; SMPP 3.4 §2.2 with the steps between its states named as well."""

    OPEN = "open"  # connected; the bind is not sent (ESME) or not received (SMSC)
    BINDING = "binding"  # the bind waits for its answer
    BOUND_TX = "bound_tx"
    BOUND_RX = "bound_rx"
    BOUND_TRX = "bound_trx"
    UNBINDING = "unbinding"  # we asked to end
    LEAVING = "leaving"  # the peer asked, was answered, and may still answer what we sent
    CLOSED = "closed"


class Move(Enum):
    """What can happen to the state."""

    BIND = "bind"
    REFUSE = "refuse"
    BOUND_TX = "bound_tx"
    BOUND_RX = "bound_rx"
    BOUND_TRX = "bound_trx"
    UNBIND = "unbind"
    PEER_UNBIND = "peer_unbind"
    END = "end"


_BOUND_MOVES: Final = {
    Move.UNBIND: SessionState.UNBINDING,
    Move.PEER_UNBIND: SessionState.LEAVING,
    Move.END: SessionState.CLOSED,
}
TRANSITIONS: Final[dict[SessionState, dict[Move, SessionState]]] = {
    SessionState.OPEN: {
        Move.BIND: SessionState.BINDING,
        Move.PEER_UNBIND: SessionState.LEAVING,
        Move.END: SessionState.CLOSED,
    },
    SessionState.BINDING: {
        Move.BOUND_TX: SessionState.BOUND_TX,
        Move.BOUND_RX: SessionState.BOUND_RX,
        Move.BOUND_TRX: SessionState.BOUND_TRX,
        Move.REFUSE: SessionState.OPEN,  # SMSC role: the peer may try again; an ESME that was refused ends
        Move.PEER_UNBIND: SessionState.LEAVING,
        Move.END: SessionState.CLOSED,
    },
    SessionState.BOUND_TX: _BOUND_MOVES,
    SessionState.BOUND_RX: _BOUND_MOVES,
    SessionState.BOUND_TRX: _BOUND_MOVES,
    SessionState.UNBINDING: {
        Move.PEER_UNBIND: SessionState.UNBINDING,  # both asked at once: answer, and wait for our own answer
        Move.END: SessionState.CLOSED,
    },
    SessionState.LEAVING: {Move.PEER_UNBIND: SessionState.LEAVING, Move.END: SessionState.CLOSED},
    SessionState.CLOSED: {},
}
