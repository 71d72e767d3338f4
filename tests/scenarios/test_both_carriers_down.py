"""Primary and backup are both down: the queue fills to its limit and then says 503, what expires is reported, and when
they return there is no burst above the rate.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import redis

from gateway.simulator.smsc import Smsc
from tests.support.gateway_process import NOTIFICATION, UNCERTAIN, Answer, AuditedGateway
from tests.support.scenario import bring_forward, carrier
from tests.support.until import until

MOST_QUEUED = 250
TPS = 120
WINDOW = 10
SHORT = 50


class _Store:
    """What `bring_forward` asks of a store server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def sync(self) -> redis.Redis:
        return redis.Redis.from_url(self._url)


async def test_the_queue_fills_says_so_and_empties_at_the_rate(tmp_path: Path) -> None:
    channel = f"window = {WINDOW}\nmax_tps = {TPS}"
    async with (
        carrier() as primary,
        carrier() as backup,
        AuditedGateway(
            tmp_path,
            {"cm-a": primary.port, "cm-b": backup.port},
            channel=channel,
            store=f"max_queued = {MOST_QUEUED}",
        ) as gateway,
    ):
        for _ in range(10):
            await gateway.send(gateway.message())
        await gateway.until_final()
        for smsc in (primary, backup):
            await smsc.stop_listening()
            smsc.drop_sessions()
        before = len(primary.ledger.submits)

        short = await gateway.send_batch([gateway.message(NOTIFICATION, ttl_s=1) for _ in range(SHORT)])
        answers: list[Answer] = []
        while not (answers and answers[-1].status == 503):
            answers += await gateway.send_batch([gateway.message(NOTIFICATION) for _ in range(50)])
        assert Counter(a.status for a in [*short, *answers])[202] == MOST_QUEUED
        assert all((a.code, a.outcome) == ("overloaded", "not_stored") for a in answers if a.status == 503)

        # Its time is over while nobody can take it: reported, and there is room for others again.
        async def expired() -> bool:
            bring_forward(_Store(gateway.store_url()), "exp")  # type: ignore[arg-type]
            return (await gateway.states())["expired"] == SHORT

        await until(expired, every_s=0.2)
        more = await gateway.send_batch([gateway.message(NOTIFICATION) for _ in range(SHORT)])
        assert {a.status for a in more} == {202}

        await backup.start()
        await primary.start()
        states = await gateway.until_final(but=[UNCERTAIN])
        assert states == {"expired": SHORT, "delivered": 10 + MOST_QUEUED}
        report = await gateway.audit([primary, backup])
        assert (report.copies, report.lost) == (0, [])
        assert len(primary.ledger.submits) + len(backup.ledger.submits) == 10 + MOST_QUEUED
        for smsc in (primary, backup):
            assert _most_in_a_second(smsc, before if smsc is primary else 0) <= TPS * 1.1 + 2


def _most_in_a_second(smsc: Smsc, first: int) -> int:
    times = [row.at for row in smsc.ledger.submits[first:]]
    return max((sum(start <= t < start + 1.0 for t in times) for start in times), default=0)
