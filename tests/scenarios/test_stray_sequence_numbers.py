"""Answers to sequence numbers that are zero, unknown or answered already: ignored and counted, no slot freed twice."""

from __future__ import annotations

import pytest

from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Link
from gateway.smpp import constants as c
from gateway.smpp.codec import encode_header, encode_submit_sm_resp
from gateway.smpp.pdu import SubmitSm
from tests.support.audit import audit_line
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

WINDOW = 10
MESSAGES = 200


def faults(w: Worker, kind: str) -> int:
    return int(w.metrics.counter("smpp_faults_total", channel="a", kind=kind).n)


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_four_stray_answers_beside_each_true_one(valkey: ValkeyServer, bind: str) -> None:
    most = 0
    first: int | None = None

    def strays(link: Link, pdu: SubmitSm) -> Plan:
        nonlocal most, first
        most = max(most, link.unanswered + 1)
        if first is None:
            first = pdu.sequence_number
        else:  # once more, with an id of another message and with an error
            link.write_raw(encode_submit_sm_resp(first, b"666") + encode_submit_sm_resp(first, b"", 0x45))
        link.write_raw(encode_submit_sm_resp(0, b"0"))
        # Before its own answer one to a number that was never used, behind it a second one.
        return Plan(delay_s=0.01, receipts=(ReceiptPlan(0.02),), stray_answer=True, repeat_answer=True)

    async with carrier() as smsc:
        smsc.on_submit = strays
        settings = line_settings([channel_to(smsc, "a", window=WINDOW, bind=bind)])
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=i % 3) for i in range(MESSAGES)]
            sids = await accepted(w.store, ms[:1])
            await end_as(w.store, sids, D=1)  # the number that comes again is answered by now
            sids += await accepted(w.store, ms[1:])
            await end_as(w.store, sids, D=MESSAGES)
            assert 1 < most <= WINDOW, "a stray answer freed a slot"
            ids = {row.destination: row.smsc_id for row in smsc.ledger.submits}
            for sid in sids:
                r = await record(w.store, sid)
                assert [(a.outcome, a.smsc_ids) for a in r.attempts] == [("sent", {0: ids[r.msisdn]})]
            assert set(submits(smsc).values()) == {1}
            # Counted once a second, or when the session ends.
            await until(lambda: faults(w, "unmatched_response") == 3 * MESSAGES + 2 * (MESSAGES - 1))
            assert smsc.counters.binds == (1 if bind == "transceiver" else 2)
            assert w.dispatcher.claims == 0
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (MESSAGES, 0)


async def test_three_nacks_that_match_nothing_within_a_minute_bind_anew(valkey: ValkeyServer) -> None:
    """SMPP 3.4 §4.3: a generic_nack says that the stream may be out of step. Two are chance, three are a pattern."""
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        for number in (0, 0x7FFF0000):
            smsc.send_raw(encode_header(c.GENERIC_NACK, number, c.RINVCMDLEN))
        ms = [message(w.store) for _ in range(40)]
        sids = await accepted(w.store, ms[:20])
        await end_as(w.store, sids, D=20)
        assert smsc.counters.binds == 1
        smsc.send_raw(encode_header(c.GENERIC_NACK, 0, c.RINVCMDLEN))
        await until(lambda: smsc.counters.binds == 2)
        assert faults(w, "unmatched_nack") == 3
        sids += await accepted(w.store, ms[20:])
        await end_as(w.store, sids, D=40)
        report = await audit_line(w.store, valkey, ms, [smsc])
        assert (report.submits, report.copies) == (40, 0)
