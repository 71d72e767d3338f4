"""The answer is lost and the receipt comes: the receipt settles the attempt, and nothing is sent twice."""

from __future__ import annotations

import pytest

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.valkey import ValkeyServer

LOST = "861{:02d}00900309"  # takes the message and never answers, but sends the receipt


@pytest.mark.parametrize("category", [NOTIFICATION, 2])
async def test_a_receipt_settles_what_was_never_answered(valkey: ValkeyServer, category: int) -> None:
    async with carrier(by_number=True, receipt_delay_s=0.3) as smsc:
        settings = line_settings([channel_to(smsc, "a", response_timer_s=0.2)])
        async with worker(settings, valkey) as w:
            numbers = [LOST.format(30 + i) for i in range(20)]
            sids = await accepted(w.store, [message(w.store, n, category=category) for n in numbers])
            await end_as(w.store, sids, D=20)
            assert set(submits(smsc).values()) == {1}, "no copy was sent"
            for sid in sids:
                found = await record(w.store, sid)
                assert not found.possible_duplicate
                assert [a.outcome for a in found.attempts] == ["uncertain", "sent"]
            assert w.metrics.counter("late_results_total", channel="a").n == 20


async def test_a_code_whose_copy_is_out_is_delivered_once_in_the_books(valkey: ValkeyServer) -> None:
    async with carrier(by_number=True, receipt_delay_s=0.4) as smsc, carrier(receipt_delay_s=30.0) as backup:
        settings = line_settings([channel_to(smsc, "a", response_timer_s=0.2), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store, "8613800900309", category=VERIFICATION)])
            await end_as(w.store, sids, D=1)
            found = await record(w.store, sids[0])
            copies = len(smsc.ledger.submits) + len(backup.ledger.submits) - 1
            assert found.possible_duplicate == bool(copies)
            assert [r.state for r in found.receipts] == ["D"]
