"""Which queues a channel may take from, by who is available."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.sources import SourceTable
from gateway.model import Category
from gateway.routing.table import RouteTable
from gateway.settings import RankedChannel, RouteMatch, RouteSettings
from gateway.settings.values import default_categories

CATEGORIES = default_categories()
AT_ONCE = (0, 0, 0)
OVERFLOW = (2000, -1, -1)  # codes after 2 s, the others not at all


def table(**routes: dict[str, int]) -> SourceTable:
    settings = [
        RouteSettings(name, RouteMatch(), tuple(RankedChannel(c, rank) for c, rank in channels.items()))
        for name, channels in routes.items()
    ]
    return SourceTable(RouteTable(settings), CATEGORIES)


def served(sources: SourceTable, channel: str, *available: str) -> dict[tuple[str, int], tuple[int, int, int]]:
    return {(s.route, s.rank): s.min_wait_ms for s in sources.of(channel, frozenset(available))}


def test_each_serves_its_own_rank_and_overflow_goes_down() -> None:
    sources = table(r={"a": 0, "b": 1})
    assert served(sources, "a", "a", "b") == {("r", 0): AT_ONCE}
    assert served(sources, "b", "a", "b") == {("r", 0): OVERFLOW, ("r", 1): AT_ONCE}


def test_the_backup_takes_all_while_the_primary_is_away() -> None:
    sources = table(r={"a": 0, "b": 1})
    assert served(sources, "b", "b") == {("r", 0): AT_ONCE, ("r", 1): AT_ONCE}


def test_a_channel_that_has_only_just_come_back_leaves_it_to_the_steady_ones() -> None:
    sources = table(r={"a": 0, "b": 1}, alone={"a": 0})
    up, back = frozenset("ab"), frozenset("a")
    assert {(s.route, s.rank) for s in sources.of("a", up, back)} == {("alone", 0)}
    assert {(s.route, s.rank): s.min_wait_ms for s in sources.of("b", up, back)} == {
        ("r", 0): AT_ONCE,
        ("r", 1): AT_ONCE,
    }
    assert {(s.route, s.rank) for s in sources.of("a", frozenset("a"), back)} == {("alone", 0), ("r", 0), ("r", 1)}
    assert {(s.route, s.rank) for s in sources.of("a", up)} == {("alone", 0), ("r", 0)}


def test_an_earlier_rank_serves_a_later_one_that_nobody_else_can() -> None:
    sources = table(r={"a": 0, "b": 1, "c": 2})
    assert served(sources, "a", "a") == {("r", rank): AT_ONCE for rank in (0, 1, 2)}
    assert served(sources, "a", "a", "c") == {("r", 0): AT_ONCE}
    assert served(sources, "c", "a", "c") == {("r", 0): OVERFLOW, ("r", 1): AT_ONCE, ("r", 2): AT_ONCE}
    assert served(sources, "b", "a", "b") == {("r", 0): OVERFLOW, ("r", 1): AT_ONCE, ("r", 2): AT_ONCE}


def test_channels_of_one_rank_share() -> None:
    sources = table(r={"a": 0, "b": 0, "c": 1})
    assert served(sources, "a", "a", "b", "c") == served(sources, "b", "a", "b", "c") == {("r", 0): AT_ONCE}
    assert served(sources, "c", "b", "c")[("r", 0)] == OVERFLOW
    assert served(sources, "c", "c")[("r", 0)] == AT_ONCE


def test_without_overflow_a_backup_leaves_a_bound_primary_alone() -> None:
    rules = {c: replace(s, overflow_after_ms=0) for c, s in CATEGORIES.items()}
    route = RouteSettings("r", RouteMatch(), (RankedChannel("a", 0), RankedChannel("b", 1)))
    sources = SourceTable(RouteTable([route]), rules)
    assert served(sources, "b", "a", "b") == {("r", 1): AT_ONCE}


def test_a_channel_of_several_routes_and_of_none() -> None:
    sources = table(r={"a": 0, "b": 1}, s={"b": 0, "a": 1})
    assert served(sources, "a", "a", "b") == {("r", 0): AT_ONCE, ("s", 0): OVERFLOW, ("s", 1): AT_ONCE}
    assert sources.of("x", frozenset("x")) == []


def test_a_change_of_availability_is_seen() -> None:
    sources = table(r={"a": 0, "b": 1})
    assert served(sources, "b", "b")[("r", 0)] == AT_ONCE
    assert served(sources, "b", "a", "b")[("r", 0)] == OVERFLOW
    assert served(sources, "b", "b")[("r", 0)] == AT_ONCE


@given(
    ranks=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), min_size=1),
    available=st.sets(st.sampled_from("abcdef"), min_size=1),
)
def test_no_queue_is_stuck_while_a_channel_of_its_route_is_available(
    ranks: dict[str, int], available: set[str]
) -> None:
    up = available & set(ranks)
    sources = table(r=ranks)
    for rank in set(ranks.values()) if up else ():
        waits = [served(sources, c, *up).get(("r", rank)) for c in up]
        assert AT_ONCE in waits


@pytest.mark.parametrize("category", list(Category))
def test_waits_are_by_category(category: Category) -> None:
    sources = table(r={"a": 0, "b": 1})
    wait = served(sources, "b", "a", "b")[("r", 0)][category]
    assert wait == (CATEGORIES[category].overflow_after_ms or -1)
