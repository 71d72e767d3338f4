"""Rates, waits and shares are what was counted, over the time that is said."""

from __future__ import annotations

import pytest

from gateway.admin.figures import COLUMNS, ENTRIES, OK, Figures, Reading, quantile
from gateway.metrics import LATENCY_S, Series

BOUNDS = (1.0, 2.0, 5.0)


def series(n: int) -> Series:
    """Counters after n turns: each brings 10 codes that are delivered within 20 ms, and 1 refused answer of 10."""
    wait = [0] * (len(LATENCY_S) + 1)
    wait[4] = 10 * n  # up to 0.02 s
    return Series(
        {
            ("messages_total", ("verification", "r", "queued", "")): 10.0 * n,
            ("messages_total", ("verification", "r", "delivered", "")): 9.0 * n,
            ("messages_total", ("verification", "r", "undeliverable", "absent")): 1.0 * n,
            ("messages_total", ("verification", "r", "refused", "capped")): 5.0 * n,
            ("submits_total", ("a", OK)): 9.0 * n,
            ("submits_total", ("a", "0x00000058")): 1.0 * n,
            ("channel_alarms_total", ("a", "bug")): 1.0 * n,
        },
        {},
        {("accept_to_submit_seconds", ("verification",)): wait},
    )


def test_rates_are_differences_over_their_time() -> None:
    figures = Figures()
    for turn in range(20):
        figures.take(Reading.of(100.0 + turn * 5, 1_000 + turn * 5_000, series(turn), waiting=turn))
    seconds, flows = figures.flows()
    assert seconds == 10.0
    assert flows == [2.0, 2.0, 1.8, 0.2, *([0.0] * 8)], "accepted, submitted, delivered, failed; refused is none"
    assert figures.submits_per_s() == {"a": 2.0}
    wait = figures.wait()
    assert (wait.n, wait.p50_s) == (10 * 11, 0.015), "of the last minute, give or take a reading: half of its bucket"
    assert figures.points[-1] == [96_000, 2.0, 2.0, 1.8, 0.2, *([0.0] * 8), 0.015, 0.0199, 19]
    assert len(figures.points[-1]) == len(COLUMNS)
    errors = figures.errors("a")
    assert (errors["share"], errors["top"]) == (0.1, [{"status": "0x00000058", "n": 19, "share": 0.1}])
    assert figures.errors("unknown") == {"seconds": 95, "submits": 0, "share": None, "top": []}
    assert figures.troubles() == (95.0, {("channel_alarms_total", ("a", "bug")): 19})


def test_the_rings_are_bounded_and_a_first_reading_says_nothing() -> None:
    figures = Figures()
    figures.take(Reading.of(0.0, 0, series(1000)))
    assert figures.flows() == (0.0, [0.0] * 12)
    assert (figures.wait().n, figures.wait().p99_s) == (0, None)
    assert not figures.take(Reading.of(2.0, 2_000, series(1001))), "between two points"
    assert figures.flows()[1][0] == 5.0, "the latest reading counts all the same"
    for turn in range(2_000):
        figures.take(Reading.of(5.0 * turn, 5_000 * turn, series(turn)))
    assert (len(figures.points), len(figures.coarse)) == (ENTRIES, 16)
    assert all(one.detail is None for one in figures.fine)


def test_a_counter_that_falls_is_no_negative_rate() -> None:
    figures = Figures()
    figures.take(Reading.of(0.0, 0, series(10)))
    figures.take(Reading.of(10.0, 10_000, series(2)))
    assert min(figures.flows()[1]) == 0.0
    assert figures.wait().n == 0
    assert figures.errors("a") == {"seconds": 10, "submits": 0, "share": None, "top": []}


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([0, 4, 0, 0], 0.25, 1.25),
        ([1, 1, 2, 0], 0.99, 4.94),
        ([0, 0, 0, 3], 0.5, 5.0),
        ([1, 0, 0, 1], 0.99, 5.0),
    ],
)
def test_quantiles_are_those_of_prometheus(counts: list[int], share: float, value: float | None) -> None:
    assert quantile(BOUNDS, counts, share) == value
