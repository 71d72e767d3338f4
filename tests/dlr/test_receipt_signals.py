"""The signs of invented receipts, computed from counts: ratios, quantiles, spread; whatever the counts."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dlr.receipt_signals import DOUBLINGS, counted, middle_s, signals


def counts_of(delays_s: list[float], **failed: int) -> dict[str, int]:
    """Count delays as the store does: up to 2^n seconds."""
    counts: dict[str, int] = {"D": len(delays_s), **failed}
    for delay in delays_s:
        n = 0
        while delay > 2**n and n < DOUBLINGS - 1:
            n += 1
        counts[f"t{n}"] = counts.get(f"t{n}", 0) + 1
    return counts


def test_an_honest_and_an_inventive_carrier_look_different() -> None:
    rng = random.Random(7)
    honest = signals(counts_of([rng.lognormvariate(1.5, 1.2) for _ in range(1000)], U=150, E=40, K=10))
    invented = signals(counts_of([rng.uniform(0.2, 0.6) for _ in range(1000)], U=3))
    assert honest.messages == 1200
    assert honest.delivered_ratio == pytest.approx(1000 / 1200)
    assert invented.delivered_ratio > 0.99
    assert invented.fast_share == 1.0
    assert honest.fast_share < 0.2
    assert invented.delay_std_s < 0.1
    assert honest.delay_std_s > 5
    assert 3 < honest.delay_p50_s < 6.5 < honest.delay_p90_s < 30


@given(st.lists(st.floats(0.01, 200_000), min_size=1, max_size=200))
def test_quantiles_are_right_to_within_their_doubling(delays: list[float]) -> None:
    found = signals(counts_of(delays))
    ordered = sorted(delays)
    for share, estimate in ((0.5, found.delay_p50_s), (0.9, found.delay_p90_s)):
        true = ordered[math.ceil(share * len(ordered)) - 1]
        assert estimate <= max(2 * true, 1.0)
        assert estimate >= min(true, 1.0) / 2 or estimate >= true / 2 or true <= 1.0
    assert found.delay_p50_s <= found.delay_p90_s
    assert found.fast_share == pytest.approx(sum(d <= 1 for d in delays) / len(delays))


@given(st.dictionaries(st.sampled_from(["D", "U", "R", "E", "K", "F", "t0", "t3", "t18"]), st.integers(0, 10**6)))
def test_any_counts_give_finite_signs(counts: dict[str, int]) -> None:
    found = signals(counts)
    assert 0 <= found.delivered_ratio <= 1
    assert 0 <= found.fast_share <= 1
    assert all(math.isfinite(x) for x in (found.delay_p50_s, found.delay_p90_s, found.delay_std_s))


@pytest.mark.parametrize(
    ("state", "reason", "what"),
    [
        ("D", "t3", ("D", "t3")),
        ("D", "late_correction", ("D",)),
        ("D", "", ("D",)),
        ("D", "t19", ("D",)),
        ("U", "invalid-number", ("U",)),
        ("K", "no_receipt", ("K",)),
        ("F", "refused", ()),  # the carrier did not take it: no receipt was due
        ("C", "cancelled", ()),
    ],
)
def test_what_is_counted(state: str, reason: str, what: tuple[str, ...]) -> None:
    assert counted(state, reason) == what


def test_the_delay_that_a_doubling_stands_for() -> None:
    assert [middle_s(word) for word in ("t0", "t1", "t2", "t19", "t", "tx", "", "t²")] == [
        0.5, 1.5, 3.0, None, None, None, None, None,
    ]  # fmt: skip
