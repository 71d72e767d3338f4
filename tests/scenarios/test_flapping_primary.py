"""A primary that comes and goes every other second moves traffic at most twice a minute and costs no copy too many."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

from gateway.model import NewMessage, State
from gateway.settings import DispatchSettings
from gateway.simulator.smsc import Smsc
from tests.support.audit import audit_line
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

WINDOW = 10
UP_S = DOWN_S = 0.7
CYCLES = 4
MOVES_A_MINUTE = 2


async def flap(w: Worker, primary: Smsc) -> list[NewMessage]:
    """Let the primary come and go under traffic of all categories; returns what was accepted meanwhile."""
    ms: list[NewMessage] = []
    ended = asyncio.Event()

    async def traffic() -> None:
        while not ended.is_set():
            some = [message(w.store, category=i % 3) for i in range(6)]
            await accepted(w.store, some)
            ms.extend(some)
            await asyncio.sleep(0.03)

    posting = asyncio.create_task(traffic())
    try:
        for _ in range(CYCLES):
            await asyncio.sleep(UP_S)  # the rhythm is the fault
            await primary.stop_listening()
            primary.drop_sessions()
            await asyncio.sleep(DOWN_S)
            await primary.start()
    finally:
        ended.set()
        await posting
    return ms


async def test_every_cut_costs_at_most_a_window_and_nothing_is_stuck(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.02) as primary, carrier(latency_s=0.02) as backup:
        settings = line_settings([channel_to(primary, "a", window=WINDOW), channel_to(backup, "b", window=WINDOW)])
        async with worker(settings, valkey) as w:
            ms = await flap(w, primary)
            await until(lambda: w.dispatcher.claims == 0)

            async def none_waits() -> bool:
                return await w.store.waiting() == 0

            async def none_submitted() -> bool:
                return all([(await record(w.store, m.id)).state != State.SUBMITTED for m in ms])

            await until(none_waits)
            await until(none_submitted)  # a receipt that came early is applied right after its message was settled
            budget = CYCLES * WINDOW
            report = await audit_line(w.store, valkey, ms, [primary, backup], copies_allowed=budget, settled=False)
            assert (report.accepted, report.lost) == (len(ms), [])
            # What was cut on its way to the carrier is uncertain, and not yet sent again.
            sent = len(ms) + report.copies
            assert sent - report.states["uncertain"] <= sum((submits(primary) + submits(backup)).values()) <= sent


async def test_the_traffic_moves_at_most_twice_a_minute(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.02) as primary, carrier(latency_s=0.02) as backup:
        settings = line_settings([channel_to(primary, "a", window=WINDOW), channel_to(backup, "b", window=WINDOW)])
        settings = replace(settings, dispatch=DispatchSettings())
        async with worker(settings, valkey) as w:
            await flap(w, primary)
            rows = [(row.at, "a") for row in primary.ledger.submits] + [(row.at, "b") for row in backup.ledger.submits]
            moves = sum(before != after for (_, before), (_, after) in itertools.pairwise(sorted(rows)))
            assert moves <= MOVES_A_MINUTE, f"the traffic moved {moves} times in {CYCLES * (UP_S + DOWN_S)} s"
