"""Two supervised workers share one channel's binds and rate; one is killed under traffic, and its bind slot is served
again long before a lease would end.
"""

from __future__ import annotations

import time
from pathlib import Path

from gateway.simulator.smsc import Smsc
from tests.support.gateway_process import MARKETING, UNCERTAIN, AuditedGateway
from tests.support.lag import Lag
from tests.support.scenario import carrier
from tests.support.until import until

BINDS = 2
WINDOW = 20
TPS = 200
KILLS = 2
TAKEN_OVER_S = 6.0  # of a lease of ten; alone on a machine it is under one


async def test_its_bind_slot_is_taken_over_before_a_lease_ends(tmp_path: Path) -> None:
    # A third bind would be refused, so none may ever be tried.
    async with (
        carrier(latency_s=0.05, max_sessions=BINDS) as smsc,
        AuditedGateway(
            tmp_path,
            {"cm-a": smsc.port},
            dispatch_workers=2,
            shards=2,
            channel=f"binds = {BINDS}\nwindow = {WINDOW}\nmax_tps = {TPS}",
        ) as gateway,
    ):
        async with Lag() as lag, gateway.traffic(every_s=0.1):
            for _ in range(KILLS):
                await until(lambda: len(gateway.workers("dispatch")) == 2)
                await until(lambda: smsc.counters.sessions == BINDS and _both_submit(smsc), timeout_s=20)
                bound = smsc.counters.binds
                victim = gateway.workers("dispatch")[0]
                name = gateway.incarnation(victim)
                killed_at = time.monotonic()
                victim.kill()
                await until(lambda bound=bound: smsc.counters.binds > bound and smsc.counters.sessions == BINDS)
                assert time.monotonic() - killed_at < TAKEN_OVER_S
                while await gateway.claims(name):
                    assert time.monotonic() - killed_at < TAKEN_OVER_S, "the dead worker's claims stand"
        budget = KILLS * WINDOW * BINDS
        states = await gateway.until_final(but=[UNCERTAIN])
        report = await gateway.audit([smsc], copies_allowed=budget, settled=False)
        assert states["delivered"] + states[UNCERTAIN] == report.accepted
        assert states[UNCERTAIN] <= budget
        assert report.lost == []
        assert smsc.counters.binds_refused == 0
        adverts = {row.to.lstrip("+") for row in gateway.client if row.category == MARKETING}
        assert all(len(smsc.ledger.to(number)) <= 1 for number in adverts)
        times = sorted(row.at for row in smsc.ledger.submits)
        most = TPS * (1.1 + lag.most_s) + 2  # what this process saw late it saw in a lump
        for i, start in enumerate(times):
            assert sum(1 for t in times[i : i + 3 * TPS] if t < start + 1.0) <= most


def _both_submit(smsc: Smsc) -> bool:
    """Whether the last submits came over both sessions that are bound now."""
    return len({row.session for row in smsc.ledger.submits[-40:]} & {link.number for link in smsc.links}) == BINDS
