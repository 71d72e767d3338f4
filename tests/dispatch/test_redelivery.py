"""Whether a message goes again through another channel, and through which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.dispatch.ratings import Ratings
from gateway.dispatch.redelivery import Circumstances, decide
from gateway.routing.table import RouteTable
from gateway.settings import RankedChannel, RouteMatch, RouteSettings
from gateway.store.record_log import Attempt, PartReceipt
from gateway.store.records import Record

NOW = 1_800_000_000_000
CHANNELS = (RankedChannel("a", 0), RankedChannel("b", 1), RankedChannel("c", 2))
(ROUTE,) = RouteTable([RouteSettings("r", RouteMatch(), CHANNELS)]).routes.values()


def ratings(submitted: int = 100, receipts: int = 95, delay: int = 3) -> Ratings:
    slot = NOW // 1000 // 300 * 300 - 600
    counts = {"s": submitted, "D": receipts, f"t{delay}": receipts}
    return Ratings([(slot, "a", "", 0, what, n) for what, n in counts.items()], NOW / 1000)


def record(*channels: str, failed: bool = False, age_s: float = 60.0, **changes: Any) -> Record:
    values: dict[str, Any] = dict.fromkeys(Record.__slots__)
    values |= {
        "id": b"i" * 16, "state": "s", "category": 0, "attempt": len(channels), "rank": 0,
        "expires_at_ms": NOW + 60_000, "state_at_ms": int(NOW - age_s * 1000),
        "attempts": [Attempt(i + 1, c, 0, 0, "sent") for i, c in enumerate(channels)],
        "receipts": [PartReceipt(0, channels[-1], 0, "U", "UNDELIV", "")] if failed else [],
    }  # fmt: skip
    return Record(**(values | changes))


HERE = Circumstances(NOW, 20, 3, ROUTE, frozenset("abc"), ratings())


def test_a_failure_goes_to_the_next_rank() -> None:
    found = decide(record("a", failed=True, age_s=1), HERE)
    assert (found.verb, found.rank, found.target) == ("g", 1, "b")


def test_never_to_a_channel_that_was_tried_or_cannot_submit() -> None:
    assert decide(record("b", "a", failed=True), HERE).target == "c"
    assert decide(record("a", failed=True), replace(HERE, available=frozenset("ac"))).target == "c"
    assert decide(record("a", failed=True), replace(HERE, available=frozenset("a"))).verb == "n"
    assert decide(record("c", failed=True, rank=2), HERE).target == "a"


def test_no_receipt_in_time_goes_where_receipts_come() -> None:
    assert decide(record("a"), HERE).verb == "g"
    assert decide(record("a"), replace(HERE, ratings=ratings(receipts=79))).verb == "n"
    assert decide(record("a"), replace(HERE, ratings=Ratings())).verb == "n"
    assert decide(record("a", failed=True), replace(HERE, ratings=Ratings())).verb == "g"


@pytest.mark.parametrize(("after_s", "delay", "left_s"), [(20, 3, 10), (20, 6, 54), (5, 3, None), (8, 5, 22)])
def test_not_before_its_time_and_95_percent_of_the_receipts(after_s: int, delay: int, left_s: int | None) -> None:
    found = decide(record("a", age_s=10), replace(HERE, after_s=after_s, ratings=ratings(delay=delay)))
    if left_s is None:
        assert found.verb == "g"
    else:
        assert (found.verb, found.delay_ms) == ("w", left_s * 1000 + 1)


def test_when_there_is_no_use_in_it() -> None:
    assert decide(record("a", failed=True, expires_at_ms=NOW + 500), HERE).verb == "n"
    assert decide(record("a", failed=True, attempt=3), HERE).verb == "n"
    assert decide(record("a", failed=True), replace(HERE, after_s=0)).verb == "n"
    assert decide(record("a", failed=True), replace(HERE, route=None)).verb == "n"
