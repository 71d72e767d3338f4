"""Group commit: one call in flight a lane, the next batch gathers meanwhile, a fault costs its own batch only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.model import Accepted, NewMessage
from gateway.store import batcher
from gateway.store.batcher import MOST_MESSAGES, Batcher
from gateway.store.store import Store
from tests.support.messages import accept, message
from tests.support.until import until


class Commits:
    """The commit a batcher is given: holds every call until it is let go, answers with the ids it was given."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.most_at_once = 0
        self.errors: dict[int, BaseException] = {}
        self._at_once = 0
        self._go = asyncio.Semaphore(0)

    def let_go(self, n: int = 1) -> None:
        for _ in range(n):
            self._go.release()

    async def __call__(self, shard: int, messages: list[NewMessage]) -> list[Accepted]:
        place = len(self.calls)
        self.calls.append(list(messages))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self._go.acquire()
        finally:
            self._at_once -= 1
        if place in self.errors:
            raise self.errors[place]
        return [Accepted("accepted", str(m)) for m in messages]


@pytest.fixture
def commits() -> Commits:
    return Commits()


def some(*names: str) -> Any:
    return list(names)


def ids(answers: list[Accepted]) -> list[str]:
    return [a.id for a in answers]


async def test_what_comes_in_one_turn_goes_in_one_call(commits: Commits) -> None:
    lane = Batcher(0, commits)
    futures = [lane.add(some(f"a{i}", f"b{i}")) for i in range(10)]
    commits.let_go()
    answers = [ids(await f) for f in futures]
    assert answers == [[f"a{i}", f"b{i}"] for i in range(10)]
    assert [len(c) for c in commits.calls] == [20]


async def test_one_call_at_a_time_and_the_rest_gathers(commits: Commits) -> None:
    lane = Batcher(0, commits)
    first = lane.add(some("first"))
    await until(lambda: commits.calls)
    rest = [lane.add(some(f"m{i}")) for i in range(30)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(commits.calls) == 1, "nothing is sent while a call is in flight"
    commits.let_go(2)
    assert ids(await first) == ["first"]
    assert [ids(a) for a in await asyncio.gather(*rest)] == [[f"m{i}"] for i in range(30)]
    assert [len(c) for c in commits.calls] == [1, 30]
    assert commits.most_at_once == 1


async def test_a_call_carries_at_most_so_many_and_slices_stay_whole(commits: Commits) -> None:
    lane = Batcher(0, commits)
    sizes = [90, 90, 90, 30, MOST_MESSAGES + 50, 1]
    futures = [lane.add(some(*(f"{k}.{i}" for i in range(n)))) for k, n in enumerate(sizes)]
    commits.let_go(10)
    for k, (n, future) in enumerate(zip(sizes, futures, strict=True)):
        assert ids(await future) == [f"{k}.{i}" for i in range(n)]
    # A slice above the limit goes alone: it is its sender's, who was told to keep below.
    assert [len(c) for c in commits.calls] == [180, 120, MOST_MESSAGES + 50, 1]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnavailable("refused", outcome="not_stored"), "not_stored"),
        (StoreUnavailable("cut"), "unknown"),
        (TypeError("a fault of ours"), "unknown"),
    ],
)
async def test_a_failed_call_fails_its_own_and_no_other(commits: Commits, error: Exception, outcome: str) -> None:
    lane = Batcher(0, commits)
    commits.errors[0] = error
    failing = [lane.add(some("a")), lane.add(some("b"))]
    await until(lambda: commits.calls)
    behind = lane.add(some("c"))
    commits.let_go(2)
    for future in failing:
        with pytest.raises(StoreUnavailable) as failed:
            await future
        assert failed.value.outcome == outcome
    assert ids(await asyncio.wait_for(behind, 1)) == ["c"]


async def test_who_waited_behind_a_hanging_call_is_not_made_to_wait_again(
    commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "HANGING_S", 0.0)
    lane = Batcher(0, commits)
    commits.errors[0] = StoreUnavailable("no answer in time")
    failing = lane.add(some("a"))
    await until(lambda: commits.calls)
    behind = [lane.add(some(f"{i}")) for i in range(3)]
    commits.let_go()
    outcomes = [exc.outcome for exc in await asyncio.gather(failing, *behind, return_exceptions=True)]
    assert outcomes == ["unknown", "not_stored", "not_stored", "not_stored"]
    assert len(commits.calls) == 1
    commits.let_go()
    assert ids(await lane.add(some("next"))) == ["next"]


async def test_a_caller_that_left_does_not_matter_to_the_others(commits: Commits) -> None:
    lane = Batcher(0, commits)
    futures = [lane.add(some(f"m{i}")) for i in range(5)]
    await until(lambda: commits.calls)
    futures[0].cancel()
    futures[3].cancel()
    late = lane.add(some("late"))
    late.cancel()
    commits.let_go(5)
    assert [ids(await f) for i, f in enumerate(futures) if i not in (0, 3)] == [["m1"], ["m2"], ["m4"]]


async def test_an_idle_lane_starts_again(commits: Commits) -> None:
    lane = Batcher(0, commits)
    commits.let_go(3)
    for turn in range(3):
        assert ids(await lane.add(some(f"{turn}"))) == [f"{turn}"]
        await asyncio.sleep(0)
    assert len(commits.calls) == 3


async def test_lanes_and_shards_do_not_wait_for_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A code is stored while a slice of marketing is held up in its own lane."""
    commit = store._commit
    held = asyncio.Event()

    async def slow(shard: int, messages: list[NewMessage]) -> list[Accepted]:
        if messages[0].kind.category == 2:
            await held.wait()
        return await commit(shard, messages)

    for lane in (*store._fast, *store._bulk):
        monkeypatch.setattr(lane, "_commit", slow)
    advert = asyncio.create_task(accept(store, message(store, category=2)))
    assert await asyncio.wait_for(accept(store, message(store, category=0)), 2) == ["accepted"]
    assert not advert.done()
    held.set()
    assert await advert == ["accepted"]


async def test_concurrent_requests_share_calls(store: Store) -> None:
    sizes: list[int] = []
    store.commit_seconds = lambda script, size, seconds: sizes.append(size)
    await asyncio.gather(*(accept(store, *[message(store) for _ in range(10)]) for _ in range(100)))
    assert sum(sizes) == 1000
    assert max(sizes) == MOST_MESSAGES
    assert len(sizes) <= 8
