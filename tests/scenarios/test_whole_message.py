"""A message of several parts that travels as one submit_sm: one answer and one receipt end it, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.dispatch import outcome
from gateway.model import NewMessage
from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Smsc
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import VERIFICATION, accepted, bring_forward, carrier, end_as, receipt_pdu, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TEXT = "".join(f"{i:04d}" for i in range(100))  # three parts


def long_message(store: Store, **changes: Any) -> NewMessage:
    return message(store, parts=3, body=body(TEXT), **changes)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SAME_DELAYS_MS", (20, 40))
    monkeypatch.setattr(outcome, "RESEND_GRACE_MS", 50)


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with carrier() as one:
        yield one


def line(smsc: Smsc, shards: int = 1, **changes: Any) -> Any:
    return line_settings([channel_to(smsc, "a", long="payload", **changes)], shards=shards)


def receipts(w: Worker, state: str) -> float:
    return w.metrics.counter("receipts_total", channel="a", state=state).n


async def assert_delivered(w: Worker, sids: list[bytes]) -> None:
    await end_as(w.store, sids, D=len(sids))
    for sid in sids:
        r = await record(w.store, sid)
        assert (r.parts_delivered, len(r.receipts), len(r.attempts)) == (3, 1, 1)
    assert await w.store.waiting() == 0
    assert w.dispatcher.claims == 0


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_delivered_with_all_its_parts(valkey: ValkeyServer, shards: int, smsc: Smsc, bind: str) -> None:
    async with worker(line(smsc, shards, bind=bind), valkey) as w:
        sids = await accepted(w.store, [long_message(w.store, category=i % 3) for i in range(20)])
        await assert_delivered(w, sids)
        assert len(smsc.ledger.submits) == 20
        assert all((row.tlvs or {})[0x0424].decode() == TEXT for row in smsc.ledger.submits)
        assert receipts(w, "delivered") == 20


@pytest.mark.parametrize("option", ["early_rate", "double_rate"])
@pytest.mark.parametrize("id_format", ["decimal", "resp_hex_dlr_dec", "uuid"])
async def test_early_and_repeated_receipts_in_any_spelling(valkey: ValkeyServer, option: str, id_format: str) -> None:
    async with (
        carrier(latency_s=0.03, id_format=id_format, **{option: 1.0}) as smsc,
        worker(line(smsc), valkey) as w,
    ):
        sids = await accepted(w.store, [long_message(w.store) for _ in range(15)])
        await assert_delivered(w, sids)
        await until(lambda: smsc.counters.settled == (15 if option == "early_rate" else 30))
        assert receipts(w, "duplicate") == (0 if option == "early_rate" else 15)
        assert receipts(w, "orphan") == 0


async def test_a_failed_one_and_one_that_is_corrected(valkey: ValkeyServer, smsc: Smsc) -> None:
    plans = [Plan(receipts=(ReceiptPlan(0.0, "UNDELIV", "001"),)), Plan()]
    smsc.on_submit = lambda link, pdu: plans.pop(0)
    async with worker(line(smsc), valkey) as w:
        (failed,) = await accepted(w.store, [long_message(w.store)])
        await end_as(w.store, [failed], U=1)
        assert (await record(w.store, failed)).parts_delivered == 0
        late = long_message(w.store)
        await accepted(w.store, [late])
        await end_as(w.store, [late.id], s=1)
        bring_forward(valkey, "wait")
        await w.store.close_waiting(0)
        await end_as(w.store, [late.id], K=1)
        answered = smsc.ledger.submits[-1].smsc_id
        smsc.send_raw(receipt_pdu(answered, late.msisdn, 1))
        await end_as(w.store, [late.id], D=1)
        r = await record(w.store, late.id)
        assert (r.parts_delivered, r.late_correction) == (3, True)


async def test_refused_for_now_it_goes_again_as_one(valkey: ValkeyServer, smsc: Smsc) -> None:
    plans: list[Plan | None] = [Plan(status=0x08), Plan(status=0x58), None]
    smsc.on_submit = lambda link, pdu: plans.pop(0)
    async with worker(line(smsc), valkey) as w:
        (sid,) = await accepted(w.store, [long_message(w.store)])
        await end_as(w.store, [sid], D=1)
        assert (await record(w.store, sid)).parts_delivered == 3
        assert len(smsc.ledger.submits) == 3


async def test_without_an_answer_the_copy_goes_as_one_too(valkey: ValkeyServer, smsc: Smsc) -> None:
    plans: list[Plan | None] = [Plan(status=None), None]
    smsc.on_submit = lambda link, pdu: plans.pop(0)
    async with worker(line(smsc, response_timer_s=0.2), valkey) as w:
        (sid,) = await accepted(w.store, [long_message(w.store, category=VERIFICATION)])
        await end_as(w.store, [sid], D=1)
        r = await record(w.store, sid)
        assert (r.parts_delivered, r.possible_duplicate) == (3, True)
        assert len(smsc.ledger.submits) == 2
