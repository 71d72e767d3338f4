"""A message that its channel did not deliver goes again through the next one: one copy, flagged, one final state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.dispatch import quality
from gateway.dispatch.redelivery import Redeliverer
from gateway.model import Category
from gateway.settings import Settings
from gateway.simulator.smsc import Smsc
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "_LOOK_S", 0.05)


def line(first: Smsc, second: Smsc, after_s: int = 2, **changes: Any) -> Settings:
    settings = line_settings([channel_to(first, "a", **changes), channel_to(second, "b")])
    (route,) = settings.routes
    route = replace(route, redeliver_after_s=((Category.VERIFICATION, after_s),))
    return replace(settings, routes=(route,))


def receipts_usually_come(valkey: ValkeyServer, channel: str, submitted: int = 100, receipts: int = 95) -> None:
    """Let a channel have a past: its receipts come within a second."""
    slot = int(time.time()) // 300 * 300 - 600
    with valkey.sync() as client:
        for what, n in (("s", submitted), ("D", receipts), ("t0", receipts)):
            client.hset(f"{P}quality:{slot}", f"{channel}\x1fchina-mobile\x1f0\x1f{what}", n)


def overdue_now(valkey: ValkeyServer) -> None:
    """Let what is filed by 15 s be due."""
    with valkey.sync() as client:
        now = int(time.time()) // 15 * 15
        for key in client.keys(f"{P}late:*"):
            if not key.endswith((b"cursor", b":%d" % now)):
                client.rename(key, f"{P}late:{now}")
        client.set(f"{P}late:cursor", now)


async def codes(w: Worker, n: int, category: int = VERIFICATION) -> list[bytes]:
    return await accepted(w.store, [message(w.store, category=category) for _ in range(n)])


async def test_a_failed_code_is_delivered_by_the_backup(valkey: ValkeyServer) -> None:
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "IB:0008"),)) as a, carrier() as b:
        async with worker(line(a, b), valkey) as w:
            sids = await codes(w, 30)
            await end_as(w.store, sids, D=30)
            assert (set(submits(a).values()), set(submits(b).values())) == ({1}, {1})
            for sid in sids:
                found = await record(w.store, sid)
                assert [x.channel for x in found.attempts] == ["a", "b"]
                assert found.possible_duplicate
            assert w.metrics.counter("redeliveries_total", decision="sent").n == 30
            assert w.metrics.counter("possible_duplicates_total", cause="redelivery").n == 30


async def test_what_is_permanent_or_switched_off_is_final(valkey: ValkeyServer) -> None:
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "MK:0001"),)) as a, carrier() as b:
        async with worker(line(a, b), valkey) as w:
            await end_as(w.store, await codes(w, 10), U=10)
            await end_as(w.store, await codes(w, 10, MARKETING), U=10)
            assert not b.ledger.submits


async def test_both_fail_and_it_ends_once(valkey: ValkeyServer) -> None:
    failing: dict[str, Any] = {"failed_rate": 1.0, "failed_states": (("UNDELIV", "IB:0008"),)}
    async with carrier(**failing) as a, carrier(**failing) as b:
        async with worker(line(a, b), valkey) as w:
            await end_as(w.store, await codes(w, 20), U=20)
            assert (sum(submits(a).values()), sum(submits(b).values())) == (20, 20)


async def test_no_receipt_in_time_then_the_first_is_delivered_after_all(valkey: ValkeyServer) -> None:
    async with carrier(receipt_delay_s=3.0) as a, carrier(receipt_delay_s=60.0) as b:
        receipts_usually_come(valkey, "a")
        async with worker(line(a, b, after_s=1), valkey) as w:
            await until(lambda: w.dispatcher._quality.ratings.delay_p95_s("a") == 1.0)
            sids = await codes(w, 10)
            await until(lambda: len(a.ledger.submits) == 10)

            async def all_settled() -> bool:
                return {(await record(w.store, sid)).state for sid in sids} == {"s"}

            await until(all_settled)

            async def copies_out() -> bool:
                overdue_now(valkey)
                return len(b.ledger.submits) == 10

            await until(copies_out, every_s=0.1)
            await end_as(w.store, sids, D=10)
            assert (sum(submits(a).values()), sum(submits(b).values())) == (10, 10)
            for sid in sids:
                found = await record(w.store, sid)
                assert [(x.channel, x.state) for x in found.receipts] == [("a", "D")], "the late receipt of the first"
                assert found.possible_duplicate


async def test_without_receipts_as_a_rule_a_missing_one_says_nothing(valkey: ValkeyServer) -> None:
    async with carrier(receipt_delay_s=60.0) as a, carrier() as b:
        receipts_usually_come(valkey, "a", receipts=70)
        async with worker(line(a, b, after_s=1), valkey) as w:
            await until(lambda: w.dispatcher._quality.ratings.of("a").submitted == 100)
            sids = await codes(w, 10)

            async def decided() -> bool:
                overdue_now(valkey)
                return w.metrics.counter("redeliveries_total", decision="not").n == 10

            await until(decided, every_s=0.1)
            assert not b.ledger.submits
            await end_as(w.store, sids, s=10)


async def test_what_was_asked_for_before_it_was_switched_off_ends(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, hold = Redeliverer._look, True

    async def held(self: Redeliverer, shard: int) -> bool:
        return False if hold else await look(self, shard)

    monkeypatch.setattr(Redeliverer, "_look", held)
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "IB:0008"),)) as a, carrier() as b:
        async with worker(line(a, b), valkey) as w:
            sids = await codes(w, 10)

            async def asked() -> bool:
                return int(await w.store.client.execute("LLEN", f"{P}redo")) == 10

            await until(asked)
            w.use(line_settings([channel_to(a, "a"), channel_to(b, "b")]))
            hold = False
            await end_as(w.store, sids, U=10)
            assert not b.ledger.submits
