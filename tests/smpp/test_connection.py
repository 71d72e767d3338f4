"""The shell on real sockets, an ESME connection against an SMSC connection, under asyncio and under uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import uvloop

from gateway.model import Secret
from gateway.smpp import codec
from gateway.smpp import connection as connection_module
from gateway.smpp import constants as c
from gateway.smpp.connection import Connection, connect, listen
from gateway.smpp.pdu import Bind, DeliverSm, GenericNack, SubmitSm
from gateway.smpp.session import (
    BindRequested,
    Bound,
    Closed,
    CloseReason,
    DeliverReceived,
    Event,
    SessionConfig,
    SubmitAnswered,
    SubmitReceived,
    SubmitTimedOut,
)
from tests.support.until import until

PASSWORD = "s3cr3t"
SUBMIT = SubmitSm(source_addr=b"1069", destination_addr=b"8613800138000", short_message=b"code 482913")
E = TypeVar("E")
Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the two loops; anything the loop had to report itself fails the test."""

    def run_scenario(scenario: Awaitable[None]) -> None:
        reported: list[dict[str, object]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            async with asyncio.timeout(20):
                await scenario

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(guarded())
        assert reported == []

    return run_scenario


def esme_config(**changes: object) -> SessionConfig:
    return SessionConfig(**{"system_id": "acme", "password": Secret(PASSWORD), "window": 100, **changes})


class Esme:
    """Notes every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, connection: Connection, events: list[Event]) -> None:
        self.events += events

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class Smsc:
    """Binds everybody and answers every submit, unless told to hold the answers."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.received: list[SubmitSm] = []
        self.closed: list[Closed] = []
        self.hold = False

    def __call__(self, connection: Connection, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BindRequested):
                self.connections.append(connection)
                connection.session.accept_bind(event.pdu.sequence_number)
            elif isinstance(event, SubmitReceived):
                self.received.append(event.pdu)
                if not self.hold:
                    connection.session.respond_submit(event.pdu.sequence_number, b"%d" % len(self.received))
            elif isinstance(event, Closed):
                self.closed.append(event)


@asynccontextmanager
async def bound(smsc: Smsc, esme: Esme, **config: object) -> AsyncIterator[Connection]:
    """An ESME connection bound to `smsc`; everything is taken down at the end."""
    server = await listen("127.0.0.1", 0, SessionConfig("smsc"), smsc)
    connection = await connect("127.0.0.1", port_of(server), esme_config(**config), esme, name="test")
    try:
        await until(lambda: esme.of(Bound))
        yield connection
    finally:
        connection.abort()
        for other in smsc.connections:
            other.abort()
        server.close()
        await connection.wait_closed()
        for other in smsc.connections:
            await other.wait_closed()


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def test_submits_are_answered_and_unbind_ends_both_sides(run: Run) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        async with bound(smsc, esme) as connection:
            assert connection.free == 100
            assert connection.peername.startswith("127.0.0.1:")
            for number in range(100):
                connection.submit(SUBMIT, number)
            assert connection.free == 0
            await until(lambda: len(esme.of(SubmitAnswered)) == 100)
            answers = esme.of(SubmitAnswered)
            assert [a.context for a in answers] == list(range(100))
            assert [a.message_id for a in answers] == [b"%d" % n for n in range(1, 101)]
            connection.unbind()
            await connection.wait_closed()
            await until(lambda: smsc.closed)
            assert [e.reason for e in esme.of(Closed)] == [CloseReason.UNBOUND]
            assert smsc.closed[0].reason is CloseReason.UNBOUND_BY_PEER

    run(scenario())


def test_a_loop_of_submits_is_one_write(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        async with bound(smsc, esme) as connection:
            writes: list[int] = []
            transport = connection._transport
            assert transport is not None

            class Counting:
                def write(self, data: bytes) -> None:
                    writes.append(len(data))
                    transport.write(data)

                def __getattr__(self, name: str) -> object:
                    return getattr(transport, name)

            connection._transport = Counting()
            for number in range(100):
                connection.submit(SUBMIT, number)
            await until(lambda: len(esme.of(SubmitAnswered)) == 100)
            assert len(writes) == 1

    run(scenario())


def test_receipts_are_answered_when_the_owner_says_so(run: Run) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        async with bound(smsc, esme) as connection:
            carrier = smsc.connections[0]
            for number in range(10):
                carrier.session.deliver(DeliverSm(short_message=b"%d" % number), number, carrier.clock())
            carrier.flush_soon()
            await until(lambda: len(esme.of(DeliverReceived)) == 10)
            assert carrier.session.in_flight == 10
            connection.respond_delivers([e.pdu.sequence_number for e in esme.of(DeliverReceived)])
            await until(lambda: carrier.session.in_flight == 0)

    run(scenario())


@asynccontextmanager
async def bound_by_hand(esme: Esme, **config: object) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """An ESME connection bound to a bare socket, for octets no session would send."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    connecting = asyncio.create_task(connect("127.0.0.1", listener.getsockname()[1], esme_config(**config), esme))
    peer, _ = await loop.sock_accept(listener)
    peer.setblocking(False)
    connection = await connecting
    try:
        await loop.sock_recv(peer, 4096)
        await loop.sock_sendall(peer, codec.encode_header(c.BIND_TRANSCEIVER_RESP, 1))
        await until(lambda: esme.of(Bound))
        yield connection, peer
    finally:
        connection.abort()
        await connection.wait_closed()
        peer.close()
        listener.close()


async def read_until_eof(peer: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while chunk := await loop.sock_recv(peer, 65536):
        data += chunk
    return data


def test_one_octet_a_write_and_200_pdus_in_one_segment(run: Run) -> None:
    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme, window=400) as (connection, peer):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            numbers = [connection.submit(SUBMIT, n) for n in range(220)]
            loop = asyncio.get_running_loop()
            for octet in b"".join(codec.encode_submit_sm_resp(n, b"a%d" % n) for n in numbers[:20]):
                await loop.sock_sendall(peer, bytes((octet,)))
            await until(lambda: len(esme.of(SubmitAnswered)) == 20)
            many = b"".join(codec.encode_submit_sm_resp(n, b"b%d" % n) for n in reversed(numbers[20:]))
            await loop.sock_sendall(peer, many)
            await until(lambda: len(esme.of(SubmitAnswered)) == 220)
            assert {a.context for a in esme.of(SubmitAnswered)} == set(range(220))

    run(scenario())


@pytest.mark.parametrize("length", [0, 3, 15, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lost_framing_is_nacked_and_the_connection_closed(run: Run, length: int) -> None:
    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme) as (connection, peer):
            await asyncio.get_running_loop().sock_sendall(peer, struct.pack(">IIII", length, 4, 0, 9))
            octets = await read_until_eof(peer)
            assert codec.decode(octets) == GenericNack(c.RINVCMDLEN, 0)
            assert [e.reason for e in esme.of(Closed)] == [CloseReason.FRAMING]
            peer.close()
            await connection.wait_closed()

    run(scenario())


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_peer_that_leaves_mid_pdu_gives_back_the_window(run: Run, reset: bool) -> None:
    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme) as (connection, peer):
            connection.submit(SUBMIT, "on its way")
            await asyncio.get_running_loop().sock_recv(peer, 4096)
            await asyncio.get_running_loop().sock_sendall(peer, codec.encode_deliver_sm(DeliverSm(), 5)[:9])
            if reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await connection.wait_closed()
            (closed,) = esme.of(Closed)
            assert (closed.reason, closed.lost) == (CloseReason.PEER_CLOSED, ["on its way"])
            assert esme.of(DeliverReceived) == []

    run(scenario())


def test_a_silent_smsc_is_left_after_the_session_init_timer(run: Run) -> None:
    async def scenario() -> None:
        esme = Esme()
        listener = socket.create_server(("127.0.0.1", 0))
        config = esme_config(session_init_timer_s=0.1)
        connection = await connect("127.0.0.1", listener.getsockname()[1], config, esme)
        await connection.wait_closed()
        assert [e.reason for e in esme.of(Closed)] == [CloseReason.BIND_TIMEOUT]
        listener.close()

    run(scenario())


def test_a_hanging_smsc_is_noticed_by_the_link_timer(run: Run) -> None:
    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme, enquire_link_s=0.1, response_timer_s=0.3) as (connection, peer):
            await connection.wait_closed()
            assert [e.reason for e in esme.of(Closed)] == [CloseReason.LINK_TIMEOUT]
            pdus = codec.Decoder().feed(await read_until_eof(peer))
            assert [pdu.command_id for pdu in pdus] == [c.ENQUIRE_LINK]

    run(scenario())


def test_a_response_timer_that_is_due_before_the_armed_one(run: Run) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        smsc.hold = True
        async with bound(smsc, esme, enquire_link_s=60.0, response_timer_s=0.1) as connection:
            connection.submit(SUBMIT, "a")
            await until(lambda: esme.of(SubmitTimedOut), timeout_s=3)  # the armed one is due in 10 s
            assert not connection.session.closed
            assert connection.free == 100

    run(scenario())


def test_a_wrong_password_is_refused_and_shown_nowhere(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        def refuse(connection: Connection, events: list[Event]) -> None:
            for event in events:
                if isinstance(event, BindRequested):
                    assert event.pdu.password == PASSWORD.encode()
                    connection.session.accept_bind(event.pdu.sequence_number, c.RINVPASWD)

        esme = Esme()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc"), refuse)
        connection = await connect("127.0.0.1", port_of(server), esme_config(), esme, debug=True)
        await connection.wait_closed()
        assert [e.reason for e in esme.of(Closed)] == [CloseReason.BIND_REFUSED]
        server.close()

    run(scenario())
    assert PASSWORD not in caplog.text


def test_a_password_too_long_ends_before_anything_is_sent(run: Run) -> None:
    async def scenario() -> None:
        esme, smsc = Esme(), Smsc()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc"), smsc)
        config = esme_config(password=Secret("n1ne-char"))
        connection = await connect("127.0.0.1", port_of(server), config, esme)
        await connection.wait_closed()
        (closed,) = esme.of(Closed)
        assert "password has 9 octets" in closed.detail
        assert "n1ne" not in closed.detail
        assert smsc.connections == []
        server.close()

    run(scenario())


def test_the_debug_log_shows_pdus_and_no_person(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=connection_module.__name__)

    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        async with bound(smsc, esme) as connection:
            connection.debug = True
            connection.submit(SUBMIT, 1)
            await until(lambda: esme.of(SubmitAnswered))
            connection.unbind()
            await connection.wait_closed()

    run(scenario())
    lines = [record.getMessage() for record in caplog.records]
    assert any(" > <submit_sm seq=2 " in line for line in lines)
    assert any(" < <submit_sm_resp seq=2 " in line for line in lines)
    assert any(line.endswith("= closed") for line in lines)
    assert "8613800138000" not in caplog.text
    assert "482913" not in caplog.text


def test_a_peer_that_does_not_read_stops_us_and_memory_stays(run: Run) -> None:
    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme, window=1_000_000) as (connection, peer):
            sent = 0
            while connection.free and sent < 200_000:
                for _ in range(100):
                    connection.submit(SUBMIT, sent)
                    sent += 1
                await asyncio.sleep(0)
            assert not connection.writable
            assert connection.free == 0
            assert sent < 200_000
            received = 0
            loop = asyncio.get_running_loop()
            size = len(codec.encode_submit_sm(SUBMIT, 1))
            while received < sent * size:
                received += len(await loop.sock_recv(peer, 1 << 20))
            await until(lambda: connection.writable)
            assert connection.free == 1_000_000 - sent

    run(scenario())


def test_a_peer_that_asks_and_never_reads_the_answers_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "UNREAD_PIECES", 1000)
    monkeypatch.setattr(connection_module, "CLOSE_GRACE_S", 0.1)

    async def scenario() -> None:
        esme = Esme()
        async with bound_by_hand(esme) as (connection, peer):
            loop = asyncio.get_running_loop()
            question = codec.encode_header(c.ENQUIRE_LINK, 7) * 1000
            with contextlib.suppress(OSError):  # reset or broken pipe, once it was left
                while not connection.lost:
                    await loop.sock_sendall(peer, question)
                    await asyncio.sleep(0)
            await connection.wait_closed()
            assert [e.reason for e in esme.of(Closed)] == [CloseReason.NOT_READING]

    run(scenario())


def test_pausing_reads_holds_receipts_back(run: Run) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        async with bound(smsc, esme) as connection:
            carrier = smsc.connections[0]
            connection.pause_reading()
            connection.pause_reading()
            carrier.session.deliver(DeliverSm(), 1, carrier.clock())
            carrier.flush_soon()
            connection.submit(SUBMIT, 1)
            await until(lambda: smsc.received)
            assert esme.of(DeliverReceived) == []
            connection.resume_reading()
            await until(lambda: esme.of(DeliverReceived) and esme.of(SubmitAnswered))

    run(scenario())


def test_closing_from_inside_the_callback_keeps_the_order(run: Run) -> None:
    async def scenario() -> None:
        order: list[str] = []

        def owner(connection: Connection, events: list[Event]) -> None:
            for event in events:
                order.append(f"> {type(event).__name__}")
                if isinstance(event, Bound):
                    connection.submit(SUBMIT, "a")
                    connection.close()
                    connection.close()
                order.append(f"< {type(event).__name__}")

        smsc = Smsc()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc"), smsc)
        connection = await connect("127.0.0.1", port_of(server), esme_config(), owner)
        await connection.wait_closed()
        assert order == ["> Bound", "< Bound", "> Closed", "< Closed"]
        await until(lambda: smsc.closed)
        assert smsc.received == []
        server.close()

    run(scenario())


def test_an_owner_that_fails_costs_its_connection_and_nothing_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        seen: list[Event] = []

        def owner(connection: Connection, events: list[Event]) -> None:
            seen.extend(events)
            if isinstance(events[0], Bound):
                connection.submit(SUBMIT, "a")
                raise RuntimeError("a bug of the owner")

        smsc = Smsc()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc"), smsc)
        connection = await connect("127.0.0.1", port_of(server), esme_config(), owner)
        await connection.wait_closed()
        closed = seen[-1]
        assert isinstance(closed, Closed)
        assert closed.lost + closed.unsent == ["a"]
        server.close()

    run(scenario())
    assert "cutting the connection" in caplog.text


def test_nobody_there(run: Run) -> None:
    async def scenario() -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with pytest.raises(OSError):  # noqa: PT011 - the subclass differs by platform
            await connect("127.0.0.1", port, esme_config(), Esme())

    run(scenario())


def test_the_server_drops_who_never_binds_and_serves_the_others(run: Run) -> None:
    async def scenario() -> None:
        smsc, esme = Smsc(), Esme()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc", session_init_timer_s=0.1), smsc)
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        other = await connect("127.0.0.1", port_of(server), esme_config(), esme)
        await until(lambda: smsc.closed)
        assert smsc.closed[0].reason is CloseReason.BIND_TIMEOUT
        other.submit(SUBMIT, 1)
        await until(lambda: esme.of(SubmitAnswered))
        other.close()
        await other.wait_closed()
        writer.close()
        server.close()

    run(scenario())


def test_two_binds_in_one_segment(run: Run) -> None:
    async def scenario() -> None:
        smsc = Smsc()
        server = await listen("127.0.0.1", 0, SessionConfig("smsc"), smsc)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        bind = Bind(c.BIND_TRANSCEIVER, b"acme", b"pw")
        writer.write(codec.encode(bind, 1) + codec.encode(bind, 2))
        decoder = codec.Decoder()
        pdus = []
        while len(pdus) < 2:
            pdus += decoder.feed(await reader.read(4096))
        assert sorted(pdu.command_status for pdu in pdus) == [0, c.RALYBND]
        writer.close()
        await until(lambda: smsc.closed)
        server.close()

    run(scenario())
