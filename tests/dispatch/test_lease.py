"""Leases: kept by beating, lost when reaped, and nobody is reaped who only looks dead by a wall clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from gateway.dispatch import lease as lease_module
from gateway.dispatch.lease import LeaseKeeper
from gateway.settings import Settings
from gateway.store import moves
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, claim, message
from tests.support.until import until
from tests.support.valkey import ValkeyServer

LEASE_S = 0.4


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "LEASE_MS", int(LEASE_S * 1000))
    monkeypatch.setattr(lease_module, "_LEASE_S", LEASE_S)
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.05)


class Kept:
    """A lease keeper on a store of its own, and what it told its owner."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lost = 0
        self.beats = 0
        self.reaped: list[str] = []
        self.channels = ["a"]
        self.keeper = LeaseKeeper(
            store,
            channels_up=lambda: self.channels,
            on_lost=self._on_lost,
            each_beat=self._each_beat,
            on_reaped=lambda name, taken: self.reaped.append(name),
        )
        self.task: asyncio.Task[None] | None = None

    def _on_lost(self) -> None:
        self.lost += 1

    async def _each_beat(self) -> None:
        self.beats += 1

    async def start(self) -> None:
        await self.keeper.begin()
        self.task = asyncio.create_task(self.keeper.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None


Make = Callable[[str], Coroutine[Any, Any, Kept]]


@pytest.fixture
async def make(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Make]:
    made: list[Kept] = []

    async def new(name: str) -> Kept:
        one = Kept(await Store.open(with_shards(settings, shards), valkey.url, incarnation=name))
        made.append(one)
        await one.start()
        return one

    yield new
    for one in made:
        await one.stop()
        await one.store.close()


async def test_a_lease_is_valid_while_it_is_renewed(make: Make) -> None:
    one = await make("worker01")
    assert one.keeper.valid()
    await until(lambda: one.beats >= 12)  # longer than the lease
    assert one.keeper.valid()
    await one.stop()
    await until(lambda: not one.keeper.valid(), timeout_s=LEASE_S * 2)
    assert not one.keeper.lost


async def test_everybody_knows_who_submits_where(make: Make) -> None:
    one, two = await make("worker01"), await make("worker02")
    two.channels = ["b", "c"]
    two.keeper.beat_soon()
    await until(lambda: one.keeper.leases.get("worker02") and one.keeper.leases["worker02"].channels == {"b", "c"})
    assert one.keeper.leases["worker01"].channels == {"a"}


async def test_the_dead_are_reaped_and_their_claims_with_them(make: Make, shards: int) -> None:
    one, two = await make("worker01"), await make("worker02")
    await accept(two.store, *[message(two.store) for _ in range(20)])
    assert len(await claim(two.store)) == 20
    await two.stop()
    stopped_at = time.monotonic()
    await until(lambda: one.reaped == ["worker02"])
    assert time.monotonic() - stopped_at >= LEASE_S * 0.8
    for shard in range(shards):
        assert await two.store.claim_fields(shard) == []
    await until(lambda: list(one.keeper.leases) == ["worker01"])
    assert one.keeper.valid()
    # It comes back, and learns it at its next beat: it must begin anew under another name.
    two.task = asyncio.create_task(two.keeper.run())
    await until(lambda: two.lost)
    assert two.keeper.lost
    assert not two.keeper.valid()


async def test_a_wall_clock_alone_reaps_nobody(make: Make, valkey: ValkeyServer) -> None:
    """By the store's clock the lease ended long ago; but the heart still beats."""
    one = await make("worker01")
    with valkey.sync() as client:
        for beat in range(15):
            for key in client.keys("gw:*:lease"):
                client.hset(key, "worker02", f"{beat + 1}:1:")
            before = one.beats
            await until(lambda before=before: one.beats > before)
        assert not one.reaped
        await until(lambda: one.reaped == ["worker02"])


async def test_a_lease_that_has_not_ended_is_not_reaped_though_the_heart_stands_still(
    make: Make, valkey: ValkeyServer
) -> None:
    one = await make("worker01")
    future = int(time.time() * 1000) + 60_000
    with valkey.sync() as client:
        for key in client.keys("gw:*:lease"):
            client.hset(key, "worker02", f"7:{future}:")
        before = one.beats
        await until(lambda: one.beats > before + 2 * LEASE_S / 0.05)
        assert not one.reaped


async def test_time_in_which_we_could_not_look_counts_against_nobody(make: Make) -> None:
    one, two = await make("worker01"), await make("worker02")
    await until(lambda: "worker02" in one.keeper.leases)
    await one.stop()
    await two.stop()
    await until(lambda: not one.keeper.valid(), timeout_s=2)  # both were cut off for a whole lease
    one.task = asyncio.create_task(one.keeper.run())
    two.task = asyncio.create_task(two.keeper.run())
    before = one.beats
    await until(lambda: one.beats > before + 3)
    assert not one.reaped
    assert one.keeper.valid()
    assert two.keeper.valid()


async def test_a_store_that_is_away_costs_the_lease_in_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.errors import StoreUnavailable

    one = await make("worker01")
    away = True

    async def heartbeat(*args: Any, **kwargs: Any) -> Any:
        if away:
            raise StoreUnavailable("away")
        return await real(*args, **kwargs)

    real = one.store.heartbeat
    monkeypatch.setattr(one.store, "heartbeat", heartbeat)
    await until(lambda: not one.keeper.valid(), timeout_s=LEASE_S * 2)
    away = False
    await until(one.keeper.valid)
    assert not one.lost
