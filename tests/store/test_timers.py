"""The store's clocks: due, expiry, overdue receipts, purging, the sweeper, caps: nothing early, nothing forgotten.

Buckets of time are moved here by renaming their keys, so that no test waits for a quarter of a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.model import Category, shard_of_id
from gateway.settings import Settings
from gateway.store.moves import ParkedReceipt, Settlement, named
from gateway.store.store import Store
from tests.support import scenario
from tests.support.messages import accept, apply, claim, ids_of, message, number, receipt_row, record_ids
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"


def now_ms() -> int:
    return int(time.time() * 1000)


def with_category(settings: Settings, category: Category, **changes: Any) -> Settings:
    rules = {**settings.categories, category: replace(settings.categories[category], **changes)}
    return replace(settings, categories=rules)


async def reopened(store: Store, settings: Settings, incarnation: str = "worker01") -> Store:
    return await Store.open(settings, store.client.url, incarnation=incarnation)


async def settle(store: Store, c: Any, verb: str, **changes: Any) -> None:
    item = replace(Settlement(c.claim, c.attempt, verb, "ch"), **changes)
    assert await store.settle(shard_of_id(c.id), [item], ids_of(c)) == "1"


async def state_of(store: Store, sid: bytes) -> tuple[str, str]:
    record = await store.get(sid)
    assert record is not None
    return record.state, record.reason


def bucket_of(valkey: ValkeyServer, family: str) -> int:
    """Return the time (epoch s) of the only bucket of a family."""
    with valkey.sync() as client:
        (key,) = [k for k in client.keys(f"{P}{family}:*") if not k.endswith(b":cursor")]
        return int(key.rpartition(b":")[2])


def bring_forward(valkey: ValkeyServer, family: str) -> None:
    """Make the only bucket of a family the one whose time has just come."""
    with valkey.sync() as client:
        just = int(time.time()) // 300 * 300
        client.rename(f"{P}{family}:{bucket_of(valkey, family)}", f"{P}{family}:{just}")
        client.set(f"{P}{family}:cursor", just)


@pytest.fixture(autouse=True)
async def consistent(valkey: ValkeyServer) -> AsyncIterator[None]:
    """Check the counters and queues after every test of this file."""
    yield
    with valkey.sync() as client:
        check_consistent(snapshot(client))


# --- due


async def test_a_scheduled_message_leaves_on_time_and_not_before(store: Store) -> None:
    at = now_ms() + 80
    m = message(store, send_at_ms=at)
    await accept(store, m, message(store, send_at_ms=now_ms() + 60_000))
    assert await state_of(store, m.id) == ("h", "")
    assert await claim(store) == []
    looked, wait_ms = await store.due(0)
    assert looked == 0
    assert 0 < wait_ms <= 80
    await until(lambda: _moved(store))
    assert now_ms() >= at
    assert [c.id for c in await claim(store)] == [m.id]
    looked, wait_ms = await store.due(0)
    assert looked == 0
    assert wait_ms > 50_000


async def _moved(store: Store) -> bool:
    return (await store.due(0))[0] > 0


async def test_what_is_scheduled_survives_a_killed_server(settings: Settings) -> None:
    server = ValkeyServer()
    server.start()
    store = await Store.open(settings, server.url)
    try:
        m = message(store, send_at_ms=now_ms() + 30)
        await accept(store, m)
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.due(0)
        server.start()
        await until(lambda: _moved(store))
        assert [c.id for c in await claim(store)] == [m.id]
    finally:
        await store.close()
        server.stop()


async def test_a_retry_waits_its_delay(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, "r", delay_ms=40)
    assert await store.due(0) == (0, pytest.approx(40, abs=39))
    assert await claim(store, token="b") == []
    await until(lambda: _moved(store))
    (again,) = await claim(store, token="c")
    assert (again.id, again.attempt, again.flags & 1) == (m.id, 2, 0)


@pytest.mark.parametrize(
    ("policy", "state", "flag"),
    [("resend", ("q", ""), True), ("hold", ("K", "no_response"), False), ("fail", ("K", "no_response"), False)],
)
async def test_the_uncertain_follow_their_policy(
    store: Store, settings: Settings, policy: str, state: tuple[str, str], flag: bool
) -> None:
    other = await reopened(store, with_category(settings, Category.NOTIFICATION, on_uncertain=policy))
    m = message(store)
    await accept(store, m)
    (c,) = await claim(other)
    await settle(other, c, "u", delay_ms=1)
    assert await state_of(store, m.id) == ("u", "")
    assert await other.waiting() == 0
    await until(lambda: _moved(other))
    assert await state_of(store, m.id) == state
    record = await store.get(m.id)
    assert record is not None
    assert record.possible_duplicate is flag
    assert await other.waiting() == (1 if state[0] == "q" else 0)
    await other.close()


@pytest.mark.parametrize("policy", ["resend", "hold", "fail"])
async def test_a_dead_workers_claims_follow_their_policy(store: Store, settings: Settings, policy: str) -> None:
    """Every one of them is uncertain: at once for a code that is sent again, after a time otherwise."""
    changed = settings
    for category in Category:
        changed = with_category(changed, category, on_uncertain=policy)
    other = await reopened(store, changed)
    ms = [message(store, category=c) for c in (0, 1, 2)]
    await accept(store, *ms)
    await claim(other)
    taken = await other.reap("worker01")
    states = "".join([(await state_of(store, m.id))[0] for m in ms])
    assert (states, taken) == {
        "resend": ("quu", {"requeued": 1, "uncertain": 2, "ended": 0}),
        "hold": ("uuu", {"requeued": 0, "uncertain": 3, "ended": 0}),
        "fail": ("KKK", {"requeued": 0, "uncertain": 0, "ended": 3}),
    }[policy]
    await other.close()


async def test_a_receipt_settles_the_uncertain_and_their_time_finds_nothing(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, "u", delay_ms=1)
    assert await apply(store, receipt_row(c)) == "f"
    await until(lambda: _moved(store))
    assert await state_of(store, m.id) == ("D", "")


async def test_a_late_answer_proves_no_more_than_its_own_attempt(store: Store) -> None:
    """The first attempt's late answer takes its copy back, and with it the mark; the second's leaves the first open."""
    first, second = message(store), message(store)
    await accept(store, first, second)
    a, b = await claim(store)
    for c in (a, b):
        await settle(store, c, "U")
    item = Settlement(a.claim, 1, "s", "ch", 60_000, 1)
    assert await store.settle(0, [item]) == "l"
    (again,) = await claim(store, token="b")
    assert (again.id, again.attempt) == (b.id, 2)
    await settle(store, again, "U")
    assert await store.settle(0, [replace(item, claim=again.claim, attempt=2)]) == "l"
    for sid, flagged in ((a.id, False), (b.id, True)):
        record = await store.get(sid)
        assert record is not None
        assert (record.state, record.possible_duplicate) == ("s", flagged)


@pytest.mark.parametrize(("verb", "state"), [("r", "E"), ("u", "K")])
async def test_what_is_over_when_it_is_due_is_not_sent_again(store: Store, verb: str, state: str) -> None:
    m = message(store, ttl_ms=30)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, verb, delay_ms=40)
    await until(lambda: _moved(store))
    assert (await state_of(store, m.id))[0] == state
    assert await claim(store, token="b") == []


# --- expiry


@pytest.mark.parametrize(("ttl_ms", "grain_s"), [(300_000, 15), (3_600_000, 15), (3_600_001, 300), (86_400_000, 300)])
async def test_expiry_buckets_are_never_early_and_as_fine_as_the_life_is_short(
    store: Store, valkey: ValkeyServer, ttl_ms: int, grain_s: int
) -> None:
    m = message(store, ttl_ms=ttl_ms)
    (answer,) = await store.accept([m])
    bucket = bucket_of(valkey, "exp")
    assert bucket % grain_s == 0
    assert 0 <= bucket - answer.expires_at_ms / 1000 < grain_s  # type: ignore[union-attr]
    assert await store.expire(0) == (0, 0)


async def test_messages_expire_where_they_wait(store: Store, valkey: ValkeyServer) -> None:
    """Queued, scheduled past its end, put back for later, set aside by a gate: no channel is needed to end them."""
    queued, retried = message(store, ttl_ms=60), message(store, ttl_ms=60)
    held = message(store, ttl_ms=60, gate="g")
    soon = message(store, ttl_ms=50_000_000, send_at_ms=now_ms() + 5, not_after_ms=now_ms() + 60)
    await accept(store, retried)
    (c,) = await claim(store)
    await settle(store, c, "r", delay_ms=60_000)
    await accept(store, held)
    await store.set_gate("gate", "g", "hold")
    assert await claim(store, token="b") == []
    await accept(store, queued)
    await accept(store, soon)
    until_ms = now_ms() + 70
    await until(lambda: now_ms() > until_ms)
    with valkey.sync() as client:
        at = client.get(f"{P}exp:cursor").decode()
        for key in [k for k in client.keys(f"{P}exp:*") if not k.endswith(b":cursor")]:
            for sid in client.lrange(key, 0, -1):
                client.rpush(f"{P}exp:{at}:new", sid)
            client.delete(key)
        client.rename(f"{P}exp:{at}:new", f"{P}exp:{at}")
    assert await store.expire(0) == (4, 4)
    assert [await state_of(store, m.id) for m in (queued, retried, held, soon)] == [("E", "expired")] * 4
    assert await store.waiting() == 0
    assert await store.depths() == [], "what ended is not told as waiting, though nobody claims"
    await store.set_gate("gate", "g", "open")
    assert await claim(store, token="c") == []
    again = message(store)
    await accept(store, again)
    assert [c.id for c in await claim(store, token="d")] == [again.id], "its queue is found again"


async def test_what_ends_behind_what_waits_is_told_until_it_is_met(store: Store, valkey: ValkeyServer) -> None:
    first, ended, last = message(store), message(store, ttl_ms=5), message(store)
    short = [message(store, ttl_ms=5, category=2) for _ in range(450)]
    await accept(store, first, ended, last, *short)
    scenario.bring_forward(valkey, "exp")
    until_ms = now_ms() + 20
    await until(lambda: now_ms() > until_ms)
    assert await store.expire(0, 1000) == (453, 451)
    ((route, rank, category, depth, _),) = await store.depths()
    assert (route, rank, category, depth) == ("r", 0, 1, 3)
    assert {c.id for c in await claim(store)} == {first.id, last.id}
    assert [found[3] for found in await store.depths()] == [0]


@pytest.mark.parametrize("verb", ["claimed", "u"])
async def test_what_is_in_flight_is_looked_at_again(store: Store, valkey: ValkeyServer, verb: str) -> None:
    m = message(store, ttl_ms=20)
    await accept(store, m)
    (c,) = await claim(store)
    if verb == "u":
        await settle(store, c, "u", delay_ms=60_000)
    bring_forward(valkey, "exp")
    await asyncio.sleep(0.025)
    assert await store.expire(0) == (1, 0)
    assert (await state_of(store, m.id))[0] == ("u" if verb == "u" else "q")
    again = bucket_of(valkey, "exp")
    assert 15 <= again - time.time() <= 45
    if verb == "claimed":
        assert await store.release(0, [c.claim]) == 1
        bring_forward(valkey, "exp")
        assert await store.expire(0) == (1, 1)
        assert await state_of(store, m.id) == ("E", "expired")


async def test_what_was_submitted_waits_for_its_receipt_instead(store: Store, valkey: ValkeyServer) -> None:
    m = message(store, ttl_ms=1)
    await accept(store, m)
    # Claimed in time: the claim below would drop it.
    with valkey.sync() as client:
        raw = bytearray(client.get(P.encode() + b"msg:" + m.id))
        raw[-26] = ord("s")
        client.set(P.encode() + b"msg:" + m.id, bytes(raw))
        client.delete(f"{P}q:r:0:1:shop", f"{P}ring:r:0:1", f"{P}waiting")
    bring_forward(valkey, "exp")
    await asyncio.sleep(0.005)
    assert await store.expire(0) == (1, 0)
    assert await state_of(store, m.id) == ("s", "")
    assert not [k for k in _keys(valkey, "exp:") if not k.endswith(":cursor")]


def _keys(valkey: ValkeyServer, family: str) -> list[str]:
    with valkey.sync() as client:
        return [k.decode() for k in client.keys(f"{P}{family}*")]


async def test_much_is_ended_in_slices(store: Store, valkey: ValkeyServer) -> None:
    for _ in range(3):
        await accept(store, *[message(store, ttl_ms=1) for _ in range(100)])
    with valkey.sync() as client:
        keys = [k for k in client.keys(f"{P}exp:*") if not k.endswith(b":cursor")]
        cursor = int(client.get(f"{P}exp:cursor"))
        for i, key in enumerate(sorted(keys)):
            client.rename(key, f"{P}exp:{cursor - 15 * (len(keys) - 1 - i)}")
        client.set(f"{P}exp:cursor", cursor - 15 * (len(keys) - 1))
    await asyncio.sleep(0.005)
    ended = []
    while (result := await store.expire(0, most=70))[0]:
        assert result[0] <= 70
        ended.append(result[1])
    assert sum(ended) == 300


@pytest.mark.parametrize("family", ["exp", "wait", "gone"])
async def test_a_clock_that_went_back_loses_nothing(store: Store, valkey: ValkeyServer, family: str) -> None:
    """The cursor stands an hour ahead, where a wrong clock had led it; what is filed now is still found."""
    with valkey.sync() as client:
        client.set(f"{P}{family}:cursor", int(time.time()) // 300 * 300 + 3600)
    m = message(store, ttl_ms=1 if family == "exp" else 60_000)
    await accept(store, m)
    if family == "wait":
        (c,) = await claim(store)
        await settle(store, c, "s", delay_ms=1, accepted_mask=1)
    elif family == "gone":
        await store.cancel(m.id, "shop")
    move = {"exp": store.expire, "wait": store.close_waiting, "gone": store.purge}[family]
    await move(0)
    with valkey.sync() as client:
        assert int(client.get(f"{P}{family}:cursor")) <= time.time() + 300
    bring_forward(valkey, family)
    await asyncio.sleep(0.005)
    looked = await move(0)
    assert looked == (1 if family == "gone" else (1, 1))


# --- overdue receipts


@pytest.mark.parametrize(
    ("receipts", "ends"),
    [
        ("..", ("K", "no_receipt")),
        ("D.", ("D", "parts_missing")),
        (".U", ("U", "why")),
        ("R.", ("R", "why")),
    ],
)
async def test_waiting_ends_by_the_parts_that_are_known(
    store: Store, valkey: ValkeyServer, receipts: str, ends: tuple[str, str]
) -> None:
    m = message(store, parts=2)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, "s", delay_ms=259_200_000, accepted_mask=3, log="1\x1fch\x1f0\x1fsent\x1f0=a,1=b")
    assert 0 <= bucket_of(valkey, "wait") - time.time() - 259_200 <= 300
    for part, state in enumerate(receipts):
        if state != ".":
            assert await apply(store, receipt_row(c, state, part)) == "p"
    assert await store.close_waiting(0) == (0, 0)
    bring_forward(valkey, "wait")
    assert await store.close_waiting(0) == (1, 1)
    assert await state_of(store, m.id) == ends
    record = await store.get(m.id)
    assert record is not None
    assert record.parts_delivered == receipts.count("D")
    # A receipt that comes all the same corrects what was unknown, and only that.
    await apply(store, *[receipt_row(c, "D", part) for part in (0, 1)])
    record = await store.get(m.id)
    assert record is not None
    assert (record.state, record.late_correction) == (("D", True) if ends[0] == "K" else (ends[0], False))


async def test_what_has_its_receipt_is_left_alone(store: Store, valkey: ValkeyServer) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, "s", delay_ms=1, accepted_mask=1)
    assert await apply(store, receipt_row(c, "U")) == "f"
    bring_forward(valkey, "wait")
    assert await store.close_waiting(0) == (1, 0)
    assert (await state_of(store, m.id))[0] == "U"


# --- purging


async def test_final_records_go_after_their_retention(store: Store, valkey: ValkeyServer, settings: Settings) -> None:
    m, live = message(store), message(store)
    await accept(store, m, live)
    await store.cancel(m.id, "shop")
    wanted = time.time() + settings.categories[Category.NOTIFICATION].retention_s
    assert 0 <= bucket_of(valkey, "gone") - wanted <= 300
    assert await store.purge(0) == 0
    assert (await state_of(store, m.id))[0] == "C"
    bring_forward(valkey, "gone")
    assert await store.purge(0) == 1
    assert await store.get(m.id) is None
    assert [r.id for r in await store.find(live.msisdn, "shop")] == [live.id]
    assert await store.find(m.msisdn, "shop") == []
    assert [c.id for c in await claim(store)] == [live.id]


# --- the sweeper


async def test_one_sweeper_is_elected_and_follows_the_living(store: Store, settings: Settings) -> None:
    other = await reopened(store, settings, "worker02")
    for s in (store, other):
        await s.heartbeat(0, first=True)
    assert await store.sweep(0, 0)
    assert not await other.sweep(0, 0)
    assert await store.sweep(0, 60_000)
    await other.reap("worker01")
    assert await other.sweep(0, 0)
    await store.heartbeat(0, first=True)
    assert not await store.sweep(0, 120_000)
    await other.close()


async def test_idempotency_lives_for_24_to_48_hours_of_counted_time(store: Store, valkey: ValkeyServer) -> None:
    await store.heartbeat(0, first=True)
    m = message(store, idem=b"i" * 16, digest=b"d" * 8)

    async def replay() -> str:
        again = message(store, m.msisdn, idem=m.idem, digest=m.digest)
        return (await accept(store, again))[0]

    assert await accept(store, m) == ["accepted"]
    clock = 0

    async def pass_hours(hours: int) -> None:
        nonlocal clock
        for _ in range(hours * 12):
            clock += 300_000
            assert await store.sweep(0, clock)

    assert await store.sweep(0, clock)
    await pass_hours(23)
    clock += 86_400_000 * 30  # the owner was frozen for a month: that counts as five minutes
    await pass_hours(1)
    assert await replay() == "replay"
    assert (await store.find_ref(m.msisdn, m.idem)).id == m.id  # type: ignore[union-attr]
    await pass_hours(23)
    assert await replay() == "replay"
    await pass_hours(1)
    assert await replay() == "accepted"
    assert sorted(_keys(valkey, "idem:")) == [f"{P}idem:3", f"{P}idem:gen"]


# --- caps


async def test_caps_count_in_sliding_windows(store: Store, settings: Settings) -> None:
    other = await reopened(store, with_category(settings, Category.NOTIFICATION, per_number=((2, 1), (3, 3600))))
    msisdn = number()

    async def send() -> Any:
        (answer,) = await other.accept([message(other, msisdn)])
        return answer

    assert [(await send()).code for _ in range(2)] == ["accepted"] * 2
    refused = await send()
    assert refused.code == "capped"
    assert 0 < refused.retry_at_ms - now_ms() <= 1000
    assert (await other.accept([message(other, msisdn, account="bank")]))[0].code == "accepted"  # type: ignore[union-attr]
    assert (await other.accept([message(other, msisdn, test=True)]))[0].code == "accepted"  # type: ignore[union-attr]

    async def allowed() -> bool:
        return (await send()).code == "accepted"

    await until(allowed, timeout_s=3, every_s=0.05)
    assert now_ms() >= refused.retry_at_ms
    refused = await send()
    assert refused.code == "capped"
    assert refused.retry_at_ms - now_ms() > 3_590_000
    await other.close()


async def test_a_cap_is_given_back_only_while_nothing_was_sent(store: Store) -> None:
    for verb, given_back in (("F", True), ("u", False)):
        m = message(store, category=0)
        await accept(store, m)
        (c,) = await claim(store, token=verb)
        await settle(store, c, verb, delay_ms=60_000)
        wanted = "accepted" if given_back else "capped"
        assert await accept(store, message(store, m.msisdn, category=0)) == [wanted]
        await claim(store, token=f"{verb}2")


# --- parked receipts


def parked_receipt(smsc_id: str, payload: bytes = b"r") -> ParkedReceipt:
    return ParkedReceipt(("ch", f"ch:{smsc_id}", b"", "D", "", "", False), payload)


async def test_parked_receipts_behind_many_strangers_have_their_turn(store: Store) -> None:
    assert await store.park([parked_receipt(f"x{i}", b"r%d" % i) for i in range(25)]) == ["P"] * 25
    # Recorded by a worker that died before it applied what came back.
    assert await record_ids(store, 0, [("ch:x24", named(message(store).id, 0))]) == [b"r24"]
    looks = [await store.parked(0, "ch", most=10) for _ in range(6)]
    assert [n for n, _, _ in looks] == [25] * 6
    found = [known for _, known, _ in looks if known]
    assert found == [[b"r24"]] * 2


async def test_parked_receipts_are_kept_a_day(store: Store, valkey: ValkeyServer) -> None:
    await store.park([parked_receipt("old"), parked_receipt("new")])
    with valkey.sync() as client:
        client.zincrby(f"{P}parked:ch", -86_401, "old")
        assert 86_000 < client.ttl(f"{P}park:ch:old") <= 86_400
    assert (await store.parked(0, "ch"))[0] == 1


# --- leases


async def test_a_reaped_worker_finds_its_lease_lost(store: Store, settings: Settings) -> None:
    other = await reopened(store, settings, "worker02")
    assert (await store.heartbeat(0, first=True, channels=["a", "b"]))[0]
    ours, _, leases = await other.heartbeat(0, first=True)
    assert ours
    assert (leases["worker01"].heartbeats, leases["worker01"].channels) == (1, {"a", "b"})
    assert (await store.heartbeat(0))[2]["worker01"].heartbeats == 2
    await other.reap("worker01")
    ours, _, leases = await store.heartbeat(0)
    assert (ours, list(leases)) == (False, ["worker02"])
    # What it still held, or claims now, is not forgotten: it stands among the leases as one that never beats.
    await accept(store, message(store))
    await claim(store)
    _, _, leases = await other.heartbeat(0)
    assert leases["worker01"].heartbeats == leases["worker01"].ends_at_ms == 0
    assert (await other.reap("worker01"))["uncertain"] == 1
    await other.close()
