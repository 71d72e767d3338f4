"""What a channel's carrier allows, shared by all workers: parts a second by one bucket, binds by leased slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.model import Secret
from gateway.settings import ChannelSettings, Settings
from gateway.store import keys
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def two(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[list[Store]]:
    """Two workers of one gateway."""
    stores = [await Store.open(settings, valkey.url, incarnation=name) for name in ("worker01", "worker02")]
    yield stores
    for s in stores:
        await s.close()


# --- parts


async def test_a_throttled_rate_is_cut_once_a_second_for_all_workers_and_climbs(two: list[Store]) -> None:
    one, other = two
    assert (await one.draw_parts("ch", 300.0, 5))[2] == 300
    assert (await one.draw_parts("ch", 300.0, 5, throttled=3))[2] == 150, "at most by half"
    assert 150 <= (await other.draw_parts("ch", 300.0, 5))[2] <= 151
    assert (await other.draw_parts("ch", 300.0, 5, throttled=3))[2] >= 150, "the same burst is not counted twice"
    key = keys.channel_key("ch", "bucket")

    async def age(seconds: float, accepted: int) -> None:
        """Let the last look be older, and the second before this one have seen so many accepted parts."""
        s = [float(x) for x in (await one.client.execute("GET", key)).split()]
        us = seconds * 1e6
        s = [s[0] - us, s[1], s[2] - us, s[3], s[4] - us, s[5] - us, accepted, 0]
        await one.client.execute("SET", key, " ".join(f"{x:.3f}" for x in s))

    await age(1.0, 100)
    rate = (await one.draw_parts("ch", 300.0, 5, throttled=1))[2]
    assert rate == 100, "what it accepted in the last second"
    await age(1.0, 0)
    rate = (await one.draw_parts("ch", 300.0, 5))[2]
    assert 102.9 <= rate <= 104, "near what was throttled it climbs by 1 % of 300 a second"
    await age(30.0, 0)
    assert 190 <= (await one.draw_parts("ch", 300.0, 5))[2] < 300, "past it by 5 %"
    await age(60.0, 0)
    assert (await other.draw_parts("ch", 300.0, 5))[2] == 300


async def test_a_channel_without_a_rate_gets_one_while_it_is_throttled(two: list[Store]) -> None:
    granted, _, rate = await two[0].draw_parts("free", 0.0, 500, accepted=100, throttled=60)
    assert rate == 100
    assert granted <= 20
    assert (await two[1].draw_parts("free", 0.0, 500))[2] >= 100


@pytest.mark.parametrize(
    ("rate", "burst_ms", "wanted"), [(1000.0, 100, 7), (200.0, 100, 50), (30.0, 100, 2), (5.0, 100, 1)]
)
async def test_two_workers_never_draw_more_than_the_rate(
    two: list[Store], rate: float, burst_ms: int, wanted: int
) -> None:
    """Over every span between two draws, not only over the whole: rate · t + burst (at least one part)."""
    draws: list[tuple[int, int, int]] = []  # the server's clock before and after the draw (µs), parts
    ends = time.monotonic() + 0.6

    async def clock(store: Store) -> int:
        seconds, micros = await store.client.execute("TIME")
        return int(seconds) * 1_000_000 + int(micros)

    async def worker(store: Store) -> None:
        while time.monotonic() < ends:
            before = await clock(store)
            granted, wait_us, _ = await store.draw_parts("ch", rate, wanted, burst_ms=burst_ms)
            assert 0 <= granted <= wanted
            assert wait_us >= 0
            draws.append((before, await clock(store), granted))
            await asyncio.sleep(0 if granted else min(wait_us / 1e6, 0.02))

    await asyncio.gather(*(worker(s) for s in two))
    draws.sort(key=lambda draw: draw[1])
    burst = max(1.0, rate * burst_ms / 1000)
    for start, _, _ in draws[:: max(1, len(draws) // 40)]:
        total = 0
        for before, after, granted in draws:
            if before >= start:
                total += granted
                assert total <= rate * (after - start) / 1e6 + burst + 1e-6
    span_s = (draws[-1][1] - draws[0][0]) / 1e6
    assert sum(n for _, _, n in draws) >= 0.5 * rate * span_s, "nor much less: the rate is there to be used"


async def test_the_wait_tells_when_a_part_will_be_there(two: list[Store]) -> None:
    granted, wait_us, _ = await two[0].draw_parts("ch", 20.0, 10)
    assert granted == 2
    assert 0 < wait_us <= 50_000
    await asyncio.sleep(wait_us / 1e6 + 0.002)
    assert (await two[1].draw_parts("ch", 20.0, 10))[0] >= 1


async def test_an_idle_bucket_holds_one_burst_and_no_more(two: list[Store]) -> None:
    await two[0].draw_parts("ch", 100.0, 1)
    await asyncio.sleep(0.3)
    granted, _, _ = await two[0].draw_parts("ch", 100.0, 1000)
    assert granted == 10


async def test_a_clock_that_went_back_does_not_stop_a_channel(two: list[Store]) -> None:
    await two[0].draw_parts("ch", 100.0, 10)
    key = keys.channel_key("ch", "bucket")
    fields = [float(x) for x in (await two[0].client.execute("GET", key)).split()]
    ahead = [x + 3_600_000_000 if x > 1e12 else x for x in fields]
    await two[0].client.execute("SET", key, " ".join(f"{x:.3f}" for x in ahead))
    granted, _, _ = await two[0].draw_parts("ch", 100.0, 100)
    assert 1 <= granted <= 11


async def test_channels_have_buckets_of_their_own(two: list[Store]) -> None:
    assert [(await two[0].draw_parts(name, 100.0, 10))[0] for name in ("a", "b")] == [10, 10]


# --- binds


async def test_slots_are_shared_and_never_held_twice(two: list[Store]) -> None:
    a, b = two
    assert await a.bind_slots("ch", 3, 3) == [1, 2, 3]
    assert await b.bind_slots("ch", 3, 2) == []
    assert await a.bind_slots("ch", 3, 2) == [1, 2]
    assert await b.bind_slots("ch", 3, 2) == [3]
    assert await a.bind_slots("ch", 3, 2) == [1, 2]
    await a.give_slots_back("ch", 3)
    assert sorted(await b.bind_slots("ch", 3, 3)) == [1, 2, 3]
    assert await a.bind_slots("ch", 3, 3) == []


async def test_slots_in_use_are_kept_until_their_session_has_ended(two: list[Store]) -> None:
    a, b = two
    assert await a.bind_slots("ch", 2, 2) == [1, 2]
    assert await a.bind_slots("ch", 2, 1, in_use=[1, 2]) == [1, 2]
    assert await b.bind_slots("ch", 2, 1) == []
    assert await a.bind_slots("ch", 2, 1, in_use=[2]) == [2]
    assert await b.bind_slots("ch", 2, 1) == [1]


async def test_many_ask_at_once(two: list[Store]) -> None:
    for _ in range(20):
        held = await asyncio.gather(*(s.bind_slots("ch", 5, 3) for s in two for _ in range(4)))
        by_worker = [set(held[0]), set(held[4])]
        assert not by_worker[0] & by_worker[1]
        assert len(by_worker[0] | by_worker[1]) == 5


async def test_a_slot_is_free_when_its_lease_ended(two: list[Store]) -> None:
    a, b = two
    assert await a.bind_slots("ch", 1, 1) == [1]
    assert await b.bind_slots("ch", 1, 1) == []
    key = keys.channel_key("ch", "slots")
    holder, _, ends = (await a.client.execute("HGET", key, 1)).partition(b":")
    assert holder == b"worker01"
    assert 9_000 < int(ends) - time.time() * 1000 <= 10_500
    await a.client.execute("HSET", key, 1, b"worker01:%d" % (time.time() * 1000 - 1))
    assert await b.bind_slots("ch", 1, 1) == [1]
    assert await a.bind_slots("ch", 1, 1) == [], "it comes back too late: its hold is lost"


async def test_reaping_the_dead_frees_their_slots(valkey: ValkeyServer, settings: Settings) -> None:
    channel = ChannelSettings(id="ch", host="127.0.0.1", port=1, system_id="x", password=Secret("x"), binds=2)
    configured = Settings(config_dir=settings.config_dir, channels=(channel,))
    a, b = [await Store.open(configured, valkey.url, incarnation=name) for name in ("worker01", "worker02")]
    try:
        assert await a.bind_slots("ch", 2, 2) == [1, 2]
        await b.reap("worker01")
        assert await b.bind_slots("ch", 2, 2) == [1, 2]
    finally:
        await a.close()
        await b.close()


async def test_fewer_binds_than_before(two: list[Store]) -> None:
    a, b = two
    assert await a.bind_slots("ch", 4, 4) == [1, 2, 3, 4]
    assert await a.bind_slots("ch", 2, 2) == [1, 2]
    assert await b.bind_slots("ch", 2, 2) == []
