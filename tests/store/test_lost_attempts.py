"""A receipt whose id nobody knows settles the one attempt it must be the outcome of, and never guesses between two."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.store.moves import BY_ADDRESS, ParkedReceipt, ReceiptRow, Settlement, spellings
from gateway.store.store import Store
from tests.support.messages import accept, claim, message, number, request
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer


def lost_log(c: Any, channel: str = "ch") -> str:
    return f"{c.attempt}\x1f{channel}\x1f\x1funcertain\x1f"


async def lose(store: Store, c: Any, verb: str = "u", channel: str = "ch") -> None:
    item = Settlement(c.claim, c.attempt, verb, channel, 60_000, log=lost_log(c, channel))
    assert await store.settle(0, [item]) == "1"


def stranger(msisdn: str, state: str = "D", smsc_id: str = "77", channel: str = "ch") -> ReceiptRow:
    return (channel, spellings(channel, [smsc_id]), msisdn.encode(), state, "why", "001", False, False)


async def one(store: Store, row: ReceiptRow) -> tuple[str, int]:
    ((letter, which),) = await store.apply_receipts([row])
    return letter, which


async def claimed(store: Store, msisdn: str, **changes: Any) -> Any:
    await accept(store, message(store, msisdn, **changes))
    return (await claim(store))[0]


@pytest.mark.parametrize("verb", ["u", "U"])
@pytest.mark.parametrize("state", ["D", "U"])
async def test_an_unknown_id_is_that_of_the_one_lost_attempt(
    store: Store, valkey: ValkeyServer, verb: str, state: str
) -> None:
    c = await claimed(store, number())
    await lose(store, c, verb)
    assert await one(store, stranger(c.msisdn, state)) == ("f", BY_ADDRESS)
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.attempt, record.possible_duplicate) == (state, 1, False)
    assert [(a.number, a.outcome, a.smsc_ids) for a in record.attempts] == [
        (1, "uncertain", {}),
        (1, "sent", {0: "77"}),
    ]
    # The copy that waited is gone, and the receipt that comes again finds its message.
    assert await claim(store, token="b") == []
    assert await one(store, stranger(c.msisdn, state)) == ("d", -1)
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def test_two_lost_attempts_are_not_told_apart(store: Store) -> None:
    msisdn = number()
    for _ in range(2):
        await lose(store, await claimed(store, msisdn))
    assert await one(store, stranger(msisdn)) == ("n", -1)


async def test_a_lost_attempt_on_another_channel_is_not_meant(store: Store) -> None:
    c = await claimed(store, number())
    await lose(store, c, channel="other")
    assert await one(store, stranger(c.msisdn)) == ("n", -1)


async def test_while_another_message_is_under_way_there_nothing_is_guessed(store: Store) -> None:
    msisdn = number()
    await lose(store, await claimed(store, msisdn))
    under_way = await claimed(store, msisdn)
    assert await one(store, stranger(msisdn)) == ("n", -1)  # it may be that one's, faster than its answer
    ids = [("ch:78", under_way.id + b"0")]
    item = Settlement(under_way.claim, under_way.attempt, "s", "ch", 60_000, 1)
    await store.settle_rows(0, [item.row()], ids)
    assert await one(store, stranger(msisdn)) == ("f", BY_ADDRESS)


async def test_a_message_under_way_on_another_channel_is_no_doubt(store: Store) -> None:
    msisdn = number()
    await lose(store, await claimed(store, msisdn))
    await accept(store, message(store, msisdn))
    await claim(store, token="b", channel="other")
    assert await one(store, stranger(msisdn)) == ("f", BY_ADDRESS)


async def test_the_failure_of_the_first_does_not_end_a_copy_that_was_sent(store: Store) -> None:
    c = await claimed(store, number())
    await lose(store, c, "U")
    (copy,) = await claim(store, token="b", channel="other")
    item = Settlement(copy.claim, copy.attempt, "s", "other", 60_000, 1, log="2\x1fother\x1f0\x1f\x1f0=90")
    await store.settle_rows(0, [item.row()], [("other:90", copy.id + b"0")])
    assert await one(store, stranger(c.msisdn, "U")) == ("p", BY_ADDRESS)
    assert await one(store, stranger(c.msisdn, "D", "90", "other")) == ("f", 0)
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.possible_duplicate) == ("D", True)


async def test_the_delivery_of_the_first_ends_the_message_while_its_copy_is_held(
    store: Store, valkey: ValkeyServer
) -> None:
    c = await claimed(store, number())
    await lose(store, c, "U")
    (copy,) = await claim(store, token="b", channel="other")
    assert await one(store, stranger(c.msisdn)) == ("f", BY_ADDRESS)
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.possible_duplicate) == ("D", True)
    item = Settlement(copy.claim, copy.attempt, "s", "other", 60_000, 1, log="2\x1fother\x1f0\x1f\x1f0=90")
    assert await store.settle(0, [item]) == "1"  # the copy's log, for people
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def test_of_a_long_message_only_the_one_open_part_can_be_meant(store: Store) -> None:
    c = await claimed(store, number(), parts=3)
    item = Settlement(c.claim, c.attempt, "u", "ch", 60_000, 0b011, log=lost_log(c))
    assert await store.settle(0, [item], [("ch:1", c.id + b"0"), ("ch:2", c.id + b"1")]) == "1"
    assert await one(store, stranger(c.msisdn)) == ("p", BY_ADDRESS)
    record = await store.get(c.id)
    assert record is not None
    assert (record.accepted, record.delivered) == (0b111, 0b100)
    d = await claimed(store, number(), parts=3)
    item = Settlement(d.claim, d.attempt, "u", "ch", 60_000, 0b001, log=lost_log(d))
    assert await store.settle(0, [item]) == "1"
    assert await one(store, stranger(d.msisdn)) == ("n", -1)


async def test_what_a_dead_worker_sent_is_known_by_its_channel(store: Store, valkey: ValkeyServer) -> None:
    await store.heartbeat(0, first=True)
    m = message(store)
    await accept(store, m)
    _, found, _ = await store.claim(0, "t", [request(channel="cm-a")])
    assert len(found) == 1
    await store.reap(store.incarnation)
    record = await store.get(m.id)
    assert record is not None
    assert [(a.number, a.channel, a.outcome) for a in record.attempts] == [(1, "cm-a", "uncertain")]
    assert await one(store, stranger(m.msisdn, channel="cm-b")) == ("n", -1)
    assert await one(store, stranger(m.msisdn, channel="cm-a")) == ("f", BY_ADDRESS)
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def test_a_receipt_parked_before_the_attempt_was_lost_is_tried_again(store: Store, valkey: ValkeyServer) -> None:
    c = await claimed(store, number())
    early = ParkedReceipt(stranger(c.msisdn), b"early")
    assert await one(store, early.row) == ("n", -1)  # its message is under way: it may be known in a moment
    assert await store.park([early]) == ["P"]
    assert await store.parked(0, "ch") == (1, [], [])
    await lose(store, c)
    assert await store.parked(0, "ch") == (1, [b"early"], [])
    assert await one(store, early.row) == ("f", BY_ADDRESS)
    await store.unpark([early])
    assert await store.parked(0, "ch") == (0, [], [])
    # Old ones are nobody's any more.
    assert await store.park([early]) == ["P"]
    with valkey.sync() as client:
        client.zadd("gw:{s00}:parked:ch", {"77": int(time.time()) - 1000})
    assert await store.parked(0, "ch") == (1, [], [])
