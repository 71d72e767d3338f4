"""Two dispatch workers on one store: together never more binds or parts than allowed; one dies, the other takes all."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.dispatch import lease
from gateway.settings import Settings
from gateway.store import moves
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import (
    MARKETING,
    NOTIFICATION,
    VERIFICATION,
    accepted,
    carrier,
    end_as,
    record,
    submits,
)
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "LEASE_MS", 1_000)
    monkeypatch.setattr(lease, "_LEASE_S", 1.0)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)


@contextlib.asynccontextmanager
async def mortal(settings: Settings, valkey: ValkeyServer, name: str) -> AsyncIterator[Worker]:
    """Run a worker that the test ends as kill -9 would."""
    store = await Store.open(settings, valkey.url, incarnation=name)
    w = Worker(settings, store)
    await w.start()
    try:
        yield w
    finally:
        await kill(w)


async def kill(w: Worker) -> None:
    """Stop every task and cut every connection; nothing is settled, released or given back."""
    d = w.dispatcher
    for task in (*d._tasks, d._claiming, d._settling, w._recording):
        if task is not None:
            task.cancel()
    for channel in d.channels.values():
        for link in channel._links.values():
            for task in link.tasks.values():
                task.cancel()
            for connection in link.connections:
                connection.abort()
    await w.store.close()


async def test_binds_are_shared_and_never_too_many(valkey: ValkeyServer) -> None:
    """The carrier refuses a third bind, so none may ever be tried; a bind is handed over with its answers in."""
    async with carrier(max_sessions=2, latency_s=0.05) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=2, window=10)])
        async with worker(settings, valkey, "worker01") as one:
            await until(lambda: smsc.counters.sessions == 2)
            sids = await accepted(one.store, [message(one.store, category=i % 3) for i in range(600)])
            await until(lambda: len(smsc.ledger.submits) > 50)
            async with worker(settings, valkey, "worker02", bound=False) as two:
                for w in (one, two):
                    await until(lambda w=w: len(w.dispatcher.channels["a"].slots) == 1)
                await until(lambda: two.dispatcher.channels["a"].up)
                assert smsc.counters.sessions == 2
                before = len(smsc.ledger.submits)
                await until(lambda: len(smsc.ledger.submits) > before + 50)
                assert len({row.session for row in smsc.ledger.submits[before:]}) == 2
            await until(lambda: smsc.counters.sessions == 2)  # and back again
            assert len(one.dispatcher.channels["a"].slots) == 2
            await end_as(one.store, sids, D=600)
            assert smsc.counters.binds_refused == 0
            assert set(submits(smsc).values()) == {1}
            for sid in sids[::20]:
                assert not (await record(one.store, sid)).possible_duplicate


async def test_a_third_worker_than_binds_stands_by(valkey: ValkeyServer) -> None:
    async with carrier(max_sessions=1) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=1)])
        async with worker(settings, valkey, "worker01") as one:
            async with worker(settings, valkey, "worker02", bound=False) as two:
                sids = await accepted(two.store, [message(two.store) for _ in range(20)])
                await end_as(two.store, sids, D=20)
                assert two.dispatcher.channels["a"].slots == []
                assert one.dispatcher.channels["a"].up
            assert smsc.counters.binds == 1


async def test_the_rate_is_one_for_all_workers(valkey: ValkeyServer) -> None:
    tps = 100
    async with carrier(latency_s=0.01) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=2, max_tps=tps)])
        async with (
            worker(settings, valkey, "worker01") as one,
            worker(settings, valkey, "worker02", bound=False) as two,
        ):
            await until(lambda: one.dispatcher.channels["a"].up and two.dispatcher.channels["a"].up)
            sids = await accepted(one.store, [message(one.store, category=i % 3) for i in range(250)])
            await end_as(one.store, sids, D=250)
            times = sorted(row.at for row in smsc.ledger.submits)
            assert len({row.session for row in smsc.ledger.submits}) == 2
            # Over any second: the rate and the burst of a tenth of it, and what octets take on their way.
            for i, start in enumerate(times):
                assert sum(1 for t in times[i:] if t < start + 1.0) <= tps + tps // 10 + 2
            assert times[-1] - times[0] < 250 / tps * 1.3  # and it is used


async def test_the_living_take_over_what_a_dead_worker_held(valkey: ValkeyServer) -> None:
    async with carrier(silence=True) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=2, window=20, response_timer_s=30.0)])
        async with mortal(settings, valkey, "worker01") as one:
            await until(lambda: smsc.counters.sessions == 2)
            ms = [message(one.store, category=c) for c in (VERIFICATION, NOTIFICATION, MARKETING) for _ in range(8)]
            sids = await accepted(one.store, ms)
            await until(lambda: len(smsc.ledger.submits) == 24)
            async with worker(settings, valkey, "worker02", bound=False) as two:
                await kill(one)
                smsc.options.silence = False
                await until(lambda: sorted(two.dispatcher.channels["a"].slots) == [1, 2], timeout_s=5)
                await end_as(two.store, sids[:8], D=8)
                await end_as(two.store, sids[8:], u=16)
                seen = submits(smsc)
                assert [seen[m.msisdn] for m in ms] == [2] * 8 + [1] * 16
                for sid in sids[:8]:
                    r = await record(two.store, sid)
                    assert r.possible_duplicate
                    assert r.attempt == 2
                assert await two.store.client.execute("HKEYS", "gw:{s00}:lease") == [b"worker02"]
                # Behind it, everything goes on.
                await end_as(two.store, await accepted(two.store, [message(two.store) for _ in range(50)]), D=50)
                assert await two.store.waiting() == 0


async def test_claims_without_a_lease_are_found(valkey: ValkeyServer, shards: int) -> None:
    """Claimed by a worker that had been reaped a moment before: nobody's lease speaks for them."""
    from tests.support.messages import claim

    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a")], shards=shards)
        ghost = await Store.open(settings, valkey.url, incarnation="ghost001")
        sids = await accepted(ghost, [message(ghost, category=VERIFICATION) for _ in range(12)])
        assert len(await claim(ghost)) == 12
        await ghost.close()
        async with worker(settings, valkey, "worker01") as w:
            await end_as(w.store, sids, D=12)
            assert (await record(w.store, sids[0])).possible_duplicate  # nobody knows that nothing was sent
            assert set(submits(smsc).values()) == {1}
