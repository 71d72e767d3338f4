"""The connection is cut with a full window: nobody knows what arrived, and each category's policy says what follows."""

from __future__ import annotations

import pytest

from gateway.dispatch import outcome
from tests.support.line import channel_to, line_settings, states, worker
from tests.support.messages import message
from tests.support.scenario import (
    MARKETING,
    NOTIFICATION,
    VERIFICATION,
    accepted,
    carrier,
    end_as,
    record,
    submits,
)
from tests.support.until import until
from tests.support.valkey import ValkeyServer

WINDOW = 50


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_the_window_is_uncertain_and_follows_the_policies(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    monkeypatch.setattr(outcome, "RESEND_GRACE_MS", 700)
    monkeypatch.setattr(outcome, "HOLD_MS", 1_200)
    async with carrier(silence=True) as smsc:
        settings = line_settings([channel_to(smsc, "a", window=WINDOW, response_timer_s=30.0, bind=bind)])
        async with worker(settings, valkey, bound=False) as w:
            counts = {VERIFICATION: 20, NOTIFICATION: 13, MARKETING: 12}
            first = {c: [message(w.store, category=c) for _ in range(n)] for c, n in counts.items()}
            sids = {c: await accepted(w.store, ms) for c, ms in first.items()}
            await until(lambda: len(smsc.ledger.submits) == 45)
            # The last tenth of the window is for codes alone; the rest of these wait.
            codes = await accepted(w.store, [message(w.store, category=VERIFICATION) for _ in range(15)])
            await until(lambda: len(smsc.ledger.submits) == WINDOW)
            codes += sids[VERIFICATION]
            everything = [*codes, *sids[NOTIFICATION], *sids[MARKETING]]

            smsc.options.silence = False
            smsc.drop_sessions()
            # Codes go again at once, with those that had waited; the others wait for what may still settle them.
            await end_as(w.store, codes, D=35)
            waiting = await states(w.store, sids[NOTIFICATION] + sids[MARKETING])
            assert waiting == {"u": 25}
            assert await states(w.store, everything) == {"D": 35, "u": 25}  # accepted = final + live
            copies = sum(n - 1 for n in submits(smsc).values())
            assert copies == 25

            await end_as(w.store, sids[NOTIFICATION], D=13)
            await end_as(w.store, sids[MARKETING], K=12)  # at most once
            seen = submits(smsc)
            assert sum(n - 1 for n in seen.values()) == 25 + 13 <= WINDOW
            assert all(seen[m.msisdn] == 1 for m in first[MARKETING])
            for sid in everything:
                r = await record(w.store, sid)
                assert r.possible_duplicate == (seen[r.msisdn] > 1)
            assert {(await record(w.store, sid)).reason for sid in sids[MARKETING]} == {"no_response"}
            assert w.dispatcher.claims == 0
            assert await w.store.waiting() == 0


async def test_an_smsc_that_unbinds_under_load_gets_its_answers_out_and_no_copy(valkey: ValkeyServer) -> None:
    """What was answered before the unbind is settled, what had not left goes again."""
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", window=20)])
        async with worker(settings, valkey) as w:
            smsc.on_submit = lambda link, pdu: smsc.unbind_sessions()  # unbind under load
            ms = [message(w.store, category=VERIFICATION) for _ in range(10)]
            sids = await accepted(w.store, ms[:1])
            await until(lambda: smsc.counters.binds == 2)
            smsc.on_submit = None
            sids += await accepted(w.store, ms[1:])
            await end_as(w.store, sids, D=10)
            assert set(submits(smsc).values()) == {1}
