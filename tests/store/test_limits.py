"""An account's rate and quota: drawn in chunks from a real store, shared by workers, closed when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import Backpressure, StoreUnavailable
from gateway.settings import AccountSettings
from gateway.store import keys
from gateway.store.limits import RATE_LAPSE_S, AccountLimiter
from gateway.store.store import Store

RATED = AccountSettings("a", max_per_s=100)
QUOTED = AccountSettings("a", daily_quota=500)
BOTH = AccountSettings("a", max_per_s=100, daily_quota=150)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """The store, counting draws; told to fail, it fails."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.draws = 0
        self.error: StoreUnavailable | None = None

    async def run(self, script: str, script_keys: Sequence[str], args: Sequence[Any]) -> Any:
        self.draws += 1
        if self.error is not None:
            raise self.error
        return await self.store.run(script, script_keys, args)


@pytest.fixture
def counting(store: Store) -> Counting:
    return Counting(store)


def code(refusal: Backpressure | None) -> str:
    return "" if refusal is None else refusal.code


async def test_a_chunk_serves_many_requests(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    granted = [(await limiter.take(RATED, 1)).granted for _ in range(10)]
    assert (sum(granted), counting.draws) == (10, 1)  # 100 ms of 100 a second


async def test_the_rate_is_one_bucket_for_all_workers(counting: Counting) -> None:
    limiters = [AccountLimiter(counting) for _ in range(3)]
    granted = 0
    for _ in range(100):
        for limiter in limiters:
            granted += (await limiter.take(RATED, 1)).granted
    assert 100 <= granted <= 130  # the bucket, and what ran into it meanwhile


async def test_above_the_rate_the_first_pass_and_the_rest_wait(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    grant = await limiter.take(RATED, 150)
    assert (grant.granted, code(grant.refusal)) == (100, "rate_limited")
    assert grant.refusal is not None
    assert (grant.refusal.status, grant.refusal.retry_after_s) == (429, 1)


async def test_a_storm_does_not_reach_the_store(counting: Counting) -> None:
    clock = Clock()
    limiter = AccountLimiter(counting, monotonic=clock)
    await limiter.take(RATED, 150)
    draws = counting.draws
    for _ in range(1000):
        assert (await limiter.take(RATED, 10)).granted == 0
    assert counting.draws == draws


async def test_unspent_rate_lapses(counting: Counting) -> None:
    clock = Clock()
    limiter = AccountLimiter(counting, monotonic=clock)
    await limiter.take(RATED, 1)
    assert limiter.take_now(RATED, 9)
    await limiter.take(RATED, 1)
    clock.now += RATE_LAPSE_S
    assert not limiter.take_now(RATED, 1)


async def test_what_was_drawn_for_a_request_is_its_own_however_slow_the_store(counting: Counting) -> None:
    clock = Clock()

    class Slow:
        async def run(self, script: str, script_keys: Sequence[str], args: Sequence[Any]) -> Any:
            answer = await counting.run(script, script_keys, args)
            clock.now += 2 * RATE_LAPSE_S
            return answer

    limiter = AccountLimiter(Slow(), monotonic=clock)
    assert (await limiter.take(RATED, 5)).granted == 5
    assert not limiter.take_now(RATED, 1)  # the rest of the chunk has lapsed


async def test_a_clock_set_back_grants_nothing(counting: Counting, store: Store) -> None:
    limiter = AccountLimiter(counting)
    await limiter.take(RATED, 100)
    key = keys.account_key("a", "limit")
    at = int(await store.client.execute("HGET", key, "at"))
    await store.client.execute("HSET", key, "at", at + 3_600_000_000)  # as if written an hour ahead
    assert (await AccountLimiter(counting).take(RATED, 100)).granted == 0


async def test_the_quota_ends(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    assert (await limiter.take(QUOTED, 400)).granted == 400
    grant = await limiter.take(QUOTED, 400)
    assert (grant.granted, code(grant.refusal)) == (100, "quota_exceeded")
    assert grant.refusal is not None
    assert 1 <= grant.refusal.retry_after_s <= 86_400
    assert (await AccountLimiter(counting).take(QUOTED, 1)).granted == 0


async def test_quota_that_was_not_used_comes_back(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    await limiter.take(QUOTED, 500)
    limiter.give_back(QUOTED, 20)
    assert (await limiter.take(QUOTED, 30)).granted == 20
    limiter.give_back(QUOTED, 15)
    await limiter.close([QUOTED, RATED])
    assert (await AccountLimiter(counting).take(QUOTED, 30)).granted == 15


async def test_a_new_day_begins_at_nothing(counting: Counting, store: Store) -> None:
    limiter = AccountLimiter(counting)
    await limiter.take(QUOTED, 500)
    key = keys.account_key("a", "limit")
    day = int(await store.client.execute("HGET", key, "day"))
    await store.client.execute("HSET", key, "day", day - 1)
    assert (await AccountLimiter(counting).take(QUOTED, 500)).granted == 500


async def test_both_limits_hold(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    assert (await limiter.take(BOTH, 100)).granted == 100
    granted = 100
    async with asyncio.timeout(10):
        while granted < 150:
            granted += (await limiter.take(BOTH, 10)).granted
            await asyncio.sleep(0.005)
    grant = await limiter.take(BOTH, 1)
    assert (granted, grant.granted, code(grant.refusal)) == (150, 0, "quota_exceeded")


async def test_without_the_store_nothing_is_granted(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    counting.error = StoreUnavailable("gone", outcome="unknown", retry_after_s=3)
    with pytest.raises(StoreUnavailable) as refused:
        await limiter.take(BOTH, 1)
    assert (refused.value.outcome, refused.value.retry_after_s) == ("not_stored", 3)
    counting.error = None
    assert (await limiter.take(BOTH, 1)).granted == 1
    counting.error = StoreUnavailable("gone")
    await limiter.close([BOTH])


async def test_requests_that_wait_share_one_draw(counting: Counting) -> None:
    limiter = AccountLimiter(counting)
    grants = await asyncio.gather(*(limiter.take(RATED, 1) for _ in range(10)))
    assert (sum(grant.granted for grant in grants), counting.draws) == (10, 1)


async def test_the_draw_writes_nothing_when_memory_is_out(counting: Counting, store: Store) -> None:
    await AccountLimiter(counting).take(QUOTED, 100)
    used = await store.client.execute("INFO", "memory")
    assert used
    await store.client.execute("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable) as refused:
            await AccountLimiter(counting).take(QUOTED, 100)
    finally:
        await store.client.execute("CONFIG", "SET", "maxmemory", "2gb")
    assert refused.value.outcome == "not_stored"
    assert int(await store.client.execute("HGET", keys.account_key("a", "limit"), "used")) == 100
