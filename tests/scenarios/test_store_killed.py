"""The embedded store killed -9 under ingest and dispatch: it is started again, and no 202 was in vain."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway_process import AuditedGateway, Traffic
from tests.support.scenario import carrier
from tests.support.until import until

KILLS = 3


async def test_the_store_killed_under_load_loses_no_202_and_makes_no_copy(tmp_path: Path) -> None:
    async with (
        carrier(latency_s=0.02, redeliver_s=0.2) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, api_workers=2) as gateway,
    ):
        async with gateway.traffic(clients=6, every_s=0.02) as traffic:
            for _ in range(KILLS):
                await _kill_and_recover(gateway, traffic)
        assert {status for status, _ in traffic.answers} == {202, 503}
        states = await gateway.until_final(timeout_s=45)
        report = await gateway.audit([smsc])  # no copies: whoever held a message is alive and knows what became of it
        assert states == {"delivered": report.accepted}
        await until(lambda: _counted(gateway))
        assert (await gateway.readyz())[0] == 200


async def _kill_and_recover(gateway: AuditedGateway, traffic: Traffic) -> None:
    await _flows(traffic)
    store, refused = gateway.store_process(), _refused(traffic)
    store.kill()
    await until(lambda: _refused(traffic) > refused)  # meanwhile: refused and said so
    await _flows(traffic)
    assert gateway.store_process().pid != store.pid


async def _flows(traffic: Traffic) -> None:
    before = traffic.accepted
    await until(lambda: traffic.accepted > before + 100)


def _refused(traffic: Traffic) -> int:
    return traffic.answers[503, "not_stored"] + traffic.answers[503, "unknown"]


async def _counted(gateway: AuditedGateway) -> bool:
    return await gateway.metric("smsgw_store_restarts_total") == KILLS
