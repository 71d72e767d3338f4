"""The SMSC refuses the password: it is not asked again for a minute at least, an operator sees it, others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import VERIFICATION, carrier

LOOKED_AT_S = 5.0
"""By then the pauses after any other failure (at most 0.5, 1, 2 s) would have been over three times."""


async def test_a_wrong_password_locks_no_account_and_costs_nobody_else(tmp_path: Path) -> None:
    async with (
        carrier(system_id="esme", password="another") as strict,
        carrier() as other,
        AuditedGateway(tmp_path, {"cm-a": strict.port, "cm-b": other.port}, channel="binds = 2") as gateway,
    ):
        async with gateway.traffic(every_s=0.05):
            await asyncio.sleep(LOOKED_AT_S)  # the silence is the subject
        states = await gateway.until_final()
        assert strict.counters.binds_refused == 2, "each of the two binds asked once"
        assert await gateway.metric("smsgw_binds_total", channel="cm-a", result="refused") == 2
        assert await gateway.metric("smsgw_channel_up", channel="cm-a") == 0
        refusals = gateway.events("bind refused with command_status 0x0000000E")
        assert len(refusals) == 2
        assert "secret" not in gateway.log()

        report = await gateway.audit([strict, other])
        assert states == {"delivered": report.accepted}
        assert (report.submits, report.copies) == (report.accepted, 0)
        assert not strict.ledger.submits
        assert other.counters.binds == 2
        at = {row.destination: row.at_ms for row in other.ledger.submits}
        codes = [r for r in await gateway.records() if r.category == VERIFICATION]
        assert max(at[r.msisdn] - r.accepted_at_ms for r in codes) < 2_000
