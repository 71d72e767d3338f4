"""One SMPP session as a value: octets, calls and `now` go in; octets and events come out. Both roles.

Opens no socket, reads no clock, logs nothing; a peer's octets never make it raise. Stands between the codec
and the asyncio shell (`connection`); the simulator and the protocol tests use it in the SMSC role.

How to drive it (`now`: any monotonic clock in seconds, always the same one):

    session = Session(Role.ESME, SessionConfig(system_id="acme", password=Secret("…"), window=50), now)
    session.start(now)                             ESME: queue the bind (the SMSC role waits for it)
    session.data_to_send() -> bytes                everything queued, joined; what it returned counts as sent
    session.receive_data(data, now) -> [Event]     any cut of the stream
    session.receive_eof(now) -> [Event]            the peer closed its half, or the connection is lost
    session.tick(now) -> [Event]                   timers; not before next_deadline(), early calls do no harm
    session.next_deadline() -> float | None
    session.free -> int                            short messages that may be sent now (0 unless bound for it)
    session.submit(SubmitSm, context, now) -> int  ESME; raises SessionClosed, WindowFull, EncodeError
    session.respond_deliver(number, status=0)      ESME, any order; in bulk respond_delivers(numbers, status)
    session.accept_bind(number, status=0)          SMSC, answers BindRequested
    session.respond_submit(number, message_id=b"", status=0)    SMSC, any order
    session.deliver(DeliverSm, context, now) -> int             SMSC, as submit
    session.unbind(now) -> [Event]                 ask to end; answers still come in until unbind_resp
    session.close(now, reason) -> [Event]          end now

Events: Bound, BindRefusedEvent, BindRequested, OutbindReceived, SubmitReceived, SubmitAnswered, SubmitTimedOut,
DeliverReceived, DeliverMalformed, DeliverAnswered, DeliverTimedOut, UnboundByPeer, PeerNack, ProtocolProblem,
Closed. After `Closed`, always the last and exactly once, send what `data_to_send` still holds and close the
transport. Each context given to `submit` comes back exactly once as answered, timed out, or in `Closed.lost`
or `Closed.unsent`; one that timed out may come back a second time as answered with `late=True`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.errors import EncodeError, MalformedPdu, SessionClosed
from gateway.model import Secret
from gateway.smpp import constants as c
from gateway.smpp.codec import (
    Decoder,
    encode,
    encode_data_sm_resp,
    encode_deliver_sm,
    encode_deliver_sm_resp,
    encode_deliver_sm_resps,
    encode_header,
    encode_submit_sm,
    encode_submit_sm_resp,
    read_outbind,
)
from gateway.smpp.events import (
    BindRefusedEvent,
    BindRequested,
    BindType,
    Bound,
    Closed,
    CloseReason,
    DeliverAnswered,
    DeliverMalformed,
    DeliverReceived,
    DeliverTimedOut,
    Event,
    OutbindReceived,
    PeerNack,
    ProtocolProblem,
    SessionCounters,
    SubmitAnswered,
    SubmitReceived,
    SubmitTimedOut,
    UnboundByPeer,
)
from gateway.smpp.pdu import (
    Bind,
    BindResp,
    DataSm,
    DataSmResp,
    DecodedPdu,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Malformed,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
    Unknown,
)
from gateway.smpp.states import TRANSITIONS, Move, Role, SessionState
from gateway.smpp.window import Entry, Window, WindowFull

__all__ = [
    "TRANSITIONS",
    "BindRefusedEvent",
    "BindRequested",
    "BindType",
    "Bound",
    "CloseReason",
    "Closed",
    "DeliverAnswered",
    "DeliverMalformed",
    "DeliverReceived",
    "DeliverTimedOut",
    "Event",
    "Move",
    "OutbindReceived",
    "PeerNack",
    "ProtocolProblem",
    "Role",
    "Session",
    "SessionConfig",
    "SessionCounters",
    "SessionState",
    "SubmitAnswered",
    "SubmitReceived",
    "SubmitTimedOut",
    "UnboundByPeer",
    "WindowFull",
]


_BOUND: Final = frozenset({SessionState.BOUND_TX, SessionState.BOUND_RX, SessionState.BOUND_TRX})
_BIND_COMMANDS: Final = {
    BindType.TRANSMITTER: (c.BIND_TRANSMITTER, Move.BOUND_TX),
    BindType.RECEIVER: (c.BIND_RECEIVER, Move.BOUND_RX),
    BindType.TRANSCEIVER: (c.BIND_TRANSCEIVER, Move.BOUND_TRX),
}
_BIND_TYPES: Final = {command_id: bind_type for bind_type, (command_id, _) in _BIND_COMMANDS.items()}

TIMEOUTS_IN_A_ROW: Final = 3
"""Time-outs in a row that end the session, though the link may still be answered."""
NACKS_A_MINUTE: Final = 3
"""generic_nacks we cannot match to a request that end the session."""
LEAVING_S: Final = 5.0
"""Longest wait, after the peer's unbind, for its answers to what we sent before."""
LATE_S: Final = 300.0
"""How long a late answer is still known as one, at least (ten response timers when that is more)."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What a session needs to know. Times in seconds; a timer of 0 is off.

    `window` counts our own unanswered requests: submit_sm of an ESME, deliver_sm of an SMSC. `password`,
    `bind_type` and the address fields are the ESME's; `system_id` is ours in both roles.
    """

    system_id: str = field(repr=False)
    password: str = field(default=Secret(""), repr=False)
    system_type: str = ""
    bind_type: BindType = BindType.TRANSCEIVER
    window: int = 10
    response_timer_s: float = 30.0
    enquire_link_s: float = 30.0
    session_init_timer_s: float = 10.0
    interface_version: int = c.INTERFACE_VERSION_34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""
    first_sequence_number: int = 1
    long_password: bool = False  # up to LONG_PASSWORD_OCTETS where the specification has 8

    def bind(self) -> Bind:
        """Return the bind this configuration asks for.

        Raises:
            EncodeError: a name or password is not Latin-1. Its length is checked when the PDU is encoded.
        """
        password = self.password.reveal() if isinstance(self.password, Secret) else self.password
        try:
            return Bind(
                _BIND_COMMANDS[self.bind_type][0],
                self.system_id.encode("latin-1"),
                password.encode("latin-1"),
                self.system_type.encode("latin-1"),
                self.interface_version,
                self.addr_ton,
                self.addr_npi,
                self.address_range.encode("latin-1"),
            )
        except UnicodeEncodeError:
            # Not chained: the original error quotes the text, which may be the password.
            raise EncodeError("system_id, password, system_type or address_range is not Latin-1") from None


# ------------------------------------------------------------------------------------------------------------
# The session
# ------------------------------------------------------------------------------------------------------------
class Session:
    """One bind over one connection; see the module's docstring for how it is driven."""

    def __init__(self, role: Role, config: SessionConfig, now: float) -> None:
        self.role = role
        self.config = config
        self.counters = SessionCounters()
        self.bind_type: BindType | None = None
        self.peer_system_id = b""
        self.close_reason: CloseReason | None = None
        self._state = SessionState.OPEN
        self._ended = False
        self._handlers = _HANDLERS[role]
        self._decoder = Decoder()
        self._window = Window(config.window)
        self._out: list[bytes] = []
        self._fresh: list[int] = []  # requests whose octets are still in _out
        self._unsent: list[Any] = []  # contexts taken back from _out before the end
        self._may_send = False  # short messages, from us
        self._may_receive = False  # short messages, from the peer
        self._next_number = config.first_sequence_number
        self._numbers_used_up = False
        self._bind_sequence_number: int | None = None
        self._data_numbers: set[int] = set()  # of data_sm not answered yet: they want a data_sm_resp
        self._opened_at = now
        self._received_at = now
        self._link: tuple[int, float] | None = None  # our unanswered enquire_link: number, sent at
        self._unbind: tuple[int, float] | None = None
        self._leave_at = 0.0
        self._timeouts_in_a_row = 0
        self._nacked_at: deque[float] = deque(maxlen=NACKS_A_MINUTE)

    # --- what can be asked ---
    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def bound(self) -> bool:
        """True between a good bind and the first unbind of either side."""
        return self._state in _BOUND

    @property
    def closed(self) -> bool:
        """True after the end, whatever ended it."""
        return self._ended

    @property
    def free(self) -> int:
        """Short messages that may be sent now: 0 when not bound for it or when the window is full."""
        return self._window.free if self._may_send else 0

    def resize(self, window: int) -> None:
        """Allow so many unanswered requests from now on; those that are open stay open."""
        self._window.size = window

    @property
    def in_flight(self) -> int:
        """Requests of ours without an answer."""
        return len(self._window)

    @property
    def queued(self) -> int:
        """Pieces of output that `data_to_send` would return now."""
        return len(self._out)

    # --- our own moves ---
    def start(self, now: float) -> None:
        """ESME: queue the bind.

        Raises:
            EncodeError: the configuration does not fit the PDU (a password of 9 octets, say).
            SessionClosed: it was started before.
        """
        if self._state is not SessionState.OPEN or self.role is not Role.ESME:
            raise SessionClosed(f"cannot bind as {self.role.value} in state {self._state.value}")
        number = self._take_number()
        limits = {"password": c.LONG_PASSWORD_OCTETS} if self.config.long_password else {}
        self._out.append(encode(self.config.bind(), number, limits))
        self._bind_sequence_number = number
        self._opened_at = self._received_at = now
        self._move(Move.BIND)

    def submit(
        self,
        pdu: Any,
        context: object,
        now: float,
        encode_it: Callable[[Any, int], bytes] = encode_submit_sm,
    ) -> int:
        """ESME: queue a submit_sm, take a window slot, return its sequence number (the PDU's own is ignored).
        `pdu` is a SubmitSm, or whatever `encode_it(pdu, sequence_number)` lays out as one.

        Raises:
            SessionClosed: not bound as transmitter or transceiver, or unbinding.
            WindowFull: no slot.
            EncodeError: the PDU cannot be built; no slot is taken.
        """
        if not self._may_send or self.role is not Role.ESME:
            raise SessionClosed(f"cannot submit in state {self._state.value}")
        number = self._send_short_message(encode_it, pdu, context, now)
        self.counters.submits_sent += 1
        return number

    def deliver(
        self,
        pdu: Any,
        context: object,
        now: float,
        encode_it: Callable[[Any, int], bytes] = encode_deliver_sm,
    ) -> int:
        """SMSC: queue a deliver_sm and take a window slot; as `submit`. `pdu` is a DeliverSm, or whatever
        `encode_it(pdu, sequence_number)` lays out as one.

        Raises:
            SessionClosed: the ESME is not bound as receiver or transceiver.
            WindowFull: no slot.
            EncodeError: the PDU cannot be built; no slot is taken.
        """
        if not self._may_send or self.role is not Role.SMSC:
            raise SessionClosed(f"cannot deliver in state {self._state.value}")
        number = self._send_short_message(encode_it, pdu, context, now)
        self.counters.delivers_sent += 1
        return number

    def _send_short_message(self, encode_it: Callable[[Any, int], bytes], pdu: Any, context: object, now: float) -> int:
        number = self._next_number
        if self._numbers_used_up:
            number = self._unused_number(number)
        octets = encode_it(pdu, number)
        self._window.add(number, context, now)
        self._set_next_number(number)
        self._out.append(octets)
        self._fresh.append(number)
        return number

    def respond_deliver(self, sequence_number: int, status: int = 0) -> None:
        """ESME: answer a deliver_sm or data_sm; after the end nothing happens (the SMSC will send it again)."""
        if self._ended:
            return
        if sequence_number in self._data_numbers:
            self._data_numbers.discard(sequence_number)
            self._out.append(encode_data_sm_resp(sequence_number, status))
        else:
            self._out.append(encode_deliver_sm_resp(sequence_number, status))

    def respond_delivers(self, sequence_numbers: Iterable[int], status: int = 0) -> None:
        """ESME: answer many deliver_sm and data_sm with one status."""
        if self._data_numbers:
            for number in sequence_numbers:
                self.respond_deliver(number, status)
        elif not self._ended:
            self._out.append(encode_deliver_sm_resps(sequence_numbers, status))

    def respond_submit(self, sequence_number: int, message_id: bytes = b"", status: int = 0) -> None:
        """SMSC: answer a submit_sm; nothing happens when the session has ended.

        Raises:
            EncodeError: `message_id` has more than 64 octets.
        """
        if not self._ended:
            self._out.append(encode_submit_sm_resp(sequence_number, message_id, status))

    def accept_bind(self, sequence_number: int, status: int = 0) -> None:
        """SMSC: answer a BindRequested; an error `status` refuses it, and the peer may try again.

        Raises:
            SessionClosed: no bind with this number waits for an answer.
        """
        if self._state is not SessionState.BINDING or sequence_number != self._bind_sequence_number:
            raise SessionClosed(f"no bind {sequence_number} to answer in state {self._state.value}")
        assert self.bind_type is not None
        command_id, move = _BIND_COMMANDS[self.bind_type]
        tlvs = {c.TAG_SC_INTERFACE_VERSION: bytes((self.config.interface_version,))}
        resp = BindResp(command_id | c.RESPONSE_BIT, self.config.system_id.encode("latin-1"), tlvs, status)
        self._out.append(encode(resp, sequence_number))
        self._bind_sequence_number = None
        if status:
            self._move(Move.REFUSE)
        else:
            self._set_bound(move)

    def unbind(self, now: float) -> list[Event]:
        """Ask the peer to end; no more submits, but answers still come in. Before the bind: just end."""
        if self._state in _BOUND:
            number = self._take_number()
            self._out.append(encode_header(c.UNBIND, number))
            self._unbind = (number, now)
            self._may_send = False
            self._move(Move.UNBIND)
            return []
        if self._state in (SessionState.OPEN, SessionState.BINDING):
            return self.close(now)
        return []  # under way already

    def close(self, now: float, reason: CloseReason = CloseReason.LOCAL, detail: str = "") -> list[Event]:
        """End at once and hand back what was in flight; empty when it had ended before."""
        events: list[Event] = []
        self._end(reason, detail, events)
        return events

    # --- the transport's side ---
    def data_to_send(self) -> bytes:
        """Return everything queued; from here on it counts as sent."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._fresh.clear()
        return data

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take octets from the peer, however they were cut, and return what they mean."""
        events: list[Event] = []
        if self._ended:
            return events
        self._received_at = now
        pdus = self._decoder.feed(data)
        self.counters.pdus_received += len(pdus)
        handlers = self._handlers
        for pdu in pdus:
            handlers[type(pdu)](self, pdu, now, events)
            if self._ended:
                return events  # what came after the end means nothing
        if self._state is SessionState.LEAVING and not len(self._window):
            self._end(CloseReason.UNBOUND_BY_PEER, "", events)
        failure = self._decoder.failure
        if failure is not None and not self._ended:
            self.counters.malformed += 1
            # The header is not to be trusted, so neither is its sequence number: 0 (SMPP 3.4 §4.3.1).
            self._out.append(encode_header(c.GENERIC_NACK, 0, c.RINVCMDLEN))
            self._end(CloseReason.FRAMING, str(failure), events)
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """Take the end of the connection; empty when the session had ended before."""
        events: list[Event] = []
        if self._state is SessionState.LEAVING:
            self._end(CloseReason.UNBOUND_BY_PEER, "", events)
        elif self._state is SessionState.UNBINDING:
            self._end(CloseReason.UNBOUND, "the connection ended before unbind_resp", events)
        else:
            self._end(CloseReason.PEER_CLOSED, f"{self._decoder.pending} octets of a PDU left over", events)
        return events

    # --- timers ---
    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do; None: not before something else happens."""
        state = self._state
        if state is SessionState.CLOSED:
            return None
        config = self.config
        timer_s = config.response_timer_s
        deadlines = []
        if state is SessionState.OPEN or state is SessionState.BINDING:
            if config.session_init_timer_s:
                deadlines.append(self._opened_at + config.session_init_timer_s)
        elif state is SessionState.LEAVING:
            deadlines.append(self._leave_at)
        if timer_s:
            oldest = self._window.oldest_sent_at()
            if oldest is not None:
                deadlines.append(oldest + timer_s)
            if self._link is not None:
                deadlines.append(self._link[1] + timer_s)
            if self._unbind is not None:
                deadlines.append(self._unbind[1] + timer_s)
        if self._link is None and config.enquire_link_s and state in _BOUND:
            deadlines.append(self._received_at + config.enquire_link_s)
        return min(deadlines, default=None)

    def tick(self, now: float) -> list[Event]:
        """Act on every timer that is due at `now`."""
        events: list[Event] = []
        if self._ended:
            return events
        self._tick_window(now, events)
        self._tick_session(now, events)
        if self._state in _BOUND:
            self._tick_link(now, events)
        return events

    def _tick_window(self, now: float, events: list[Event]) -> None:
        timer_s = self.config.response_timer_s
        if not timer_s:
            return
        timed_out = SubmitTimedOut if self.role is Role.ESME else DeliverTimedOut
        for context, sent_at in self._window.overdue(now, timer_s):
            self.counters.timeouts += 1
            self._timeouts_in_a_row += 1
            events.append(timed_out(context, sent_at, now))
        self._window.forget_late(now - max(LATE_S, 10 * timer_s))
        if self._timeouts_in_a_row >= TIMEOUTS_IN_A_ROW:
            self._end(CloseReason.RESPONSE_TIMEOUTS, f"{self._timeouts_in_a_row} unanswered in a row", events)

    def _tick_session(self, now: float, events: list[Event]) -> None:
        """Look at the timers of binding, unbinding and leaving."""
        config = self.config
        state = self._state
        if state is SessionState.OPEN or state is SessionState.BINDING:
            if config.session_init_timer_s and self._opened_at + config.session_init_timer_s <= now:
                self._end(CloseReason.BIND_TIMEOUT, "no bind within the session_init timer", events)
        elif state is SessionState.LEAVING:
            if self._leave_at <= now:
                self._end(CloseReason.UNBOUND_BY_PEER, "", events)
        elif self._unbind is not None and config.response_timer_s and self._unbind[1] + config.response_timer_s <= now:
            self._end(CloseReason.UNBOUND, "no unbind_resp in time", events)

    def _tick_link(self, now: float, events: list[Event]) -> None:
        """Ask whether the peer is there after a silence; end when it was asked and did not answer."""
        config = self.config
        if self._link is not None:
            if config.response_timer_s and self._link[1] + config.response_timer_s <= now:
                self._end(CloseReason.LINK_TIMEOUT, "no enquire_link_resp in time", events)
        elif config.enquire_link_s and self._received_at + config.enquire_link_s <= now:
            number = self._take_number()
            self._out.append(encode_header(c.ENQUIRE_LINK, number))
            self._link = (number, now)
            self.counters.enquire_links_sent += 1

    # --- the peer's PDUs: answers ---
    def _on_submit_sm_resp(self, pdu: SubmitSmResp, now: float, events: list[Event]) -> None:
        entry = self._window.pop(pdu.sequence_number)
        late = False
        if entry is None:
            entry = self._window.pop_late(pdu.sequence_number)
            if entry is None:
                self.counters.unmatched_responses += 1
                return
            late = True
            self.counters.late_answers += 1
        self._timeouts_in_a_row = 0
        self.counters.answers += 1
        events.append(SubmitAnswered(entry[0], pdu.command_status, pdu.message_id, entry[1], now, late))

    def _on_deliver_sm_resp(self, pdu: DeliverSmResp | DataSmResp, now: float, events: list[Event]) -> None:
        if not self._answer(pdu.sequence_number, pdu.command_status, now, events):
            self.counters.unmatched_responses += 1

    def _answer(self, sequence_number: int, status: int, now: float, events: list[Event]) -> bool:
        """Report an answer without a message_id to whichever request has this number; False when none has."""
        entry: Entry | None = self._window.pop(sequence_number)
        late = entry is None
        if entry is None:
            entry = self._window.pop_late(sequence_number)
            if entry is None:
                return False
            self.counters.late_answers += 1
        self._timeouts_in_a_row = 0
        self.counters.answers += 1
        if self.role is Role.ESME:
            events.append(SubmitAnswered(entry[0], status, b"", entry[1], now, late))
        else:
            events.append(DeliverAnswered(entry[0], status, entry[1], now, late))
        return True

    def _on_generic_nack(self, pdu: GenericNack, now: float, events: list[Event]) -> None:
        number = pdu.sequence_number
        status = pdu.command_status or c.RUNKNOWNERR  # a nack is no success, whatever its status says
        if self._answer(number, status, now, events):
            return
        if self._binding_with(number):
            self._end_refused(status, events)
        elif self._link is not None and number == self._link[0]:
            self._link = None  # a peer without enquire_link, but there
        elif self._unbind is not None and number == self._unbind[0]:
            self._end(CloseReason.UNBOUND, "", events)
        else:
            self.counters.unmatched_nacks += 1
            events.append(PeerNack(status, number))
            self._nacked_at.append(now)
            if len(self._nacked_at) == NACKS_A_MINUTE and now - self._nacked_at[0] <= 60:
                self._end(CloseReason.NACKS, f"{NACKS_A_MINUTE} generic_nacks within a minute", events)

    def _on_bind_resp(self, pdu: BindResp, now: float, events: list[Event]) -> None:
        expected = _BIND_COMMANDS[self.config.bind_type][0] | c.RESPONSE_BIT
        if pdu.command_id != expected or not self._binding_with(pdu.sequence_number):
            self.counters.unmatched_responses += 1
        elif pdu.command_status:
            self._end_refused(pdu.command_status, events)
        else:
            self.bind_type = self.config.bind_type
            self.peer_system_id = pdu.system_id
            self._bind_sequence_number = None
            self._set_bound(_BIND_COMMANDS[self.bind_type][1])
            version = (pdu.tlvs or {}).get(c.TAG_SC_INTERFACE_VERSION, b"")
            events.append(Bound(self.bind_type, pdu.system_id, version[0] if version else 0))

    def _binding_with(self, sequence_number: int) -> bool:
        """True while our own bind of this number waits for its answer."""
        return (
            self._state is SessionState.BINDING
            and self.role is Role.ESME
            and sequence_number == self._bind_sequence_number
        )

    def _end_refused(self, status: int, events: list[Event]) -> None:
        events.append(BindRefusedEvent(status))
        self._end(CloseReason.BIND_REFUSED, c.status_name(status), events)

    def _on_enquire_link_resp(self, pdu: EnquireLinkResp, now: float, events: list[Event]) -> None:
        if self._link is not None and pdu.sequence_number == self._link[0]:
            self._link = None
        else:
            self.counters.unmatched_responses += 1

    def _on_unbind_resp(self, pdu: UnbindResp, now: float, events: list[Event]) -> None:
        if self._unbind is not None and pdu.sequence_number == self._unbind[0]:
            self._end(CloseReason.UNBOUND, "", events)
        else:
            self.counters.unmatched_responses += 1

    # --- the peer's PDUs: requests ---
    def _on_deliver_sm(self, pdu: DeliverSm, now: float, events: list[Event]) -> None:
        if self._may_receive:
            events.append(DeliverReceived(pdu))
        else:
            self._refuse(pdu, c.RINVBNDSTS, events)

    def _on_data_sm(self, pdu: DataSm, now: float, events: list[Event]) -> None:
        """Hand a data_sm on as what it is to us: a receipt or a message from a handset (SMPP 3.4 §4.7)."""
        if self._may_receive:
            self._data_numbers.add(pdu.sequence_number)
            events.append(DeliverReceived(pdu))
        else:
            self._refuse(pdu, c.RINVBNDSTS, events)

    def _on_submit_sm(self, pdu: SubmitSm, now: float, events: list[Event]) -> None:
        if self._may_receive:
            events.append(SubmitReceived(pdu))
        else:
            self._refuse(pdu, c.RINVBNDSTS, events)

    def _on_bind(self, pdu: Bind, now: float, events: list[Event]) -> None:
        if self._state is not SessionState.OPEN:
            self._refuse(pdu, c.RALYBND, events)
            return
        self.bind_type = _BIND_TYPES[pdu.command_id]
        self.peer_system_id = pdu.system_id
        self._bind_sequence_number = pdu.sequence_number
        self._move(Move.BIND)
        events.append(BindRequested(pdu, self.bind_type))

    def _on_enquire_link(self, pdu: EnquireLink, now: float, events: list[Event]) -> None:
        self._out.append(encode_header(c.ENQUIRE_LINK_RESP, pdu.sequence_number))

    def _on_unbind(self, pdu: Unbind, now: float, events: list[Event]) -> None:
        self._take_back_unsent()
        self._out.append(encode_header(c.UNBIND_RESP, pdu.sequence_number))
        first = self._state not in (SessionState.LEAVING, SessionState.UNBINDING)
        self._move(Move.PEER_UNBIND)
        self._may_send = False
        if first:
            self._leave_at = now + min(LEAVING_S, self.config.response_timer_s or LEAVING_S)
            events.append(UnboundByPeer())

    def _refuse_request(self, pdu: SubmitSm | DeliverSm | DataSm | Bind, now: float, events: list[Event]) -> None:
        """Answer a request that this role never serves."""
        self._refuse(pdu, c.RINVBNDSTS, events)

    def _refuse(self, pdu: DecodedPdu, status: int, events: list[Event]) -> None:
        self.counters.wrong_state += 1
        self._out.append(encode_header(pdu.command_id | c.RESPONSE_BIT, pdu.sequence_number, status))
        name = c.command_name(pdu.command_id)
        answer = c.status_name(status)
        events.append(ProtocolProblem(f"{name} in state {self._state.value} answered {answer}"))

    def _ignore_response(self, pdu: DecodedPdu, now: float, events: list[Event]) -> None:
        """Count a response that this role never waits for."""
        self.counters.unmatched_responses += 1

    def _on_unknown(self, pdu: Unknown, now: float, events: list[Event]) -> None:
        if pdu.command_id == c.OUTBIND and self.role is Role.ESME and self._state is SessionState.OPEN:
            try:
                events.append(OutbindReceived(*read_outbind(pdu.body)))
            except MalformedPdu as exc:
                self.counters.malformed += 1
                events.append(ProtocolProblem(f"outbind cannot be read: {exc}"))
            return
        self.counters.unknown_commands += 1
        if pdu.command_id & c.RESPONSE_BIT or pdu.command_id in _UNANSWERED:
            return  # a response is never answered, and neither are these (SMPP 3.4 §4.1.7, §4.12)
        self._out.append(encode_header(c.GENERIC_NACK, pdu.sequence_number, c.RINVCMDID))
        events.append(ProtocolProblem(f"unknown command {c.command_name(pdu.command_id)}"))

    def _on_malformed(self, pdu: Malformed, now: float, events: list[Event]) -> None:
        self.counters.malformed += 1
        if pdu.command_id in _DELIVERS and self._may_receive and self.role is Role.ESME:
            if pdu.command_id == c.DATA_SM:
                self._data_numbers.add(pdu.sequence_number)
            events.append(DeliverMalformed(pdu))
            return
        events.append(ProtocolProblem(f"{c.command_name(pdu.command_id)} cannot be read: {pdu.error}"))
        if pdu.command_id & c.RESPONSE_BIT:
            # Only a bind_resp can be malformed; its header says what matters.
            bare = BindResp(pdu.command_id, b"", None, pdu.command_status, pdu.sequence_number)
            self._on_bind_resp(bare, now, events)
        else:
            self._out.append(encode_header(pdu.command_id | c.RESPONSE_BIT, pdu.sequence_number, pdu.error.status))

    # --- helpers ---
    def _move(self, move: Move) -> None:
        """Change the state by the table."""
        self._state = TRANSITIONS[self._state][move]

    def _set_bound(self, move: Move) -> None:
        """Enter a bound state; which way short messages go follows from the role."""
        self._move(move)
        transmits = self._state is not SessionState.BOUND_RX
        receives = self._state is not SessionState.BOUND_TX
        self._may_send, self._may_receive = (transmits, receives) if self.role is Role.ESME else (receives, transmits)

    def _take_number(self) -> int:
        number = self._unused_number(self._next_number)
        self._set_next_number(number)
        return number

    def _unused_number(self, number: int) -> int:
        """Return the first number from `number` on that no request has; matters only after the wrap."""
        while number in self._window:
            number = 1 if number >= c.MAX_SEQUENCE_NUMBER else number + 1
        return number

    def _set_next_number(self, used: int) -> None:
        if used >= c.MAX_SEQUENCE_NUMBER:
            self._next_number = 1
            self._numbers_used_up = True
        else:
            self._next_number = used + 1

    def _take_back_unsent(self) -> None:
        """Take requests whose octets never left out of the window and out of the queue."""
        if not self._fresh:
            return
        for number in self._fresh:
            entry = self._window.pop(number)
            if entry is not None:  # None: answered before it was sent, by a peer that guesses numbers
                self._unsent.append(entry[0])
        self._fresh.clear()
        commands = _SUBMIT_OCTETS if self.role is Role.ESME else _DELIVER_OCTETS
        self._out = [octets for octets in self._out if octets[4:8] not in commands]

    def _end(self, reason: CloseReason, detail: str, events: list[Event]) -> None:
        if self._ended:
            return
        self._take_back_unsent()
        lost = [context for _, context in self._window.clear()]
        self._may_send = self._may_receive = False
        self._move(Move.END)
        self._ended = True
        self.close_reason = reason
        events.append(Closed(reason, detail, lost, self._unsent))


_DELIVERS: Final = frozenset({c.DELIVER_SM, c.DATA_SM})
_SUBMIT_OCTETS: Final = frozenset({c.SUBMIT_SM.to_bytes(4, "big")})
_DELIVER_OCTETS: Final = frozenset(number.to_bytes(4, "big") for number in _DELIVERS)
_UNANSWERED: Final = frozenset({c.OUTBIND, c.ALERT_NOTIFICATION})

_Handler: TypeAlias = Callable[[Session, Any, float, list[Event]], None]
_BOTH_ROLES: Final[dict[type, _Handler]] = {
    EnquireLink: Session._on_enquire_link,
    EnquireLinkResp: Session._on_enquire_link_resp,
    Unbind: Session._on_unbind,
    UnbindResp: Session._on_unbind_resp,
    GenericNack: Session._on_generic_nack,
    Unknown: Session._on_unknown,
    Malformed: Session._on_malformed,
}
_HANDLERS: Final[dict[Role, dict[type, _Handler]]] = {
    Role.ESME: {
        SubmitSmResp: Session._on_submit_sm_resp,
        DeliverSm: Session._on_deliver_sm,
        DataSm: Session._on_data_sm,
        BindResp: Session._on_bind_resp,
        SubmitSm: Session._refuse_request,
        Bind: Session._refuse_request,
        DeliverSmResp: Session._ignore_response,
        DataSmResp: Session._ignore_response,
        **_BOTH_ROLES,
    },
    Role.SMSC: {
        SubmitSm: Session._on_submit_sm,
        DeliverSmResp: Session._on_deliver_sm_resp,
        DataSmResp: Session._on_deliver_sm_resp,
        Bind: Session._on_bind,
        DeliverSm: Session._refuse_request,
        DataSm: Session._refuse_request,
        SubmitSmResp: Session._ignore_response,
        BindResp: Session._ignore_response,
        **_BOTH_ROLES,
    },
}
