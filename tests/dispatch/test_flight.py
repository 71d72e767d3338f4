"""What the answers of a message's parts add up to."""

from __future__ import annotations

import itertools

import pytest

from gateway.dispatch.flight import Flight
from gateway.dispatch.outcome import Outcome
from tests.support.dispatch_parts import flight

BY_SEVERITY = [Outcome.SENT, Outcome.SLOW, Outcome.SAME, Outcome.NEXT, Outcome.UNCERTAIN, Outcome.PERMANENT]


def status_of(outcome: Outcome) -> int | None:
    return None if outcome is Outcome.UNCERTAIN else BY_SEVERITY.index(outcome)


@pytest.mark.parametrize("pair", list(itertools.product(BY_SEVERITY, repeat=2)))
def test_the_worst_answer_stands_for_the_message(pair: tuple[Outcome, Outcome]) -> None:
    one = flight(parts=2)
    for outcome in pair:
        one.note(outcome, status_of(outcome))
    worst = max(pair, key=BY_SEVERITY.index)
    assert one.outcome is worst
    assert one.status == status_of(worst)


def test_of_equals_the_first_is_kept() -> None:
    one = flight(parts=2)
    one.note(Outcome.NEXT, 0x45)
    one.note(Outcome.NEXT, 0x0B)
    assert one.status == 0x45


def test_parts_accepted_before_count() -> None:
    one: Flight = flight(parts=3, accepted=0b001)
    assert one.pending == 2
    assert not one.complete
    one.accepted = 0b010
    assert one.all_accepted == 0b011
    assert not one.complete
    one.accepted = 0b110
    assert one.complete


def test_a_flight_of_one_part() -> None:
    one = flight()
    assert not one.complete
    one.accepted = 1
    assert one.complete
