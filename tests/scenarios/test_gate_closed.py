"""A closed gate ends what waits anywhere, by every kind of gate, once, and leaves what is under way or not its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.admin.gate_sweeper import GateSweeper
from gateway.metrics import Metrics
from gateway.model import Secret
from gateway.settings import ChannelSettings, Settings
from gateway.store import gates as gates_module
from gateway.store.audit import Audit
from gateway.store.gates import GateSweeps
from gateway.store.moves import Settlement
from gateway.store.store import Store
from tests.support.messages import accept, claim, message
from tests.support.scenario import MARKETING, end_as, record
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

KINDS = [
    ("gate", "spring", {"gate": "spring"}),
    ("tag", "sale", {"tags": ("news", "sale")}),
    ("campaign", "c1", {"campaign": "c1"}),
    ("account", "noisy", {"account": "noisy"}),
    ("category", "marketing", {"category": MARKETING}),
]
FAR = 3_600_000


@pytest.fixture
async def line(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    """A store whose gateway has one channel, `ch`; no limits by number."""
    channel = ChannelSettings(id="ch", host="127.0.0.1", port=1, system_id="s", password=Secret("p"))
    rules = {c: replace(s, per_number=()) for c, s in settings.categories.items()}
    own = replace(settings, channels=(channel,), categories=rules, store=replace(settings.store, shards=shards))
    opened = await Store.open(own, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


def later() -> dict[str, Any]:
    return {"send_at_ms": int(time.time() * 1000) + FAR}


async def place(store: Store, fields: dict[str, Any], verb: str, **changes: Any) -> bytes:
    """Accept a message, claim it and settle it with a verb; returns its id."""
    m = message(store, **fields, **({"parts": 2} if verb == "p" else {}))
    assert await accept(store, m) == ["accepted"]
    _, claimed, _ = await store.claim(m.shard, f"{verb}{m.id.hex()}", [_request(m)])
    ((_, c),) = claimed
    values: dict[str, Any] = {"accepted_mask": 1 if verb == "p" else 0, "delay_ms": FAR, **changes}
    assert await store.settle(m.shard, [Settlement(c.claim, c.attempt, verb, "ch", **values)], []) == "1"
    return m.id


def _request(m: Any) -> Any:
    from tests.support.messages import request

    return request(10, route=m.kind.route)


async def swept(store: Store) -> int:
    """Sweep until nothing is left; returns the number of rounds."""
    sweeps, rounds = GateSweeps(store), 0
    while (await sweeps.go_on()).busy:
        rounds += 1
    return rounds


@pytest.mark.parametrize(("kind", "name", "fields"), KINDS)
async def test_every_place_is_swept(
    line: Store, valkey: ValkeyServer, kind: str, name: str, fields: dict[str, Any]
) -> None:
    store = line
    # What stays: other messages in the same queues, and what is under way.
    sent = await place(store, fields, "s")
    unsure = await place(store, fields, "u")
    await accept(store, claimed := message(store, **fields))
    assert [c.id for c in await claim(store)] == [claimed.id]
    # What goes: to be retried, pinned to its channel, queued, scheduled, deferred, held aside by another gate.
    retried = await place(store, fields, "r")
    aside = message(store, **{**fields, "tags": (*fields.get("tags", ()), "aside")})
    await store.set_gate("tag", "aside", "hold")
    await accept(store, aside)
    assert await claim(store, token="x") == []
    pinned = await place(store, fields, "p", delay_ms=0)
    mixed = [message(store, **(fields if i % 2 else {"category": 1, "gate": "spring2"})) for i in range(12)]
    timed = [message(store, **fields, **later(), state=state) for state in "hfhf"]
    other = message(store, **later(), state="h")
    await accept(store, *mixed, *timed, other)
    own = [m.id for m in mixed[1::2]] + [m.id for m in timed] + [retried, aside.id]

    found = await GateSweeps(store).preview(kind, name)
    by_word: dict[str, int] = {}
    for (word, _, account), n in found.counts.items():
        assert account == fields.get("account", "shop")
        by_word[word] = by_word.get(word, 0) + n
    waiting = {"queued": 7, "scheduled": 2, "deferred": 2, "retry": 1, "held": 1}
    assert by_word == waiting | {"claimed": 1, "submitted": 1, "uncertain": 1}

    before = await store.waiting()
    await store.set_gate(kind, name, "closed")
    await swept(store)
    await end_as(store, own, C=len(own))
    await end_as(store, [pinned], K=1)  # a part of it is out
    await end_as(store, [m.id for m in mixed[::2]] + [other.id, sent, unsure, claimed.id], q=7, h=1, s=1, u=1)
    assert {(await record(store, sid)).reason for sid in [*own, pinned]} == {"gate_closed"}
    gate = (await store.gates())[f"{kind}:{name}"]
    assert (gate["closed"], gate["sweep"]["closed"], gate["sweep"]["left"], gate["sweep"]["done"]) == (13, 13, 0, True)
    assert await store.waiting() == before - 13
    assert not any(
        n for (word, *_), n in (await GateSweeps(store).preview(kind, name)).counts.items() if word in waiting
    )
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def test_what_an_opened_gate_still_holds_is_counted_and_swept(line: Store) -> None:
    store = line
    ms = [message(store, campaign="c1", tags=("t",)) for _ in range(450 * store.shards)]
    for at in range(0, len(ms), 100):
        await accept(store, *ms[at : at + 100])
    await store.set_gate("tag", "t", "hold")
    tokens = iter(range(1000))
    while (await store.gates())["tag:t"]["held"] < len(ms):
        assert await claim(store, 200, token=f"h{next(tokens)}") == []
    left = (await store.set_gate("tag", "t", "open", budget_s=0.0))["held"]
    assert left > 0, "the sweeper has the rest to do"
    found = await GateSweeps(store).preview("campaign", "c1")
    assert {word: n for (word, *_), n in found.counts.items()} == {"queued": len(ms) - left, "held": left}
    await store.set_gate("campaign", "c1", "closed", budget_s=0.0)
    await swept(store)
    await end_as(store, [m.id for m in ms], C=len(ms))
    assert (await store.gates())["campaign:c1"]["closed"] == len(ms)
    assert await store.waiting() == 0


async def test_more_accounts_than_a_slice_puts_in_order(
    valkey: ValkeyServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts of a ring are taken some at a time, in their order, whatever comes and goes in the ring meanwhile."""
    monkeypatch.setattr(gates_module, "LOOK_MOST", 60)
    monkeypatch.setattr(gates_module, "PREVIEW_MOST", 60)
    store = await Store.open(settings, valkey.url, incarnation="worker01")
    own = [message(store, campaign="c1", account=f"a{i * 7919 % 1200}") for i in range(1200)]
    other = [message(store, campaign="c2", account=f"a{i}") for i in range(0, 1200, 10)]
    for at in range(0, 1200, 100):
        await accept(store, *own[at : at + 100], *other[at // 10 : at // 10 + 10])
    found = await GateSweeps(store).preview("campaign", "c1")
    assert (found.looked, sum(found.counts.values())) == (1320, 1200)
    await store.set_gate("campaign", "c1", "closed")
    sweeps = GateSweeps(store)
    for n in range(20):
        await sweeps.go_on()
        await claim(store, 1, token=f"t{n}")  # turns the ring
    await swept(store)
    await end_as(store, [m.id for m in own], C=1200)
    with valkey.sync() as client:
        check_consistent(snapshot(client))
    await store.close()


async def test_caps_events_and_statistics_are_those_of_a_cancel(valkey: ValkeyServer, settings: Settings) -> None:
    rules = {c: replace(s, per_number=((1, 3600),)) for c, s in settings.categories.items()}
    store = await Store.open(replace(settings, categories=rules), valkey.url, incarnation="worker01")
    ended: list[tuple[Any, ...]] = []
    store.on_finals = lambda *what: ended.append(what)
    await store.set_consumers({"shop": "f"})
    m = message(store, campaign="c1", category=MARKETING)
    assert await accept(store, m, message(store, m.msisdn, category=MARKETING)) == ["accepted", "capped"]
    await store.set_gate("campaign", "c1", "closed")
    await swept(store)
    assert ended == [(MARKETING, "r", "C", "gate_closed", 1)]
    assert await store.client.execute("LLEN", "gw:{s00}:out:shop") == 1
    assert await accept(store, message(store, m.msisdn, category=MARKETING)) == ["accepted"]
    await store.close()


async def test_what_comes_behind_a_closed_gate_and_after_it_opened(line: Store) -> None:
    store = line
    await accept(store, *[message(store, campaign="c1") for _ in range(3)])
    await store.set_gate("campaign", "c1", "closed")
    await swept(store)
    behind = [message(store, campaign="c1") for _ in range(2)]
    await accept(store, *behind)
    assert await claim(store, token="a") == []
    await end_as(store, [m.id for m in behind], C=2)
    gate = (await store.gates())["campaign:c1"]
    assert (gate["closed"], gate["sweep"]["closed"]) == (5, 3)  # claims count too, each message once
    await store.set_gate("campaign", "c1", "open")
    after = message(store, campaign="c1")
    await accept(store, after)
    assert [c.id for c in await claim(store, token="b")] == [after.id]
    await end_as(store, [m.id for m in behind], C=2)


async def test_a_gate_that_opens_stops_its_sweep(line: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = line
    monkeypatch.setattr(gates_module, "CLOSE_MOST", 5)
    ms = [message(store, campaign="c1") for _ in range(100)]
    await accept(store, *ms)
    await store.set_gate("campaign", "c1", "closed")
    sweeps = GateSweeps(store)
    did = await sweeps.go_on()
    assert did.closed == 5 * store.shards
    gate = (await store.gates())["campaign:c1"]
    assert (gate["sweep"]["done"], gate["sweep"]["closed"]) == (False, did.closed)
    assert gate["sweep"]["left"] >= 100 - did.closed
    await store.set_gate("campaign", "c1", "open")
    assert not (await sweeps.go_on()).busy
    await end_as(store, [m.id for m in ms], C=did.closed, q=100 - did.closed)
    assert await store.gates() == {}


async def test_what_a_gate_held_is_freed_in_slices(line: Store) -> None:
    store = line
    await store.set_gate("gate", "g", "hold")
    ms = [message(store, gate="g") for _ in range(1200)]
    await accept(store, *ms)
    while await store.waiting() and (await store.gates())["gate:g"]["held"] < 1200:
        assert await claim(store, 200, token="a") == []
    left = (await store.set_gate("gate", "g", "open", budget_s=0.0))["held"]
    assert left > 0
    await swept(store)
    await end_as(store, [m.id for m in ms], q=1200)
    # Held again in between: nothing is freed past it.
    assert await GateSweeps(store).go_on() == gates_module.Slice()


async def test_one_sweeper_works_and_another_goes_on_when_it_is_gone(line: Store, settings: Settings) -> None:
    store = line
    metrics = Metrics("admin", "0")
    ms = [message(store, campaign="c1", **(later() | {"state": "h"} if i % 2 else {})) for i in range(600)]
    await accept(store, *ms)
    other = await Store.open(store._settings, store.client.url, incarnation="worker02")
    first = asyncio.create_task(GateSweeper(other, Audit(other)).run())
    await until(lambda: _mine(store, b"worker02"))
    second = asyncio.create_task(GateSweeper(store, Audit(store), metrics).run())
    try:
        await store.set_gate("campaign", "c1", "closed")
        await until(lambda: _closed(store, 1), every_s=0.005)
        first.cancel()
        await store.client.execute("DEL", "gw:gates:turn")  # its turn lapses after seconds
        await until(lambda: _closed(store, 600), timeout_s=20)
        await until(lambda: _audited(store))
    finally:
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await other.close()
    await end_as(store, [m.id for m in ms], C=600)
    gate = (await store.gates())["campaign:c1"]
    assert (gate["closed"], gate["sweep"]["closed"], gate["sweep"]["done"]) == (600, 600, True)


async def _mine(store: Store, who: bytes) -> bool:
    return bool(await store.client.execute("GET", "gw:gates:turn") == who)


async def _closed(store: Store, n: int) -> bool:
    return bool((await store.gates())["campaign:c1"]["closed"] >= n)


async def _audited(store: Store) -> bool:
    entries = await Audit(store).read()
    return any((e.actor, e.action, e.object) == ("gateway", "gate.swept", "campaign:c1") for e in entries)
