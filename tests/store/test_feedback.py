"""Feedback on record: noted once an event, for the channel that delivered, and nothing else of the message changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import Category, Secret, shard_of_id
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.store.moves import Feedback, ReceiptRow, Redelivery, Settlement, named, spellings
from gateway.store.store import Store
from tests.support.messages import accept, apply, claim, message
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

CLICK = Feedback("clicked", "e1")
SALE = Feedback("converted", "e2", "19.90", "CNY", "returning", 1_790_000_000_123)


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    route = RouteSettings(
        "r",
        RouteMatch(),
        (RankedChannel("a", 0), RankedChannel("b", 1)),
        order="quality",
        redeliver_after_s=((Category.NOTIFICATION, 20),),
    )
    channels = tuple(ChannelSettings(name, "127.0.0.1", 1, "x", Secret("x")) for name in "ab")
    opened = await Store.open(replace(settings, routes=(route,), channels=channels), valkey.url, incarnation="worker01")
    yield opened
    with valkey.sync() as client:
        check_consistent(snapshot(client))
    await opened.close()


async def settle(store: Store, c: Any, verb: str, outcome: str = "", channel: str = "a", **changes: Any) -> None:
    """Settle a claimed message, with its attempt in the log and, where it was sent, its SMSC id on record."""
    took = verb == "s"
    log = (
        f"{c.attempt}\x1f{channel}\x1f{0 if took else 88}\x1f{outcome}\x1f{f'0={channel}{c.id.hex()}' if took else ''}"
    )
    item = Settlement(c.claim, c.attempt, verb, channel, **{"delay_ms": 60_000, **changes})
    item.accepted_mask, item.log = int(took), log
    ids = [(f"{channel}:{channel}{c.id.hex()}", named(c.id, 0))] if took else []
    assert (await store.settle_rows(shard_of_id(c.id), [item.row()], ids))[0] == "1"


def receipt(c: Any, state: str, *, again: bool = False) -> ReceiptRow:
    """Return the final receipt of a message that channel `a` took."""
    return ("a", spellings("a", [f"a{c.id.hex()}"]), c.msisdn.encode(), state, "why", "", again, False)


async def submitted(store: Store, **changes: Any) -> Any:
    await accept(store, message(store, **changes))
    (c,) = await claim(store)
    await settle(store, c, "s")
    return c


async def counted(store: Store) -> dict[tuple[str, str], int]:
    """Return feedback in the statistics: channel, outcome → number."""
    rows = (await store.statistics(int(time.time()) // 3600)).items()
    return {(f[7], f[9]): n for f, n in rows if f[8] == "v"}


async def rated(store: Store) -> dict[tuple[str, str], int]:
    """Return feedback in the ratings: channel, letter → number."""
    found: dict[tuple[str, str], int] = {}
    for _, channel, carrier, category, what, n in await store.ratings(time.time(), 1800):
        assert (carrier, category) == ("china-mobile", 1)
        if what in "kcx":
            found[channel, what] = found.get((channel, what), 0) + n
    return found


async def test_what_was_told_is_on_record_and_nothing_else_changed(store: Store) -> None:
    c = await submitted(store)
    before = await store.get(c.id)
    started_ms = time.time_ns() // 1_000_000
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    assert await store.feedback(c.id, "shop", SALE) == "done"
    after = await store.get(c.id)
    assert before is not None
    assert after is not None
    click, sale = after.feedback
    assert sale == SALE
    assert started_ms - 1000 <= click.at_ms <= time.time() * 1000 + 1000, "without a time: when it was told"
    assert replace(click, at_ms=0) == CLICK
    assert replace(after, feedback=[]) == before
    assert await store.feedback(c.id, "bank", CLICK) == "not_found"
    assert await store.feedback(message(store).id, "shop", CLICK) == "not_found"


async def test_an_event_counts_once_and_keeps_its_content(store: Store) -> None:
    c = await submitted(store)
    assert [await store.feedback(c.id, "shop", SALE) for _ in range(3)] == ["done", "repeated", "repeated"]
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    assert await store.feedback(c.id, "shop", CLICK) == "repeated", "also without a time of its own"
    changes: list[dict[str, Any]] = [
        {"outcome": "clicked"}, {"amount": "19.91"}, {"currency": "USD"}, {"customer": "new"}, {"customer": ""},
        {"at_ms": SALE.at_ms + 1}, {"at_ms": 0},
    ]  # fmt: skip
    for change in changes:
        assert await store.feedback(c.id, "shop", replace(SALE, **change)) == "conflict"
    assert await counted(store) == {("a", "converted"): 1, ("a", "clicked"): 1}
    assert await rated(store) == {("a", "c"): 1, ("a", "k"): 1}


async def test_statistics_count_events_ratings_count_messages(store: Store) -> None:
    for _ in range(2):
        c = await submitted(store)
        for i in range(3):
            assert await store.feedback(c.id, "shop", Feedback("clicked", f"k{i}")) == "done"
        assert await store.feedback(c.id, "shop", Feedback("complained", "x")) == "done"
    assert await counted(store) == {("a", "clicked"): 6, ("a", "complained"): 2}
    assert await rated(store) == {("a", "k"): 2, ("a", "x"): 2}


async def test_feedback_is_no_final_state(store: Store) -> None:
    ended: list[Any] = []
    store.on_finals = lambda *told: ended.append(told)
    c = await submitted(store)
    await store.feedback(c.id, "shop", CLICK)
    assert await apply(store, receipt(c, "D")) == "f"
    assert await store.feedback(c.id, "shop", SALE) == "done"
    assert [told[2] for told in ended] == ["D"]
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, len(record.receipts), len(record.feedback)) == ("D", 1, 2)


async def test_a_record_keeps_thirty_two(store: Store) -> None:
    c = await submitted(store)
    longest = Feedback("complained", "", "9" * 14 + ".9999", "CNY", "returning", 1_790_000_000_000)
    events = [replace(longest, event_id=f"{i:064}") for i in range(33)]
    assert [await store.feedback(c.id, "shop", one) for one in events] == ["done"] * 32 + ["too_many"]
    assert await store.feedback(c.id, "shop", events[0]) == "repeated", "what is there still answers"
    record = await store.get(c.id)
    assert record is not None
    assert record.feedback == events[:32]
    assert await counted(store) == {("a", "complained"): 32}


async def test_what_no_carrier_took_has_no_feedback(store: Store) -> None:
    await accept(store, message(store))
    (c,) = await claim(store)
    assert await store.feedback(c.id, "shop", CLICK) == "not_sent"
    await settle(store, c, "F", "permanent")
    assert await store.feedback(c.id, "shop", CLICK) == "not_sent"
    assert await counted(store) == {}


async def test_an_attempt_without_an_answer_may_have_arrived(store: Store) -> None:
    await accept(store, message(store))
    (c,) = await claim(store)
    await settle(store, c, "u", "uncertain")
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    assert await rated(store) == {("a", "k"): 1}


async def test_the_channel_that_took_it_is_meant_not_one_that_refused(store: Store) -> None:
    await accept(store, message(store))
    (c,) = await claim(store)
    await settle(store, c, "n", "next", rank=1, delay_ms=0)
    (again,) = await claim(store, token="b", rank=1)
    await settle(store, again, "s", channel="b")
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    assert await counted(store) == {("b", "clicked"): 1}


async def test_of_two_copies_the_one_that_was_delivered_is_meant(store: Store) -> None:
    await accept(store, message(store))
    (c,) = await claim(store)
    await settle(store, c, "s")
    assert await apply(store, receipt(c, "U", again=True)) == "r"
    await store.redo(0)
    assert await store.redeliver(0, [Redelivery(c.id, "g", 1, "b")]) == "g"
    (copy,) = await claim(store, token="b", channel="b")
    await settle(store, copy, "s", channel="b")
    assert await store.feedback(c.id, "shop", Feedback("clicked", "before")) == "done"
    assert await apply(store, receipt(c, "D")) == "f"
    assert await store.feedback(c.id, "shop", Feedback("converted", "after")) == "done"
    assert await counted(store) == {("b", "clicked"): 1, ("a", "converted"): 1}
    assert await rated(store) == {("b", "k"): 1, ("a", "c"): 1}


async def test_test_messages_are_noted_and_not_counted(store: Store) -> None:
    c = await submitted(store, test=True)
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    record = await store.get(c.id)
    assert record is not None
    assert len(record.feedback) == 1
    assert (await counted(store), await rated(store)) == ({}, {})


async def test_nobody_asks_for_ratings_then_none_are_kept(store: Store, settings: Settings) -> None:
    store.configure(settings)
    c = await submitted(store)
    assert await store.feedback(c.id, "shop", CLICK) == "done"
    assert await store.ratings(time.time(), 1800) == []
    assert await counted(store) == {("a", "clicked"): 1}


async def test_a_message_of_yesterday_rates_nobody(store: Store, valkey: ValkeyServer) -> None:
    """The counts of its time are gone: nothing is written that nobody reads."""
    c = await submitted(store)
    record = await store.get(c.id)
    assert record is not None
    (attempt,) = record.attempts
    with valkey.sync() as client:
        key = b"gw:{s00}:msg:" + c.id
        raw = client.get(key)
        was, yesterday = (_base36(at_ms).encode() for at_ms in (attempt.at_ms, attempt.at_ms - 86_400_000))
        assert raw.count(was) == 1
        client.set(key, raw.replace(was, yesterday))
        slots = len(client.keys("gw:{s00}:quality:*"))
        assert await store.feedback(c.id, "shop", CLICK) == "done"
        assert len(client.keys("gw:{s00}:quality:*")) == slots
    assert await counted(store) == {("a", "clicked"): 1}
    assert await rated(store) == {}


def _base36(n: int) -> str:
    digits = ""
    while n:
        n, digit = divmod(n, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
