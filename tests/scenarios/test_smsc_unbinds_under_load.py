"""The SMSC unbinds under load: it gets its unbind_resp, the window is settled by policy, the channel binds again."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway_process import MARKETING, UNCERTAIN, AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

WINDOW = 20
UNBINDS = 2


async def test_an_unbind_costs_at_most_the_window(tmp_path: Path) -> None:
    async with (
        carrier(latency_s=0.05, latency_jitter_s=0.05) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, channel=f"window = {WINDOW}\nbinds = 2") as gateway,
    ):
        async with gateway.traffic(every_s=0.02):
            for n in range(1, UNBINDS + 1):
                await until(lambda: smsc.counters.sessions == 2)
                before = len(smsc.ledger.submits)
                await until(lambda before=before: len(smsc.ledger.submits) > before + 50)
                await until(lambda: all(link.unanswered for link in smsc.links), every_s=0.001)
                smsc.unbind_sessions()
                # Answered by unbind_resp, not by a connection that is merely closed.
                await until(lambda n=n: smsc.counters.unbinds == 2 * n)
            await until(lambda: smsc.counters.sessions == 2)
        budget = UNBINDS * 2 * WINDOW
        states = await gateway.until_final(but=[UNCERTAIN])
        report = await gateway.audit([smsc], copies_allowed=budget, settled=False)
        assert states["delivered"] + states[UNCERTAIN] == report.accepted
        assert report.lost == []
        assert 0 < states[UNCERTAIN] + report.copies <= budget
        records = await gateway.records()
        assert sum(r.possible_duplicate for r in records) <= budget
        sent = {row.to.lstrip("+") for row in gateway.client if row.category == MARKETING}
        assert all(len(smsc.ledger.to(number)) == 1 for number in sent)  # adverts go once
        assert smsc.counters.binds == 2 * (UNBINDS + 1)
