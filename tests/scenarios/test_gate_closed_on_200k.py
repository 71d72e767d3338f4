"""A gate closed on 200,000 queued and scheduled messages under load: exact counts, and the other traffic goes on.

A whole gateway: `smsgw gate close --dry-run`, then the close over the admin API, an admin worker killed half-way.
The messages are 50,000 in `make test`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from gateway.simulator.smsc import Smsc
from gateway.store import keys
from gateway.store.store import Store
from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import CATEGORIES, AuditedGateway
from tests.support.messages import message, number
from tests.support.scenario import MARKETING, carrier
from tests.support.size import size
from tests.support.until import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.long]

MESSAGES = size(50_000, 200_000)
SLICE = 1_000
OTHERS_PER_S = 40
FAR_MS = 3_600_000
CLAIMED_MOST = 600
"""What a channel of 300 a second has in hand, and sends between two looks of the test."""


class Others:
    """Traffic that goes on meanwhile: a code and a notification in turn, each with its time of posting."""

    def __init__(self, gateway: AuditedGateway) -> None:
        self._gateway = gateway
        self.posted: dict[str, tuple[str, float]] = {}
        self._numbers: Iterator[str] = (f"86139{i:08d}" for i in range(100_000_000))

    async def run(self) -> None:
        due = time.monotonic()
        while True:
            for category in ("verification", "notification"):
                to = next(self._numbers)
                body = {"to": f"+{to}", "category": category, "text": "hello"}
                at = time.monotonic()
                status, answer = await self._gateway.post(body)
                assert status == 202, answer
                self.posted[to] = (category, at)
            due += 2 / OTHERS_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def waits(self, smsc: Smsc) -> list[float]:
        """Return how long codes took from their post to the carrier (s)."""
        codes = {to: at for to, (category, at) in self.posted.items() if category == "verification"}
        return [row.at - codes[row.destination] for row in smsc.ledger.submits if row.destination in codes]


async def smsgw(gateway: AuditedGateway, *args: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *args, "--config", str(gateway.config_dir), "--json"),
        env={**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return json.loads(out)


async def fill(store: Store) -> None:
    """Accept the campaign: one half queued, the other scheduled in an hour."""
    one = message(store, campaign="spring", category=MARKETING, route="cn")
    at_ms = int(time.time() * 1000) + FAR_MS
    timed = message(store, campaign="spring", category=MARKETING, route="cn", send_at_ms=at_ms, state="h")
    for i in range(0, MESSAGES, SLICE):
        kind = timed.kind if i // SLICE % 2 else one.kind
        ms = [replace(one, id=keys.new_id(0), msisdn=number(), kind=kind) for _ in range(SLICE)]
        assert Counter(getattr(a, "code", "") for a in await store.accept(ms)) == {"accepted": SLICE}


class Watch:
    """Follows the sweep over the admin API, through the death of an admin worker."""

    def __init__(self, gateway: AuditedGateway) -> None:
        self._gateway = gateway
        self.seen: list[int] = []

    async def gate(self) -> dict[str, Any]:
        status, listed = await self._gateway.admin("GET", "/admin/v1/gates")
        assert status == 200, listed
        (gate,) = listed["gates"]
        self.seen.append(gate["closed"])
        return dict(gate)

    async def closed(self, n: int) -> bool:
        return bool((await self.gate())["closed"] > n)

    async def done(self) -> bool:
        try:
            return bool((await self.gate())["sweep"]["done"])
        except (aiohttp.ClientError, OSError, AssertionError):
            return False  # the admin worker is being started again


async def close_and_kill(gateway: AuditedGateway, watch: Watch) -> float:
    """Close the gate, kill the admin worker at a third, wait for the end; returns the seconds that took."""
    with redis.Redis.from_url(gateway.store_url()) as client:
        client.config_set("slowlog-log-slower-than", 1000)
        client.config_set("slowlog-max-len", 100_000)
    started = time.monotonic()
    body = {"kind": "campaign", "name": "spring", "state": "closed"}
    status, answer = await gateway.admin("PUT", "/admin/v1/gates", body)
    assert (status, answer["state"]) == (200, "closed")
    await until(lambda: watch.closed(MESSAGES // 3), timeout_s=90, every_s=0.2)
    (admin,) = gateway.workers("admin")
    admin.kill()
    await until(watch.done, timeout_s=120, every_s=0.2)
    return time.monotonic() - started


def longest_ms(gateway: AuditedGateway) -> float:
    """Return how long the store was held by the longest slice (SLOWLOG has what took more than 1 ms)."""
    with redis.Redis.from_url(gateway.store_url()) as client:
        rows = [row["duration"] for row in client.slowlog_get(100_000) if b"gate_sweep" in row["command"]]
    print(f"{len(rows)} slices took more than 1 ms, {sum(r > 5000 for r in rows)} more than 5 ms")
    return max(rows, default=0) / 1000


async def cancelled(store: Store) -> int:
    """Return how many messages statistics count as cancelled."""
    hour = int(time.time()) // 3600
    tables = [await store.statistics(h) for h in (hour - 1, hour)]
    return sum(n for table in tables for field, n in table.items() if field[8] == "C")


async def test_every_message_of_the_campaign_is_accounted_for(tmp_path: Path) -> None:
    async with (
        carrier(receipt_delay_s=0.05) as smsc,
        AuditedGateway(tmp_path, {"a": smsc.port}, channel="max_tps = 300\n", categories=CATEGORIES) as gateway,
        gateway.store() as store,
    ):

        def away() -> int:
            """Messages of the campaign that reached the carrier."""
            return sum(1 for to in smsc.ledger.destinations() if to.startswith("86138"))

        others, watch = Others(gateway), Watch(gateway)
        await fill(store)
        async with asyncio.TaskGroup() as group:
            traffic = group.create_task(others.run())
            await until(lambda: len(others.posted) > 40)
            before = away()
            found = await smsgw(gateway, "gate", "close", "--campaign", "spring", "--dry-run", "--quick")
            counted = found["waiting"]
            assert (found["scheduled"], found["next"]) == (MESSAGES // 2, "")
            at_close, sent = away(), len(smsc.ledger.submits)
            # What was claimed as the queue was counted is in a worker's hands: neither waiting nor away.
            assert MESSAGES - at_close - CLAIMED_MOST <= counted <= MESSAGES - before
            seconds = await close_and_kill(gateway, watch)
            rate = (len(smsc.ledger.submits) - sent) / seconds
            traffic.cancel()

        # 1. Exact counts: accepted = away + closed, by the gate, the statistics and the waiting counter.
        async def settled() -> bool:
            return await store.waiting() == 0 and set(others.posted) <= set(smsc.ledger.destinations())

        await until(settled, timeout_s=20, every_s=0.1)
        gone, gate = away(), await watch.gate()
        assert gate["closed"] == MESSAGES - gone == await cancelled(store)
        assert gate["sweep"]["left"] == 0
        assert watch.seen == sorted(watch.seen)
        assert counted - (gone - before) <= gate["closed"] <= counted
        assert len(set(smsc.ledger.destinations())) == len(smsc.ledger.submits)  # nobody got it twice
        # 2. After the close only what was claimed went out; what was closed was closed once.
        assert gone - at_close <= CLAIMED_MOST
        # 3. The other traffic went on, and a code's wait stayed small.
        waits = sorted(others.waits(smsc))
        middle, p99 = waits[len(waits) // 2] * 1000, waits[int(len(waits) * 0.99)] * 1000
        print(
            f"closed {gate['closed']} in {seconds:.1f} s; longest slice {longest_ms(gateway):.1f} ms; "
            f"{rate:.0f} submits/s of others; codes waited {middle:.0f} ms at the median, {p99:.0f} ms at p99"
        )
        assert p99 < 2000
