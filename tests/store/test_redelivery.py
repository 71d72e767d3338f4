"""A copy on another channel: asked for once, one final state, and whichever was delivered first wins."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import Category, Secret
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.store.moves import ClaimRequest, ReceiptRow, Redelivery, Settlement, spellings
from gateway.store.store import Store
from tests.support.messages import accept, apply, claim, message
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    route = RouteSettings(
        "r",
        RouteMatch(),
        (RankedChannel("a", 0), RankedChannel("b", 1)),
        redeliver_after_s=((Category.NOTIFICATION, 20),),
    )
    channels = tuple(ChannelSettings(name, "127.0.0.1", 1, "x", Secret("x")) for name in "ab")
    opened = await Store.open(replace(settings, routes=(route,), channels=channels), valkey.url, incarnation="worker01")
    yield opened
    with valkey.sync() as client:
        check_consistent(snapshot(client))
    await opened.close()


def row(c: Any, state: str, channel: str, part: int = 0, *, again: bool = True) -> ReceiptRow:
    return (
        channel,
        spellings(channel, [f"{channel}{c.id.hex()}{part}"]),
        c.msisdn.encode(),
        state,
        "UNDELIV",
        "",
        again,
        False,
    )


async def send(store: Store, c: Any, channel: str, *, again_ms: int = 0) -> None:
    """Settle a claimed message as submitted through a channel."""
    ids = [(part, f"{channel}{c.id.hex()}{part}") for part in range(c.parts)]
    log = f"{c.attempt}\x1f{channel}\x1f0\x1f\x1f{','.join(f'{part}={i}' for part, i in ids)}"
    item = Settlement(c.claim, c.attempt, "s", channel, 86_400_000, (1 << c.parts) - 1, redeliver_ms=again_ms, log=log)
    named = [(f"{channel}:{i}", c.id + bytes((48 + part,))) for part, i in ids]
    assert (await store.settle_rows(0, [item.row()], named))[0] == "1"


async def sent(store: Store, **changes: Any) -> Any:
    await accept(store, message(store, **changes))
    (c,) = await claim(store, channel="a")
    await send(store, c, "a", again_ms=20_000)
    return c


async def copy_of(store: Store, c: Any) -> Any:
    """Let the copy of a message be claimed by channel b."""
    assert [sid for sid, _ in await store.redo(0)] == [c.id]
    assert await store.redeliver(0, [Redelivery(c.id, "g", 1, "b")]) == "g"
    _, found, _ = await store.claim(0, f"c{time.monotonic_ns()}", [ClaimRequest("b", 10, 10, [])])
    assert [m.id for _, m in found] == [c.id]
    return found[0][1]


async def state_of(store: Store, c: Any) -> tuple[str, str, bool]:
    record = await store.get(c.id)
    assert record is not None
    return record.state, record.reason, record.possible_duplicate


async def test_a_failure_asks_and_the_copy_is_delivered(store: Store) -> None:
    c = await sent(store)
    assert await apply(store, row(c, "U", "a")) == "r"
    assert (await state_of(store, c))[0] == "s"
    assert await apply(store, row(c, "U", "a")) == "d"  # asked for once
    copy = await copy_of(store, c)
    assert (copy.attempt, copy.accepted) == (2, 0)
    await send(store, copy, "b", again_ms=20_000)
    assert await apply(store, row(c, "D", "b")) == "f"
    assert await state_of(store, c) == ("D", "", True)
    assert await store.redo(0) == []


async def test_both_failed_is_one_final_state(store: Store) -> None:
    c = await sent(store)
    await apply(store, row(c, "U", "a"))
    await send(store, await copy_of(store, c), "b")
    assert await apply(store, row(c, "R", "b")) == "f"
    assert (await state_of(store, c))[0] == "R"
    assert await store.redo(0) == []


async def test_a_permanent_failure_is_the_end(store: Store) -> None:
    c = await sent(store)
    assert await apply(store, row(c, "U", "a", again=False)) == "f"
    assert await store.redo(0) == []


async def test_another_category_is_left_alone(store: Store) -> None:
    c = await sent(store, category=2)
    assert await apply(store, row(c, "U", "a")) == "f"


async def overdue(store: Store, valkey: ValkeyServer) -> int:
    with valkey.sync() as client:
        (bucket,) = [k for k in client.keys(f"{P}late:*") if not k.endswith(b":cursor")]
        now = int(time.time()) // 15 * 15
        client.rename(bucket, f"{P}late:{now}")
        client.set(f"{P}late:cursor", now)
    return await store.overdue(0)


async def test_a_late_delivery_of_the_first_wins_over_the_copy(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    assert await overdue(store, valkey) == 1
    copy = await copy_of(store, c)
    assert await apply(store, row(c, "D", "a")) == "f"  # while the copy is on its way
    await send(store, copy, "b")
    assert await apply(store, row(c, "U", "b")) == "d"
    assert (await state_of(store, c))[0] == "D"


@pytest.mark.parametrize("late", ["D", "U"])
async def test_a_failed_copy_waits_for_the_receipt_of_the_first(store: Store, valkey: ValkeyServer, late: str) -> None:
    c = await sent(store)
    assert await overdue(store, valkey) == 1
    await send(store, await copy_of(store, c), "b")
    assert await apply(store, row(c, "U", "b")) == "p"
    assert (await state_of(store, c))[0] == "s"
    assert await apply(store, row(c, late, "a")) == "f"
    assert (await state_of(store, c))[0] == late


def base36(n: int) -> bytes:
    digits = b""
    while n:
        n, digit = divmod(n, 36)
        digits = b"0123456789abcdefghijklmnopqrstuvwxyz"[digit : digit + 1] + digits
    return digits


async def age(store: Store, valkey: ValkeyServer, c: Any, ms: int) -> None:
    """Let all that stands in a message's log have happened earlier, and all waiting be looked at now."""
    record = await store.get(c.id)
    assert record is not None
    with valkey.sync() as client:
        key = f"{P}msg:".encode() + c.id
        raw = client.get(key)
        for at in {x.at_ms for x in [*record.attempts, *record.receipts]}:
            raw = raw.replace(base36(at), base36(at - ms))
        client.set(key, raw)
        now = int(time.time()) // 300 * 300
        for bucket in [k for k in client.keys(f"{P}wait:*") if not k.endswith((b":cursor", b":%d" % now))]:
            client.rpush(f"{P}wait:{now}", *client.lrange(bucket, 0, -1))
            client.delete(bucket)
        client.set(f"{P}wait:cursor", now)


async def test_a_failed_copy_does_not_wait_for_ever(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    await send(store, await copy_of(store, c), "b")
    await apply(store, row(c, "R", "b"))
    await age(store, valkey, c, 200_000)
    looked, closed = await store.close_waiting(0)
    assert (looked >= 2, closed) == (True, 0), "filed more than once, and not yet over"
    await age(store, valkey, c, 200_000)
    looked, closed = await store.close_waiting(0)
    assert (looked >= 1, closed) == (True, 1)
    assert await state_of(store, c) == ("R", "UNDELIV", True)


async def test_a_copy_that_is_out_has_its_time_whatever_the_first_did(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    copy = await copy_of(store, c)
    await send(store, copy, "b")
    assert await apply(store, row(c, "U", "a")) == "p"
    await age(store, valkey, c, 3_600_000)
    assert (await store.close_waiting(0))[1] == 0
    assert await apply(store, row(c, "D", "b")) == "f"
    assert (await state_of(store, c))[0] == "D"


async def test_a_failure_after_the_clock_has_asked_is_on_record(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    assert await apply(store, row(c, "U", "a")) == "p"
    assert await apply(store, row(c, "U", "a")) == "d"
    assert await store.redeliver(0, [Redelivery(c.id, "n")]) == "n"
    assert await state_of(store, c) == ("U", "UNDELIV", False)
    other = await sent(store)
    await overdue(store, valkey)
    assert await apply(store, row(other, "U", "a", again=False)) == "f"
    assert await store.redeliver(0, [Redelivery(other.id, "g", 1, "b")]) == "0"


async def test_the_failure_of_a_copy_told_again_is_told_once(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    await send(store, await copy_of(store, c), "b")
    assert await apply(store, row(c, "U", "b"), row(c, "U", "b"), row(c, "U", "b")) == "pdd"
    assert await apply(store, row(c, "U", "a")) == "f"


async def test_both_failures_in_one_batch_are_the_end(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    await send(store, await copy_of(store, c), "b")
    assert await apply(store, row(c, "U", "a"), row(c, "U", "b")) == "pf"


async def test_what_was_uncertain_once_has_no_copy(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store, channel="a")
    lost = Settlement(c.claim, 1, "U", "a", log="1\x1fa\x1f\x1funcertain\x1f")
    assert await store.settle(0, [lost]) == "1"
    assert await store.settle(0, [Settlement(c.claim, 1, "s", "a", 86_400_000, 1, log="1\x1fa\x1f0\x1f\x1f0=x")]) == "l"
    stranger = ("a", spellings("a", ["x"]), m.msisdn.encode(), "U", "UNDELIV", "", True, False)
    assert await apply(store, stranger) == "r"
    assert await store.redeliver(0, [Redelivery(c.id, "g", 1, "b")]) == "n"
    assert (await state_of(store, c))[0] == "U"
    assert await claim(store, token="b") == []


async def test_the_first_fails_while_the_copy_is_out(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    copy = await copy_of(store, c)
    assert await apply(store, row(c, "U", "a")) == "p"
    await send(store, copy, "b")
    assert await apply(store, row(c, "D", "b")) == "f"
    assert (await state_of(store, c))[0] == "D"


@pytest.mark.parametrize(("failed", "ends"), [(True, "U"), (False, "s")])
@pytest.mark.parametrize("verb", ["F", "expired", "gate"])
async def test_a_copy_that_is_never_sent_leaves_what_the_first_did(
    store: Store, valkey: ValkeyServer, failed: bool, ends: str, verb: str
) -> None:
    c = await sent(store, ttl_ms=60_000)
    if failed:
        await apply(store, row(c, "U", "a"))
    else:
        await overdue(store, valkey)
    if verb == "F":
        copy = await copy_of(store, c)
        item = Settlement(copy.claim, copy.attempt, "F", "b", reason="refused", log="2\x1fb\x1f69\x1fpermanent\x1f")
        assert await store.settle(0, [item]) == "1"
    else:
        assert await store.redeliver(0, [Redelivery(c.id, "g", 1, "b")]) == "g"
        if verb == "gate":
            await store.set_gate("account", "shop", "closed")
        else:
            with valkey.sync() as client:
                key = f"{P}msg:".encode() + c.id
                raw = client.get(key)
                client.set(key, raw[:6] + bytes(6) + raw[12:])  # its time is over
        _, found, _ = await store.claim(0, "late", [ClaimRequest("b", 10, 10, [])])
        assert found == []
    assert (await state_of(store, c))[0] == ends
    if not failed:
        assert await apply(store, row(c, "D", "a")) == "f"
        assert (await state_of(store, c))[0] == "D"


async def test_a_copy_nobody_knows_the_outcome_of_is_not_sent_a_third_time(store: Store) -> None:
    c = await sent(store)
    await apply(store, row(c, "U", "a"))
    copy = await copy_of(store, c)
    item = Settlement(copy.claim, copy.attempt, "u", "b", 10, log="2\x1fb\x1f\x1funcertain\x1f")
    assert await store.settle(0, [item]) == "1"
    assert (await state_of(store, c))[0] == "s"
    assert (await store.due(0))[0] == 0
    # Its receipt comes under an id nobody knows.
    stranger = ("b", spellings("b", ["9"]), c.msisdn.encode(), "D", "DELIVRD", "", False, False)
    assert await apply(store, stranger) == "f"
    assert (await state_of(store, c))[0] == "D"


async def test_all_parts_go_again_and_those_that_arrived_count(store: Store) -> None:
    c = await sent(store, parts=2)
    assert await apply(store, row(c, "D", "a", 0)) == "p"
    assert await apply(store, row(c, "U", "a", 1)) == "r"
    copy = await copy_of(store, c)
    assert copy.accepted == 0
    await send(store, copy, "b")
    assert await apply(store, row(c, "D", "b", 1)) == "f"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.parts_delivered) == ("D", 2)


async def test_not_now_and_not_at_all(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store)
    await overdue(store, valkey)
    assert await store.redeliver(0, [Redelivery(c.id, "w", delay_ms=1000)]) == "w"
    assert await store.redo(0) == []
    assert await overdue(store, valkey) == 1
    assert await store.redeliver(0, [Redelivery(c.id, "n")]) == "n"
    assert (await state_of(store, c))[0] == "s"
    assert await apply(store, row(c, "U", "a")) == "r"  # a failure may still ask
    assert await store.redeliver(0, [Redelivery(c.id, "n")]) == "n"
    assert await state_of(store, c) == ("U", "UNDELIV", False)
    assert await store.redeliver(0, [Redelivery(c.id, "g", 1, "b")]) == "0"


async def test_how_channels_do_is_counted_by_their_submissions(store: Store) -> None:
    good, bad = await sent(store), await sent(store)
    own = await sent(store, category=2)
    await apply(store, row(good, "D", "a"), row(bad, "U", "a"), row(own, "U", "a", again=False))
    rows = await store.ratings(time.time(), 1800)
    counts: dict[tuple[str, str, int, str], int] = {}
    for _, channel, carrier, category, what, n in rows:
        counts[channel, carrier, category, what[0]] = counts.get((channel, carrier, category, what[0]), 0) + n
    assert counts == {
        ("a", "china-mobile", 1, "s"): 2,
        ("a", "china-mobile", 1, "D"): 1,
        ("a", "china-mobile", 1, "f"): 1,
        ("a", "china-mobile", 1, "t"): 2,
        ("a", "china-mobile", 2, "s"): 1,
        ("a", "china-mobile", 2, "o"): 1,
        ("a", "china-mobile", 2, "t"): 1,
    }


async def test_the_reason_is_that_of_the_copy(store: Store) -> None:
    """Statistics (compared with the records at the end of each test) and the record say the same."""
    c = await sent(store)
    first = row(c, "U", "a")
    assert await apply(store, (*first[:4], "powered-off", "a1", True, False)) == "r"
    await send(store, await copy_of(store, c), "b")
    second = row(c, "U", "b")
    assert await apply(store, (*second[:4], "out-of-service", "b1", True, True)) == "f"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.reason, record.carrier_code, record.permanent) == ("U", "out-of-service", "b1", True)
