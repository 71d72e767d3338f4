"""The dispatch worker killed at 20 random instants under traffic: nothing lost, copies few, flagged and by policy.
(At ten in `make test`.)

A kill cannot tell claimed from sent, so every claim of the dead is uncertain: a code goes again at once, a
notification after its grace, an advert never. Within 2 s of each kill nothing may stand under the
dead worker's name.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.support.gateway_process import MARKETING, UNCERTAIN, AuditedGateway
from tests.support.scenario import carrier
from tests.support.size import size
from tests.support.until import until

pytestmark = pytest.mark.long

KILLS = size(10, 20)
TAKEN_BACK_S = 6.0  # of a lease of ten; alone on a machine it is under one
SPREAD_S = 1.5
"""A worker takes about half a second from its start until it submits; the kills are spread over more than that."""


async def test_a_worker_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with (
        carrier(latency_s=0.03, latency_jitter_s=0.02) as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, shards=4, channel="response_timer_s = 0.5\nbinds = 2") as gateway,
    ):
        slowest_s = 0.0
        async with gateway.traffic(every_s=0.05):
            for n in range(KILLS):
                [worker] = await until(lambda: gateway.workers("dispatch"))
                if not smsc.options.answer_binds:  # killed between its bind and the answer to it
                    await until(lambda: smsc.links and not smsc.counters.sessions)
                else:
                    if n % 2 == 0:  # at work, however long this machine took to start it
                        sent = smsc.counters.submits
                        await until(lambda sent=sent: smsc.counters.submits > sent, timeout_s=30)
                    await asyncio.sleep(dice.uniform(0.0, SPREAD_S))  # the instant is the subject
                smsc.options.answer_binds = n % 4 != 2
                slowest_s = max(slowest_s, await _kill(gateway, worker))
        assert slowest_s < TAKEN_BACK_S

        # An advert waits 10 minutes for its receipt and is then closed; a notification's grace may not be over yet.
        states = await gateway.until_final(but=[UNCERTAIN])
        claimed = _taken_back(gateway)
        assert claimed["requeued"] > 0  # the kills did meet work in flight
        assert claimed["uncertain"] > 0
        report = await gateway.audit([smsc], copies_allowed=claimed["requeued"] + claimed["uncertain"], settled=False)
        assert states["delivered"] + states[UNCERTAIN] == report.accepted == states.total()
        assert states[UNCERTAIN] <= claimed["uncertain"]
        assert report.lost == []
        assert sum(r.possible_duplicate for r in await gateway.records()) <= claimed["requeued"] + claimed["uncertain"]
        sent = Counter(s.destination for s in smsc.ledger.taken())
        assert all(sent[row.to.lstrip("+")] <= 1 for row in gateway.client if row.category == MARKETING)
        assert await _parked(gateway) > 0  # receipts for ids that died with their worker are kept, not dropped


async def _kill(gateway: AuditedGateway, worker: psutil.Process) -> float:
    """Kill it; returns the seconds until nothing is claimed by it and another has taken its place."""
    name = gateway.incarnation(worker)
    killed_at = time.monotonic()
    worker.kill()
    await until(lambda: gateway.workers("dispatch") not in ([], [worker]))
    while await gateway.claims(name):
        assert time.monotonic() - killed_at < 15, "the dead worker's claims stand"
    return time.monotonic() - killed_at


def _taken_back(gateway: AuditedGateway) -> Counter[str]:
    """Add up what the supervisor says it took back from the dead."""
    total: Counter[str] = Counter()
    for event in gateway.events("claims of a dead worker taken back"):
        total.update({name: event[name] for name in ("requeued", "uncertain", "ended")})
    return total


async def _parked(gateway: AuditedGateway) -> int:
    async with gateway.store() as store:
        return sum([(await store.parked(shard, "cm-a"))[0] for shard in range(store.shards)])
