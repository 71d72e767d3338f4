"""Erasing a number: all of what is known of it goes, nothing of anybody else's, however much there is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.settings import Settings
from gateway.store import erase as walk
from gateway.store import keys
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from gateway.store.erase import Erased, Eraser, StillLive
from gateway.store.inbox import InboundStore, Recorded
from gateway.store.moves import ParkedReceipt, Settlement
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, claim, ids_of, message, number, receipt_row
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

LEARNED_S = 86_400.0


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    opened = await Store.open(with_shards(settings, shards), valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


@pytest.fixture
def audit(store: Store) -> Audit:
    return Audit(store)


async def erase(store: Store, msisdn: str, **how: Any) -> Erased:
    """Ask until it is done; waits are not waited for: what waits is looked at by the caller."""
    total = Erased()
    at = ""
    while True:
        done = await Eraser(store, Audit(store), keep_periods=7).go_on(
            msisdn, at=at, learned_ttl_s=LEARNED_S, rewrite=False, **how
        )
        for what, n in done.counts.items():
            total.add(what, n)
        total.next, total.wait_s = done.next, done.wait_s
        if not done.next or done.wait_s:
            return total
        at = done.next


def holding(valkey: ValkeyServer, msisdn: str) -> list[str]:
    """Return the keys in which a number stands, in their name or in their value."""
    with valkey.sync() as client:
        return [name for name, value in snapshot(client).items() if msisdn in f"{name}{value!r}"]


async def deliver(store: Store) -> None:
    """Send all that waits and let receipts end it."""
    while claimed := await claim(store):
        for c in claimed:
            shard = keys.shard_of(c.msisdn, store.shards)
            await store.settle(shard, [sent_settlement(c)], ids_of(c))
        await store.apply_receipts([receipt_row(c) for c in claimed])


def sent_settlement(c: Any) -> Any:
    return Settlement(c.claim, c.attempt, "s", "ch", 86_400_000, (1 << c.parts) - 1)


async def everything_about(store: Store, msisdn: str, other: str) -> None:
    """Put two numbers into every place where one can stand."""
    await store.set_consumers({"shop": "sfcio"})
    inbox, shard = InboundStore(store), keys.shard_of(msisdn, store.shards)
    for one in (msisdn, other):
        await accept(store, *(message(store, one) for _ in range(20)))
    await deliver(store)
    for one in (msisdn, other):
        home = keys.shard_of(one, store.shards)
        event = orjson.dumps({"id": "x", "from": f"+{one}", "text": "hello"})
        for digest in range(3):
            row = Recorded(keys.new_id(home), one, bytes([digest]) * 16, "shop", "review", event, "ch")
            await inbox.record(home, [row], keep_s=86_400, keep_optouts_s=86_400)
        payload = orjson.dumps({"c": "ch", "k": ["77"], "a": one, "s": "D"})
        await store.park([ParkedReceipt(("ch", f"ch:{one[-4:]}", one.encode(), "D", "", "", False, False), payload)])
        await store.learn_ported([(one, "china-mobile", "")], LEARNED_S)
        await Blacklists(store).add(one, "shop", 4, "operator", source="test", actor="me")
        await Blacklists(store).note_invalid([one], int(time.time()) // 86_400)
        await store.keep_dead([orjson.dumps({"octets": "00", "source": one})])
    out = Outbox(store)
    await out.beat("worker01", ["shop"])
    (taken, *_) = await out.take(shard, "shop", 1, "t", 3)
    assert taken.event


async def test_all_of_it_goes_and_nothing_else(store: Store, audit: Audit, valkey: ValkeyServer) -> None:
    msisdn, other = number(), number()
    await everything_about(store, msisdn, other)
    before = holding(valkey, other)
    families = {name.rpartition("}:")[2].split(":")[0] for name in holding(valkey, msisdn)}
    assert families >= {"msg", "num", "mo", "park", "ported", "blacklist", "invalid", "dead", "out", "outbusy"}
    done = await erase(store, msisdn)
    assert done.counts["records"] == 20  # the number's own value knows 16 of them
    assert (done.counts["inbound"], done.counts["learned"], done.counts["parked"]) == (3, 1, 1)
    assert done.counts["events"] >= 40
    # A note tells workers to forget what they learned; it goes once they have had the time to read it.
    left = {name.rpartition("}:")[2].split(":")[0] for name in holding(valkey, msisdn)}
    assert (left, done.wait_s) == ({"ported", "blacklist"}, 10)
    assert holding(valkey, other) == before
    with valkey.sync() as client:
        for key in client.keys("gw:*:ported:*"):
            for fact, at in client.zrange(key, 0, -1, withscores=True):
                client.zadd(key, {fact: at - 10_000})
    again = await erase(store, msisdn)
    assert (again.counts, again.next) == ({}, "")
    assert {name.rpartition("}:")[2] for name in holding(valkey, msisdn)} == {"blacklist:shop"}
    gone = await erase(store, msisdn, also_blacklist=True)
    assert gone.counts == {"blacklisted": 1}
    assert holding(valkey, msisdn) == []
    assert holding(valkey, other) == before
    entries = [entry for entry in await audit.read() if entry.action == "number.erase"]
    await audit.prepare()
    assert {entry.more["number_hash"] for entry in entries} == {audit.named(msisdn)["number_hash"]}
    assert all("number" not in entry.more for entry in entries)
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def test_receipts_that_carriers_address_in_other_spellings_go_too(store: Store, valkey: ValkeyServer) -> None:
    msisdn = number()
    others = [number(), msisdn[2:-1] + ("1" if msisdn[-1] == "0" else "0"), msisdn + "1", msisdn[-6:]]
    for i, spelt in enumerate([msisdn[2:], "00" + msisdn, "+" + msisdn, *others]):
        payload = orjson.dumps({"c": "ch", "k": [str(i)], "a": spelt, "s": "D"})
        await store.park([ParkedReceipt(("ch", f"ch:{i}", spelt.encode(), "D", "", "", False, False), payload)])
    assert (await erase(store, msisdn)).counts["parked"] >= 3  # a short one may be on any shard, and is on several
    with valkey.sync() as client:
        lists = [client.lrange(key, 0, -1) for key in client.keys("gw:*:park:*")]
    assert {orjson.loads(payload)["a"] for found in lists for payload in found} == set(others)


async def test_live_ones_refuse_it_with_counts(store: Store, valkey: ValkeyServer) -> None:
    msisdn = number()
    await accept(store, *(message(store, msisdn) for _ in range(3)))
    await deliver(store)
    await accept(store, *(message(store, msisdn) for _ in range(2)))
    kept = holding(valkey, msisdn)
    with pytest.raises(StillLive) as live:
        await erase(store, msisdn)
    assert (live.value.final, live.value.waiting, live.value.sent, live.value.busy) == (3, 2, 0, 0)
    assert msisdn not in str(live.value)
    assert holding(valkey, msisdn) == kept


async def test_cancel_ends_what_waits_and_what_was_sent_and_leaves_what_is_being_sent(
    store: Store, valkey: ValkeyServer
) -> None:
    msisdn, other = number(), number()
    await accept(store, message(store, msisdn), message(store, other))
    (first,) = [c for c in await claim(store) if c.msisdn == msisdn]
    shard = keys.shard_of(msisdn, store.shards)
    await store.settle(shard, [sent_settlement(first)], ids_of(first))
    await accept(store, message(store, msisdn, category=2))
    (busy,) = [c for c in await claim(store, token="t2") if c.msisdn == msisdn]
    await accept(store, message(store, msisdn), message(store, msisdn, send_at_ms=4_000_000_000_000, state="h"))
    done = await erase(store, msisdn, cancel=True)
    assert (done.counts["records"], done.counts["left"]) == (3, 1)
    assert await store.get(busy.id) is not None
    # Its answer and its receipt come; the receipt of the first finds nothing any more.
    await store.settle(shard, [sent_settlement(busy)], ids_of(busy))
    letters = await store.apply_receipts([receipt_row(busy), receipt_row(first)])
    (of_busy, _), (of_first, _) = letters
    assert of_busy == "f"
    assert of_first != "f"
    done = await erase(store, msisdn, cancel=True)
    assert (done.counts["records"], done.next) == (1, "")
    assert holding(valkey, msisdn) == []
    assert len(holding(valkey, other)) >= 2
    with valkey.sync() as client:
        check_consistent(snapshot(client))
    stats: dict[str, int] = {}
    for fields, n in (await store.statistics(int(time.time()) // 3600)).items():
        stats[fields[8]] = stats.get(fields[8], 0) + n
    assert (stats["C"], stats["K"], stats["D"]) == (2, 1, 1)
    assert await store.waiting() == 0


async def test_a_walk_can_be_left_and_taken_up_again(
    store: Store, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    msisdn = number()
    await accept(store, *(message(store) for _ in range(400)), *(message(store, msisdn) for _ in range(40)))
    await deliver(store)
    monkeypatch.setattr(walk, "SLICE", 50)
    steps, removed, at = 0, 0, ""
    while steps == 0 or at:
        done = await Eraser(store, Audit(store), keep_periods=7).go_on(msisdn, at=at, budget_s=0.0, rewrite=False)
        steps, removed, at = steps + 1, removed + done.counts.get("records", 0), done.next
    assert steps > 8
    assert removed == 40
    assert holding(valkey, msisdn) == []


async def test_a_number_that_is_part_of_another_is_not_it(store: Store, valkey: ValkeyServer) -> None:
    short, long = "861380013", "8613800138000"
    await accept(store, message(store, short), message(store, long))
    await deliver(store)
    home = keys.shard_of(long, store.shards)
    event = orjson.dumps({"from": f"+{long}", "text": f"call {short}1 or x"})
    row = Recorded(keys.new_id(home), long, b"d" * 16, "shop", "", event, "ch")
    await InboundStore(store).record(home, [row], keep_s=86_400, keep_optouts_s=86_400)
    before = holding(valkey, long)
    await erase(store, short)
    assert holding(valkey, long) == before
