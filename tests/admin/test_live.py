"""The sampler behind the console: it recovers, misses no change, and remembers since when something is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.admin import live
from gateway.admin.live import Live
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics, MetricsHub
from gateway.model import Secret
from gateway.settings import AdminSettings, ChannelSettings, Settings
from gateway.store.moves import Health
from gateway.store.store import Store
from tests.support.live import desk, reading
from tests.support.until import until


@pytest.fixture
def own(settings: Settings) -> Settings:
    channel = ChannelSettings("a", "127.0.0.1", 2775, "x", Secret("y"), max_tps=50)
    return replace(settings, channels=(channel,), admin=AdminSettings(token=Secret("the-token-of-tests")))


class Clock:
    """Time that moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def sampler(own: Settings, store: Store, folder: Path, clock: Clock) -> Live:
    async def reasons() -> list[str]:
        return []

    async def config() -> dict[str, Any]:
        return {}

    return Live(own, store, MetricsHub(folder, own=Metrics("admin", "0")), reasons, config, machine="m", clock=clock)


async def test_what_could_not_be_read_is_read_again_soon(
    own: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that ran out of its three seconds is no read that costs much: it is not put off for minutes."""
    clock = Clock()
    one = sampler(own, store, tmp_path, clock)

    async def hangs() -> Any:
        clock.now += live.READ_S
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "gates", hangs)
        assert (await one.overview())["stale"] == ["gates"]
    clock.now += live.SOON_S
    assert (await one.overview())["stale"] == []


async def test_what_changes_during_a_look_is_shown_to_who_asks_next(
    own: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sampler(own, store, tmp_path, Clock())
    read, go_on, bound = asyncio.Event(), asyncio.Event(), store.channels_bound

    async def slowly() -> Any:
        read.set()  # what operators said has been read just before
        await go_on.wait()
        return await bound()

    monkeypatch.setattr(store, "channels_bound", slowly)
    looking = asyncio.create_task(one.overview())
    await read.wait()
    await store.health([("a", "pause", 0)])
    one.look_soon()
    asking = asyncio.create_task(one.channels())
    go_on.set()
    await looking
    assert (await asking)["channels"][0]["state"] == "paused"


async def test_a_breaker_that_is_probed_has_been_open_since_it_opened(
    own: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failed probe is another `since` of the breaker's state; the trouble is the same."""
    clock, now = Clock(), Health("open", 5_000, "refusals")
    one = sampler(own, store, tmp_path, clock)

    async def health() -> dict[str, Health]:
        return {"a": now}

    async def bound() -> set[str]:
        return {"a"}

    monkeypatch.setattr(store, "health", health)
    monkeypatch.setattr(store, "channels_bound", bound)
    since = []
    for state in (Health("open", 5_000, "refusals"), Health("half", 35_000, "refusals"), Health("open", 36_000, "x")):
        now = state
        clock.now += 5
        (problem,) = [p for p in (await one.overview())["problems"] if p["kind"] == "breaker_open"]
        since.append(problem["since_ms"])
    assert since == [5_000] * 3
    now = Health()
    clock.now += 5
    assert not [p for p in (await one.overview())["problems"] if p["kind"] == "breaker_open"]
    now = Health("open", 90_000, "refusals")
    clock.now += 5
    (problem,) = [p for p in (await one.overview())["problems"] if p["kind"] == "breaker_open"]
    assert problem["since_ms"] == 90_000, "it had closed"


async def test_a_rate_that_no_worker_has_said_yet_is_the_configured_one(
    own: Settings, store: Store, tmp_path: Path
) -> None:
    metrics = Metrics("dispatch", "0")
    metrics.gauge("channel_tps_limit", channel="a")  # as a worker that has just started has it

    async def nothing() -> Any:
        return []

    one = Live(own, store, MetricsHub(tmp_path, own=metrics), nothing, nothing, machine="m")
    (shown,) = (await one.channels())["channels"]
    assert (shown["tps_limit"], shown["throttled"]) == (50.0, False)
    (brief,) = (await one.overview())["channels"]
    assert brief["tps_limit"] == 50.0


async def test_what_a_newcomer_is_shown_first_the_others_see_too(
    own: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a stream has the sampler look; what it found is no news at the next look any more."""
    monkeypatch.setattr(live, "LOOK_S", 3600.0)
    async with desk(own, store, tmp_path) as d, reading(d.address) as one:
        await until(lambda: one.named("channels") and d.live.looks >= 2)
        await store.health([("a", "pause", 0)])
        monkeypatch.setattr(live, "LOOK_S", 0.0)
        async with reading(d.address) as two:
            await until(lambda: two.named("channels"))
            assert two.named("channels")[0]["channels"][0]["state"] == "paused"
            await until(lambda: one.named("channels")[-1]["channels"][0]["state"] == "paused", timeout_s=5)


async def test_before_anything_was_read_no_channel_is_said_to_be_down(
    own: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store hangs when the admin worker starts: how channels are nobody knows yet."""
    clock = Clock()
    one = sampler(own, store, tmp_path, clock)

    async def hangs() -> Any:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "health", hangs)
        shown, channels = await one.both()
        assert [c["state"] for c in channels["channels"]] == ["starting"]
        assert {p["kind"] for p in shown["problems"]} == {"not_read"}
        assert channels["stale"] == ["channels"]
    clock.now += live.LOOK_S
    shown, channels = await one.both()
    assert [c["state"] for c in channels["channels"]] == ["down"], "nobody serves it"
    assert channels["stale"] == []
