"""A channel that lost its sessions is trusted again after a while, whatever it does in between."""

from __future__ import annotations

from gateway.dispatch.steadiness import Steadiness

A, B, AB = frozenset("a"), frozenset("b"), frozenset("ab")


def test_who_was_never_lost_is_steady() -> None:
    s = Steadiness(30.0)
    assert s.unsteady(frozenset(), 0.0) == frozenset()
    assert s.unsteady(A, 1.0) == frozenset()
    assert s.unsteady(AB, 2.0) == frozenset()


def test_who_comes_back_waits_its_time() -> None:
    s = Steadiness(30.0)
    s.unsteady(AB, 0.0)
    assert s.unsteady(B, 1.0) == frozenset()
    assert s.unsteady(AB, 5.0) == A
    assert s.unsteady(AB, 34.9) == A
    assert s.unsteady(AB, 35.0) == frozenset()


def test_each_loss_begins_it_anew() -> None:
    s = Steadiness(30.0)
    s.unsteady(AB, 0.0)
    for at in range(1, 100, 4):
        s.unsteady(B, at)
        assert s.unsteady(AB, at + 2) == A
    assert s.unsteady(AB, 128.9) == A
    assert s.unsteady(AB, 129.0) == frozenset()


def test_without_a_time_nothing_waits() -> None:
    s = Steadiness(0.0)
    s.unsteady(AB, 0.0)
    s.unsteady(B, 1.0)
    assert s.unsteady(AB, 1.1) == frozenset()
