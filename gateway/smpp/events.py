"""What a session tells its owner: events as small slotted values, in the order in which they happened.

Plain data; knows neither octets nor time. `session` makes them, the dispatcher and the simulator read them,
and both may import them from `session` as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from gateway.smpp.pdu import Bind, DataSm, DeliverSm, Malformed, SubmitSm


class BindType(StrEnum):
    """What a session is bound for; the value is its command's suffix."""

    TRANSMITTER = "transmitter"
    RECEIVER = "receiver"
    TRANSCEIVER = "transceiver"


class CloseReason(StrEnum):
    """Why a session ended."""

    LOCAL = "local"  # close() was called
    UNBOUND = "unbound"  # we asked, the peer agreed (or did not answer in time)
    UNBOUND_BY_PEER = "unbound_by_peer"
    PEER_CLOSED = "peer_closed"  # the connection ended without unbind
    BIND_REFUSED = "bind_refused"
    BIND_TIMEOUT = "bind_timeout"
    RESPONSE_TIMEOUTS = "response_timeouts"
    LINK_TIMEOUT = "link_timeout"
    NACKS = "nacks"
    FRAMING = "framing"
    NOT_READING = "not_reading"  # the peer takes nothing from us any more (the shell decides)


@dataclass(slots=True)
class Bound:
    """The SMSC accepted our bind. `interface_version` 0: it did not say (3.3, by SMPP 3.4 §5.2.25)."""

    bind_type: BindType
    system_id: bytes = field(repr=False)
    interface_version: int


@dataclass(slots=True)
class BindRefusedEvent:
    """The SMSC refused our bind; `Closed` follows."""

    status: int


@dataclass(slots=True)
class BindRequested:
    """SMSC role: an ESME wants to bind; answer with `accept_bind(pdu.sequence_number, status)`."""

    pdu: Bind
    bind_type: BindType


@dataclass(slots=True)
class OutbindReceived:
    """ESME role, before a bind: the SMSC called and asks for one; answer with `start`, or `close`."""

    system_id: bytes = field(repr=False)
    password: bytes = field(repr=False)


@dataclass(slots=True)
class SubmitReceived:
    """SMSC role: answer with `respond_submit(pdu.sequence_number, …)`."""

    pdu: SubmitSm


@dataclass(slots=True)
class SubmitAnswered:
    """The SMSC answered a submit (or nacked it, never with status 0). `late`: it was reported as timed
    out.
    """

    context: Any
    status: int
    message_id: bytes
    sent_at: float
    now: float
    late: bool


@dataclass(slots=True)
class SubmitTimedOut:
    """No answer within `response_timer_s`: nobody knows what became of it. Its slot is free."""

    context: Any
    sent_at: float
    now: float


@dataclass(slots=True)
class DeliverReceived:
    """ESME role: a receipt or an inbound message; answer with `respond_deliver` once it is recorded."""

    pdu: DeliverSm | DataSm


@dataclass(slots=True)
class DeliverMalformed:
    """ESME role: a deliver_sm or data_sm nobody can read. Keep `pdu.raw` and answer 0, or it returns for days."""

    pdu: Malformed


@dataclass(slots=True)
class DeliverAnswered:
    """SMSC role: the ESME answered a deliver (or nacked it)."""

    context: Any
    status: int
    sent_at: float
    now: float
    late: bool


@dataclass(slots=True)
class DeliverTimedOut:
    """SMSC role: no answer to a deliver within `response_timer_s`."""

    context: Any
    sent_at: float
    now: float


@dataclass(slots=True)
class UnboundByPeer:
    """The peer sent unbind and was answered; nothing may be sent any more, `Closed` follows."""


@dataclass(slots=True)
class PeerNack:
    """A generic_nack that answers nothing we know of."""

    status: int
    sequence_number: int


@dataclass(slots=True)
class ProtocolProblem:
    """The peer did something wrong and was answered; for the log (limit the lines: it sets the rate)."""

    detail: str


@dataclass(slots=True)
class Closed:
    """The end. `lost`: given to the transport, never answered; `unsent`: never left us, safe to requeue."""

    reason: CloseReason
    detail: str
    lost: list[Any]
    unsent: list[Any]


Event: TypeAlias = (
    Bound
    | BindRefusedEvent
    | BindRequested
    | OutbindReceived
    | SubmitReceived
    | SubmitAnswered
    | SubmitTimedOut
    | DeliverReceived
    | DeliverMalformed
    | DeliverAnswered
    | DeliverTimedOut
    | UnboundByPeer
    | PeerNack
    | ProtocolProblem
    | Closed
)


@dataclass(slots=True)
class SessionCounters:
    """Plain numbers for the metrics; they only grow."""

    pdus_received: int = 0
    submits_sent: int = 0
    delivers_sent: int = 0
    answers: int = 0
    late_answers: int = 0
    timeouts: int = 0
    unmatched_responses: int = 0  # unknown, repeated or zero sequence numbers: ignored
    unmatched_nacks: int = 0
    malformed: int = 0
    unknown_commands: int = 0
    wrong_state: int = 0
    enquire_links_sent: int = 0
