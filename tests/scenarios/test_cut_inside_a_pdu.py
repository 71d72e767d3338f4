"""The connection ends in the middle of a PDU, by RST or FIN: no part of it is read as an answer, the window is
uncertain and the channel binds again.
"""

from __future__ import annotations

import pytest

from gateway.smpp import constants as c
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer
from tests.support.wire import Wire

WINDOW = 10


@pytest.mark.parametrize(
    ("octets", "reset"),
    [
        pytest.param(8, False, id="FIN after half a header"),
        pytest.param(20, True, id="RST in the id"),
        pytest.param(3, True, id="RST in the length"),
    ],
)
async def test_half_an_answer_is_none(valkey: ValkeyServer, octets: int, reset: bool) -> None:
    async with carrier(latency_s=0.02) as smsc, Wire(smsc.port) as wire:
        settings = line_settings([channel_to(smsc, "a", port=wire.port, window=WINDOW)])
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=VERIFICATION) for _ in range(60)]
            sids = await accepted(w.store, ms[:30])
            wire.down.cut_octets, wire.down.reset = octets, reset
            wire.down.cut_command = c.SUBMIT_SM_RESP
            sids += await accepted(w.store, ms[30:])
            await until(lambda: wire.down.cuts == 1)
            await end_as(w.store, sids, D=60)
            assert wire.connections == smsc.counters.binds == 2
            seen = submits(smsc)
            copies = sum(n - 1 for n in seen.values())
            assert 1 <= copies <= WINDOW  # the message whose answer was cut is one of them
            for sid in sids:
                r = await record(w.store, sid)
                assert r.possible_duplicate == (seen[r.msisdn] > 1)
                # The last answer is a whole one: of the cut one nothing is on record.
                assert [a.outcome for a in r.attempts] == ["uncertain"] * (seen[r.msisdn] - 1) + ["sent"]
            report = await audit_line(w.store, valkey, ms, [smsc], copies_allowed=WINDOW)
            assert report.copies == copies
            assert w.dispatcher.claims == 0


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_half_a_receipt_comes_again(valkey: ValkeyServer, reset: bool) -> None:
    async with carrier(redeliver_s=0.05) as smsc, Wire(smsc.port) as wire:
        async with worker(line_settings([channel_to(smsc, "a", port=wire.port)]), valkey) as w:
            wire.down.cut_octets, wire.down.reset = 60, reset
            wire.down.cut_command = c.DELIVER_SM
            m = message(w.store)
            await accepted(w.store, [m])
            await end_as(w.store, [m.id], D=1)
            assert wire.down.cuts == 1
            assert smsc.counters.binds == 2
            await until(lambda: [row.ack for row in smsc.ledger.receipts] == [None, 0])
            assert w.metrics.counter("receipts_total", channel="a", state="delivered").n == 1
            assert w.metrics.counter("receipts_total", channel="a", state="unreadable").n == 0
            await audit_line(w.store, valkey, [m], [smsc])


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_half_a_submit_is_flagged_and_sent_again(valkey: ValkeyServer, reset: bool) -> None:
    """We cannot know that the SMSC got only half of it; the copy is flagged, and the handset gets one."""
    async with carrier() as smsc, Wire(smsc.port) as wire:
        async with worker(line_settings([channel_to(smsc, "a", port=wire.port)]), valkey) as w:
            wire.up.cut_octets, wire.up.reset = 30, reset
            wire.up.cut_command = c.SUBMIT_SM
            m = message(w.store, category=VERIFICATION)
            await accepted(w.store, [m])
            await end_as(w.store, [m.id], D=1)
            assert submits(smsc) == {m.msisdn: 1}
            r = await record(w.store, m.id)
            assert r.possible_duplicate
            assert [a.outcome for a in r.attempts] == ["uncertain", "sent"]
            await audit_line(w.store, valkey, [m], [smsc])
