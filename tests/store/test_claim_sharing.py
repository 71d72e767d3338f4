"""How channels of one rank share what they claim: by weight, by tier, by carrier; free capacity is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from gateway.store.moves import ClaimRequest, ClaimSource
from gateway.store.store import Store
from tests.support.messages import accept, message

_turn = 0


def shared(channel: str, share: str, parts: int = 10_000, rest: int | None = None) -> ClaimRequest:
    source = ClaimSource("r", 0, (0, 0, 0), share)
    return ClaimRequest(channel, parts, parts if rest is None else rest, [source])


async def stock(store: Store, n: int, **changes: object) -> None:
    ms = [message(store, **changes) for _ in range(n)]
    assert set(await accept(store, *ms)) == {"accepted"}


async def take(store: Store, *requests: ClaimRequest) -> Counter[str]:
    """Claim once; returns how many messages each channel got."""
    global _turn
    _turn += 1
    _, claimed, _ = await store.claim(0, f"share{_turn}", list(requests))
    return Counter(requests[place].channel for place, _ in claimed)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (7, 2)])
async def test_a_backlog_is_shared_by_weight(store: Store, weights: Sequence[int]) -> None:
    total = 20 * sum(weights)
    await stock(store, total)
    taken = await take(store, *(shared(f"w{i}", f"0 {w} {w} {w}") for i, w in enumerate(weights)))
    assert [taken[f"w{i}"] for i in range(len(weights))] == [20 * w for w in weights]


async def test_single_messages_are_shared_by_weight_too(store: Store) -> None:
    taken: Counter[str] = Counter()
    for _ in range(40):
        await stock(store, 1)
        taken += await take(store, shared("s3", "0 3 3 3"), shared("s1", "0 1 1 1"))
    assert taken == {"s3": 30, "s1": 10}


async def test_who_has_no_room_leaves_it_to_the_others(store: Store) -> None:
    await stock(store, 50)
    taken = await take(store, shared("f1", "0 1 1 1", 5), shared("f2", "0 1 1 1"))
    assert taken == {"f1": 5, "f2": 45}
    assert await take(store, shared("f1", "0 1 1 1"), shared("f2", "0 1 1 1")) == {}


async def test_the_cheapest_takes_all_it_can(store: Store) -> None:
    await stock(store, 30)
    taken = await take(store, shared("dear", "1 1 1 1"), shared("cheap", "0 1 1 1", 20))
    assert taken == {"cheap": 20, "dear": 10}


async def test_shares_by_carrier_and_category(store: Store) -> None:
    await stock(store, 40, carrier="china-mobile")
    await stock(store, 40, carrier="china-unicom")
    await stock(store, 40, category=0)
    a = "0 500 500 500 china-mobile=500,900,500"
    b = "0 500 500 500 china-mobile=500,100,500"
    global _turn
    _turn += 1
    requests = [shared("q-a", a), shared("q-b", b)]
    _, claimed, _ = await store.claim(0, f"share{_turn}", requests)
    taken = Counter((requests[p].channel, c.dims.split(b"\x1f")[1].decode(), c.category) for p, c in claimed)
    assert taken == {
        ("q-a", "china-mobile", 0): 20,
        ("q-b", "china-mobile", 0): 20,
        ("q-a", "china-mobile", 1): 36,
        ("q-b", "china-mobile", 1): 4,
        ("q-a", "china-unicom", 1): 20,
        ("q-b", "china-unicom", 1): 20,
    }


async def test_codes_first_on_all_channels_and_into_the_reserve(store: Store) -> None:
    await stock(store, 20, category=2)
    await stock(store, 6, category=0)
    requests = [shared("r1", "0 1 1 1", 4, rest=2), shared("r2", "0 1 1 1", 4, rest=2)]
    global _turn
    _turn += 1
    _, claimed, _ = await store.claim(0, f"share{_turn}", requests)
    taken = Counter((requests[p].channel, c.category) for p, c in claimed)
    # Each sends three codes; the rest of its window, but for the reserve, is marketing's.
    assert {k: n for k, n in taken.items() if k[1] == 0} == {("r1", 0): 3, ("r2", 0): 3}
    assert sum(n for k, n in taken.items() if k[1] == 2) == 0
    assert len(await store.claim_fields(0)) == 2
