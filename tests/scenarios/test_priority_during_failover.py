"""The primary dies with 2,000 adverts queued: while they flow to the backup, each new code goes ahead of them."""

from __future__ import annotations

import math
import time

from gateway.dispatch.allowance import HORIZON_S
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, VERIFICATION, accepted, carrier
from tests.support.until import until
from tests.support.valkey import ValkeyServer

ADVERTS = 2_000
CODES = 10
TPS = 200
WINDOW = 20
CODE_WAITS_MOST_S = 2.0


async def test_codes_overtake_the_backlog_on_the_backup(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.02) as primary, carrier(latency_s=0.02) as backup:
        settings = line_settings(
            [channel_to(primary, "a", max_tps=TPS, window=WINDOW), channel_to(backup, "b", max_tps=TPS)]
        )
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=MARKETING) for _ in range(ADVERTS)]
            await accepted(w.store, ms)
            await until(lambda: len(primary.ledger.submits) > 50)
            await primary.stop_listening()
            primary.drop_sessions()
            codes = []
            first = message(w.store, category=VERIFICATION)  # in the moment of the failure
            cut_at = time.monotonic()
            await accepted(w.store, [first])
            await until(lambda: backup.ledger.to(first.msisdn))
            assert time.monotonic() - cut_at < CODE_WAITS_MOST_S
            codes.append(first)

            rows = backup.ledger.submits
            # One claim under way when the code is accepted, and the rest of one draw; then the code.
            most = 2 * math.ceil(TPS * HORIZON_S)
            for _ in range(CODES):
                before = len(rows)
                await until(lambda before=before: len(rows) >= before + 20)
                code = message(w.store, category=VERIFICATION)
                await accepted(w.store, [code])
                before = len(rows)
                await until(lambda code=code: backup.ledger.to(code.msisdn))
                assert backup.ledger.destinations().index(code.msisdn) - before <= most
                codes.append(code)
            assert await w.store.waiting() > ADVERTS / 2, "the backlog was there all the time"
            # Stand still, so that the ledgers can be compared: nothing more is claimed, every receipt is in.
            assert await w.dispatcher.drain(5.0)
            await until(lambda: sum(row.ack == 0 for row in backup.ledger.receipts) == len(rows))
            report = await audit_line(w.store, valkey, [*ms, *codes], [primary, backup], settled=False)
            assert report.accepted == ADVERTS + CODES + 1
            # What was in flight on the primary is an advert each: held, not sent twice.
            assert report.states["uncertain"] <= WINDOW
            assert report.copies == 0
