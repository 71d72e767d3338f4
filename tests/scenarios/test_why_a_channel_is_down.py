"""A channel that cannot be bound says why, to everybody: each kind of trouble by a real carrier that behaves so."""

from __future__ import annotations

import asyncio
import errno
import ssl

import pytest

from gateway.admin.channel_state import PARTIAL, STARTING, state_of
from gateway.model import Secret
from gateway.settings import ChannelSettings
from gateway.smpp import trouble
from gateway.smpp.events import CloseReason
from gateway.store.changes import Changes, Sessions
from gateway.store.moves import Health
from tests.support.gateway import free_port
from tests.support.line import channel_to, line_settings, worker
from tests.support.scenario import carrier
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_every_way_to_be_down_has_its_word(valkey: ValkeyServer) -> None:
    """One worker, a channel for each: none of them hides another."""
    garbage = await asyncio.start_server(_says_garbage, "127.0.0.1", 0)
    deaf = await asyncio.start_server(_says_nothing, "127.0.0.1", 0)
    async with carrier(system_id="acme", password="another") as strict, carrier() as good:
        plain = {"session_init_timer_s": 0.5}
        channels = [
            channel_to(good, "refused", port=free_port()),
            channel_to(good, "dns", host="no..such..name"),
            channel_to(good, "tls", tls=True),
            channel_to(strict, "bind-refused"),
            channel_to(good, "bind-timeout", port=deaf.sockets[0].getsockname()[1], **plain),
            channel_to(good, "protocol", port=garbage.sockets[0].getsockname()[1], **plain),
            channel_to(good, "not-called", outbind_listen=("127.0.0.1", free_port()), bind="transceiver"),
            channel_to(good, "well"),
        ]
        async with worker(line_settings(channels), valkey, bound=False) as w:
            changes = Changes(w.store)
            found: dict[str, Sessions] = {}

            async def all_said() -> bool:
                nonlocal found
                found = await changes.sessions()
                return all(c.id in found and (found[c.id].trouble or found[c.id].bound) for c in channels)

            await until(all_said)
            said = {name: (s.trouble.kind, s.trouble.detail) for name, s in found.items() if s.trouble is not None}
            assert said.pop("tls")[0] == "tls"
            assert said == {
                "refused": ("refused", ""),
                "dns": ("dns", ""),
                "bind-refused": ("bind_refused", "0x0000000E RINVPASWD"),
                "bind-timeout": ("bind_timeout", ""),
                "protocol": ("protocol", ""),
                "not-called": ("not_called", ""),
            }
            assert (found["well"].bound, found["well"].slots, found["refused"].bound) == (1, 1, 0)
        assert await changes_after_stop(valkey) == {}
    for server in (garbage, deaf):
        server.close()


async def test_a_channel_that_is_being_opened_is_starting(valkey: ValkeyServer) -> None:
    """Its bind is not answered yet: workers serve it, and nothing is wrong so far."""
    deaf = await asyncio.start_server(_says_nothing, "127.0.0.1", 0)
    slow = ChannelSettings("a", "127.0.0.1", deaf.sockets[0].getsockname()[1], "x", Secret("y"), binds=2)
    async with worker(line_settings([slow]), valkey, bound=False) as w:

        async def served() -> bool:
            return (await Changes(w.store).sessions()).get("a", Sessions()).slots == 2

        await until(served, timeout_s=5)
        found = (await Changes(w.store).sessions())["a"]
        assert state_of(slow, Health(), bound=False, sessions=found).word == STARTING
        assert await Changes(w.store).read(0) == [], "it was not lost"
    deaf.close()


async def test_a_channel_that_gets_no_receipts_is_not_whole(valkey: ValkeyServer) -> None:
    """All that submit are bound, and the session that receives is not: receipts stay away, and somebody must see it."""
    async with carrier() as one:
        listens = ("127.0.0.1", free_port())
        channel = channel_to(one, "a", outbind_listen=listens, bind="transmitter_receiver")
        async with worker(line_settings([channel]), valkey) as w:
            found = Sessions()

            async def half() -> bool:
                nonlocal found
                found = (await Changes(w.store).sessions()).get("a", Sessions())
                return found.bound == channel.binds and found.trouble is not None

            await until(half)
            state = state_of(channel, Health(), bound=True, sessions=found)
            assert (state.word, state.cause) == (PARTIAL, {"kind": "not_called", "detail": ""})


async def test_lost_and_back_stand_in_the_changes_once(valkey: ValkeyServer) -> None:
    """Two workers lose the same channel: that is one loss; the reason is the carrier's last behaviour."""
    async with carrier() as one:
        settings = line_settings([channel_to(one, "a", binds=2)])
        async with worker(settings, valkey, "worker01") as w, worker(settings, valkey, "worker02"):
            changes = Changes(w.store)
            await until(lambda: _bound(changes, 2), timeout_s=15)
            await one.stop_listening()
            one.unbind_sessions()
            await until(lambda: _kinds(changes, "channel_down"), timeout_s=15)
            (down,) = await changes.read(0)
            assert down.object == "a"
            assert down.facts["cause"] in ("unbound", "refused"), "what the one said that was the last to lose it"

            async def refused() -> bool:
                what = (await changes.sessions())["a"].trouble
                return what is not None and what.kind == "refused"

            await until(refused, timeout_s=15)
            found = (await changes.sessions())["a"]
            assert found.trouble is not None
            assert found.trouble.since_ms <= found.trouble.at_ms, "since it was unbound, not since it was refused last"
            await one.start()
            await until(lambda: _kinds(changes, "channel_up", "channel_down"), timeout_s=30)
            assert int((await changes.read(0))[0].facts["ms"]) > 0
            await until(lambda: _bound(changes, 2), timeout_s=30)
            assert (await changes.sessions())["a"].trouble is None
        # Both ended in order: that is no loss.
        async with worker(settings, valkey, "worker03") as again:
            assert len(await Changes(again.store).read(0)) == 2


async def test_what_a_dead_worker_said_goes(valkey: ValkeyServer) -> None:
    async with carrier() as one:
        settings = line_settings([channel_to(one, "a")])
        async with worker(settings, valkey, "worker01") as w:
            changes = Changes(w.store)
            await until(lambda: _bound(changes, 1))
            with valkey.sync() as client:
                past = b"3,3,1,1,refused,"
                client.hset("gw:{gw:health}:sessions", "a\x1fdead", past)
            assert await _bound(changes, 1), "no lease, no say"
            await one.stop_listening()
            one.drop_sessions()

            def gone() -> bool:
                with valkey.sync() as client:
                    return not client.hexists("gw:{gw:health}:sessions", "a\x1fdead")

            await until(gone)


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused", ""),
        (OSError("Multiple exceptions: [Errno 113] a, [Errno 111] b"), "refused", ""),
        (OSError(errno.ENETUNREACH, "x"), "unreachable", "ENETUNREACH"),
        (OSError("who knows"), "unreachable", ""),
        (TimeoutError(), "timeout", ""),
        (ssl.SSLError(1, "x"), "tls", ""),
    ],
)
def test_errors_have_their_words(error: OSError, kind: str, detail: str) -> None:
    assert trouble.of_error(error) == trouble.Trouble(kind, detail)


def test_every_end_that_is_not_our_wish_is_a_kind_that_is_known() -> None:
    ours = {CloseReason.LOCAL, CloseReason.UNBOUND}
    for reason in CloseReason:
        what = trouble.of_close(reason)
        assert (what is None) == (reason in ours)
        assert what is None or trouble.spelt(what.kind, "x") == f"{trouble.KINDS[what.kind]} (x)"


async def _says_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()
    writer.close()


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def _bound(changes: Changes, sessions: int) -> bool:
    found = await changes.sessions()
    return "a" in found and found["a"].bound == sessions


async def _kinds(changes: Changes, *kinds: str) -> bool:
    return [one.kind for one in await changes.read(0)] == list(kinds)


async def changes_after_stop(valkey: ValkeyServer) -> dict[bytes, bytes]:
    with valkey.sync() as client:
        found: dict[bytes, bytes] = client.hgetall("gw:{gw:health}:sessions")
        return found
