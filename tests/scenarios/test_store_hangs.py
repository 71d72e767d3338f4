"""The store hangs for 5 s: answers come in bounded time and say `unknown`, and what was executed late counts once."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from tests.support.gateway_process import Answer, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

HANGS_S = 5.0
BOUND_S = 4.5
"""The store's time-out is 3 s and the machine may be busy; a client library's retries would make it 8 s and more."""


async def test_a_hanging_store_doubles_nothing(tmp_path: Path) -> None:
    async with (
        carrier(latency_s=0.02, redeliver_s=0.2) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, shards=4) as gateway,
    ):
        async with gateway.traffic(clients=3, every_s=0.02) as traffic:
            await until(lambda: traffic.accepted > 100)
            store = gateway.store_process()
            stopped_at = time.monotonic()
            store.send_signal(signal.SIGSTOP)
            try:
                alone = [asyncio.create_task(gateway.send(gateway.message())) for _ in range(20)]
                keyed = [gateway.message() for _ in range(20)]
                kept = [asyncio.create_task(gateway.send(b, key=f"key-{i}")) for i, b in enumerate(keyed)]
                answers: list[Answer] = await asyncio.gather(*alone, *kept)
                assert (await gateway.readyz())[0] == 503
                await until(lambda: time.monotonic() - stopped_at > HANGS_S)
            finally:
                store.send_signal(signal.SIGCONT)
            assert {answer.status for answer in answers} == {503}
            assert max(answer.seconds for answer in answers) < BOUND_S
            # What was on its way is `unknown`; those that never left, behind it, are `not_stored`.
            assert "unknown" in {answer.outcome for answer in answers} or traffic.answers[503, "unknown"]
            before = traffic.accepted
            await until(lambda: traffic.accepted > before + 100)
            assert gateway.store_process().pid == store.pid

        # Those with a key may ask again, and get one message whatever the store had done by then.
        again = [await gateway.send_surely(body, key=f"key-{i}") for i, body in enumerate(keyed)]
        assert len({answer.id for answer in again}) == len(keyed)
        # A claim whose answer was lost is found by the worker's comparison, once a lease.
        states = await gateway.until_final(timeout_s=45)
        report = await gateway.audit([smsc])
        assert states == {"delivered": states.total()}
        assert report.copies == 0
