"""Ratings from the store's counts: what is old enough counts, and delays are rounded up."""

from __future__ import annotations

from gateway.dispatch.ratings import ENOUGH, Rating, Ratings, Row

SLOT = 300_000


def rows(channel: str = "a", carrier: str = "cm", category: int = 0, slot: int = SLOT, **counts: int) -> list[Row]:
    return [(slot, channel, carrier, category, what, n) for what, n in counts.items()]


def test_ratio_and_receipts() -> None:
    r = Ratings(rows(s=100, D=80, f=5, o=5, t1=90), SLOT + 600).of("a")
    assert (r.submitted, r.judged, r.receipts) == (100, 95, 90)
    assert (r.ratio, r.receipt_share) == (80 / 95, 0.9)


def test_nothing_known_is_nothing() -> None:
    r = Ratings().of("a", "cm", 1)
    assert (r.judged, r.ratio, r.receipt_share, r.delay_s(0.95)) == (0, 0.0, 0.0, None)
    assert Ratings().delay_p95_s("a") is None


def test_delays_are_rounded_up_and_need_a_sample() -> None:
    r = Rating()
    r.add("t0", 90)
    r.add("t3", 9)
    r.add("t10", 1)
    assert (r.delay_s(0.5), r.delay_s(0.95), r.delay_s(1.0)) == (1.0, 8.0, 1024.0)
    few = Rating()
    few.add("t0", ENOUGH - 1)
    assert few.delay_s(0.5) is None


def test_what_is_too_young_for_its_receipt_is_not_held_against_a_channel() -> None:
    old, young = rows(s=50, D=50, t6=50), rows(slot=SLOT + 300, s=40, D=1, t0=1)
    assert Ratings([*old, *young], SLOT + 330).of("a").submitted == 50  # 95 % come within 64 s
    assert Ratings([*old, *young], SLOT + 364).of("a").submitted == 90


def test_by_carrier_by_category_and_all_together() -> None:
    found = Ratings([*rows(s=10, D=9), *rows(carrier="cu", s=10, D=1), *rows(carrier="", category=2, s=4)], SLOT + 600)
    assert found.of("a", "cm", 0).delivered == 9
    assert found.of("a", "", 0).delivered == 10
    assert found.of("a").submitted == 24
    assert found.carriers(["a"], 0) == {"cm", "cu"}
    assert found.carriers(["a"], 2) == set()
    assert found.carriers(["b"], 0) == set()
