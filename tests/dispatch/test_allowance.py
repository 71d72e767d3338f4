"""A worker's share of a channel's rate: drawn in advance, spent soon or lost, debts paid."""

from __future__ import annotations

import math
import time
from typing import cast

from gateway.dispatch.allowance import HORIZON_S, LAPSE_S, Allowance
from gateway.store.store import Store
from tests.support.dispatch_parts import ScriptedStore
from tests.support.valkey import ValkeyServer


def drawn(*draws: tuple[int, int]) -> tuple[ScriptedStore, Store]:
    store = ScriptedStore()
    store.draws = list(draws)
    return store, cast(Store, store)


async def test_without_a_rate_nothing_is_drawn() -> None:
    scripted, store = drawn()
    allowance = Allowance("a", 0)
    await allowance.draw(store, 50, 0.0)
    assert allowance.parts(0.0) > 10_000
    allowance.spend(500)
    assert allowance.parts(1e9) > 10_000
    assert not scripted.calls


async def test_a_draw_reaches_no_further_than_its_horizon() -> None:
    scripted, store = drawn()
    allowance = Allowance("a", 300)
    now = time.monotonic()
    await allowance.draw(store, 50, now)
    assert scripted.named("draw") == [math.ceil(300 * HORIZON_S)]
    assert allowance.parts(now) == 12
    await allowance.draw(store, 50, now)  # not used up yet
    assert len(scripted.calls) == 1
    allowance.spend(12)
    await allowance.draw(store, 5, time.monotonic())  # never more than can be sent
    assert scripted.named("draw")[1] == 5


async def test_a_slow_channel_draws_one_part_at_a_time() -> None:
    scripted, store = drawn()
    allowance = Allowance("a", 1)
    await allowance.draw(store, 50, time.monotonic())
    assert scripted.named("draw") == [1]


async def test_what_is_not_used_soon_lapses() -> None:
    """A worker that was frozen must not send what it had drawn before."""
    _, store = drawn()
    allowance = Allowance("a", 300)
    now = time.monotonic()
    await allowance.draw(store, 50, now)
    assert allowance.parts(now + LAPSE_S * 0.9) == 12
    assert allowance.parts(now + LAPSE_S) == 0


async def test_debts_come_off_the_next_draws() -> None:
    scripted, store = drawn((1, 0), (3, 1_000), (8, 0))
    allowance = Allowance("a", 10)
    now = time.monotonic()
    await allowance.draw(store, 50, now)
    allowance.spend(10)  # a message of ten parts goes as a whole
    assert allowance.parts(now) == -9
    await allowance.draw(store, 50, now + 1)
    assert scripted.named("draw") == [1, 10]
    assert allowance.parts(now + 1) == -6
    await allowance.draw(store, 50, now + 2)
    assert scripted.named("draw")[2] == 7
    assert allowance.parts(now + 2) == 2


async def test_an_empty_bucket_is_asked_again_when_it_says_so() -> None:
    scripted, store = drawn((0, 50_000))
    allowance = Allowance("a", 20)
    now = time.monotonic()
    await allowance.draw(store, 50, now)
    assert 0.04 < allowance.wait_s(time.monotonic()) <= 0.05
    await allowance.draw(store, 50, now + 0.01)
    assert len(scripted.calls) == 1
    await allowance.draw(store, 50, time.monotonic() + 0.06)
    assert len(scripted.calls) == 2


async def test_two_workers_share_one_bucket(valkey: ValkeyServer, store: Store) -> None:
    granted = 0
    mine, theirs = Allowance("a", 100), Allowance("a", 100)
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        for one in (mine, theirs):
            await one.draw(store, 50, time.monotonic())
            granted += max(0, one.parts(time.monotonic()))
            one.spend(max(0, one.parts(time.monotonic())))
    passed = time.monotonic() - started
    assert 0.8 * 100 * passed <= granted <= 100 * passed + 10 + 1
