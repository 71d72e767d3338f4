"""Who goes first: categories strictly, accounts in turn, the channel's own parts before its queues, nobody too early.

And what a claim drops on the way: what may not be sent any more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import Category, shard_of_id
from gateway.settings import Settings
from gateway.store.blacklists import Blacklists
from gateway.store.moves import ClaimRequest, ClaimSource, Settlement
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, blacklisted, claim, message, request
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

RANK_0 = ClaimSource("r", 0, (0, 0, 0))


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    opened = await Store.open(with_shards(settings, shards), valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


@pytest.fixture
async def one(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    """A store of one shard, where order and budgets can be counted exactly."""
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


_token = 0


async def take(store: Store, *requests: ClaimRequest) -> list[tuple[int, Any]]:
    """Claim on shard 0 under a new token."""
    global _token
    _token += 1
    _, claimed, bad = await store.claim(0, f"n{_token}", list(requests))
    assert not bad
    return claimed


async def stock(store: Store, n: int, **changes: Any) -> list[bytes]:
    """Accept `n` messages of one kind in slices; returns their ids in order."""
    ms = [message(store, **changes) for _ in range(n)]
    for i in range(0, n, 100):
        assert set(await accept(store, *ms[i : i + 100])) == {"accepted"}
    return [m.id for m in ms]


async def settle(store: Store, c: Any, verb: str, **changes: Any) -> None:
    item = replace(Settlement(c.claim, c.attempt, verb, "ch"), **changes)
    assert await store.settle(shard_of_id(c.id), [item]) == "1"


async def state_of(store: Store, sid: bytes) -> tuple[str, str]:
    record = await store.get(sid)
    assert record is not None
    return record.state, record.reason


# --- categories


async def test_categories_go_strictly_in_order(store: Store) -> None:
    for category in (2, 1, 0):
        await stock(store, 20, category=category)
    taken: list[int] = []
    for turn in range(store.shards * 20):
        for shard in range(store.shards):
            _, claimed, _ = await store.claim(shard, f"{turn}", [request(3)])
            assert [c.category for _, c in claimed] == sorted(c.category for _, c in claimed)
            taken += [c.category for _, c in claimed]
    assert Counter(taken) == {0: 20, 1: 20, 2: 20}
    if store.shards == 1:
        assert taken == sorted(taken)


async def test_a_code_passes_a_backlog(one: Store) -> None:
    await stock(one, 1000, category=2)
    await take(one, request(50))
    (code,) = await stock(one, 1, category=0)
    (_, first), *_ = await take(one, request(50))
    assert first.id == code


async def test_the_reserve_is_for_codes_only(one: Store) -> None:
    await stock(one, 30, category=2)
    codes = await stock(one, 3, category=0)
    taken = await take(one, request(10, rest=0))
    assert [c.id for _, c in taken] == codes
    assert await take(one, request(10, rest=0)) == []
    assert len(await take(one, request(10, rest=4))) == 4


# --- accounts


async def test_accounts_take_turns(one: Store) -> None:
    """5,000 of one account and one message of another: the one is in the first claim."""
    await stock(one, 5000, account="big")
    (small,) = await stock(one, 1, account="small")
    taken = [c.id for _, c in await take(one, request(20))]
    assert small in taken
    assert len(taken) == 20
    more = set(await stock(one, 40, account="small"))
    taken = []
    while not more <= set(taken):
        taken += [c.id for _, c in await take(one, request(10))]
    assert len(taken) <= 90, "two accounts share a claim half and half"


async def test_one_at_a_time_accounts_alternate(one: Store) -> None:
    owner = {sid: account for account in ("a", "b", "c") for sid in await stock(one, 4, account=account)}
    order = [owner[c.id] for _ in range(12) for _, c in await take(one, request(1))]
    assert Counter(order) == {"a": 4, "b": 4, "c": 4}
    assert [sorted(order[i : i + 3]) for i in range(0, 12, 3)] == [["a", "b", "c"]] * 4


async def test_an_account_gets_its_messages_in_order(one: Store) -> None:
    ids = await stock(one, 150)
    await stock(one, 150, account="other")
    taken = [c.id for _ in range(50) for _, c in await take(one, request(7))]
    assert [sid for sid in taken if sid in ids] == ids


# --- budgets


async def test_parts_never_exceed_the_budget_but_for_the_last_message(one: Store) -> None:
    for i in range(60):
        await stock(one, 1, parts=1 + i % 5, account=f"a{i % 3}", category=i % 3)
    total = 0
    for budget in [1, 2, 3, 4, 5, 7, 1, 12, 3, 2] * 20:
        taken = [c.parts for _, c in await take(one, request(budget))]
        assert sum(taken[:-1]) < budget
        if len(taken) > 1:
            assert sum(taken) <= budget + 4
        total += len(taken)
    assert total == 60


async def test_what_does_not_fit_waits_at_the_head(one: Store) -> None:
    ids = []
    for parts in (1, 3, 1):
        ids += await stock(one, 1, parts=parts)
    assert [c.id for _, c in await take(one, request(2))] == ids[:1]
    assert [c.id for _, c in await take(one, request(2))] == ids[1:2], "a long one goes alone, however small the budget"
    assert [c.id for _, c in await take(one, request(2))] == ids[2:]


async def test_a_long_message_is_not_passed_by_for_ever(one: Store) -> None:
    """Short messages of another account fill every small budget; the long one has its turn all the same."""
    (long,) = await stock(one, 1, parts=5, account="long")
    await stock(one, 50, account="short")
    taken = [c.id for _ in range(3) for _, c in await take(one, request(2))]
    assert long in taken


async def test_channels_of_one_call_share_the_queue_and_take_nothing_twice(one: Store) -> None:
    ids = await stock(one, 30)
    taken = await take(one, request(10), request(10, channel="other"), request(0, channel="busy"))
    assert Counter(place for place, _ in taken) == {0: 10, 1: 10}
    assert sorted(c.id for _, c in taken) == sorted(ids[:20])


# --- overflow and pins


async def test_the_backup_takes_over_only_what_waited_long_enough(one: Store) -> None:
    (first,) = await stock(one, 1, category=0)
    (advert,) = await stock(one, 1, category=2)
    backup = ClaimRequest("backup", 10, 10, [ClaimSource("r", 0, (60, -1, -1))])
    assert await take(one, backup) == []
    started = time.monotonic()
    taken = await until(lambda: take(one, backup))
    assert [c.id for _, c in taken] == [first]
    assert time.monotonic() - started >= 0.04
    assert await take(one, backup) == [], "a category that does not overflow stays"
    assert [c.id for _, c in await take(one, request())] == [advert]


async def test_waiting_begins_anew_with_each_queue(one: Store) -> None:
    (sid,) = await stock(one, 1, category=0)
    backup = ClaimRequest("backup", 10, 10, [ClaimSource("r", 0, (60, 60, 60))])
    (_, c) = (await until(lambda: take(one, backup)))[0]
    await settle(one, c, "r")
    assert await take(one, backup) == []
    assert [c.id for _, c in await until(lambda: take(one, backup))] == [sid]


async def test_one_account_that_waits_does_not_stop_the_others(one: Store) -> None:
    (old,) = await stock(one, 1, account="old")
    backup = ClaimRequest("backup", 10, 10, [ClaimSource("r", 0, (60, 60, 60))])
    await until(lambda: _older_than(one, old, 60))
    (young,) = await stock(one, 1, account="young")
    assert [c.id for _, c in await take(one, backup)] == [old]
    assert [c.id for _, c in await take(one, request())] == [young]


async def _older_than(store: Store, sid: bytes, ms: int) -> bool:
    record = await store.get(sid)
    assert record is not None
    seconds, micros = await store.client.execute("TIME")
    return int(seconds) * 1000 + int(micros) // 1000 - record.accepted_at_ms >= ms


async def test_ranks_are_queues_of_their_own(one: Store) -> None:
    (sid,) = await stock(one, 1)
    ((_, c),) = await take(one, request())
    await settle(one, c, "n", rank=1, code="0x00000045")
    assert await take(one, request()) == []
    ((_, again),) = await take(one, request(rank=1, channel="backup"))
    assert (again.id, again.rank, again.attempt) == (sid, 1, 2)


async def test_parts_that_must_follow_go_before_the_queue(one: Store) -> None:
    (long,) = await stock(one, 1, parts=2)
    ((_, c),) = await take(one, request())
    await settle(one, c, "p", accepted_mask=1, log="1\x1fch\x1f88\x1fslow\x1f0=a")
    others = await stock(one, 5)
    assert [c.id for _, c in await take(one, request(channel="other"))] == others
    await stock(one, 5)
    (_, first), *_ = await take(one, request())
    assert first.id == long


async def test_after_release_and_reap_the_head_is_the_head(one: Store) -> None:
    ids = await stock(one, 6, category=0)
    first = [c for _, c in await take(one, request(3))]
    assert await one.release(0, [c.claim for c in first]) == 3
    assert [c.id for _, c in await take(one, request(3))] == ids[:3]
    await one.reap("worker01")
    again = [c for _, c in await take(one, request(6))]
    assert {c.id for c in again[:3]} == set(ids[:3])
    assert [c.flags & 1 for c in again] == [1, 1, 1, 0, 0, 0]


# --- what a claim drops


async def test_what_is_over_is_not_claimed(store: Store) -> None:
    m = message(store, ttl_ms=20)
    await accept(store, m)
    await until(lambda: _older_than(store, m.id, 20))
    assert await claim(store) == []
    assert await state_of(store, m.id) == ("E", "expired")


async def test_what_was_cancelled_does_not_hold_up_what_is_behind_it(one: Store) -> None:
    ids = await stock(one, 301)
    for sid in ids[:-1]:
        assert await one.cancel(sid, "shop") == "cancelled"
    assert [c.id for _, c in await take(one, request(20))] == ids[-1:]


async def test_the_blacklist_is_looked_at_again(store: Store) -> None:
    ms = [message(store, category=c, account=a) for c in (1, 2) for a in ("shop", "bank")]
    await accept(store, *ms)
    await blacklisted(store, "*", ms[2].msisdn)
    await blacklisted(store, "bank", *[m.msisdn for m in ms], categories=[Category.NOTIFICATION])
    assert {c.id for c in await claim(store)} == {ms[0].id, ms[3].id}
    assert [(await state_of(store, m.id))[0] for m in ms] == ["q", "B", "B", "q"]
    assert await Blacklists(store).remove(ms[1].msisdn, "bank", actor="operator")
    assert not await Blacklists(store).remove(ms[1].msisdn, "bank", actor="operator")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("gate", "run"), ("tag", "t2"), ("campaign", "spring"), ("account", "shop"), ("category", "marketing")],
)
async def test_gates_hold_close_and_open(store: Store, kind: str, name: str) -> None:
    gated = {"gate": "run", "tags": ("t1", "t2"), "campaign": "spring", "account": "shop", "category": 2}
    free = message(store, account="bank", category=1, gate="walk", tags=("t22",), campaign="spring2")
    a, b, c = (message(store, **gated) for _ in range(3))
    await accept(store, a, free)
    await store.set_gate(kind, name, "hold")
    assert [x.id for x in await claim(store, token="1")] == [free.id]
    assert await state_of(store, a.id) == ("w", "")
    assert (await store.gates())[f"{kind}:{name}"] == {"state": "hold", "held": 1, "closed": 0}
    assert await store.set_gate(kind, name, "open") == {"held": 0, "moved": 1}
    assert [x.id for x in await claim(store, token="2")] == [a.id]
    await accept(store, b)
    await store.set_gate(kind, name, "hold")
    assert await claim(store, token="3") == []
    await accept(store, c)
    assert await store.set_gate(kind, name, "closed") == {"held": 0, "moved": 1}
    assert await claim(store, token="4") == []
    assert await state_of(store, b.id) == await state_of(store, c.id) == ("C", "gate_closed")
    gate = (await store.gates())[f"{kind}:{name}"]
    assert (gate["state"], gate["held"], gate["closed"]) == ("closed", 0, 2)


async def test_a_gate_opens_past_what_was_cancelled_behind_it(one: Store) -> None:
    """More cancelled messages than one slice of the move stand before the live one."""
    ids = await stock(one, 201, gate="g")
    await one.set_gate("gate", "g", "hold")
    assert await take(one, request(500)) == []
    for sid in ids[:-1]:
        assert await one.cancel(sid, "shop") == "cancelled"
    assert await one.set_gate("gate", "g", "open") == {"held": 0, "moved": 1}
    assert [c.id for _, c in await take(one, request())] == ids[-1:]


@pytest.mark.parametrize("category", list(Category))
async def test_attempts_run_out(one: Store, settings: Settings, category: Category) -> None:
    (sid,) = await stock(one, 1, category=int(category))
    for attempt in range(1, settings.categories[category].max_attempts + 1):
        ((_, c),) = await take(one, request())
        assert c.attempt == attempt
        await settle(one, c, "r")
    assert await take(one, request()) == []
    assert await state_of(one, sid) == ("F", "attempts_exhausted")
    assert await one.waiting() == 0


async def test_dropped_messages_give_their_caps_back(one: Store) -> None:
    m = message(one, category=0)
    await accept(one, m)
    await one.set_gate("category", "verification", "closed")
    assert await take(one, request()) == []
    await one.set_gate("category", "verification", "open")
    assert await accept(one, message(one, m.msisdn, category=0)) == ["accepted"]


async def test_a_ring_forgets_accounts_without_work(one: Store, valkey: ValkeyServer) -> None:
    ids = await stock(one, 3, account="a")
    others = await stock(one, 1, account="b")
    for sid in ids:
        await one.cancel(sid, "a")
    assert [c.id for _, c in await take(one, request())] == others
    with valkey.sync() as client:
        snap = snapshot(client)
    check_consistent(snap)
    assert not any(":ring:" in name or ":q:" in name for name in snap)


async def test_a_queue_emptied_to_the_last_leaves_its_ring(one: Store, valkey: ValkeyServer) -> None:
    for _ in range(2):
        ids = await stock(one, 3)
        assert [c.id for _, c in await take(one, request(3))] == ids
        with valkey.sync() as client:
            snap = snapshot(client)
        check_consistent(snap)
        assert not any(":ring:" in name for name in snap)
