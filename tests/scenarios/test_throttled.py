"""A carrier that says 0x58: the messages wait and go again on the same channel, and no attempt is used up."""

from __future__ import annotations

import pytest

from gateway.dispatch import outcome
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.mark.parametrize("status", [0x58, 0x14])
@pytest.mark.parametrize("rate", [0.3, 1.0])
async def test_a_throttled_message_uses_no_attempt(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, rate: float, status: int
) -> None:
    monkeypatch.setattr(outcome, "SLOW_FIRST_MS", 20)
    monkeypatch.setattr(outcome, "SLOW_MOST_MS", 100)
    async with carrier(error_rate=rate, error_codes=(status,)) as smsc, carrier() as backup:
        settings = line_settings([channel_to(smsc, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(60)])
            # More refusals than any category has attempts.
            await until(lambda: smsc.counters.answered_error >= (60 * 8 if rate == 1.0 else 15))
            smsc.options.error_rate = 0.0
            await end_as(w.store, sids, D=60)
            for sid in sids:
                r = await record(w.store, sid)
                assert [(a.number, a.channel, a.outcome) for a in r.attempts] == [(1, "a", "sent")]
                assert not r.possible_duplicate
            assert not backup.ledger.submits
            assert smsc.counters.binds == 1
