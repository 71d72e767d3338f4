"""The breaker: when it opens, who hears of it, when it closes; and what operators say."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.dispatch.health import FAULTS_IN_A_ROW, HealthKeeper, Judge
from gateway.dispatch.outcome import classify
from gateway.metrics import Metrics
from gateway.store import keys
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer


def test_half_of_twenty_answers_within_half_a_minute_open_it() -> None:
    judge = Judge()
    judge.note(10, 9, 0, 100.0)
    assert judge.verdict() == ""
    judge.note(0, 1, 0, 101.0)
    assert judge.verdict() == "refusals"
    judge.note(1, 0, 0, 131.0)
    assert judge.verdict() == "", "what is older than half a minute no longer counts"


def test_few_answers_prove_nothing() -> None:
    judge = Judge()
    judge.note(0, 19, 0, 1.0)
    assert judge.verdict() == ""
    judge.note(0, 1, 0, 2.0)
    assert judge.verdict() == "refusals"
    judge.clear()
    assert judge.verdict() == ""


def test_five_silences_in_a_row_open_it() -> None:
    judge = Judge()
    judge.note(0, 0, FAULTS_IN_A_ROW - 1, 1.0)
    assert judge.verdict() == ""
    judge.note(1, 0, 0, 2.0)
    judge.note(0, 0, FAULTS_IN_A_ROW - 1, 3.0)
    assert judge.verdict() == "", "an answer in between begins the row anew"
    judge.note(0, 0, 1, 4.0)
    assert judge.verdict() == "no answers"


class Parts:
    """Two workers' keepers on one store."""

    def __init__(self, store: Store) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.faults: dict[str, int] = {}
        self.changes = 0
        self.one = self.keeper(store)
        self.other = self.keeper(store, quiet=True)

    def keeper(self, store: Store, *, quiet: bool = False) -> HealthKeeper:
        nothing: dict[Any, int] = {}
        return HealthKeeper(
            store,
            Metrics("dispatch", "w", "w"),
            ["a", "b"],
            answers=lambda: nothing if quiet else self.answers,
            faults=lambda: nothing if quiet else self.faults,
            row_of=lambda channel, status: classify(status),
            on_change=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def p(store: Store) -> Parts:
    return Parts(store)


def age(valkey: ValkeyServer, ms: int) -> None:
    """Let everything agreed about channel `a` be older."""
    with valkey.sync() as client:
        state, since, opened, rest = client.hget(keys.HEALTH, "a").decode().split(",", 3)
        client.hset(keys.HEALTH, "a", f"{state},{int(since) - ms},{int(opened) - ms},{rest}")


async def test_every_worker_learns_it_and_a_flapping_channel_stays_closed_for_a_minute(
    p: Parts, valkey: ValkeyServer
) -> None:
    now = time.monotonic()
    p.answers = {("a", 0): 10, ("a", 0x45): 20, ("a", 0x58): 500, ("a", 0x66): 500, ("b", 0): 5}
    await p.one.tick(now)
    await p.other.tick(now)
    for keeper in (p.one, p.other):
        assert (keeper.of("a").state, keeper.of("a").cause) == ("open", "refusals")
        assert not keeper.open_for_all("a")
        assert not keeper.may_probe("a", now)
        assert keeper.open_for_all("b")
    assert p.changes == 2
    age(valkey, 31_000)
    await p.one.tick(now)
    assert p.one.of("a").state == "half"
    assert p.one.may_probe("a", now)
    p.one.probed("a", now)
    assert not p.one.may_probe("a", now + 0.9)
    assert p.one.may_probe("a", now + 1.1)
    assert not p.one.codes_may_probe("a", now + 1)
    assert p.one.codes_may_probe("a", now + 61)
    p.answers["a", 0] += 10
    await p.one.tick(now + 10)
    assert p.one.of("a").state == "half", "ten went well, but it opened less than a minute ago"
    age(valkey, 30_000)
    await p.one.tick(now + 30)
    assert p.one.open_for_all("a")


async def test_a_probe_that_fails_opens_it_again(p: Parts, valkey: ValkeyServer) -> None:
    now = time.monotonic()
    for n in range(1, FAULTS_IN_A_ROW + 1):
        assert p.one.of("a").state == "closed"
        p.faults = {"a": 50 * n}  # a session lost with a full window: one fault
        await p.one.tick(now)
    assert p.one.of("a").cause == "no answers"
    age(valkey, 31_000)
    await p.one.tick(now + 31)
    p.answers["a", 0x08] = 1
    await p.one.tick(now + 32)
    assert (p.one.of("a").state, p.one.of("a").cause) == ("open", "a probe failed")


async def test_an_operator_is_heard_by_all_and_the_breaker_goes_its_own_way(p: Parts, store: Store) -> None:
    now = time.monotonic()
    await store.health([("a", "pause", 0)])
    await p.one.tick(now)
    assert not p.one.open_for_all("a")
    assert not p.one.may_probe("a", now)
    await store.health([("a", "resume", 0)])
    await p.one.tick(now)
    assert p.one.open_for_all("a")
