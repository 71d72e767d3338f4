"""Accounts take turns: one message of B goes out within the next claims though 200,000 of A came before it."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.dispatch.allowance import HORIZON_S
from gateway.store import keys
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings
from tests.support.messages import message, number
from tests.support.scenario import NOTIFICATION, accepted, carrier
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TPS = 200
DRAW = math.ceil(TPS * HORIZON_S)


async def test_another_accounts_backlog_delays_nobody(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as smsc:
        settings = line_settings([channel_to(smsc, "a", max_tps=TPS)])
        store = await Store.open(settings, valkey.url, incarnation="worker01")
        one = message(store, account="A", category=NOTIFICATION)
        for _ in range(0, 200_000, 10_000):
            await accepted(store, [replace(one, id=keys.new_id(0), msisdn=number()) for _ in range(10_000)])

        w = Worker(settings, store)
        await w.start()
        rows = smsc.ledger.submits
        await until(lambda: len(rows) > 20)
        theirs = message(store, account="B", category=NOTIFICATION)
        await accepted(store, [theirs])
        before = len(rows)
        await until(lambda: theirs.msisdn in smsc.ledger.destinations())
        assert smsc.ledger.destinations().index(theirs.msisdn) - before <= 2 * DRAW

        # A hundred of B share what goes out with A, turn by turn.
        more = [message(store, account="B", category=NOTIFICATION) for _ in range(100)]
        await accepted(store, more)
        before, last = len(rows), more[-1].msisdn
        await until(lambda: last in smsc.ledger.destinations())
        numbers = {m.msisdn for m in more}
        share = sum(1 for row in rows[before:] if row.destination in numbers) / len(rows[before:])
        assert 0.4 < share < 0.7
        await w.stop()
        await store.close()
