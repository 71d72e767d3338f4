"""TCP keeps no borders: one octet a segment or 200 PDUs in one, the ledgers are those of a normal conversation."""

from __future__ import annotations

from gateway.simulator.smsc import Smsc
from gateway.smpp import constants as c
from gateway.store.store import Store
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.valkey import ValkeyServer
from tests.support.wire import Wire, answers


async def test_one_octet_at_a_time_both_ways(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, Wire(smsc.port) as wire:
        wire.up.one_by_one = wire.down.one_by_one = True
        settings = line_settings([channel_to(smsc, "a", port=wire.port)])
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=i % 3) for i in range(60)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=60, timeout_s=30)
            await _as_ever(w.store, sids, smsc)
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (60, 0)
            assert smsc.counters.binds == wire.connections == 1


async def test_two_hundred_pdus_in_one_segment(valkey: ValkeyServer) -> None:
    async with carrier(receipt_delay_s=0.3) as smsc, Wire(smsc.port) as wire:
        settings = line_settings([channel_to(smsc, "a", port=wire.port, window=200)])
        async with worker(settings, valkey) as w:
            wire.up.gather = wire.down.gather = 200
            ms = [message(w.store, category=VERIFICATION) for _ in range(200)]
            sids = await accepted(w.store, ms)
            # 200 submits at once, 200 answers at once, 200 receipts at once, 200 acknowledgements at once.
            await end_as(w.store, sids, D=200)
            assert (wire.up.most_gathered, wire.down.most_gathered) == (200, 200)
            await _as_ever(w.store, sids, smsc)
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (200, 0)
            assert len(answers(wire.down.seen, c.SUBMIT_SM_RESP)) == 200
            assert smsc.counters.binds == 1
            wire.up.gather = wire.down.gather = 0  # for the unbind


async def _as_ever(store: Store, sids: list[bytes], smsc: Smsc) -> None:
    """One submit and one attempt a message, with the id its own answer gave."""
    assert set(submits(smsc).values()) == {1}
    ids = {row.destination: row.smsc_id for row in smsc.ledger.submits}
    for sid in sids:
        r = await record(store, sid)
        assert [a.smsc_ids for a in r.attempts] == [{0: ids[r.msisdn]}]
        assert len(r.receipts) == 1
