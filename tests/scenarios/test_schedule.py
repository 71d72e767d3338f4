"""A message for later waits in the store: worker and store may both be restarted, and it leaves on time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


async def test_send_at_survives_a_restart_of_worker_and_store(own_valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a")])
        async with worker(settings, own_valkey, "before00") as w:
            send_at_ms = int(time.time() * 1000) + 1_500
            later = [message(w.store, category=i % 3, send_at_ms=send_at_ms) for i in range(30)]
            sids = await accepted(w.store, later)
            await end_as(w.store, await accepted(w.store, [message(w.store)]), D=1)
            await end_as(w.store, sids, h=30)
        own_valkey.kill()
        own_valkey.start()
        async with worker(settings, own_valkey, "after000") as w:
            await end_as(w.store, sids, h=30)
            assert len(smsc.ledger.submits) == 1
            await end_as(w.store, sids, D=30)
            times = [row.at_ms for row in smsc.ledger.submits[1:]]
            assert len(times) == 30
            assert min(times) >= send_at_ms
            assert max(times) < send_at_ms + 1_000
            # Counted from the moment they were due, not from when they were accepted.
            waited = w.metrics.histogram("accept_to_submit_seconds", category="notification")
            assert waited.sum < 10 * 1.0


async def test_a_time_that_is_past_means_now(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        m = message(w.store, send_at_ms=int(time.time() * 1000) - 60_000)
        await end_as(w.store, await accepted(w.store, [m]), D=1)


async def test_a_scheduled_message_can_be_cancelled_until_it_is_claimed(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        send_at_ms = int(time.time() * 1000) + 300
        ms = [message(w.store, send_at_ms=send_at_ms) for _ in range(4)]
        sids = await accepted(w.store, ms)
        assert await w.store.cancel(sids[0], "shop") == "cancelled"
        await end_as(w.store, sids, D=3, C=1)
        await until(lambda: w.dispatcher.claims == 0)
        assert ms[0].msisdn not in smsc.ledger.destinations()
        assert await w.store.cancel(sids[1], "shop") == "too_late"
