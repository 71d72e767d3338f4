"""Shares by quality: towards the better channel, slowly, only where it is worth it, and never to nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.ratings import Rating, Ratings
from gateway.dispatch.shares import Key, Shared, even, moved, next_shares, score, targets
from gateway.routing.table import RouteTable
from gateway.settings import QualitySettings, RankedChannel, RouteMatch, RouteSettings

RULES = QualitySettings()
SLOT = 300_000


def rating(submitted: int = 100, delivered: int = 90, delay: int = 1, **more: int) -> Rating:
    r = Rating(submitted, delivered, **more)
    r.delays[delay] = delivered
    return r


def table(order: str = "quality", **channels: tuple[int, int]) -> RouteTable:
    ranked = tuple(RankedChannel(name, rank, weight) for name, (rank, weight) in channels.items())
    return RouteTable([RouteSettings("r", RouteMatch(), ranked, order=order)])


def counted(**delivered: int) -> Ratings:
    rows = [(SLOT, c, "cm", 0, what, n) for c, d in delivered.items() for what, n in (("s", 100), ("D", d), ("t0", d))]
    return Ratings(rows, SLOT + 900)


def walk(now: dict[Key, Shared], ratings: Ratings, steps: int, rules: QualitySettings = RULES) -> dict[Key, Shared]:
    for _ in range(steps):
        now = next_shares(table(a=(0, 1), b=(0, 1)), ratings, rules, now)
    return now


def test_the_better_channel_gets_more_but_not_at_once() -> None:
    ratings = counted(a=95, b=60)
    first = walk({}, ratings, 1)["r", 0, 0, "cm"]
    assert first.moving
    assert first.shares["a"] == pytest.approx(0.55)
    last = walk({}, ratings, 40)["r", 0, 0, "cm"]
    assert not last.moving
    assert 0.8 < last.shares["a"] <= 0.95
    assert last.inputs["b"]["delivered_ratio"] == 0.6


def test_a_small_difference_moves_nothing() -> None:
    now = walk({}, counted(a=92, b=90), 20)["r", 0, 0, "cm"]
    assert now.shares == {"a": 0.5, "b": 0.5}
    assert "within" in now.why


def test_having_moved_it_stays_until_the_difference_is_worth_it_again() -> None:
    there = walk({}, counted(a=95, b=70), 40)
    again = walk(there, counted(a=94, b=70), 5)["r", 0, 0, "cm"]
    assert again.shares == there["r", 0, 0, "cm"].shares
    back = walk(there, counted(a=70, b=95), 60)["r", 0, 0, "cm"]
    assert back.shares["b"] > 0.7


def test_the_worst_keeps_the_least_share() -> None:
    now = walk({}, counted(a=99, b=0), 60)["r", 0, 0, ""]
    assert now.shares["b"] == pytest.approx(RULES.least_share)


def test_few_messages_say_nothing() -> None:
    few = Ratings([(SLOT, "a", "cm", 0, "s", 200), (SLOT, "a", "cm", 0, "D", 0)], SLOT + 900)
    now = walk({}, few, 5)
    assert ("r", 0, 0, "cm") not in now
    assert now["r", 0, 0, ""].shares == {"a": 0.5, "b": 0.5}
    assert "fewer than 50" in now["r", 0, 0, ""].why
    # What was learned before fades when the sample does.
    there = walk({}, counted(a=99, b=10), 60)
    assert walk(there, Ratings(), 60)["r", 0, 0, ""].shares == {"a": 0.5, "b": 0.5}


def test_weights_are_where_it_starts_from() -> None:
    now = next_shares(table(a=(0, 3), b=(0, 1)), counted(a=90, b=90), RULES, {})
    assert now["r", 0, 0, "cm"].shares == {"a": 0.75, "b": 0.25}


def test_routes_by_weight_and_lone_channels_have_none() -> None:
    assert next_shares(table("weight", a=(0, 1), b=(0, 1)), counted(a=99, b=1), RULES, {}) == {}
    assert next_shares(table(a=(0, 1), b=(1, 1)), counted(a=99, b=1), RULES, {}) == {}


def test_a_new_channel_begins_anew() -> None:
    there = walk({}, counted(a=99, b=10), 60)
    wider = next_shares(table(a=(0, 1), b=(0, 1), c=(0, 1)), Ratings(), RULES, there)
    assert set(wider["r", 0, 0, ""].shares) == {"a", "b", "c"}
    assert wider["r", 0, 0, ""].shares["a"] == pytest.approx(1 / 3)


def test_slow_receipts_and_conversion_count() -> None:
    assert score(rating(delay=0), 0, 1.0) > score(rating(delay=6), 0, 1.0)
    assert score(rating(delay=6), 0, 1.0) < 0.6 * score(rating(delay=6), 2, 1.0)
    weights = {"a": 1, "b": 1}
    same = targets(weights, {"a": rating(), "b": rating()}, 0, 0.05)
    assert same == pytest.approx({"a": 0.5, "b": 0.5})
    told = targets(weights, {"a": rating(converted=60), "b": rating(converted=20)}, 0, 0.05)
    assert told["a"] > 0.8
    complained = targets(weights, {"a": rating(converted=40), "b": rating(converted=40, complained=20)}, 0, 0.05)
    assert complained["a"] > 0.7


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(st.integers(1, 100), st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 18)),
        min_size=2,
    ),
    st.floats(0, 0.5),
    st.integers(0, 2),
)
def test_targets_are_shares(given: dict[str, tuple[int, int, int, int]], least: float, category: int) -> None:
    ratings = {c: rating(s, min(s, d), delay) for c, (_, s, d, delay) in given.items()}
    found = targets({c: w for c, (w, _, _, _) in given.items()}, ratings, category, least)
    assert sum(found.values()) == pytest.approx(1)
    assert all(share >= -1e-9 for share in found.values())
    now = Shared(even({c: w for c, (w, _, _, _) in given.items()}))
    after = moved(now, found, replace(RULES, step=0.1))
    assert sum(after.shares.values()) == pytest.approx(1)
    assert max(abs(after.shares[c] - now.shares[c]) for c in found) <= 0.1 + 1e-9
