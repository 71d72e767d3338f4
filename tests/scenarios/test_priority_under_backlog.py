"""A code sent behind 20,000 marketing messages goes out next: only what was claimed before it may go first."""

from __future__ import annotations

import math

from gateway.dispatch.allowance import HORIZON_S
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, VERIFICATION, accepted, carrier
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TPS = 200


async def test_verification_overtakes_a_marketing_backlog(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.02, receipts=False) as smsc:
        settings = line_settings([channel_to(smsc, "a", max_tps=TPS)])
        async with worker(settings, valkey, bound=False) as w:
            await accepted(w.store, [message(w.store, category=MARKETING) for _ in range(20_000)])
            assert await w.store.waiting() > 19_000
            rows = smsc.ledger.submits
            # One claim under way when the code is accepted, and the rest of one draw; then the code.
            most = 2 * math.ceil(TPS * HORIZON_S)
            for _ in range(10):
                before = len(rows)
                await until(lambda before=before: len(rows) >= before + 10)
                code = message(w.store, category=VERIFICATION)
                await accepted(w.store, [code])
                before = len(rows)
                await until(lambda code=code: code.msisdn in smsc.ledger.destinations())
                assert smsc.ledger.destinations().index(code.msisdn) - before <= most


async def test_codes_use_the_reserve_of_a_window_that_a_slow_carrier_keeps_full(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False, silence=True) as smsc:
        settings = line_settings([channel_to(smsc, "a", window=20, response_timer_s=30.0)])
        async with worker(settings, valkey, drain_s=0.0) as w:
            await accepted(w.store, [message(w.store, category=MARKETING) for _ in range(100)])
            await until(lambda: len(smsc.ledger.submits) == 18)  # a tenth of the window is kept
            for i in (1, 2):  # nothing is ever answered, so there is no other moment than now
                code = message(w.store, category=VERIFICATION)
                await accepted(w.store, [code])
                await until(lambda n=18 + i: len(smsc.ledger.submits) == n)
                assert smsc.ledger.submits[-1].destination == code.msisdn
