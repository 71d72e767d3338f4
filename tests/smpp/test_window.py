"""The window: slots counted right, time-outs in order, late answers found once, nothing kept for ever."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.smpp import window as window_module
from gateway.smpp.window import Window, WindowFull


def test_slots_are_taken_and_freed() -> None:
    window = Window(2)
    window.add(1, "a", 10.0)
    window.add(2, "b", 11.0)
    assert (len(window), window.free) == (2, 0)
    with pytest.raises(WindowFull):
        window.add(3, "c", 12.0)
    assert window.pop(1) == ("a", 10.0)
    assert window.pop(1) is None
    assert (len(window), window.free, window.oldest_sent_at()) == (1, 1, 11.0)


def test_overdue_takes_the_oldest_first_and_frees_their_slots() -> None:
    window = Window(3)
    for number, now in ((7, 1.0), (8, 2.0), (9, 3.0)):
        window.add(number, f"c{number}", now)
    assert window.overdue(10.9, 10.0) == []
    assert window.overdue(12.0, 10.0) == [("c7", 1.0), ("c8", 2.0)]
    assert window.free == 2
    assert window.overdue(12.0, 10.0) == []


def test_a_late_answer_finds_its_request_once_and_frees_nothing() -> None:
    window = Window(1)
    window.add(7, "c7", 1.0)
    window.overdue(20.0, 10.0)
    window.add(8, "c8", 20.0)
    assert 7 in window
    assert window.pop(7) is None
    assert window.pop_late(7) == ("c7", 1.0)
    assert window.pop_late(7) is None
    assert window.free == 0


def test_late_requests_are_forgotten_by_age_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "LATE_ENTRIES", 3)
    window = Window(9)
    for number in range(1, 6):
        window.add(number, number, float(number))
    window.overdue(100.0, 10.0)
    assert [number in window for number in range(1, 6)] == [False, False, True, True, True]
    window.forget_late(5.0)
    assert [number in window for number in range(1, 6)] == [False, False, False, False, True]


def test_clear_hands_back_what_is_open_and_forgets_the_late() -> None:
    window = Window(9)
    window.add(1, "late", 0.0)
    window.overdue(10.0, 10.0)
    window.add(2, "b", 10.0)
    window.add(3, "c", 10.0)
    assert window.clear() == [(2, "b"), (3, "c")]
    assert (len(window), window.oldest_sent_at(), 1 in window) == (0, None, False)


def test_a_window_made_smaller_has_no_negative_slots() -> None:
    window = Window(2)
    window.add(1, None, 0.0)
    window.add(2, None, 0.0)
    window.size = 1
    assert window.free == 0


class WindowAgainstModel(RuleBasedStateMachine):
    """Any order of sends, answers and time-outs against two plain lists."""

    SIZE, TIMER_S = 5, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.SIZE)
        self.open: list[tuple[int, float]] = []
        self.late: list[int] = []
        self.now = 0.0
        self.number = 0

    @precondition(lambda self: len(self.open) < self.SIZE)
    @rule()
    def send(self) -> None:
        self.number += 1
        self.window.add(self.number, f"c{self.number}", self.now)
        self.open.append((self.number, self.now))

    @rule(number=st.integers(0, 30))
    def answer(self, number: int) -> None:
        sent_at = dict(self.open).get(number)
        expected = None if sent_at is None else (f"c{number}", sent_at)
        assert self.window.pop(number) == expected
        if expected is not None:
            self.open.remove((number, sent_at))
        else:
            late = self.window.pop_late(number)
            assert (late is not None) == (number in self.late)
            self.late = [other for other in self.late if other != number]

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = [(f"c{n}", at) for n, at in self.open if at + self.TIMER_S <= self.now]
        assert self.window.overdue(self.now, self.TIMER_S) == expired
        self.late += [n for n, at in self.open if at + self.TIMER_S <= self.now]
        self.open = [(n, at) for n, at in self.open if at + self.TIMER_S > self.now]

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.window) == len(self.open)
        assert self.window.free == self.SIZE - len(self.open)
        assert self.window.oldest_sent_at() == (self.open[0][1] if self.open else None)


TestWindowAgainstModel = WindowAgainstModel.TestCase
TestWindowAgainstModel.settings = settings(max_examples=50, stateful_step_count=30)
