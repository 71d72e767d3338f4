"""Several channels on one rank: shares by weight, by price, and by how well they deliver; none waits for another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gateway.dispatch import quality
from gateway.settings import QualitySettings, Settings
from gateway.simulator.smsc import Smsc
from tests.support.line import channel_to, line_settings, states, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_LOOK_S", 0.05)


def line(order: str, *carriers: Smsc, weights: tuple[int, ...] = (1, 1), **changes: Any) -> Settings:
    prices = {"a": 0.05, "b": 0.03}
    channels = [
        channel_to(c, name, price=prices[name], **(changes if name == "b" else {}))
        for name, c in zip("ab", carriers, strict=True)
    ]
    settings = line_settings(channels, ranks=(0, 0))
    (route,) = settings.routes
    ranked = tuple(replace(c, weight=w) for c, w in zip(route.channels, weights, strict=True))
    return replace(settings, routes=(replace(route, channels=ranked, order=order),))


def seen(*carriers: Smsc) -> list[int]:
    return [len(c.ledger.submits) for c in carriers]


async def test_by_weight(valkey: ValkeyServer) -> None:
    async with carrier() as a, carrier() as b:
        async with worker(line("weight", a, b, weights=(3, 1)), valkey) as w:
            for _ in range(20):
                sids = await accepted(w.store, [message(w.store) for _ in range(20)])
                await end_as(w.store, sids, D=20)
    assert sum(seen(a, b)) == 400
    assert 270 <= len(a.ledger.submits) <= 330


async def test_one_that_dies_leaves_its_share_and_comes_back_for_it(valkey: ValkeyServer) -> None:
    async with carrier() as a, carrier() as b:
        settings = line("weight", a, b)
        async with worker(settings, valkey) as w:
            port = b.port
            await b.stop(timeout_s=0.1)
            await until(lambda: not w.dispatcher.channels["b"].up)
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(60)]), D=60)
            assert len(a.ledger.submits) >= 60
            assert port


async def test_by_price_the_cheaper_takes_what_it_can(valkey: ValkeyServer) -> None:
    async with carrier() as a, carrier() as b:
        async with worker(line("cost", a, b), valkey) as w:
            for _ in range(10):
                await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(10)]), D=10)
    dear, cheap = seen(a, b)
    assert dear + cheap == 100
    assert cheap >= 95


async def test_the_dearer_helps_when_the_cheaper_is_at_its_rate(valkey: ValkeyServer) -> None:
    async with carrier() as a, carrier() as b:
        async with worker(line("cost", a, b, max_tps=20), valkey) as w:
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(200)]), D=200)
    dear, cheap = seen(a, b)
    assert dear + cheap == 200
    assert 0 < cheap < 100


async def test_by_quality_the_share_moves_to_the_better_and_stays(valkey: ValkeyServer) -> None:
    failing: dict[str, Any] = {"failed_rate": 0.5, "failed_states": (("UNDELIV", "IB:0008"),)}
    async with carrier() as a, carrier(**failing) as b:
        rules = QualitySettings(min_sample=30, every_s=0.1, step=0.05, threshold=0.1)
        settings = replace(line("quality", a, b), quality=rules)
        async with worker(settings, valkey) as w:
            shares: list[float] = []

            async def send(n: int) -> None:
                sids = await accepted(w.store, [message(w.store) for _ in range(n)])

                async def ended() -> bool:
                    return set(await states(w.store, sids)) <= {"D", "U"}

                await until(ended)

            def share() -> float:
                found = w.dispatcher._quality.shares.get(("r", 0, 1, "china-mobile"))
                return found.shares["a"] if found is not None else 0.5

            async def moved() -> bool:
                await send(20)
                shares.append(share())
                return share() > 0.85

            await until(moved, timeout_s=30.0)
            assert all(later - earlier <= 3 * rules.step for earlier, later in pairwise(shares))
            before = seen(a, b)
            for _ in range(5):
                await send(40)
            after = seen(a, b)
            assert (after[0] - before[0]) / 200 > 0.75
            assert after[1] - before[1] >= 4, "the worse one is still measured"
            found = w.dispatcher._quality.shares["r", 0, 1, "china-mobile"]
            assert found.inputs["a"]["delivered_ratio"] > 0.9
            gauge = w.metrics.gauge("channel_share", route="r", category="notification", channel="a")
            assert gauge.n > 0.75


async def test_two_workers_agree_on_the_shares(valkey: ValkeyServer) -> None:
    async with carrier() as a, carrier(failed_rate=1.0, failed_states=(("UNDELIV", "IB:0008"),)) as b:
        rules = QualitySettings(min_sample=20, every_s=0.1, step=0.3, threshold=0.1)
        settings = line("quality", a, b)
        channels = tuple(replace(c, binds=2) for c in settings.channels)
        settings = replace(settings, quality=rules, channels=channels)
        async with worker(settings, valkey, "worker01") as one, worker(settings, valkey, "worker02") as two:

            async def agreed() -> bool:
                await accepted(one.store, [message(one.store) for _ in range(20)])
                found = [w.dispatcher._quality.shares.get(("r", 0, 1, "")) for w in (one, two)]
                return all(f is not None and f.shares["a"] > 0.9 for f in found)

            await until(agreed, timeout_s=20.0)
            await asyncio.gather(one.dispatcher._settler.idle(), two.dispatcher._settler.idle())
