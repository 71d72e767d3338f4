"""The asyncio shell of one session: moves octets, keeps one timer, hands events on. Decides nothing of SMPP.

Many PDUs a read, one `transport.write` a loop turn, one timer a connection; runs on asyncio and uvloop alike.
The owner gets every event through `on_events(connection, events)`, called from the loop and never while
another call of it for this connection runs. Stands between the sockets and `session`.

    connection = await connect(host, port, config, on_events)      ESME; the bind is on its way
    server = await listen(host, port, config, on_events)           SMSC role (simulator, tests)
    connection.submit(pdu, context)                                as Session.submit
    connection.session.respond_deliver(…)                          whatever the session can do, then
    connection.flush_soon()                                        ask for the write
    connection.free                                                0 also while the peer does not read
    connection.unbind(), connection.close()                        their events come through on_events
    await connection.wait_closed()

A loop of submits costs one write: `submit` only queues, and asks for a flush at the end of the loop's turn.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, cast

from gateway.errors import SmppError
from gateway.smpp.codec import Decoder, encode_submit_sm
from gateway.smpp.session import CloseReason, Event, Role, Session, SessionConfig

logger = logging.getLogger(__name__)

OnEvents: TypeAlias = "Callable[[Connection, list[Event]], None]"

WRITE_HIGH_OCTETS: Final = 128 * 1024
"""Octets the transport holds before it asks us to pause: a window of 500 long texts and as many answers."""
UNREAD_PIECES: Final = 20_000
"""Pieces of output queued behind a peer that does not read, at which we give up on it: it sends, we answer,
it never takes the answers. Submits do not pile up here, `free` is 0 by then."""
CLOSE_GRACE_S: Final = 2.0
"""How long the last octets (unbind_resp, generic_nack) may take to leave before the connection is cut."""


class Connection(asyncio.Protocol):
    """One TCP connection and its session; all its times are those of `clock`, which is monotonic."""

    def __init__(
        self,
        role: Role,
        config: SessionConfig,
        on_events: OnEvents,
        *,
        name: str = "",
        debug: bool = False,
        clock: Callable[[], float] = time.monotonic,
        bind_at_once: bool = True,
    ) -> None:
        """`bind_at_once`: an ESME sends its bind when it is connected, else when `bind` says so."""
        self.name = name
        self.debug = debug
        self.clock = clock
        self.session = Session(role, config, clock())
        self.writable = True
        self.lost = False
        self.guard: Callable[[], bool] | None = None
        """Asked before each write; False cuts the connection: a worker that lost its lease must not send."""
        self._on_events = on_events
        self._bind_at_once = bind_at_once
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._abort_timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._undelivered: deque[list[Event]] = deque()
        self._delivering = False
        self._debug_in, self._debug_out = Decoder(), Decoder()

    # --- the owner's side ---
    @property
    def free(self) -> int:
        """Short messages that may be sent now; 0 while the peer does not read."""
        return self.session.free if self.writable else 0

    @property
    def peername(self) -> str:
        """The peer's address as `host:port`, for logs; empty before the connection."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{peer[0]}:{peer[1]}" if peer else ""

    def submit(self, pdu: Any, context: object, encode_it: Callable[[Any, int], bytes] = encode_submit_sm) -> int:
        """Submit one short message; see `Session.submit`. The write happens at the end of this loop turn."""
        number = self.session.submit(pdu, context, self.clock(), encode_it)
        if not self._flush_scheduled:
            self.flush_soon()
        return number

    def respond_delivers(self, sequence_numbers: Iterable[int], status: int = 0) -> None:
        """Answer deliver_sm PDUs, all with one status."""
        self.session.respond_delivers(sequence_numbers, status)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write what is queued at the end of this loop turn; call it after using `session` directly."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def bind(self, on_events: OnEvents | None = None) -> None:
        """Send the bind (ESME, once); `on_events` is the owner from now on, where it is given."""
        self._on_events = on_events or self._on_events
        try:
            self.session.start(self.clock())
        except SmppError as exc:  # the configuration does not fit the bind: nothing was sent
            self.close(CloseReason.LOCAL, str(exc))
            return
        self.flush_soon()

    def unbind(self) -> None:
        """Ask the peer to end the session; `Closed` comes when it agreed, or its response timer ran out."""
        self._emit(self.session.unbind(self.clock()))

    def close(self, reason: CloseReason = CloseReason.LOCAL, detail: str = "") -> None:
        """End now, without unbind; `Closed` comes at once, or after the events that are being handled."""
        self._emit(self.session.close(self.clock(), reason, detail))

    def abort(self) -> None:
        """Cut the connection as a crash would: no more octets, `Closed` follows in a later loop turn."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the transport is gone."""
        await self._closed.wait()

    def pause_reading(self) -> None:
        """Take nothing more from the peer for now: back-pressure when receipts cannot be recorded fast
        enough.
        """
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take up reading again; harmless when it was not paused or the connection is gone."""
        transport = self._transport
        if transport is not None and not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()

    # --- asyncio's side ---
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio.Transport, so this cannot be asserted
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_OCTETS)
        if self.session.role is Role.ESME and self._bind_at_once:
            self.bind()
        else:
            self.flush_soon()

    def data_received(self, data: bytes) -> None:
        if self.debug:
            self._log_pdus("<", self._debug_in, data)
        events = self.session.receive_data(data, self.clock())
        if events:
            self._emit(events)
        else:
            # Also when nothing is queued: an enquire_link_resp brings the next deadline nearer, so the timer must move.
            self.flush_soon()

    def eof_received(self) -> bool | None:
        self._emit(self.session.receive_eof(self.clock()))
        return None  # nothing comes any more, so close our half as well

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.writable = False
        for timer in (self._timer, self._abort_timer):
            if timer is not None:
                timer.cancel()
        self._closed.set()
        if isinstance(exc, ssl.SSLError):
            # In TLS 1.3 the SMSC refuses our certificate only after the handshake, so this is where it shows.
            logger.warning("smpp %s: TLS failed: %s", self.name, exc.reason or type(exc).__name__)
        self._emit(self.session.receive_eof(self.clock()))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.flush_soon()

    # --- inside ---
    def _emit(self, events: list[Event]) -> None:
        """Hand events to the owner, then see to what they made the session queue.

        An owner may call close() from inside its callback: what comes of it waits its turn. This is the one
        boundary of the task: an owner that raises must not stop the loop, but its session may no longer be in
        step with it, so the connection is cut.
        """
        if events:
            self._undelivered.append(events)
        if not self._delivering:
            self._delivering = True
            try:
                while self._undelivered:
                    self._on_events(self, self._undelivered.popleft())
            except Exception:
                logger.exception("smpp %s: the owner failed on an event, cutting the connection", self.name)
                self.abort()
            finally:
                self._delivering = False
        self.flush_soon()

    def _flush(self) -> None:
        self._flush_scheduled = False
        transport = self._transport
        if transport is None or self.lost:
            return
        session = self.session
        if not self.writable:
            if session.queued > UNREAD_PIECES:
                self.close(CloseReason.NOT_READING, f"{session.queued} pieces of output unread")
        elif session.queued:
            if self.guard is not None and not self.guard():
                transport.abort()
                return
            data = session.data_to_send()
            if self.debug:
                self._log_pdus(">", self._debug_out, data)
            transport.write(data)
        deadline = session.next_deadline()
        if deadline is not None:
            self._arm(deadline)
        elif session.closed:
            self._close_transport(transport)

    def _arm(self, deadline: float) -> None:
        """Have one timer, due at `deadline` or before; an early one looks again, so it is seldom moved."""
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self.clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._emit(self.session.tick(self.clock()))

    def _close_transport(self, transport: asyncio.Transport) -> None:
        """Close once everything was written; cut the connection when that takes too long.

        A peer that unbinds closes by itself when it has our unbind_resp, so we close our half only: TCP resets a
        connection that is closed before all was read (RFC 1122 §4.2.2.13), and with receipts on their way to us the
        peer would lose our last answers and the unbind_resp to the reset.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._abort_timer is None:
            if self.debug:
                logger.debug("smpp %s = %s", self.name, self.session.state.value)
            by_peer = self.session.close_reason is CloseReason.UNBOUND_BY_PEER
            if by_peer and transport.can_write_eof() and not transport.is_closing():
                transport.write_eof()
            else:
                transport.close()
            self._abort_timer = self._loop.call_later(CLOSE_GRACE_S, transport.abort)

    def _log_pdus(self, direction: str, decoder: Decoder, data: bytes) -> None:
        """Write one line a PDU; their `repr` shows no address, text or password."""
        state = self.session.state.value
        for pdu in decoder.feed(data):
            logger.debug("smpp %s [%s] %s %r", self.name, state, direction, pdu)


async def connect(
    host: str,
    port: int,
    config: SessionConfig,
    on_events: OnEvents,
    *,
    connect_timeout_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
    tls_name: str = "",
    name: str = "",
    debug: bool = False,
) -> Connection:
    """Connect as ESME and send the bind; `Bound` or `Closed` comes as an event. With `tls` the handshake comes first,
    and the certificate must be that of `tls_name` (empty: of `host`).

    Raises:
        OSError: refused, unknown host, or not connected within `connect_timeout_s` (TimeoutError);
            ssl.SSLError, which is one, when the handshake failed or the certificate is not accepted.
    """
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if tls is not None:
        options = {
            "ssl": tls,
            "server_hostname": tls_name or host,
            "ssl_handshake_timeout": connect_timeout_s,
            "ssl_shutdown_timeout": CLOSE_GRACE_S,
        }
    async with asyncio.timeout(connect_timeout_s):
        _, connection = await loop.create_connection(
            lambda: Connection(Role.ESME, config, on_events, name=name, debug=debug), host, port, **options
        )
    return connection


async def listen(
    host: str, port: int, config: SessionConfig, on_events: OnEvents, **server_options: Any
) -> asyncio.Server:
    """Listen as SMSC; every connection gets its own session with `config`. Port 0 takes a free one.

    Raises:
        OSError: the address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(Role.SMSC, config, on_events), host, port, **server_options)
