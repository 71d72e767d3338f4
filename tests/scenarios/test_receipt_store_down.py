"""Receipts that arrive while the store hangs or is gone: refused with 0x08 or not answered, then recorded once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer

SYSTEM_ERROR = 0x08


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("fault", ["hangs", "is killed"])
async def test_receipts_are_not_acknowledged_before_they_are_recorded(own_valkey: ValkeyServer, fault: str) -> None:
    async with (
        carrier(receipt_delay_s=0.6, redeliver_s=0.2) as smsc,
        worker(line_settings([channel_to(smsc, "a", binds=2)]), own_valkey) as w,
    ):
        w.store.client.timeout_s = 0.5
        sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(60)])
        await end_as(w.store, sids, s=60)
        if fault == "hangs":
            own_valkey.signal(signal.SIGSTOP)
        else:
            own_valkey.kill()
        await until(lambda: smsc.counters.receipts_refused >= 60)
        refused = [row.ack for row in smsc.ledger.receipts]
        assert 0 not in refused
        assert SYSTEM_ERROR in refused

        if fault == "hangs":
            own_valkey.signal(signal.SIGCONT)
        else:
            own_valkey.start()
        await end_as(w.store, sids, D=60, timeout_s=20)
        # What the store carried out when it woke is known before the SMSC has asked again.
        await until(lambda: smsc.counters.settled == 60)
        for sid in sids:
            r = await record(w.store, sid)
            assert len(r.receipts) == 1
            assert not r.possible_duplicate
        assert len(smsc.ledger.submits) == 60
        assert not w.lost


async def test_results_that_cannot_be_recorded_wait_and_stop_the_claims(own_valkey: ValkeyServer) -> None:
    """Responses arrive while the store is gone: kept in memory, written first when it returns; nobody is sent twice."""
    async with carrier(latency_s=0.5) as smsc:
        settings = line_settings([channel_to(smsc, "a", window=20)])
        async with worker(settings, own_valkey) as w:
            w.store.client.timeout_s = 0.5
            sids = await accepted(w.store, [message(w.store) for _ in range(60)])
            await until(lambda: len(smsc.ledger.submits) >= 18)
            own_valkey.kill()
            await until(lambda: smsc.counters.answered_ok >= 18)
            await until(lambda: w.dispatcher._settler.failing)
            sent = len(smsc.ledger.submits)
            await until(lambda: smsc.counters.answered_ok == sent)
            own_valkey.start()
            await end_as(w.store, sids, D=60, timeout_s=20)
            assert len(smsc.ledger.submits) == 60
            assert not w.lost
