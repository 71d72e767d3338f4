"""The time wheel: nothing early, nothing lost, one deadline for all."""

from __future__ import annotations

import random

from gateway.simulator.wheel import TimeWheel


def test_items_come_out_in_time_and_never_early() -> None:
    wheel: TimeWheel[str] = TimeWheel(tick_s=0.01)
    assert wheel.next_deadline() is None
    wheel.add(1.005, "b")
    wheel.add(1.0, "a")
    wheel.add(2.0, "c")
    assert len(wheel) == 3
    assert wheel.due(0.99) == []
    assert wheel.due(1.004) == ["a"]
    deadline = wheel.next_deadline()
    assert deadline is not None
    assert 1.005 <= deadline <= 1.011
    assert wheel.due(deadline) == ["b"]
    assert wheel.due(5.0) == ["c"]
    assert (len(wheel), wheel.next_deadline()) == (0, None)


def test_everything_put_in_comes_out_once() -> None:
    chance = random.Random(7)
    wheel: TimeWheel[int] = TimeWheel()
    dues = [chance.random() * 3 for _ in range(2000)]
    for i, due in enumerate(dues):
        wheel.add(due, i)
    seen: list[int] = []
    now = 0.0
    while (deadline := wheel.next_deadline()) is not None:
        now = max(now, deadline)
        for item in wheel.due(now):
            assert dues[item] <= now + 1e-9
            seen.append(item)
    assert sorted(seen) == list(range(2000))


def test_drain_empties_it_whatever_the_time() -> None:
    wheel: TimeWheel[int] = TimeWheel()
    for i in range(5):
        wheel.add(10.0 - i, i)
    assert list(wheel.drain()) == [4, 3, 2, 1, 0]
    assert len(wheel) == 0
