"""A session that has used 2^31 - 1 sequence numbers goes on with 1 and passes over those that are still open."""

from __future__ import annotations

from functools import partial

import pytest

from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Link
from gateway.smpp import channel
from gateway.smpp import constants as c
from gateway.smpp.pdu import SubmitSm
from gateway.smpp.session import SessionConfig
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, states, worker
from tests.support.messages import message
from tests.support.scenario import VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

FIRST = 0x7FFFFFF0
BEFORE = c.MAX_SEQUENCE_NUMBER - FIRST  # submits with a high number; the bind takes the first


async def test_after_the_last_number_comes_one(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SessionConfig", partial(SessionConfig, first_sequence_number=FIRST))
    async with carrier(latency_s=0.01) as smsc:
        async with worker(line_settings([channel_to(smsc, "a", window=10)]), valkey) as w:
            ms = [message(w.store, category=i % 3) for i in range(60)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=60)
            numbers = [row.sequence_number for row in smsc.ledger.submits]
            assert numbers == [*range(FIRST + 1, c.MAX_SEQUENCE_NUMBER + 1), *range(1, 60 - BEFORE + 1)]
            ids = {row.destination: row.smsc_id for row in smsc.ledger.submits}
            for sid in sids:
                r = await record(w.store, sid)
                assert [a.smsc_ids for a in r.attempts] == [{0: ids[r.msisdn]}]
            assert smsc.counters.binds == 1
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (60, 0)


async def test_a_number_that_is_open_is_passed_over(valkey: ValkeyServer) -> None:
    """The second time round: a message that has had no answer since the first still gets its own."""
    held: list[tuple[Link, int]] = []

    def hold(link: Link, pdu: SubmitSm) -> Plan:
        held.append((link, pdu.sequence_number))
        return Plan(status=None, receipts=(ReceiptPlan(0.05),))

    async with carrier() as smsc:
        async with worker(line_settings([channel_to(smsc, "a", window=10)]), valkey) as w:
            smsc.on_submit = hold
            slow = [message(w.store, category=VERIFICATION) for _ in range(3)]
            waiting = await accepted(w.store, slow)
            await until(lambda: len(held) == 3)
            smsc.on_submit = None
            # 2^31 numbers later, without the two billion messages.
            session = w.dispatcher.channels["a"]._links[1].connections[0].session
            session._next_number = c.MAX_SEQUENCE_NUMBER
            ms = [message(w.store) for _ in range(6)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=6)
            numbers = [row.sequence_number for row in smsc.ledger.submits]
            assert numbers[:3] == [2, 3, 4]  # 1 was the bind's
            assert numbers[3:] == [c.MAX_SEQUENCE_NUMBER, 1, 5, 6, 7, 8]
            assert set(await states(w.store, waiting)) <= {"q", "D"}  # a receipt may come before its answer
            for row, (link, number) in zip(smsc.ledger.submits[:3], held, strict=True):
                link.answer([(number, row.smsc_id.encode())])
            await end_as(w.store, waiting, D=3)
            assert set(submits(smsc).values()) == {1}
            report = await audit_line(w.store, valkey, [*slow, *ms], [smsc])
            assert (report.submits, report.copies) == (9, 0)
