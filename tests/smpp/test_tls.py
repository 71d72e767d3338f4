"""TLS to the SMSC on real sockets: what is verified connects, what is not is refused, said, and tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from gateway.simulator.smsc import Smsc
from gateway.smpp import channel as channel_module
from gateway.smpp.channel import Channel
from tests.support.certificates import Authority, Pair
from tests.support.channel import Heard, bound_channel, make_channel, outbound
from tests.support.line import smsc
from tests.support.until import until

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("smsc", "DNS:smsc.example,IP:127.0.0.1")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(channel_module, "_BACKOFF_MOST_S", 0.1)
    monkeypatch.setattr(channel_module, "_UNBIND_S", 0.5)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the two loops; their TLS is not the same code."""

    def run_scenario(scenario: Awaitable[None]) -> None:
        async def guarded() -> None:
            async with asyncio.timeout(30):
                await scenario

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(guarded())

    return run_scenario


@contextlib.asynccontextmanager
async def tls_smsc(pair: Pair, **options: Any) -> AsyncIterator[Smsc]:
    one = smsc(tls_cert=str(pair.cert), tls_key=str(pair.key), **options)
    await one.start()
    try:
        yield one
    finally:
        await one.stop(timeout_s=0.5)


@contextlib.asynccontextmanager
async def trying(to: Any, **settings: Any) -> AsyncIterator[Channel]:
    """Run a channel that is not expected to bind at once."""
    channel = make_channel(to, Heard(), **settings)
    channel.set_slots([0])
    try:
        yield channel
    finally:
        await channel.stop(abort=True)


def tried(channel: Channel, result: str) -> float:
    return channel._metrics.counter("binds_total", channel="a", result=result).n


def test_a_verified_smsc_is_bound_to_and_carries_messages(run: Run, authority: Authority, server: Pair) -> None:
    async def scenario() -> None:
        heard = Heard()
        async with tls_smsc(server) as carrier:
            async with bound_channel(carrier, heard, slots=2, tls=True, tls_ca=authority.cert) as channel:
                for i in range(100):
                    assert channel.submit(outbound("x" * 150, destination=b"86138%08d" % i), i) == 1
                await until(lambda: len(heard.answers) == 100 and len(heard.inbound) == 100)
                assert {(kind, status) for _, _, kind, status, _ in heard.answers} == {("answered", 0)}
                Channel.acknowledge(heard.inbound)
                await until(lambda: carrier.counters.settled == 100)
            # Unbound in order: nothing was cut off, nothing is sent again.
            await until(lambda: carrier.counters.sessions == 0)
            assert carrier.counters.receipts_repeated == 0

    run(scenario())


def test_the_name_may_be_another_than_the_host(run: Run, authority: Authority, server: Pair) -> None:
    async def scenario() -> None:
        async with tls_smsc(server) as carrier:
            settings = {"tls": True, "tls_ca": authority.cert, "tls_name": "smsc.example"}
            async with bound_channel(carrier, Heard(), **settings) as channel:
                assert channel.up

    run(scenario())


@pytest.mark.parametrize("fault", ["name", "address", "expired", "authority", "system"])
def test_what_is_not_verified_is_refused_and_tried_again(
    run: Run, authority: Authority, server: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    pair, ca, name = server, authority.cert, ""
    said = "unable to get local issuer certificate"
    if fault == "name":
        name, said = "other.example", "Hostname mismatch, certificate is not valid for 'other.example'"
    elif fault == "address":
        pair = authority.issue("elsewhere", "DNS:smsc.example")
        said = "IP address mismatch, certificate is not valid for '127.0.0.1'"
    elif fault == "expired":
        pair, said = authority.issue("expired", "IP:127.0.0.1", days=-1), "certificate has expired"
    elif fault == "authority":
        ca = Authority(tmp_path / "other", "Other Authority").cert

    async def scenario() -> None:
        async with tls_smsc(pair) as carrier:
            settings = {"tls": True, "tls_ca": None if fault == "system" else ca, "tls_name": name}
            async with trying(carrier, **settings) as channel:
                await until(lambda: tried(channel, "tls_failed") >= 3)
                assert not channel.up
                assert not channel.starting, "a backup may step in"
                assert carrier.counters.binds == 0, "nothing of the bind was sent"

    with caplog.at_level(logging.INFO, "gateway.smpp.channel"):
        run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.smpp.channel"]
    expected = f"channel a: TLS failed, nothing was sent: the certificate is not accepted: {said}"
    assert [line for line in lines if line.startswith(expected)]
    assert not [record for record in caplog.records if record.exc_info and record.name.startswith("gateway")]


def test_it_binds_once_the_certificate_is_renewed(run: Run, authority: Authority, server: Pair, tmp_path: Path) -> None:
    wrong = Authority(tmp_path / "old").issue("smsc", "IP:127.0.0.1")

    async def scenario() -> None:
        async with tls_smsc(wrong) as old:
            async with trying(old, tls=True, tls_ca=authority.cert) as channel:
                await until(lambda: tried(channel, "tls_failed") >= 1)
                await old.stop_listening()
                async with tls_smsc(server, port=old.port):
                    await until(lambda: channel.up)

    run(scenario())


def test_our_own_certificate_is_shown_where_it_is_wanted(run: Run, authority: Authority, server: Pair) -> None:
    ours = authority.issue("esme", "DNS:gateway.example")

    async def scenario() -> None:
        async with tls_smsc(server, tls_client_ca=str(authority.cert)) as carrier:
            settings = {"tls": True, "tls_ca": authority.cert}
            async with bound_channel(carrier, Heard(), tls_cert=ours.cert, tls_key=ours.key, **settings):
                assert carrier.counters.binds == 1
            async with trying(carrier, **settings) as channel:
                await until(lambda: channel._failed)
                assert carrier.counters.binds == 1
                assert not channel.up

    run(scenario())


@contextlib.contextmanager
def listener_that_wants_certificates(authority: Authority, pair: Pair) -> Iterator[Any]:
    """Serve TLS on blocking sockets, which send the alert that asyncio's server drops when a handshake fails."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.cert))
    context.load_cert_chain(pair.cert, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))
    refused: list[str] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(5)
                try:
                    context.wrap_socket(peer, server_side=True).close()
                except ssl.SSLError as exc:
                    refused.append(exc.reason)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield SimpleNamespace(port=listening.getsockname()[1], refused=refused)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def test_a_refusal_that_comes_after_the_handshake_is_said(
    run: Run, authority: Authority, server: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with listener_that_wants_certificates(authority, server) as listener:
            async with trying(listener, tls=True, tls_ca=authority.cert) as channel:
                await until(lambda: "smpp a/0: TLS failed: " in caplog.text)
                assert not channel.up
            assert set(listener.refused) == {"PEER_DID_NOT_RETURN_A_CERTIFICATE"}

    run(scenario())
    assert "CERTIFICATE_REQUIRED" in caplog.text


def test_files_that_went_missing_while_running_are_said(
    run: Run, server: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with tls_smsc(server) as carrier, trying(carrier, tls=True, tls_ca=tmp_path / "gone.pem") as channel:
            await until(lambda: tried(channel, "tls_failed") >= 2)

    with caplog.at_level(logging.INFO, "gateway.smpp.channel"):
        run(scenario())
    assert "its TLS files cannot be used: No such file or directory" in caplog.text


def test_a_peer_without_tls_is_refused(run: Run, authority: Authority) -> None:
    async def scenario() -> None:
        carrier = smsc()
        await carrier.start()
        try:
            async with trying(carrier, tls=True, tls_ca=authority.cert, session_init_timer_s=1.0) as channel:
                await until(lambda: tried(channel, "tls_failed") + tried(channel, "unreachable") >= 2)
                assert not channel.up
                assert carrier.counters.binds == 0
        finally:
            await carrier.stop(timeout_s=0.5)

    run(scenario())
