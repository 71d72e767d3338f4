"""How much is claimed for which channel, and what becomes of messages that a channel cannot take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.dispatch import claimer as claimer_module
from gateway.dispatch.claimer import Claimer
from gateway.dispatch.flight import Taken
from gateway.dispatch.health import HealthKeeper
from gateway.dispatch.lease import LeaseKeeper
from gateway.dispatch.settler import Settler
from gateway.dispatch.sources import SourceTable
from gateway.errors import EncodeError
from gateway.metrics import Metrics
from gateway.model import Category, Secret
from gateway.routing.table import RouteTable
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.smpp.channel import Channel
from gateway.store.moves import ClaimRequest
from gateway.store.store import Store
from tests.support.dispatch_parts import ScriptedStore, claimed
from tests.support.until import until


class FakeChannel:
    """A channel as the claimer sees one: so many free slots, and what it was given."""

    def __init__(self, settings: ChannelSettings, free: int) -> None:
        self.id, self.settings = settings.id, settings
        self.window = settings.window
        self.free = free
        self.up = True
        self.in_flight = 0
        self.given: list[Any] = []
        self.error: Exception | None = None

    def submit(self, out: Any, flight: Any) -> int:
        if self.error is not None:
            raise self.error
        if self.free < flight.message.parts:
            return 0
        self.free -= flight.message.parts
        self.given.append(out)
        return (1 << flight.message.parts) - 1


class FakeSettler:
    def __init__(self) -> None:
        self.failing = False
        self.begun: list[Any] = []
        self.failed: list[tuple[Any, str]] = []
        self.refused: list[Any] = []
        self.unreadable: list[tuple[str, bytes, int]] = []
        self.taken: list[Taken] = []
        self.released: list[Any] = []

    def begin(self, flight: Any) -> None:
        self.begun.append(flight)

    def fail(self, flight: Any, reason: str) -> None:
        self.failed.append((flight, reason))

    def refuse(self, flight: Any) -> None:
        self.refused.append(flight)

    def tally(self, channel: str) -> tuple[int, int]:
        return 0, 0

    def took(self, call: Taken) -> None:
        self.taken.append(call)

    def fail_unreadable(self, call: Taken, claim: bytes, attempt: int) -> None:
        self.unreadable.append((call.field, claim, attempt))

    async def release(self, shard: int, flights: list[Any]) -> None:
        self.released += flights


class FakeHealth:
    """Every channel is well, but for those that are named as half open or closed."""

    def __init__(self) -> None:
        self.half: set[str] = set()
        self.closed: set[str] = set()
        self.codes = False
        self.probes: list[str] = []

    def open_for_all(self, channel: str) -> bool:
        return channel not in self.half | self.closed

    def may_probe(self, channel: str, now: float) -> bool:
        return channel in self.half

    def codes_may_probe(self, channel: str, now: float) -> bool:
        return self.codes

    def probed(self, channel: str, now: float) -> None:
        self.probes.append(channel)


class FakeLease:
    def __init__(self) -> None:
        self.ok = True

    def valid(self) -> bool:
        return self.ok


class Parts:
    def __init__(self, *channels: tuple[str, int, int], max_tps: int = 0, reserve: float = 0.1) -> None:
        """`channels`: id, window, free slots."""
        settings = [
            ChannelSettings(
                id=name, host="h", port=1, system_id="x", password=Secret("y"), window=window, max_tps=max_tps
            )
            for name, window, _ in channels
        ]
        routes = (
            RouteSettings("r", RouteMatch(), tuple(RankedChannel(s.id, 0) for s in settings)),
            RouteSettings("s", RouteMatch(), tuple(RankedChannel(s.id, 0) for s in settings)),
        )
        base = Settings(config_dir=Path("config"), channels=tuple(settings), routes=routes)
        rules = dict(base.categories)
        rules[Category.VERIFICATION] = replace(rules[Category.VERIFICATION], window_reserve=reserve)
        base = replace(base, categories=rules)
        self.store, self.settler, self.lease = ScriptedStore(), FakeSettler(), FakeLease()
        self.health = FakeHealth()
        self.channels = {s.id: FakeChannel(s, free) for s, (_, _, free) in zip(settings, channels, strict=True)}
        self.claimer = Claimer(
            base,
            cast(Store, self.store),
            Metrics("dispatch", "worker01", "worker01"),
            cast(dict[str, Channel], self.channels),
            SourceTable(RouteTable(routes, settings), rules),
            cast(Settler, self.settler),
            cast(LeaseKeeper, self.lease),
            health=cast(HealthKeeper, self.health),
            available=lambda: frozenset(self.channels),
        )

    async def round(self) -> list[ClaimRequest]:
        """Run one round; returns the requests of its claim (none: [])."""
        before = len(self.store.named("claim"))
        await self.claimer._round()
        claims = self.store.named("claim")[before:]
        return list(claims[0][1]) if claims else []


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimer_module, "POLL_S", 0.001)
    monkeypatch.setattr(claimer_module, "_RETRY_S", 0.001)


async def test_a_claim_asks_for_what_is_free_and_keeps_the_reserve() -> None:
    p = Parts(("a", 100, 100), ("b", 50, 20))
    requests = {r.channel: (r.parts, r.parts_rest) for r in await p.round()}
    assert requests == {"a": (100, 90), "b": (20, 15)}


async def test_never_more_than_four_hundred_parts() -> None:
    p = Parts(("a", 1000, 1000))
    (request,) = await p.round()
    assert (request.parts, request.parts_rest) == (400, 400)


async def test_the_reserve_is_a_slot_at_least_and_can_be_switched_off() -> None:
    (request,) = await Parts(("a", 5, 5)).round()
    assert (request.parts, request.parts_rest) == (5, 4)
    (request,) = await Parts(("a", 5, 5), reserve=0.0).round()
    assert (request.parts, request.parts_rest) == (5, 5)
    (request,) = await Parts(("a", 1, 1)).round()  # or nothing but codes would ever leave
    assert (request.parts, request.parts_rest) == (1, 1)


async def test_the_last_slots_are_for_codes_alone() -> None:
    (request,) = await Parts(("a", 50, 7)).round()
    assert (request.parts, request.parts_rest) == (7, 2)
    p = Parts(("a", 50, 5))
    assert await p.round() == []  # few: passed over once
    (request,) = await p.round()
    assert (request.parts, request.parts_rest) == (5, 0)
    assert await p.round() == []


async def test_a_full_or_unbound_channel_asks_for_nothing() -> None:
    p = Parts(("a", 50, 0), ("b", 50, 30))
    assert [r.channel for r in await p.round()] == ["b"]
    assert [r.channel for r in await p.round()] == ["b"]


async def test_a_rate_limits_what_is_asked_for() -> None:
    p = Parts(("a", 100, 100), max_tps=200)
    (request,) = await p.round()
    assert request.parts == 8
    p.store.draws = [(0, 50_000)]
    p.claimer._allowances["a"].spend(8)
    assert await p.round() == []


async def test_routes_take_turns() -> None:
    p = Parts(("a", 100, 100))
    first = [(await p.round())[0].sources[0].route for _ in range(4)]
    assert first in (["r", "s", "r", "s"], ["s", "r", "s", "r"])


async def test_messages_go_to_the_channel_that_asked() -> None:
    p = Parts(("a", 50, 50), ("b", 50, 50))
    one, two = claimed(), claimed(attempt=2, flags=1)
    p.store.claims = [(1000, [(0, one), (1, two)], [(1, b"bad", 3)])]
    await p.round()
    assert [len(p.channels[c].given) for c in "ab"] == [1, 1]
    assert [f.message.id for f in p.settler.begun] == [one.id, two.id]
    assert [f.pending for f in p.settler.begun] == [1, 1]
    token = p.store.named("claim")[0][0]
    assert p.settler.unreadable == [(f"{token}/b", b"bad", 3)]
    assert sorted((call.field, call.left) for call in p.settler.taken) == [(f"{token}/a", 1), (f"{token}/b", 1)]


async def test_what_a_channel_cannot_take_goes_back() -> None:
    p = Parts(("a", 50, 50))
    fits, too_long = claimed(), claimed(parts=3)
    p.store.claims = [(1000, [(0, fits), (0, too_long)], [])]
    p.channels["a"].free = 10
    await p.round()
    p.channels["a"].free = 2
    p.store.claims = [(1000, [(0, too_long)], [])]
    await p.round()
    await p.round()
    assert [f.message.id for f in p.settler.released] == [too_long.id]


async def test_what_expired_on_the_way_goes_back() -> None:
    p = Parts(("a", 50, 50))
    p.store.claims = [(1_000_000, [(0, claimed(expires_at_ms=1_000_000)), (0, claimed(expires_at_ms=1_060_000))], [])]
    await p.round()
    assert len(p.settler.released) == 1
    assert len(p.channels["a"].given) == 1
    assert 59 < p.channels["a"].given[0].validity_s <= 60


async def test_nothing_is_claimed_without_a_lease_or_while_results_wait() -> None:
    p = Parts(("a", 50, 50))
    p.lease.ok = False
    assert await p.round() == []
    p.lease.ok, p.settler.failing = True, True
    assert await p.round() == []
    p.settler.failing = False
    assert await p.round()


async def test_a_lease_lost_during_the_claim_sends_nothing() -> None:
    p = Parts(("a", 50, 50))
    claim = p.store.claim

    async def slow_claim(*args: Any, **kwargs: Any) -> Any:
        p.lease.ok = False
        return await claim(*args, **kwargs)

    p.store.claim = slow_claim  # type: ignore[method-assign]
    p.store.claims = [(1000, [(0, claimed())], [])]
    await p.round()
    assert not p.channels["a"].given
    assert len(p.settler.released) == 1


@pytest.mark.parametrize(
    ("error", "reason"), [(EncodeError("too long"), "cannot_be_encoded"), (RuntimeError("ours"), "cannot_be_built")]
)
async def test_what_cannot_be_built_fails_and_the_rest_goes(error: Exception, reason: str) -> None:
    p = Parts(("a", 50, 50), ("b", 50, 50))
    p.channels["a"].error = error
    p.store.claims = [(1000, [(0, claimed()), (1, claimed())], [])]
    await p.round()
    assert [why for _, why in p.settler.failed] == [reason]
    assert len(p.channels["b"].given) == 1


@pytest.fixture
async def running() -> AsyncIterator[Parts]:
    p = Parts(("a", 50, 50))
    task = asyncio.create_task(p.claimer.run())
    yield p
    p.claimer.stop()
    await asyncio.wait_for(task, 5)


async def test_a_claim_whose_answer_was_lost_is_asked_for_by_its_token(running: Parts) -> None:
    await until(lambda: running.store.named("claim"))
    at = len(running.store.named("claim"))
    running.store.fail = {"claim": 2}
    await until(lambda: len(running.store.named("claim")) >= at + 4)
    calls = running.store.named("claim")[at : at + 4]
    tokens = [token for token, _, _ in calls]
    assert tokens[0] == tokens[1] == tokens[2] != tokens[3]
    assert [kwargs.get("again") for _, _, kwargs in calls] == [False, True, True, False]


async def test_a_fault_of_ours_does_not_end_the_loop(running: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.claimer, "_available", lambda: 1 / 0)
    await until(lambda: running.claimer._errors.n > 1)
    monkeypatch.setattr(running.claimer, "_available", lambda: frozenset("a"))
    calls = len(running.store.calls)
    await until(lambda: len(running.store.calls) > calls)


async def test_a_half_open_channel_gets_one_message_and_no_code() -> None:
    p = Parts(("a", 50, 50), ("b", 50, 50))
    p.health.half, p.health.closed = {"a"}, {"b"}
    p.store.claims = [(1000, [(0, claimed())], [])]
    (request,) = await p.round()
    assert (request.channel, request.parts, request.parts_rest) == ("a", 1, 1)
    assert {s.min_wait_ms for s in request.sources} == {(-1, 0, 0)}
    assert p.health.probes == ["a"]
    p.health.codes = True
    (request,) = await p.round()
    assert {s.min_wait_ms for s in request.sources} == {(0, 0, 0)}
    assert p.health.probes == ["a"], "nothing came, nothing was spent"


async def test_a_copy_is_not_submitted_where_the_message_was_already() -> None:
    p = Parts(("a", 50, 50), ("b", 50, 50))
    copy = {"flags": 64 | 8 | 1, "logged": True, "took": frozenset({"a"}), "without": lambda channel: 0}
    p.store.claims = [(1000, [(0, claimed(**copy)), (1, claimed(**copy))], [])]
    await p.round()
    assert not p.channels["a"].given
    assert len(p.channels["b"].given) == 1
    assert len(p.settler.refused) == 1
