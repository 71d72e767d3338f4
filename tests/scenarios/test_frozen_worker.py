"""A dispatch worker frozen for longer than its lease: another takes over, and when it thaws it writes nothing."""

from __future__ import annotations

import asyncio
import signal

import pytest

from gateway.dispatch import lease
from gateway.store import moves
from tests.support.dispatch_process import LOST, arguments_of
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import VERIFICATION, accepted, carrier, end_as, receipt_pdu, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

LEASE_S = 1.0


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "LEASE_MS", int(LEASE_S * 1000))
    monkeypatch.setattr(lease, "_LEASE_S", LEASE_S)
    monkeypatch.setattr(lease, "HEARTBEAT_S", LEASE_S / 10)


async def test_a_frozen_worker_writes_nothing_after_its_lease(valkey: ValkeyServer) -> None:
    # Without receipts of its own: half of them would go to the frozen bind.
    async with carrier(latency_s=0.2, receipts=False) as smsc:
        settings = line_settings([channel_to(smsc, "a", max_tps=100)])
        command = arguments_of(valkey.url, "frozen01", LEASE_S, smsc.port, max_tps=100)
        frozen = await asyncio.create_subprocess_exec(*command)
        try:
            await until(lambda: smsc.counters.binds == 1, timeout_s=20)
            (its_link,) = smsc.links
            async with worker(settings, valkey, "living01", bound=False) as w:
                ms = [message(w.store, category=VERIFICATION) for _ in range(150)]
                sids = await accepted(w.store, ms)
                await until(lambda: len(smsc.ledger.submits) > 30)  # its window is never empty: 100 a second for 0.2 s
                frozen.send_signal(signal.SIGSTOP)
                await until(lambda: w.dispatcher.channels["a"].up, timeout_s=10)
                written = its_link.session.counters.pdus_received
                its_submits = [row.destination for row in smsc.ledger.submits if row.session == its_link.number]
                await end_as(w.store, sids, s=150)

                seen = submits(smsc)
                copies = [m for m in ms if seen[m.msisdn] > 1]
                assert copies
                assert len(copies) <= 50
                for m in ms:
                    assert seen[m.msisdn] <= 2
                    assert seen[m.msisdn] == 1 or (await record(w.store, m.id)).possible_duplicate

                # Work in the queue, and a receipt on its old connection to be answered, when it thaws.
                behind = await accepted(w.store, [message(w.store) for _ in range(50)])
                its_link.write_raw(receipt_pdu(smsc.ledger.submits[0].smsc_id, smsc.ledger.submits[0].destination, 1))
                frozen.send_signal(signal.SIGCONT)
                assert await asyncio.wait_for(frozen.wait(), 10) == LOST
                await until(lambda: its_link.lost)
                assert its_link.session.counters.pdus_received == written
                assert [r.destination for r in smsc.ledger.submits if r.session == its_link.number] == its_submits
                await end_as(w.store, behind, s=50)
                assert not w.lost
                assert await w.store.waiting() == 0
        finally:
            if frozen.returncode is None:
                frozen.kill()
                await frozen.wait()


async def test_a_worker_frozen_for_less_than_its_lease_goes_on(valkey: ValkeyServer) -> None:
    """No take-over, no copies."""
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a")])
        frozen = await asyncio.create_subprocess_exec(
            *arguments_of(valkey.url, "frozen01", LEASE_S, smsc.port, max_tps=200)
        )
        try:
            await until(lambda: smsc.counters.binds == 1, timeout_s=20)
            async with worker(settings, valkey, "living01", bound=False) as w:
                sids = await accepted(w.store, [message(w.store, category=VERIFICATION) for _ in range(100)])
                await until(lambda: len(smsc.ledger.submits) > 20)
                frozen.send_signal(signal.SIGSTOP)
                await asyncio.sleep(LEASE_S / 2)  # the length of the freeze, not a barrier
                frozen.send_signal(signal.SIGCONT)
                await end_as(w.store, sids, D=100)
                assert set(submits(smsc).values()) == {1}
                assert frozen.returncode is None
        finally:
            if frozen.returncode is None:
                frozen.kill()
                await frozen.wait()
