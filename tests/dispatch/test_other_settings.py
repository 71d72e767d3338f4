"""A worker takes other settings into use while it sends: nothing is lost, nothing goes twice."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.dispatch import dispatcher, rerouter, timers
from gateway.model import Secret
from gateway.settings import RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.simulator.smsc import Smsc
from gateway.smpp import channel as channels
from gateway.store.moves import Settlement
from tests.support.line import Worker, channel_to, line_settings, states, worker
from tests.support.messages import body, message, request
from tests.support.scenario import accepted, carrier, end_as, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def once_each(*carriers: Smsc) -> None:
    """Each recipient was submitted to exactly once, over all carriers."""
    counted = sum((submits(one) for one in carriers), start=submits(carriers[0]).__class__())
    assert set(counted.values()) <= {1}, counted.most_common(3)


def sent(carriers: tuple[Smsc, ...], number: int) -> bool:
    """Whether so many were submitted."""
    return sum(len(one.ledger.submits) for one in carriers) >= number


def rate_of(settings: Settings, max_tps: int) -> Settings:
    (only,) = settings.channels
    return replace(settings, channels=(replace(only, max_tps=max_tps),))


async def sent_in(smsc: Smsc, seconds: float) -> float:
    """Return parts a second that arrive from now on."""
    before, began = len(smsc.ledger.submits), time.monotonic()
    await asyncio.sleep(seconds)
    return (len(smsc.ledger.submits) - before) / (time.monotonic() - began)


@pytest.mark.alone
async def test_a_changed_rate_holds_within_a_second(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", max_tps=20)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(600)])
            await until(lambda: len(smsc.ledger.submits) > 5)
            assert await sent_in(smsc, 0.5) < 60
            w.use(rate_of(settings, 400))
            began = time.monotonic()
            before = len(smsc.ledger.submits)
            await until(lambda: len(smsc.ledger.submits) - before >= 100, timeout_s=5.0)
            assert time.monotonic() - began < 1.5, "at the old rate these take five seconds"
            w.use(rate_of(settings, 20))
            slow = len(smsc.ledger.submits)
            await asyncio.sleep(1.0)
            assert len(smsc.ledger.submits) - slow <= 60
            w.use(rate_of(settings, 0))
            await end_as(w.store, sids, D=600)
            once_each(smsc)


async def test_a_removed_channel_finishes_its_window_and_its_backlog_takes_the_new_routes(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "RECEIPTS_S", 1.5)
    async with carrier(latency_s=0.4) as old, carrier() as new:
        settings = line_settings([channel_to(old, "a", window=10, binds=2)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(100)])
            await until(lambda: len(old.ledger.submits) >= 20)
            gauges = {labels for name, labels, _ in w.metrics.snapshot()["cells"] if name == "channel_up"}
            assert gauges == {("a",)}
            w.use(line_settings([channel_to(new, "b")]))
            await end_as(w.store, sids, D=100)
            assert len(old.ledger.submits) <= 20 + 20, "what was in the windows, and not more"
            once_each(old, new)
            await until(lambda: not old.links)
            await until(
                lambda: (
                    {labels for name, labels, _ in w.metrics.snapshot()["cells"] if name == "channel_up"} == {("b",)}
                )
            )


async def test_what_waits_for_a_route_that_left_takes_the_routes_of_today(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "SWEEP_S", 0.1)
    monkeypatch.setattr(rerouter, "UNKNOWN_FOR_S", 0.5)
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", max_tps=1)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(50)])
            renamed = RouteSettings("renamed", RouteMatch(country="CN"), (RankedChannel("a", 0),))
            w.use(replace(rate_of(settings, 0), routes=(renamed,)))
            await end_as(w.store, sids, timeout_s=15.0, D=50)
            once_each(smsc)


async def test_a_channel_that_comes_takes_its_share(valkey: ValkeyServer) -> None:
    async with carrier() as first, carrier() as second:
        settings = line_settings([channel_to(first, "a", max_tps=5)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(200)])
            both = [channel_to(first, "a", max_tps=5), channel_to(second, "b")]
            w.use(line_settings(both, ranks=(0, 0)))
            await end_as(w.store, sids, D=200)
            assert len(second.ledger.submits) > 100
            once_each(first, second)


async def test_other_credentials_bind_one_session_after_the_other(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.05) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=2, window=5)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(300)])
            await until(lambda: len(smsc.ledger.submits) > 20)
            was = set(smsc.links)
            (only,) = settings.channels
            w.use(replace(settings, channels=(replace(only, system_type="other", password=Secret("secret")),)))
            least = 2
            channel = w.dispatcher.channels["a"]
            while set(smsc.links) & was:
                least = min(least, sum(1 for slot in channel.slots if channel.bound_on(slot)))
                await asyncio.sleep(0)
            assert least == 1, "never none"
            await end_as(w.store, sids, D=300)
            await until(lambda: len(smsc.links) == 2)
            once_each(smsc)


async def test_fewer_binds_and_another_window(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.05) as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=3, window=2)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(200)])
            await until(lambda: len(smsc.links) == 3)
            (only,) = settings.channels
            w.use(replace(settings, channels=(replace(only, binds=1, window=40),)))
            await until(lambda: len(smsc.links) == 1)
            assert w.dispatcher.channels["a"].window == 40
            await end_as(w.store, sids, D=200)
            once_each(smsc)


async def test_a_channel_that_is_back_before_it_has_ended(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.3) as smsc, carrier() as other:
        settings = line_settings([channel_to(smsc, "a", window=10)])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(60)])
            await until(lambda: len(smsc.ledger.submits) >= 10)
            w.use(line_settings([channel_to(other, "b", max_tps=1)]))
            w.use(settings)
            await end_as(w.store, sids, timeout_s=15.0, D=60)
            once_each(smsc, other)
            await until(lambda: len(smsc.links) == 1)


async def test_twenty_changes_under_load(valkey: ValkeyServer, shards: int) -> None:
    """Channels come, go and change their rate while messages are accepted: each goes once and arrives."""
    async with carrier(latency_s=0.01) as one, carrier(latency_s=0.01) as two:
        both = [channel_to(one, "a", binds=2), channel_to(two, "b")]
        forms = [
            line_settings(both, shards=shards),
            line_settings(both[:1], shards=shards),
            line_settings([replace(both[0], max_tps=300), both[1]], shards=shards),
            line_settings(both[1:], shards=shards),
            line_settings([replace(both[0], system_type="x"), replace(both[1], window=7)], shards=shards),
        ]
        async with worker(forms[0], valkey) as w:
            sids: list[bytes] = []
            for turn in range(20):
                sids += await accepted(w.store, [message(w.store) for _ in range(50)])
                w.use(forms[turn % len(forms)])
                wanted = len(sids) - 100
                await until(partial(sent, (one, two), wanted))
            w.use(forms[0])
            await end_as(w.store, sids, timeout_s=20.0, D=1000)
            once_each(one, two)
            await until(lambda: (len(one.links), len(two.links)) == (2, 1))
            assert w.dispatcher.claims == 0


async def swept(w: Worker, times: int) -> None:
    """Wait until the elected worker has looked for stray queues so often, and has done what came of it."""
    sweep, looks = w.store.sweep, 0

    async def counted(shard: int, monotonic_ms: int) -> bool:
        nonlocal looks
        looks += 1
        return await sweep(shard, monotonic_ms)

    w.store.sweep = counted  # type: ignore[method-assign]
    await until(lambda: looks > times)
    w.store.sweep = sweep  # type: ignore[method-assign]


async def test_a_worker_that_is_behind_leaves_new_routes_alone(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The elected worker may be the last to hear of a route: what waits there is not astray."""
    monkeypatch.setattr(timers, "SWEEP_S", 0.05)
    monkeypatch.setattr(rerouter, "UNKNOWN_FOR_S", 1.0)
    async with carrier() as smsc:
        old = line_settings([channel_to(smsc, "a")])
        fresh = RouteSettings("fresh", RouteMatch(country="US"), (RankedChannel("a", 0),))
        new = replace(old, routes=(fresh,))
        async with worker(old, valkey, "behind01") as w:
            current = True
            w.dispatcher.in_step = lambda: current
            w.use(old)
            sids = await accepted(w.store, [message(w.store, f"1202555{i:04d}", route="fresh") for i in range(20)])
            await swept(w, 5)
            assert await states(w.store, sids) == {"q": 20}, "not known for long enough"
            current = False
            await swept(w, 30)  # beyond UNKNOWN_FOR_S
            assert await states(w.store, sids) == {"q": 20}, "another revision is in force than the one that runs here"
            current = True
            w.use(new)
            await end_as(w.store, sids, D=20)
            once_each(smsc)
        # Who knows that it has no such route ends them, or they would wait for ever.
        async with worker(old, valkey, "surely01") as w:
            w.use(old)
            sids = await accepted(w.store, [message(w.store, f"1202666{i:04d}", route="fresh") for i in range(20)])
            await end_as(w.store, sids, F=20)


async def test_another_window_while_a_session_is_being_opened(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, waits, asked = channels.connect, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        await waits.wait()
        return await connect(*args, **kwargs)

    monkeypatch.setattr(channels, "connect", slowly)
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", window=1)])
        async with worker(settings, valkey, bound=False) as w:
            await asked.wait()
            (only,) = settings.channels
            w.use(replace(settings, channels=(replace(only, window=10),)))
            waits.set()
            long = message(w.store, parts=3, body=body("x" * 400))
            await end_as(w.store, await accepted(w.store, [long]), D=1)


async def test_binds_are_lowered_while_the_store_is_asked_for_more(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=1)])
        (only,) = settings.channels
        async with worker(settings, valkey) as w:
            ask, take, opened = w.store.bind_slots, channels.Channel.set_slots, []

            async def lowered(*args: Any) -> list[int]:
                held = await ask(*args)
                if args[1] == 3:
                    w.use(settings)
                return held

            def set_slots(channel: channels.Channel, slots: list[int]) -> None:
                opened.append(slots)
                take(channel, slots)

            monkeypatch.setattr(w.store, "bind_slots", lowered)
            monkeypatch.setattr(channels.Channel, "set_slots", set_slots)
            w.use(replace(settings, channels=(replace(only, binds=3),)))
            await until(lambda: len(opened) >= 2)
            assert {tuple(slots) for slots in opened} == {(1,)}, "what is above would be cut at the next beat"


async def test_a_channel_closed_for_its_credentials_is_bound_at_once_with_others(valkey: ValkeyServer) -> None:
    # ESME_RINVPASWD as the answer to a submit_sm: closed for a minute.
    async with carrier(error_rate=1.0, error_codes=(0x0E,)) as smsc:
        settings = line_settings([channel_to(smsc, "a")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store)])
            await until(lambda: not w.dispatcher.channels["a"].up and not w.dispatcher.channels["a"].closing)
            (only,) = settings.channels
            w.use(replace(settings, channels=(replace(only, system_type="right"),)))
            await until(lambda: w.dispatcher.channels["a"].up)
            await until(lambda: w.dispatcher.claims == 0)
            assert len(sids) == 1


async def test_what_was_meant_for_a_channel_that_left_while_nobody_ran(valkey: ValkeyServer) -> None:
    """The files were edited and everything was started again: nobody remembers the channel but the store."""
    async with carrier(error_rate=1.0, error_codes=(0x58,)) as full, carrier() as other:  # ESME_RTHROTTLED
        both = line_settings([channel_to(full, "a"), channel_to(other, "b")])
        sids: list[bytes] = []
        async with worker(both, valkey, "before01") as w:
            await w.dispatcher.drain(1.0)
            sids = await accepted(w.store, [message(w.store) for _ in range(5)])
            _, claimed, _ = await w.store.claim(0, "t", [request(channel="a")])
            items = [Settlement(m.claim, 1, "N", "a", target="gone") for _, m in claimed]
            await w.store.settle(0, items)
            assert await w.store.client.execute("LLEN", "gw:{s00}:pin:gone:1") == 5
        async with worker(line_settings([channel_to(other, "b")]), valkey, "after001") as w:
            await end_as(w.store, sids, D=5)
            assert await w.store.pinned(0) == []


async def test_early_receipts_of_a_channel_that_left_are_still_looked_at(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "PARKED_S", 0.02)
    async with carrier() as old, carrier() as new:
        async with worker(line_settings([channel_to(old, "a")]), valkey) as w:
            asked: list[str] = []
            parked = w.store.parked

            async def asks(shard: int, channel: str, *rest: Any) -> Any:
                asked.append(channel)
                return await parked(shard, channel, *rest)

            monkeypatch.setattr(w.store, "parked", asks)
            w.use(line_settings([channel_to(new, "b")]))
            asked.clear()
            await until(lambda: {"a", "b"} <= set(asked))
            gauges = {labels for name, labels, _ in w.metrics.snapshot()["cells"] if name == "parked_receipts"}
            assert ("b",) in gauges
            w.use(line_settings([channel_to(old, "a")]))
            assert w.dispatcher._left.keys() == {"b"}
