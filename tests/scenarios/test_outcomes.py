"""What each answer of the carrier leads to: tries here and on the backup, final state; on both bind types."""

from __future__ import annotations

import pytest

from gateway.dispatch import health, outcome
from gateway.model import Category
from gateway.reasons import of_status
from gateway.simulator.behaviour import Plan
from gateway.smpp.pdu import SubmitSm
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.valkey import ValkeyServer

PERMANENT = (0x01, 0x65, 0x66, 0x101)
SAME = {0x08: 2, 0x64: 2, 0xFE: 1, 0xFF: 1}  # status → how often it is tried again on the same channel
NEXT = (0x0A, 0x0B, 0x45, 0x99, 0x102, 0x401, 0x4FF, 0x12345)
BUG = (0x02, 0x33, 0x54, 0xC2, 0x103)  # 0x61 and 0x62 are in test_left_out


def number(status: int, row: int) -> str:
    """A number of its own for every status: the carrier reads the status from its end."""
    return f"86{130 + row}{status:08d}"


def refuse(link: object, pdu: SubmitSm) -> Plan:
    return Plan(status=int(pdu.destination_addr[5:]))


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SAME_DELAYS_MS", (20, 40))
    monkeypatch.setattr(outcome, "SLOW_FIRST_MS", 20)
    monkeypatch.setattr(outcome, "AROUND_MS", ((20,), (20,), (20,)))
    monkeypatch.setattr(health, "MIN_ANSWERS", 10**9)  # what the breaker does is another file's subject


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_every_class_of_answer(valkey: ValkeyServer, bind: str) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a", bind=bind), channel_to(backup, "b", bind=bind)])
        primary.on_submit = refuse
        async with worker(settings, valkey) as w:
            others = (*SAME, *NEXT, *BUG)
            rows = {s: message(w.store, number(s, 0), category=NOTIFICATION) for s in (*PERMANENT, *others)}
            await accepted(w.store, rows.values())
            await end_as(w.store, [rows[s].id for s in PERMANENT], F=len(PERMANENT))
            await end_as(w.store, [rows[s].id for s in others], D=len(others))
            there, behind = submits(primary), submits(backup)
            for status, m in rows.items():
                r = await record(w.store, m.id)
                assert not r.possible_duplicate
                assert r.attempts[0].status == status
                tries = (there[m.msisdn], behind[m.msisdn])
                if status in PERMANENT:
                    assert (r.reason, r.carrier_code) == (of_status(status)[0], f"0x{status:08X}")
                    assert tries == (1, 0)
                elif status in SAME:
                    here = SAME[status] + 1
                    assert [(a.channel, a.outcome) for a in r.attempts] == [("a", "same")] * here + [("b", "sent")]
                    assert tries == (here, 1)
                else:
                    word = "bug" if status in BUG else "next"
                    assert [(a.channel, a.outcome) for a in r.attempts] == [("a", word), ("b", "sent")]
                    assert tries == (1, 1)
            assert primary.counters.binds == (1 if bind == "transceiver" else 2)
            assert w.dispatcher.claims == 0
            assert await w.store.waiting() == 0


async def test_a_message_that_every_channel_refuses_fails(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        primary.on_submit = backup.on_submit = refuse
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            refused = message(w.store, number(0x45, 0), category=MARKETING)
            failing = message(w.store, number(0x08, 0), category=VERIFICATION)
            sids = await accepted(w.store, [refused, failing])
            await end_as(w.store, sids, F=2)
            r = await record(w.store, refused.id)
            assert (r.reason, [a.channel for a in r.attempts]) == ("carrier-internal", ["a", "b"])
            r = await record(w.store, failing.id)
            assert r.reason == "attempts_exhausted"  # a code has three
            assert submits(primary)[failing.msisdn] + submits(backup)[failing.msisdn] == 3


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_odd_answers(valkey: ValkeyServer, bind: str) -> None:
    """Answered by generic_nack, without an id, twice, beside a stray one; and a cut right behind the answer."""
    async with carrier(by_number=True) as smsc:
        settings = line_settings([channel_to(smsc, "a", bind=bind)])
        async with worker(settings, valkey) as w:
            ms = {rule: message(w.store, f"8613800900{rule}") for rule in (303, 304, 305, 307, 308)}
            await accepted(w.store, [m for rule, m in ms.items() if rule != 303])
            delivered = [ms[rule].id for rule in (303, 307, 308)]
            await end_as(w.store, [ms[304].id], s=1)  # nothing to match a receipt with
            # Refused by a generic_nack that may pass: again and again on the only channel, until its attempts are used.
            await end_as(w.store, [ms[305].id], F=1)
            assert submits(smsc)[ms[305].msisdn] == settings.categories[Category.NOTIFICATION].max_attempts
            await accepted(w.store, [ms[303]])
            await end_as(w.store, delivered, D=3)
            for sid in delivered:
                assert not (await record(w.store, sid)).possible_duplicate
            assert w.dispatcher.claims == 0


async def test_answers_out_of_order_find_their_messages(valkey: ValkeyServer) -> None:
    """Whole windows answered from behind; each id must be the one of its own message."""
    async with (
        carrier(shuffle=True, latency_s=0.02, latency_jitter_s=0.02) as smsc,
        worker(line_settings([channel_to(smsc, "a", window=20)]), valkey) as w,
    ):
        sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(120)])
        await end_as(w.store, sids, D=120)
        ids = {row.destination: row.smsc_id for row in smsc.ledger.submits}
        for sid in sids[::7]:
            r = await record(w.store, sid)
            assert r.attempts[0].smsc_ids == {0: ids[r.msisdn]}
        assert w.metrics.counter("receipts_total", channel="a", state="quarantined").n == 0
