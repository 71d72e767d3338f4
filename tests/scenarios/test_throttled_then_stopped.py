"""30 % of all submits throttled, then all of them for a while: the rate follows within 3 s, no attempt is used, all is
delivered by the same channel, and its breaker stays closed.
"""

from __future__ import annotations

import time

import pytest

from gateway.dispatch import outcome
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, NOTIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

MESSAGES = 40
TPS = 100
FOLLOWS_S = 3.0
STOPPED_S = 4.0


async def test_the_rate_follows_and_nothing_is_used_up(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SLOW_MOST_MS", 1_000)
    async with carrier(error_rate=0.3, error_codes=(0x58,)) as smsc, carrier() as backup:
        settings = line_settings([channel_to(smsc, "a", max_tps=TPS), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=(NOTIFICATION, MARKETING)[i % 2]) for i in range(MESSAGES)]
            sids = await accepted(w.store, ms)
            await until(lambda: smsc.counters.answered_ok >= 15, timeout_s=20)
            smsc.options.error_rate = 1.0
            stopped = time.monotonic()
            await until(lambda: time.monotonic() - stopped >= STOPPED_S)
            late = [row.at for row in smsc.ledger.submits if row.at >= stopped + FOLLOWS_S]
            # The rate is halved each second that nothing is taken (§1.7): after three an eighth of it is left.
            assert len(late) <= TPS / 2**FOLLOWS_S * (STOPPED_S - FOLLOWS_S), "it goes on to send what is refused"
            smsc.options.error_rate = 0.0
            again = time.monotonic()
            await end_as(w.store, sids, D=MESSAGES, timeout_s=30)
            assert time.monotonic() - again < 20, "the rate climbs back"

            for sid in sids:
                r = await record(w.store, sid)
                assert [(a.number, a.channel, a.outcome) for a in r.attempts] == [(1, "a", "sent")]
                assert not r.possible_duplicate
            assert max(submits(smsc).values()) > 1
            assert not backup.ledger.submits
            assert smsc.counters.binds == 1
            assert w.dispatcher._health.of("a").state == "closed"
            assert w.metrics.counter("breaker_opened_total", channel="a").n == 0
            throttled = w.metrics.counter("submits_total", channel="a", status="0x00000058").n
            assert throttled == smsc.counters.answered_error
            report = await audit_line(w.store, valkey, ms, [smsc, backup])
            assert (report.copies, len(smsc.ledger.taken())) == (0, MESSAGES)
