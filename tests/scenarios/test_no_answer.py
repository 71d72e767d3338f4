"""The carrier takes a submit and says nothing: the timer decides, a late answer still counts, silence ends the bind."""

from __future__ import annotations

import pytest

from gateway.dispatch import outcome
from gateway.simulator.behaviour import Plan, ReceiptPlan
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import held_by, message
from tests.support.scenario import MARKETING, NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TIMER_S = 0.3
LATE = Plan(delay_s=0.5, receipts=(ReceiptPlan(0.05),))


async def test_three_timeouts_in_a_row_bind_anew_though_the_link_answers(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RESEND_GRACE_MS", 100)
    async with carrier(silence=True) as smsc:
        channel = channel_to(smsc, "a", response_timer_s=TIMER_S, enquire_link_s=0.1)
        async with worker(line_settings([channel]), valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=NOTIFICATION) for _ in range(2)])
            await end_as(w.store, sids, u=2)
            smsc.options.silence = False
            assert smsc.counters.binds == 1  # two are no pattern yet
            await end_as(w.store, sids, D=2)

            smsc.options.silence = True
            sids = await accepted(w.store, [message(w.store, category=NOTIFICATION) for _ in range(3)])
            await until(lambda: smsc.counters.binds == 2)
            smsc.options.silence = False
            await end_as(w.store, sids, D=3)
            for sid in sids:
                r = await record(w.store, sid)
                assert r.possible_duplicate
                assert [a.outcome for a in r.attempts] == ["uncertain", "sent"]
            assert max(submits(smsc).values()) == 2


async def test_a_late_answer_settles_what_waits(valkey: ValkeyServer) -> None:
    """Notification waits out its grace: the answer comes first, and there is no copy."""
    async with carrier() as smsc:
        smsc.on_submit = lambda link, pdu: LATE
        async with worker(line_settings([channel_to(smsc, "a", response_timer_s=TIMER_S)]), valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=c) for c in (NOTIFICATION, MARKETING)])
            await end_as(w.store, sids, u=2)
            await end_as(w.store, sids, D=2)
            for sid in sids:
                r = await record(w.store, sid)
                assert not r.possible_duplicate
                assert r.attempts[-1].outcome == "sent"
            assert set(submits(smsc).values()) == {1}
            assert smsc.counters.binds == 1


async def test_a_late_answer_cancels_a_copy_that_is_queued(valkey: ValkeyServer) -> None:
    """A code's copy is queued at once; the channel's rate holds it back until the answer has come."""
    async with carrier() as smsc:
        smsc.on_submit = lambda link, pdu: LATE
        settings = line_settings([channel_to(smsc, "a", response_timer_s=TIMER_S, max_tps=1)])
        async with worker(settings, valkey) as w:
            code, other = message(w.store, category=VERIFICATION), message(w.store, category=VERIFICATION)
            sids = await accepted(w.store, [code])
            await until(lambda: len(smsc.ledger.submits) == 1)
            sids += await accepted(w.store, [other])
            smsc.on_submit = None
            await end_as(w.store, sids, D=2)
            assert submits(smsc) == {code.msisdn: 1, other.msisdn: 1}
            assert not (await record(w.store, code.id)).possible_duplicate
            assert await w.store.waiting() == 0


async def test_the_receipt_of_the_first_copy_counts_while_the_second_is_out(valkey: ValkeyServer) -> None:
    """The copy's answer comes after the message is final: its claim is removed all the same."""
    async with carrier() as smsc:
        plans = [Plan(delay_s=0.35, receipts=(ReceiptPlan(0.0),)), Plan(delay_s=0.5, receipts=(ReceiptPlan(0.0),))]
        smsc.on_submit = lambda link, pdu: plans.pop(0)
        async with worker(line_settings([channel_to(smsc, "a", response_timer_s=TIMER_S)]), valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=VERIFICATION)])
            await end_as(w.store, sids, D=1)
            await until(lambda: w.dispatcher.claims == 0)
            assert await held_by(w.store) == []
            assert (await record(w.store, sids[0])).possible_duplicate
            assert await w.store.waiting() == 0
