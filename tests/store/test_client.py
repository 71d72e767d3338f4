"""The store client when the server hangs, dies, refuses or forgets: what it says, how soon, and what was written."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.store import scripts
from gateway.store.client import Client
from gateway.store.store import Store
from tests.support.messages import accept, claim, message
from tests.support.proxy import CuttingProxy
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[Client]:
    opened = Client(valkey.url, size=8, timeout_s=0.3)
    yield opened
    await opened.close()


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """Start a server that the test may kill."""
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def hanging(valkey: ValkeyServer) -> Iterator[Callable[[bool], None]]:
    """Return a switch: the server hangs (SIGSTOP), or goes on."""

    def switch(hang: bool) -> None:
        valkey.signal(signal.SIGSTOP if hang else signal.SIGCONT)

    yield switch
    switch(False)


async def outcome_of(call: Awaitable[Any]) -> str:
    """Return the outcome that a failing call tells."""
    with pytest.raises(StoreUnavailable) as failed:
        await call
    return failed.value.outcome


def connections(valkey: ValkeyServer) -> int:
    with valkey.sync() as plain:
        return len(plain.client_list()) - 1


# --- hanging


async def test_a_time_out_is_unknown_bounded_and_runs_once(
    client: Client, valkey: ValkeyServer, hanging: Callable[[bool], None]
) -> None:
    """With redis-py's defaults one such call leaves two items."""
    await client.execute("PING")
    hanging(True)
    started = time.monotonic()
    assert await outcome_of(client.execute("RPUSH", "list", "x")) == "unknown"
    assert time.monotonic() - started < 0.6
    hanging(False)
    assert await client.execute("RPUSH", "list", "y") == 2, "executed once, after the hang"
    await until(lambda: connections(valkey) == 1)


async def test_accept_under_a_hang_is_bounded_and_stores_once(
    valkey: ValkeyServer, settings: Settings, hanging: Callable[[bool], None]
) -> None:
    store = await Store.open(settings, valkey.url)
    store.client.timeout_s = 0.3
    try:
        await accept(store, message(store))
        marks = [{"idem": bytes([i]) * 16, "digest": b"d" * 8} for i in range(3)]
        ms = [message(store, **mark) for mark in marks]
        gaps: list[float] = []
        ticking = asyncio.create_task(_measure(gaps))
        hanging(True)
        started = time.monotonic()
        # Three requests, one commit each: the second and third wait for the first's lane.
        answers = await asyncio.gather(*(accept(store, m) for m in ms))
        assert {code for (code,) in answers} == {"unavailable:unknown"}
        assert time.monotonic() - started < 1.5
        hanging(False)
        ticking.cancel()
        assert max(gaps) < 0.2, "the event loop stood still"
        again = [message(store, m.msisdn, **mark) for m, mark in zip(ms, marks, strict=True)]
        answers = await asyncio.gather(*(accept(store, m) for m in again))
        assert {code for (code,) in answers} <= {"replay", "accepted"}
        with valkey.sync() as plain:
            assert len(check_consistent(snapshot(plain))) == 4
    finally:
        await store.close()


async def _measure(gaps: list[float]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.005)
        now = time.monotonic()
        gaps.append(now - last)
        last = now


async def test_who_finds_no_free_connection_knows_that_nothing_was_stored(
    client: Client, hanging: Callable[[bool], None]
) -> None:
    hanging(True)
    outcomes = await asyncio.gather(*(outcome_of(client.execute("INCR", "n")) for _ in range(20)))
    hanging(False)
    # Eight connections; twelve callers waited for one until their own time was over, or had none left to use it.
    assert outcomes.count("unknown") <= 8
    assert set(outcomes) <= {"unknown", "not_stored"}
    assert await client.execute("INCR", "n") <= 9


# --- cancelled


async def test_cancelled_calls_never_give_anothers_answer(valkey: ValkeyServer, tmp_path: Path) -> None:
    """1,000 calls, cancelled at random; each that ends has its own answer."""
    proxy = CuttingProxy(tmp_path / "p", valkey.socket, delay_s=0.002)
    await proxy.start()
    client = Client(proxy.url, size=8)
    chance = random.Random(28)
    done = 0

    async def ask(name: str) -> None:
        nonlocal done
        assert await client.execute("ECHO", name) == name.encode()
        done += 1

    try:
        for turn in range(20):
            calls = [asyncio.create_task(ask(f"{turn}-{i}")) for i in range(50)]
            for call in chance.sample(calls, 40):
                await asyncio.sleep(chance.random() * 0.0008)
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
        assert 200 <= done < 1000
        for i in range(50):
            await ask(f"after-{i}")
    finally:
        await client.close()
        await proxy.stop()


async def test_a_cancelled_accept_does_not_hurt_those_in_the_same_batch(store: Store) -> None:
    ms = [message(store) for _ in range(20)]
    calls = [asyncio.create_task(accept(store, m)) for m in ms]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert all(call.result() == ["accepted"] for call in calls[1::2])
    stored = {c.id for c in await claim(store)}
    assert {m.id for m in ms[1::2]} <= stored


# --- forgotten and refused


async def test_moves_that_the_server_forgot_are_loaded_again(store: Store) -> None:
    await accept(store, message(store))
    await store.client.execute("FUNCTION", "FLUSH")
    assert await accept(store, message(store)) == ["accepted"]
    assert len(await claim(store)) == 2


async def test_moves_of_other_versions_are_removed(store: Store) -> None:
    other = "#!lua name=smsgw_0123456789ab\nredis.register_function('smsgw_0123456789ab_x', function() return 1 end)"
    await store.client.execute("FUNCTION", "LOAD", other)
    await store.check_layout()
    found = await store.client.execute("FUNCTION", "LIST")
    assert [one[1].decode() for one in found] == [scripts.bundle().name]


async def test_a_replica_is_refused_and_asked_again_later(store: Store, valkey: ValkeyServer) -> None:
    with valkey.sync() as plain:
        plain.replicaof("127.0.0.1", "1")
        try:
            assert await accept(store, message(store)) == ["unavailable:not_stored"]
        finally:
            plain.replicaof("NO", "ONE")
    assert await accept(store, message(store)) == ["accepted"]


@pytest.mark.parametrize(
    "line",
    [
        "LOADING Valkey is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Valkey is busy running a script.",
        "CLUSTERDOWN The cluster is down",
        "NOPERM User default has no permissions to run the 'evalsha' command",
    ],
)
async def test_an_answer_that_refuses_means_not_stored(settings: Settings, tmp_path: Path, line: str) -> None:
    async with _answering(tmp_path / "s", line):
        client = Client(f"unix://{tmp_path / 's'}")
        assert await outcome_of(client.call("accept", ["gw:{s00}:"], [])) == "not_stored"
        await client.close()


async def test_a_script_that_fails_is_our_fault_and_no_reason_to_drop_the_connection(
    client: Client, valkey: ValkeyServer
) -> None:
    with pytest.raises(ResponseError):
        await client.execute("EVAL", "#!lua\nredis.call('SET', KEYS[1], nil)", 1, "k")
    await client.execute("PING")
    assert connections(valkey) == 1


class _answering:
    """A server that gives one answer to everything."""

    def __init__(self, path: Path, line: str) -> None:
        self._path = path
        self._line = line

    async def __aenter__(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            for _ in range(data.count(b"\r\n*") + data.startswith(b"*")):
                writer.write(f"-{self._line}\r\n".encode())
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


async def test_more_connections_than_the_server_allows(settings: Settings, own_server: ValkeyServer) -> None:
    """Some calls wait, some are refused; nobody hangs and nothing is stored that was not answered so."""
    with own_server.sync() as plain:
        plain.config_set("maxclients", 10)
        client = Client(own_server.url, size=24, timeout_s=2.0)
        started = time.monotonic()
        results = await asyncio.gather(*(client.execute("INCR", "n") for _ in range(100)), return_exceptions=True)
        assert time.monotonic() - started < 4
        refused = [r for r in results if isinstance(r, BaseException)]
        assert all(isinstance(r, StoreUnavailable) and r.outcome == "not_stored" for r in refused), refused
        assert plain.get("n") == str(len(results) - len(refused)).encode()
        await client.close()


# --- dead


async def test_a_killed_server_costs_the_calls_under_way_and_no_later_one(
    settings: Settings, own_server: ValkeyServer
) -> None:
    store = await Store.open(settings, own_server.url)
    try:
        kept = [message(store) for _ in range(40)]
        # Many connections at once, all of them idle when the server dies.
        assert await asyncio.gather(*(store.client.execute("PING") for _ in range(20))) == [b"PONG"] * 20
        assert await accept(store, *kept) == ["accepted"] * 40
        own_server.kill()
        assert await accept(store, message(store)) == ["unavailable:not_stored"]
        own_server.start()
        for _ in range(3):
            m = message(store)
            assert await accept(store, m) == ["accepted"]
            kept.append(m)
        assert sorted(c.id for c in await claim(store)) == sorted(m.id for m in kept)
    finally:
        await store.close()


async def test_killed_under_load_every_accepted_message_is_there(settings: Settings, own_server: ValkeyServer) -> None:
    """Without a supervisor: the answers before, during and after a kill are all true."""
    store = await Store.open(settings, own_server.url)
    accepted: list[str] = []
    failed: list[str] = []
    stop = False

    async def load() -> None:
        while not stop:
            batch = [message(store) for _ in range(20)]
            for m, code in zip(batch, await accept(store, *batch), strict=True):
                (accepted if code == "accepted" else failed).append(m.id)
            if failed:
                await asyncio.sleep(0.01)

    try:
        writers = [asyncio.create_task(load()) for _ in range(4)]
        await until(lambda: len(accepted) > 300, every_s=0.001)
        own_server.kill()
        await until(lambda: failed)
        own_server.start()
        before = len(accepted)
        await until(lambda: len(accepted) > before + 200)
        stop = True
        await asyncio.gather(*writers)
        with own_server.sync() as plain:
            stored = check_consistent(snapshot(plain))
        assert set(accepted) <= set(stored)
        assert set(stored) <= set(accepted) | set(failed)
    finally:
        await store.close()


async def test_failed_calls_are_told_by_move_and_kind(client: Client, hanging: Callable[[bool], None]) -> None:
    told: list[tuple[str, str]] = []
    client.on_failure = lambda move, kind: told.append((move, kind))
    await client.load_moves()
    with pytest.raises(ResponseError):
        await client.call("due", ["gw:{s00}:"], ["no number"])
    hanging(True)
    await outcome_of(client.call("due", ["gw:{s00}:"], ["10", "0"]))
    hanging(False)
    await client.close()
    await outcome_of(client.call("due", ["gw:{s00}:"], ["10", "0"]))
    assert told == [("due", "fault"), ("due", "unknown"), ("due", "not_stored")]
