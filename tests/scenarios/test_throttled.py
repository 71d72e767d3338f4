"""A carrier that says 0x58: the messages wait and go again on the same channel, and no attempt is used up."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from gateway.dispatch import outcome
from gateway.simulator.behaviour import Plan
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.mark.parametrize("status", [0x58, 0x14])
@pytest.mark.parametrize("rate", [0.3, 1.0])
async def test_a_throttled_message_uses_no_attempt(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, rate: float, status: int
) -> None:
    monkeypatch.setattr(outcome, "SLOW_FIRST_MS", 20)
    monkeypatch.setattr(outcome, "SLOW_MOST_MS", 100)
    monkeypatch.setattr(outcome, "ONE_QUEUE_MS", (20, 100))
    async with carrier(error_rate=rate, error_codes=(status,)) as smsc, carrier() as backup:
        settings = line_settings([channel_to(smsc, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            n = 2 if rate == 1.0 else 60
            sids = await accepted(w.store, [message(w.store, category=1 + i % 2) for i in range(n)])
            # More refusals than any category has attempts; the rate is cut each second, to one a second at last.
            await until(lambda: smsc.counters.answered_error >= (2 * 8 if rate == 1.0 else 15), timeout_s=20)
            smsc.options.error_rate = 0.0
            await end_as(w.store, sids, D=n, timeout_s=20)
            for sid in sids:
                r = await record(w.store, sid)
                assert [(a.number, a.channel, a.outcome) for a in r.attempts] == [(1, "a", "sent")]
                assert not r.possible_duplicate
            assert not backup.ledger.submits
            assert smsc.counters.binds == 1


async def test_the_rate_settles_where_the_carrier_allows_it(valkey: ValkeyServer) -> None:
    """A carrier allows 100 a second and more is configured, or nothing; both at once, each on a store of its own."""
    other = ValkeyServer()
    other.start()
    try:
        await asyncio.gather(settles(valkey, 300), settles(other, 0))
    finally:
        other.stop()


async def settles(valkey: ValkeyServer, configured: int) -> None:
    """Nearly all that the carrier allows goes through, little is refused."""
    answers: list[tuple[float, int]] = []
    allowed = 100.0
    tokens, filled_at = 10.0, time.monotonic()

    def plan(link: object, pdu: object) -> Plan | None:
        nonlocal tokens, filled_at
        now = time.monotonic()
        tokens = min(10.0, tokens + (now - filled_at) * allowed)
        filled_at = now
        status = 0 if tokens >= 1 else 0x58
        tokens -= status == 0
        answers.append((now, status))
        return Plan(status=status) if status else None

    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.02)

    async with carrier(receipts=False) as smsc:
        smsc.on_submit = plan
        async with worker(line_settings([channel_to(smsc, "a", max_tps=configured, window=50)]), valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(1_500)])
            await until(lambda: bool(answers))
            began = answers[0][0]
            pulse = asyncio.create_task(beat())
            await until(lambda: time.monotonic() - began >= 10.0, timeout_s=15)
            pulse.cancel()
            seen = [(at - began, status) for at, status in answers if at - began <= 10.0]
            sent = sum(status == 0 for _, status in seen)
            later = [status for at, status in seen if at > 3.0]
            # While this process did not run, nobody could have sent what the carrier would have allowed.
            stalled = sum(gap - 0.1 for gap in (b - a for a, b in pairwise(beats)) if gap > 0.1)
            assert sent >= (0.95 if configured else 0.6) * allowed * (10.0 - stalled)
            assert sum(status != 0 for status in later) < 0.05 * len(later)
            assert 80 <= w.dispatcher._claimer.rates()["a"] <= 130
            assert w.dispatcher._health.of("a").state == "closed", "slow is not broken"
            assert {(await record(w.store, sid)).attempt for sid in sids} <= {0, 1}
