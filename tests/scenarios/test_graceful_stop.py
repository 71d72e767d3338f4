"""SIGTERM under traffic, at a carrier that takes 2 s to answer: nothing lost, no copy, an end within 35 s."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

LATENCY_S = 2.0
END_S = 35.0


async def test_a_stop_under_traffic_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with (
        carrier(latency_s=LATENCY_S) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, dispatch_workers=2, channel="window = 40\nbinds = 2") as gateway,
    ):
        async with gateway.traffic(every_s=0.05, surely=False) as traffic:
            await until(lambda: smsc.counters.submits > 150)
            ending = asyncio.create_task(gateway.terminate())
            began = time.monotonic()
            # Not ready first, and new posts are refused as such, before any listener closes.
            await until(lambda: _draining(gateway))
            await until(lambda: traffic.answers[503, "not_stored"] > 0)
            in_flight = smsc.counters.submits - smsc.counters.answered_ok
            assert in_flight > 0
        assert await ending == 0
        assert time.monotonic() - began < END_S
        # A client that came too late found no listener, or was refused; nobody was left without knowing.
        assert {status for status, _ in traffic.answers} <= {0, 202, 503}
        assert (503, "unknown") not in traffic.answers
        assert smsc.counters.answered_ok == smsc.counters.submits  # each answer was waited for
        assert smsc.counters.sessions == 0
        sent = {s.smsc_id for s in smsc.ledger.submits}

        smsc.options.latency_s = 0.0
        await gateway.start()
        states = await gateway.until_final()
        report = await gateway.audit([smsc])
        assert states == {"delivered": states.total()}
        assert (report.copies, report.lost) == (0, [])
        assert report.submits > len(sent)  # and the queue that was left went on


async def _draining(gateway: AuditedGateway) -> bool:
    status, reasons = await gateway.readyz()
    return status == 503 and "draining" in reasons
