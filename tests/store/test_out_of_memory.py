"""Memory is full: nothing more is taken in, and what is there can still be finished."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.model import Accepted, shard_of_id
from gateway.settings import Settings
from gateway.store.moves import Feedback, ParkedReceipt, Settlement, named
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, apply, claim, ids_of, message, receipt_row, record_ids
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    opened = await Store.open(with_shards(settings, shards), valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


@pytest.fixture
def full(valkey: ValkeyServer) -> Any:
    """Return a function that takes the memory away (the `valkey` fixture gives it back before the next test)."""

    def take() -> None:
        with valkey.sync() as client:
            client.config_set("maxmemory", "1mb")

    return take


def look(valkey: ValkeyServer) -> dict[str, Any]:
    with valkey.sync() as client:
        return snapshot(client)


async def test_accept_is_refused_and_nothing_is_half_written(store: Store, valkey: ValkeyServer, full: Any) -> None:
    await accept(store, message(store), message(store, category=0))
    before = look(valkey)
    full()
    soon = message(store, send_at_ms=4_000_000_000_000, ttl_ms=60_000)
    marked = message(store, idem=b"i" * 16, digest=b"d" * 8)
    refused = await accept(store, message(store), message(store, category=0, parts=3), soon, marked)
    assert refused == ["unavailable:not_stored"] * 4
    assert look(valkey) == before
    with valkey.sync() as client:
        client.config_set("maxmemory", "2gb")
    again = message(store, marked.msisdn, idem=b"i" * 16, digest=b"d" * 8)
    assert await accept(store, again) == ["accepted"], "what was refused left no idempotency mark"


async def test_filled_to_the_brim_every_answer_is_true(store: Store, valkey: ValkeyServer) -> None:
    """The limit is reached in the middle of the work: what was answered as accepted is wholly there, and no more."""
    with valkey.sync() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 400_000)
    accepted, refused = [], 0
    for _ in range(60):
        batch = [message(store, category=i % 3, parts=1 + i % 2) for i in range(50)]
        for m, answer in zip(batch, await store.accept(batch), strict=True):
            if isinstance(answer, Accepted):
                assert answer.code == "accepted"
                accepted.append(m.id)
            else:
                assert answer.outcome == "not_stored"
                refused += 1
        if refused > 200:
            break
    assert accepted
    assert refused
    assert sorted(check_consistent(look(valkey))) == sorted(accepted)
    taken = []
    while claimed := await claim(store, 200, token=f"t{len(taken)}-"):
        taken += claimed
        for c in claimed:
            item = Settlement(c.claim, c.attempt, "s", "ch", 60_000, (1 << c.parts) - 1)
            assert await store.settle(shard_of_id(c.id), [item], ids_of(c)) == "1"
    assert sorted(c.id for c in taken) == sorted(accepted)


async def test_what_is_there_can_be_finished(store: Store, valkey: ValkeyServer, full: Any) -> None:
    ms = [message(store, category=1) for _ in range(8)]
    short = message(store, ttl_ms=1)
    await accept(store, *ms, short)
    early = ParkedReceipt(("ch", "ch:early", b"", "D", "", "", False, False), b"receipt")
    assert await store.park([early]) == ["P"]
    full()

    assert (await store.heartbeat(0, first=True))[0]
    assert await store.bind_slots("ch", 2, 1) == [1]
    assert (await store.draw_parts("ch", 100.0, 5))[0] == 5
    assert await store.cancel(ms[0].id, "shop") == "cancelled"
    await store.set_gate("gate", "x", "hold")
    await store.set_gate("gate", "x", "open")

    by_id = {c.id: c for c in await claim(store)}
    taken = [by_id[m.id] for m in ms[1:]]
    back = taken.pop()
    assert await store.release(shard_of_id(back.id), [back.claim]) == 1
    ids = [("ch:early", named(taken[0].id, 0))]
    assert await record_ids(store, shard_of_id(taken[0].id), ids) == [b"receipt"]
    verbs = ["s", "s", "r", "n", "u", "F"]
    for c, verb in zip(taken, verbs, strict=True):
        item = Settlement(c.claim, c.attempt, verb, "ch", 1 if verb in "ru" else 0, int(verb == "s"))
        assert await store.settle(shard_of_id(c.id), [item], ids_of(c)) == "1"
    assert await apply(store, receipt_row(taken[0], "D"), receipt_row(taken[1], "U")) == "ff"
    await store.unpark([early])

    for shard in range(store.shards):
        await store.due(shard)
        await store.expire(shard)
        await store.close_waiting(shard)
        await store.purge(shard)
        await store.sweep(shard, 1000)
        await store.parked(shard, "ch")
    await claim(store, token="b", rank=1)
    await store.reap("worker01")

    record = await store.get(taken[0].id)
    assert record is not None
    assert record.state == "D"
    assert [r.state for r in await store.find(ms[0].msisdn, "shop")] == ["C"]
    assert await store.find_ref(ms[1].msisdn, b"i" * 16) is None
    states = {sid: r.state for sid, r in check_consistent(look(valkey)).items()}
    assert [states[c.id] for c in taken[:2]] == ["D", "U"]
    assert states[taken[5].id] == "F"


async def test_feedback_is_refused_and_leaves_nothing(store: Store, valkey: ValkeyServer, full: Any) -> None:
    await accept(store, message(store))
    (c,) = await claim(store)
    item = Settlement(c.claim, c.attempt, "s", "ch", 60_000, 1, log="1\x1fch\x1f0\x1f\x1f0=a")
    assert await store.settle(shard_of_id(c.id), [item]) == "1"
    before = look(valkey)
    full()
    with pytest.raises(StoreUnavailable) as refused:
        await store.feedback(c.id, "shop", Feedback("clicked", "e"))
    assert refused.value.outcome == "not_stored"
    assert look(valkey) == before
    with valkey.sync() as client:
        client.config_set("maxmemory", "2gb")
    assert await store.feedback(c.id, "shop", Feedback("clicked", "e")) == "done"


async def test_a_timer_ends_what_is_over(store: Store, valkey: ValkeyServer, full: Any) -> None:
    await accept(store, *[message(store, ttl_ms=1) for _ in range(20)])
    with valkey.sync() as client:
        for key in client.keys("*:exp:[0-9]*"):
            client.rename(
                key, key[: key.index(b"exp:")] + b"exp:" + client.get(key[: key.index(b"exp:")] + b"exp:cursor")
            )
    full()
    assert sum([(await store.expire(shard))[1] for shard in range(store.shards)]) == 20
    assert {r.state for r in check_consistent(look(valkey)).values()} == {"E"}
