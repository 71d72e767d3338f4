"""Cancel and gates work until the claim: what is called off is never submitted, what is held leaves when it may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, VERIFICATION, accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_what_is_cancelled_in_a_backlog_is_not_sent(valkey: ValkeyServer, shards: int) -> None:
    async with (
        carrier(latency_s=0.01) as smsc,
        worker(line_settings([channel_to(smsc, "a", max_tps=100)], shards=shards), valkey) as w,
    ):
        ms = [message(w.store) for _ in range(120)]
        sids = await accepted(w.store, ms)
        answers = {sid: await w.store.cancel(sid, "shop") for sid in reversed(sids[::2])}
        assert set(answers.values()) <= {"cancelled", "too_late"}
        cancelled = {sid for sid, answer in answers.items() if answer == "cancelled"}
        assert len(cancelled) > 20
        await end_as(w.store, sids, C=len(cancelled), D=120 - len(cancelled))
        sent = smsc.ledger.destinations()
        assert sorted(sent) == sorted(m.msisdn for m in ms if m.id not in cancelled)
        for sid in list(cancelled)[:3]:
            assert await w.store.cancel(sid, "shop") == "already"
        assert await w.store.waiting() == 0


async def test_nobody_cancels_what_is_out_or_anothers(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.3) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        (sid,) = await accepted(w.store, [message(w.store)])
        assert await w.store.cancel(sid, "another") == "not_found"
        await until(lambda: smsc.ledger.submits)
        assert await w.store.cancel(sid, "shop") == "too_late"  # claimed: it shows as queued
        await end_as(w.store, [sid], D=1)
        assert await w.store.cancel(sid, "shop") == "too_late"


@pytest.mark.parametrize(
    ("kind", "name", "fields"),
    [
        ("gate", "spring", {"gate": "spring"}),
        ("tag", "sale", {"tags": ("news", "sale")}),
        ("campaign", "c1", {"campaign": "c1"}),
        ("account", "noisy", {"account": "noisy"}),
        ("category", "marketing", {"category": MARKETING}),
    ],
)
async def test_a_gate_holds_and_releases(
    valkey: ValkeyServer, shards: int, kind: str, name: str, fields: dict[str, Any]
) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")], shards=shards), valkey) as w:
        await w.store.set_gate(kind, name, "hold")
        behind = [message(w.store, **fields) for _ in range(12)]
        sids = await accepted(w.store, behind)
        free = await accepted(w.store, [message(w.store, category=VERIFICATION) for _ in range(5)])
        await end_as(w.store, free, D=5)
        await end_as(w.store, sids, w=12)
        assert (await w.store.gates())[f"{kind}:{name}"] == {"state": "hold", "held": 12, "closed": 0}
        assert await w.store.cancel(sids[0], fields.get("account", "shop")) == "cancelled"
        moved = await w.store.set_gate(kind, name, "open")
        assert moved["held"] == 0
        await end_as(w.store, sids, D=11, C=1)
        assert behind[0].msisdn not in smsc.ledger.destinations()
        assert await w.store.gates() == {}
        assert await w.store.waiting() == 0


async def test_closing_a_gate_ends_what_it_held_and_what_comes_behind(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        await w.store.set_gate("gate", "run-7", "hold")
        sids = await accepted(w.store, [message(w.store, gate="run-7", category=MARKETING) for _ in range(10)])
        await end_as(w.store, sids, w=10)
        await w.store.set_gate("gate", "run-7", "closed")
        sids += await accepted(w.store, [message(w.store, gate="run-7", category=MARKETING) for _ in range(5)])
        await end_as(w.store, sids, C=15)
        assert (await record(w.store, sids[-1])).reason == "gate_closed"
        assert (await w.store.gates())["gate:run-7"]["closed"] == 15
        assert not smsc.ledger.submits
        assert await w.store.waiting() == 0
