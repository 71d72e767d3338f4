"""One channel: the sessions of one account at an SMSC, kept bound, and the last place that knows the protocol.

Above it a message goes out as text and number and comes back as a status and an id; receipts and inbound messages come
in as octets with an acknowledgement. Knows no store, no queues and no policy: it is told how many bind slots it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import EncodeError, SessionClosed, SignatureNotCarried
from gateway.metrics import Metrics
from gateway.model import WITHOUT_LABELS, WITHOUT_TLVS, WITHOUT_VALIDITY, Category
from gateway.settings import ChannelSettings
from gateway.settings.tls import client_context
from gateway.signature import signature_of
from gateway.smpp import constants as c
from gateway.smpp import trouble
from gateway.smpp.address import (
    NPI_ISDN,
    TON_INTERNATIONAL,
    extended,
    own_sender,
    signed_source,
    source_address,
)
from gateway.smpp.codec import (
    SubmitTemplate,
    encode_templated,
    encode_templated_with,
    payload_tlv,
    sar_tlvs,
    submit_template,
)
from gateway.smpp.connection import Connection, connect
from gateway.smpp.events import (
    BindRefusedEvent,
    BindType,
    Bound,
    Closed,
    CloseReason,
    DeliverMalformed,
    DeliverReceived,
    SubmitAnswered,
    SubmitTimedOut,
)
from gateway.smpp.outbind import Door
from gateway.smpp.pdu import SubmitSm
from gateway.smpp.session import Event, SessionConfig
from gateway.smpp.text import GSM7, data_coding, encode_parts, encode_whole, pack_septets
from gateway.smpp.trouble import Trouble
from gateway.smpp.window import WindowFull

logger = logging.getLogger(__name__)

_ESM_UDHI: Final = 0x40
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_AUTH_FIRST_S, _AUTH_MOST_S = 60.0, 900.0
_AUTH_STATUSES: Final = {0x0D, 0x0E, 0x0F, 0x53}  # fast retries lock accounts
_STALE_FIRST_S, _STALE_MOST_S = 5.0, 60.0
_STALE_STATUS: Final = 0x05  # ESME_RALYBND: our last session is not dead yet at the SMSC; do not hammer
_STARTING_S = 2.0
_SAME_SESSION_PARTS: Final = 32
_TEMPLATES: Final = 4096
_UNBIND_S = 3.0
_FAULTS: Final = {  # label of smpp_faults_total → field of SessionCounters
    "unmatched_response": "unmatched_responses",
    "unmatched_nack": "unmatched_nacks",
    "malformed": "malformed",
    "unknown_command": "unknown_commands",
    "wrong_state": "wrong_state",
}
_REGISTERED: Final[dict[bool | str, int]] = {  # SMPP 3.4 §5.2.17, bits 1-0
    "final": c.REGISTERED_DELIVERY_FINAL,
    "failure": c.REGISTERED_DELIVERY_FAILURE,
    "none": c.REGISTERED_DELIVERY_NONE,
    True: c.REGISTERED_DELIVERY_FINAL,
    False: c.REGISTERED_DELIVERY_NONE,
}

_TemplateKey = tuple[str, str, bool, bytes, int, int, tuple[tuple[int, bytes], ...]]
"""What submit_sm PDUs share: sender, encoding, whether with a user data header, validity, category, whether without the
channel's TLVs, TLVs of a registration."""

ANSWERED, TIMED_OUT, LOST, UNSENT = "answered", "timed_out", "lost", "unsent"


@dataclass(slots=True)
class Outbound:
    """A message as a channel sends it. `skip` is the mask of parts that the SMSC has accepted already."""

    destination: bytes = field(repr=False)  # E.164 digits
    sender: str
    text: str = field(repr=False)
    encoding: str
    reference: int
    validity_s: float
    skip: int = 0
    category: int = Category.NOTIFICATION  # chooses the priority_flag
    without: int = 0  # fields (WITHOUT_*) to leave out; `submit` adds what the channel leaves out anyway
    ext: str = ""  # sub-number digits behind the extension of a signature
    tlvs: tuple[tuple[int, bytes], ...] = ()  # of its template's registration; they win over the channel's own


@dataclass(slots=True)
class Inbound:
    """A deliver_sm or data_sm as received; acknowledge it through `Channel.acknowledge` once it is recorded."""

    channel: str
    connection: Connection
    sequence_number: int
    source: bytes = field(repr=False)
    destination: bytes = field(repr=False)
    short_message: bytes = field(repr=False)
    tlvs: dict[int, bytes] | None = field(repr=False)
    esm_class: int
    data_coding: int
    malformed: bytes = field(default=b"", repr=False)


OnAnswer = Callable[[Any, int, str, int, str, float, bool], None]
"""(context, part, kind, command_status, smsc_id, seconds since it was sent, late); a part of -n stands for all n parts
of a message that went as one submit_sm."""


class _Link:
    """One bind slot: a transceiver, or a transmitter and a receiver, connected and reconnected until told to end."""

    def __init__(self, channel: Channel, slot: int) -> None:
        self.channel = channel
        self.slot = slot
        self.connections: list[Connection] = []
        self.ending = False
        self.bound_once: set[Connection] = set()
        self.refused: dict[Connection, int] = {}  # command_status
        self._counted: dict[tuple[Connection, str], int] = {}  # faults of the peer's protocol, by kind
        self._answered = asyncio.Event()
        self.tasks = {
            kind: asyncio.create_task(self._keep(kind), name=f"bind-{channel.id}-{slot}-{kind.value}")
            for kind in channel.bind_types
        }

    async def _keep(self, kind: BindType) -> None:
        failures = 0
        while not self.ending:
            was_bound, refused = False, 0
            connection = await self._connect(kind)
            if connection is not None:
                await connection.wait_closed()
                self.connections.remove(connection)
                self.count_faults(connection)
                self._counted = {key: n for key, n in self._counted.items() if key[0] is not connection}
                was_bound, refused = connection in self.bound_once, self.refused.pop(connection, 0)
                self.bound_once.discard(connection)
            if self.ending:
                return
            failures = 0 if was_bound else failures + 1
            await asyncio.sleep(backoff_s(failures, refused, random.random()))

    async def _connect(self, kind: BindType) -> Connection | None:
        channel = self.channel
        s = channel.settings
        if channel.door is not None and kind is not BindType.TRANSMITTER:
            channel.note_trouble((self.slot, kind), trouble.Trouble(trouble.NOT_CALLED))
            connection = await channel.door.session(self.on_events, f"{s.id}/{self.slot}", channel.guard)
            self._take(connection)
            return connection
        config = channel.session_config(kind)
        try:
            tls = await _tls_context(s) if s.tls else None
        except OSError as exc:
            channel.count_bind("tls_failed")
            channel.note_failure((self.slot, kind), trouble.Trouble(trouble.TLS, exc.strerror or ""))
            logger.warning("channel %s: its TLS files cannot be used: %s", s.id, exc.strerror or type(exc).__name__)
            return None
        try:
            async with asyncio.timeout(s.session_init_timer_s):
                connection = await connect(
                    s.host,
                    s.port,
                    config,
                    self.on_events,
                    connect_timeout_s=s.session_init_timer_s,
                    tls=tls,
                    tls_name=s.tls_name,
                    name=f"{s.id}/{self.slot}",
                    debug=channel.debug,
                )
        except ssl.SSLError as exc:
            channel.count_bind("tls_failed")
            channel.note_failure((self.slot, kind), trouble.of_error(exc))
            logger.warning("channel %s: TLS failed, nothing was sent: %s", s.id, _tls_reason(exc))
            return None
        except (OSError, TimeoutError, UnicodeError) as exc:  # UnicodeError: a label of the host name is empty or long
            channel.count_bind("unreachable")
            channel.note_failure((self.slot, kind), trouble.of_error(exc))
            logger.info("channel %s cannot be reached: %s", s.id, type(exc).__name__)
            return None
        connection.guard = channel.guard
        self._take(connection)
        return connection

    def _take(self, connection: Connection) -> None:
        connection.session.resize(self.channel.settings.window)  # it may have changed since we began to connect
        self.connections.append(connection)

    def on_events(self, connection: Connection, events: list[Event]) -> None:
        channel = self.channel
        answer = channel.on_answer
        inbound: list[Inbound] = []
        e: Any  # told apart by exact type: an isinstance chain costs more than the rest
        for e in events:
            kind = type(e)
            if kind is SubmitAnswered:
                context, part = e.context
                answer(
                    context,
                    part,
                    ANSWERED,
                    e.status,
                    e.message_id.decode("latin-1"),
                    e.now - e.sent_at,
                    e.late,
                )
            elif kind is DeliverReceived:
                p = e.pdu
                inbound.append(
                    Inbound(
                        channel.id,
                        connection,
                        p.sequence_number,
                        p.source_addr,
                        p.destination_addr,
                        p.short_message or _payload(p.tlvs),
                        p.tlvs,
                        p.esm_class,
                        p.data_coding,
                    )
                )
            elif kind is SubmitTimedOut:
                context, part = e.context
                answer(context, part, TIMED_OUT, 0, "", e.now - e.sent_at, False)
            elif kind is DeliverMalformed:
                number = e.pdu.error.sequence_number
                inbound.append(Inbound(channel.id, connection, number, b"", b"", b"", None, 0, 0, e.pdu.raw))
            elif kind is Bound:
                self.bound_once.add(connection)
                channel.count_bind("bound")
                channel.note_bound(self._place(connection))
                logger.info("channel %s is bound (slot %d)", channel.id, self.slot)
                channel.changed()
            elif kind is BindRefusedEvent:
                self.refused[connection] = e.status
                channel.count_bind("refused")
                channel.note_failure(self._place(connection), trouble.of_status(trouble.BIND_REFUSED, e.status))
                logger.warning("channel %s: bind refused with command_status 0x%08X", channel.id, e.status)
            elif kind is Closed:
                for context, part in e.lost:
                    answer(context, part, LOST, 0, "", 0.0, False)
                for context, part in e.unsent:
                    answer(context, part, UNSENT, 0, "", 0.0, False)
                self.count_faults(connection)
                logger.info("channel %s: session closed (%s)", channel.id, e.reason.value)
                # Of a refused bind it is known why; and what we end ourselves is no trouble.
                known = e.reason is CloseReason.BIND_REFUSED and connection in self.refused
                channel.note_failure(
                    self._place(connection), None if self.ending or known else trouble.of_close(e.reason)
                )
                channel.changed()
        if inbound:
            channel.on_inbound(inbound)
        self._answered.set()
        channel.on_progress()

    def _place(self, connection: Connection) -> tuple[int, BindType]:
        return self.slot, connection.session.config.bind_type

    def count_faults(self, connection: Connection) -> None:
        """Add what the peer did against the protocol since the last look; it makes no event that could be counted."""
        for kind, name in _FAULTS.items():
            n = getattr(connection.session.counters, name)
            new = n - self._counted.get((connection, kind), 0)
            if new:
                self._counted[connection, kind] = n
                self.channel.count_fault(kind, new)

    @property
    def in_flight(self) -> int:
        return sum(c.session.in_flight for c in self.connections)

    async def end(self, *, drain_s: float = 0.0, abort: bool = False) -> None:
        """Wait up to `drain_s` for the answers to what was sent, unbind, and cut what did not agree in time."""
        self.ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while drain_s and self.in_flight:
                    self._answered.clear()
                    await self._answered.wait()
        for connection in list(self.connections):
            if abort:
                connection.abort()
            else:
                connection.unbind()
        # Only tasks that wait to reconnect are cancelled: a bound one ends when its peer agreed to the unbind.
        connected = {connection.session.config.bind_type for connection in self.connections}
        for kind, task in self.tasks.items():
            if kind not in connected:
                task.cancel()
        done, late = await asyncio.wait(self.tasks.values(), timeout=_UNBIND_S)
        for task in late:
            task.cancel()
        for connection in list(self.connections):
            connection.abort()
        for task in [*done, *late]:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _tls_context(s: ChannelSettings) -> ssl.SSLContext:
    """Return the context of one connection, read anew: certificates are renewed while we run.

    In a thread, because the system's authorities are some hundred certificates to parse.
    """
    return await asyncio.to_thread(client_context, s.tls_ca, s.tls_cert, s.tls_key)


def _tls_reason(exc: ssl.SSLError) -> str:
    """Return what OpenSSL found wrong, for the operator: an unknown authority, another name, an old protocol."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {exc.verify_message}"
    return exc.reason or type(exc).__name__


def _payload(tlvs: dict[int, bytes] | None) -> bytes:
    """Return the text of a deliver_sm that has none of its own; data_sm gives it under the usual name already."""
    return tlvs.get(c.TAG_MESSAGE_PAYLOAD, b"") if tlvs else b""


def backoff_s(failures: int, refused: int, jitter: float) -> float:
    """Return how long to wait before the next attempt to bind; `refused` is the status of the last one, if any.

    Jitter (0..1) over the whole span above a floor: many workers must not come back in step.
    """
    if refused in _AUTH_STATUSES:
        floor, first, most = _AUTH_FIRST_S, _AUTH_FIRST_S, _AUTH_MOST_S
    elif refused == _STALE_STATUS:
        floor, first, most = _STALE_FIRST_S, _STALE_FIRST_S, _STALE_MOST_S
    else:
        floor, first, most = _BACKOFF_FIRST_S / 2, _BACKOFF_FIRST_S, _BACKOFF_MOST_S
    most_now: float = min(most, first * 2 ** min(failures, 10))
    return floor + jitter * (most_now - floor)


class Channel:
    """All of one worker's sessions on one channel.

    `on_answer` is called for every submit_sm, exactly once, and a second time with `late` when its answer came after
    its timer. `on_progress` tells that window slots may be free. `guard` is asked before octets are written.
    """

    def __init__(
        self,
        settings: ChannelSettings,
        metrics: Metrics,
        *,
        on_answer: OnAnswer,
        on_inbound: Callable[[list[Inbound]], None],
        on_progress: Callable[[], None],
        on_change: Callable[[str], None],
        guard: Callable[[], bool],
        debug: bool = False,
    ) -> None:
        self.id = settings.id
        self.debug = debug
        self.on_answer = on_answer
        self.on_inbound = on_inbound
        self.on_progress = on_progress
        self.guard = guard
        self._on_change = on_change
        self._links: dict[int, _Link] = {}
        self._ending: dict[int, _Link] = {}
        self._metrics = metrics
        self._up = metrics.gauge("channel_up", channel=self.id)
        self._bound_sessions = metrics.gauge("channel_sessions", channel=self.id, state="bound")
        self._window_used = metrics.gauge("channel_window_used", channel=self.id)
        self._tps_limit = metrics.gauge("channel_tps_limit", channel=self.id)
        self._started_at = time.monotonic()
        self._failed = False
        self._left_out = 0  # fields (WITHOUT_*) that the SMSC will not have
        self._picked: Connection | None = None
        self._picked_room = 0
        self._receivers = False  # whether any session here only receives
        self.door: Door | None = None
        """Where its SMSC calls: sessions that receive are not ours to open then."""
        self._troubles: dict[tuple[int, BindType | None], Trouble] = {}
        """What is wrong with each session that is not bound, the latest last; of slot 0: with the channel itself."""
        self.stale: set[int] = set()
        """Slots bound as an earlier configuration said, to be closed one by one and opened anew."""
        self._take(settings)

    def use(self, settings: ChannelSettings) -> bool:
        """Take other settings into use: at once for what is submitted, and for sessions that are opened from now on.

        Where they change what a session is bound with, its slot is `stale`; until it is closed it goes on as it was.
        Returns whether they do.
        """
        old = self.settings
        if settings == old:
            return False
        if (old.tlvs, old.validity) != (settings.tlvs, settings.validity):
            self._left_out = 0  # a new try
            for label in WITHOUT_LABELS.values():
                self._metrics.drop_gauges(channel=self.id, field=label)
        anew = _bound_with(old) != _bound_with(settings)
        if anew:
            self.stale |= set(self._links)
            if self.door is not None:
                self.door.close()
        self._take(settings, anew=anew)
        for connection in self._transmitters():
            connection.session.resize(settings.window)
        logger.info("channel %s: new settings%s", self.id, ", its sessions are bound anew" if anew else "")
        return anew

    def _take(self, settings: ChannelSettings, *, anew: bool = True) -> None:
        self.settings = settings
        self.bind_types = (
            (BindType.TRANSCEIVER,) if settings.bind == "transceiver" else (BindType.TRANSMITTER, BindType.RECEIVER)
        )
        self._tps_limit.n = settings.max_tps
        self._registered = _REGISTERED[settings.registered_delivery]
        self._headers = settings.long != "sar"  # the concatenation header is ours to make
        self._udh = settings.long == "udh"
        self._packed = settings.packed
        self._coding = dict(settings.data_coding)
        self._signed = bool(settings.signatures)
        self._sources: dict[tuple[str, str], str | None] = {}  # (signature, sender) → source_addr; None: not registered
        self._tlvs = dict(settings.tlvs)
        self._validity = _validity if settings.validity == "relative" else _no_validity
        self._templates: dict[_TemplateKey, SubmitTemplate] = {}
        self._picked = None
        if anew:
            self.door = self._make_door(settings) if settings.outbind_listen is not None else None

    def _make_door(self, settings: ChannelSettings) -> Door:
        assert settings.outbind_listen is not None
        return Door(
            self.id,
            settings.outbind_listen,
            self.session_config(self.bind_types[-1]),
            system_id=settings.outbind_system_id,
            password=settings.outbind_password,
            count=self.count_bind,
            debug=self.debug,
        )

    # --- sessions

    def session_config(self, kind: BindType) -> SessionConfig:
        """Return what a session needs to know that binds as `kind`."""
        s = self.settings
        return SessionConfig(
            system_id=s.system_id,
            password=s.password,
            system_type=s.system_type,
            bind_type=kind,
            window=s.window,
            response_timer_s=s.response_timer_s,
            enquire_link_s=s.enquire_link_s,
            session_init_timer_s=s.session_init_timer_s,
            interface_version=s.interface_version,
            long_password=s.long_password,
        )

    @property
    def slots(self) -> list[int]:
        """The bind slots this worker serves."""
        return list(self._links)

    def set_slots(self, slots: list[int]) -> None:
        """Open a bind for each slot that is new. Slots are closed by `close_slot`."""
        for slot in slots:
            if slot not in self._links and slot not in self._ending:
                self._links[slot] = _Link(self, slot)
        self._receivers = any(BindType.RECEIVER in link.tasks for link in self._links.values())

    @property
    def closing(self) -> list[int]:
        """Slots whose sessions are still ending; nobody else may be bound there yet."""
        return list(self._ending)

    async def close_slot(self, slot: int, *, abort: bool = False) -> None:
        """Submit nothing more on one slot, let what was sent be answered, then unbind (`abort`: cut it at once)."""
        self.stale.discard(slot)
        link = self._links.pop(slot, None)
        self._troubles = {place: what for place, what in self._troubles.items() if place[0] != slot}
        if link is None:
            return
        self._ending[slot] = link
        self.changed()
        try:
            await link.end(drain_s=0.0 if abort else self.settings.response_timer_s, abort=abort)
        finally:
            del self._ending[slot]
            self.changed()

    async def stop(self, *, abort: bool = False) -> None:
        """Unbind (or cut) everything."""
        links, self._links = [*self._links.values(), *self._ending.values()], {}
        await asyncio.gather(*(link.end(abort=abort) for link in links))
        if self.door is not None:
            self.door.close()
        self.changed()

    def bound_on(self, slot: int) -> bool:
        """Whether a session of this slot is bound."""
        link = self._links.get(slot)
        return link is not None and any(c.session.bound for c in link.connections)

    @property
    def up(self) -> bool:
        """Whether a session can submit now."""
        return any(c.session.bound for c in self._transmitters())

    @property
    def starting(self) -> bool:
        """Whether the first bind may still come: a backup need not step in for a channel that is just starting."""
        return not self._failed and time.monotonic() - self._started_at < _STARTING_S

    @property
    def free(self) -> int:
        """Parts that may be sent now, over all sessions."""
        return sum(c.free for c in self._transmitters())

    @property
    def window(self) -> int:
        """Window slots of all bound sessions together."""
        return self.settings.window * sum(1 for c in self._transmitters() if c.session.bound)

    @property
    def in_flight(self) -> int:
        """Parts sent and not answered."""
        return sum(c.session.in_flight for c in self._transmitters())

    def _transmitters(self) -> list[Connection]:
        if not self._receivers:
            return [c for link in self._links.values() for c in link.connections]
        return [
            conn
            for link in self._links.values()
            for conn in link.connections
            if conn.session.config.bind_type is not BindType.RECEIVER
        ]

    def note_failure(self, place: tuple[int, BindType], what: Trouble | None) -> None:
        """A bind failed or ended: from now on a backup may step in at once. `what` is wrong, where it is not our wish.

        `place` is the slot and which of its sessions.
        """
        self._failed = True
        if what is not None:
            self.note_trouble(place, what)

    def note_trouble(self, place: tuple[int, BindType | None], what: Trouble) -> None:
        """Remember why a session is not there until it is, or is not wanted any more."""
        self._troubles.pop(place, None)
        self._troubles[place] = what

    def note_alarm(self, status: int) -> None:
        """Its SMSC answered with a fault of the channel, which is closed for a while: remembered until it is bound."""
        self.note_trouble((0, None), trouble.of_status(trouble.ALARM, status))

    def note_bound(self, place: tuple[int, BindType]) -> None:
        """A session is there: nothing is wrong with it any more."""
        for known in (place, (0, None)):
            self._troubles.pop(known, None)

    @property
    def trouble(self) -> Trouble | None:
        """The latest that is wrong with sessions that should be bound here and are not."""
        return next(reversed(self._troubles.values()), None)

    @property
    def bound(self) -> int:
        """Sessions that can submit now."""
        return sum(1 for c in self._transmitters() if c.session.bound)

    def changed(self) -> None:
        """Sessions came or went: refresh the gauges and tell the owner."""
        self._picked = None
        self.update_gauges()
        self._on_change(self.id)

    def update_gauges(self) -> None:
        """Set the gauges from what is true now (called on change and once a second)."""
        bound = sum(1 for c in self._transmitters() if c.session.bound)
        self._up.n = 1 if bound else 0
        self._bound_sessions.n = bound
        self._window_used.n = self.in_flight
        for link in self._links.values():
            for connection in link.connections:
                link.count_faults(connection)

    def count_bind(self, result: str) -> None:
        """Count one attempt to bind by its result."""
        self._metrics.counter("binds_total", channel=self.id, result=result).n += 1

    def count_fault(self, kind: str, n: int) -> None:
        """Count faults of the peer's protocol."""
        self._metrics.counter("smpp_faults_total", channel=self.id, kind=kind).n += n

    # --- messages

    def leave_out(self, field: int) -> bool:
        """Send a field (WITHOUT_*) no more, because the SMSC refuses it; False where it is not sent anyway.

        For as long as this worker lives. SAR TLVs and message_payload are the message itself and stay.
        """
        sent = self._validity is not _no_validity if field == WITHOUT_VALIDITY else bool(self._tlvs)
        if sent and not self._left_out & field:
            self._left_out |= field
            label = WITHOUT_LABELS[field]
            self._metrics.gauge("channel_left_out", channel=self.id, field=label).n = 1
            logger.warning("channel %s: its SMSC refuses %s, which is left out from now on", self.id, label)
        return sent

    def _validity_of(self, out: Outbound) -> bytes:
        return b"" if out.without & WITHOUT_VALIDITY else self._validity(out.validity_s)

    def submit(self, out: Outbound, context: object) -> int:
        """Submit the parts of a message on one session; returns the mask of parts given to it.

        A mask of 0 means that no session could take it (it must be released). Each part comes back through
        `on_answer` with `context` and its number. Of a message longer than the window only the first parts go.

        Raises:
            EncodeError: the text, sender or number cannot be put into a PDU; nothing was sent.
            SignatureNotCarried: the channel lists signatures, and the text's is not among them; nothing was sent.
        """
        s = self.settings
        sender = self._signed_source(out) if self._signed else out.sender
        if self._left_out:
            out.without |= self._left_out
        parts = encode_parts(
            out.text,
            out.encoding,
            out.reference,
            reference_bits=s.reference_bits,
            alphabet=s.alphabet,
            headers=self._headers,
        )
        if self._packed and out.encoding == GSM7:
            parts = [pack_septets(part, header=len(parts) > 1) for part in parts]
        if len(parts) > 1 and not self._udh:
            return self._submit_with_tlvs(out, sender, parts, context)
        wanted = min(len(parts) - out.skip.bit_count(), s.window)
        connection = self._pick(wanted)
        if connection is None:
            return 0
        validity = self._validity_of(out) if out.without else self._validity(out.validity_s)
        key = (sender, out.encoding, len(parts) > 1, validity, out.category, out.without & WITHOUT_TLVS, out.tlvs)
        template = self._templates.get(key) or self._make_template(key)
        sent = 0
        for part, octets in enumerate(parts):
            if out.skip >> part & 1:
                continue
            try:
                connection.submit((template, out.destination, octets), (context, part), encode_templated)
            except (SessionClosed, EncodeError, WindowFull):
                if not sent:
                    raise
                break  # the parts before it are on their way; the caller sees which from the mask
            sent |= 1 << part
        return sent

    def _submit_with_tlvs(self, out: Outbound, sender: str, parts: list[bytes], context: object) -> int:
        """Submit a message of several parts without our own headers: parts marked by SAR TLVs, or whole in one TLV.

        A message in one submit_sm is answered once, for all its parts; of its rate it takes the parts that it is
        counted as. Where some parts went before (as parts, under another configuration) the rest follows as parts.
        """
        s = self.settings
        total = len(parts)
        whole = self._headers and not out.skip  # not sar: payload
        wanted = 1 if whole else min(total - out.skip.bit_count(), s.window)
        connection = self._pick(wanted)
        if connection is None:
            return 0
        udh = self._headers and not whole
        bare = out.without & WITHOUT_TLVS
        key = (sender, out.encoding, udh, self._validity_of(out), out.category, bare, out.tlvs)
        template = self._templates.get(key) or self._make_template(key)
        if whole:
            tlv = payload_tlv(encode_whole(out.text, out.encoding, alphabet=s.alphabet))
            connection.submit((template, out.destination, b"", tlv), (context, -total), encode_templated_with)
            return (1 << total) - 1
        marks = [b""] * total if udh else sar_tlvs(out.reference & ((1 << s.reference_bits) - 1), total)
        sent = 0
        for part, octets in enumerate(parts):
            if out.skip >> part & 1:
                continue
            try:
                item = (template, out.destination, octets, marks[part])
                connection.submit(item, (context, part), encode_templated_with)
            except (SessionClosed, EncodeError, WindowFull):
                if not sent:
                    raise
                break
            sent |= 1 << part
        return sent

    def _pick(self, wanted: int) -> Connection | None:
        """Return a session with room for `wanted` parts: the emptiest, and then that one for a few messages more.

        Comparing all windows for each message would cost more than encoding it.
        """
        if self._picked is None or self._picked_room < wanted:
            self._picked, most = None, 0
            for candidate in self._transmitters():
                free = candidate.free
                if free > most:
                    self._picked, most = candidate, free
            if most < wanted:
                self._picked = None
                return None
            self._picked_room = min(most, max(wanted, _SAME_SESSION_PARTS))
        self._picked_room -= wanted
        return self._picked

    def _signed_source(self, out: Outbound) -> str:
        """Return the source_addr of a signed text. The last look before the wire: whatever queue it came from."""
        key = (signature_of(out.text), out.sender)
        try:
            source = self._sources[key]
        except KeyError:
            if len(self._sources) >= _TEMPLATES:
                self._sources.clear()
            source = self._sources[key] = signed_source(self.settings, *key)
        if source is None:
            raise SignatureNotCarried(f"channel {self.id} does not carry the text's signature")
        return extended(source, out.ext) if out.ext else source

    def _make_template(self, key: _TemplateKey) -> SubmitTemplate:
        sender, encoding, udh, validity, category, bare, registered = key
        s = self.settings
        # What a template is registered with stays where the SMSC refuses the channel's own TLVs: without it the carrier
        # drops the message (TRAI's DLT, tags 0x1400 and 0x1401).
        tlvs = {**({} if bare else self._tlvs), **dict(registered)}
        if not self._signed:
            sender = own_sender(s, sender)
        source_ton, source_npi, source = source_address(sender, s.source_ton, s.source_npi, s.source_types)
        coding = self._coding.get(encoding)
        template = submit_template(
            SubmitSm(
                service_type=s.service_type.encode("ascii"),
                source_addr_ton=source_ton,
                source_addr_npi=source_npi,
                source_addr=source,
                dest_addr_ton=TON_INTERNATIONAL,
                dest_addr_npi=NPI_ISDN,
                esm_class=_ESM_UDHI if udh else 0,
                protocol_id=s.protocol_id,
                priority_flag=s.priority[category],
                validity_period=validity,
                registered_delivery=self._registered,
                data_coding=data_coding(encoding, s.alphabet) if coding is None else coding,
                tlvs=tlvs,
            )
        )
        if len(self._templates) >= _TEMPLATES:
            self._templates.clear()
        self._templates[key] = template
        return template

    @staticmethod
    def acknowledge(items: list[Inbound], status: int = 0) -> None:
        """Answer received deliver_sm and data_sm PDUs, all with one status; sessions that are gone are passed over."""
        by_connection: dict[int, tuple[Connection, list[int]]] = {}
        for item in items:
            by_connection.setdefault(id(item.connection), (item.connection, []))[1].append(item.sequence_number)
        for connection, numbers in by_connection.values():
            if not connection.lost:
                with contextlib.suppress(SessionClosed):
                    connection.respond_delivers(numbers, status)


def _bound_with(s: ChannelSettings) -> tuple[object, ...]:
    """Return what a session has from its bind on: when it changes, sessions are bound anew."""
    return (
        s.host, s.port, s.system_id, s.password, s.system_type, s.bind, s.response_timer_s, s.enquire_link_s,
        s.session_init_timer_s, s.interface_version, s.long_password, s.tls, s.tls_ca, s.tls_name, s.tls_cert,
        s.tls_key, s.outbind_listen, s.outbind_system_id, s.outbind_password,
    )  # fmt: skip


def _no_validity(seconds: float) -> bytes:
    """Return the empty validity_period: the SMSC's own default holds (SMPP 3.4 §5.2.16)."""
    return b""


def _validity(seconds: float) -> bytes:
    """Return a relative validity_period, from a table: rounding makes few of them."""
    s = int(seconds)
    s = max(5, s - s % 5) if s < 600 else s - s % 60 if s < 7200 else s - s % 1800
    return _validities.get(s) or _make_validity(s)


_validities: dict[int, bytes] = {}


def _make_validity(s: int) -> bytes:
    """Return a relative validity_period (SMPP 3.4 §7.1.1.2), rounded down so that few different ones are encoded.

    Relative, because a carrier's clock or zone is not ours; at least 5 s, since a zero means the SMSC's default.
    """
    minutes, sec = divmod(s, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    _validities[s] = value = b"0000%02d%02d%02d%02d000R" % (min(days, 30), hour, minute, sec)
    return value
