"""A claim whose answer never reached its worker: found by comparison with the store, and given back as unsent."""

from __future__ import annotations

import pytest

from gateway.dispatch import dispatcher, lease
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import claim, held_by, message, request
from tests.support.scenario import accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_what_the_store_holds_for_us_and_we_do_not_know_goes_back(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.setattr(dispatcher, "_COMPARE_S", 0.1)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    async with carrier() as smsc:
        async with worker(line_settings([channel_to(smsc, "a")], shards=shards), valkey) as w:
            # Held while they are taken behind the worker's back, under its own name.
            await w.store.set_gate("account", "shop", "hold")
            ms = [message(w.store, category=i % 3) for i in range(30)]
            poison = message(w.store, body=b"{not json")
            sids = await accepted(w.store, [*ms, poison])
            await end_as(w.store, sids, w=31)
            w.dispatcher._claimer.stop()
            await until(lambda: w.dispatcher._claiming is not None and w.dispatcher._claiming.done())
            await w.store.set_gate("account", "shop", "open")
            taken = []
            for shard in range(shards):
                _, found, bad = await w.store.claim(shard, "lost", [request(100, channel="a")])
                taken += [c.id for _, c in found] + [one[:16] for _, one, _ in bad]
            assert sorted(taken) == sorted(sids)

            async def released() -> bool:
                return not [c for shard in range(shards) for c in await held_by(w.store, shard)]

            await until(released)
            assert not smsc.ledger.submits
        async with worker(line_settings([channel_to(smsc, "a")], shards=shards), valkey, "worker02") as w:
            await end_as(w.store, sids, D=30, F=1)
            assert set(submits(smsc).values()) == {1}
            r = await record(w.store, sids[0])
            assert (r.attempt, r.possible_duplicate) == (1, False)


async def test_claims_that_are_in_flight_are_left_alone(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_COMPARE_S", 0.05)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.02)
    async with carrier(latency_s=0.5) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        sids = await accepted(w.store, [message(w.store) for _ in range(20)])
        await end_as(w.store, sids, D=20)
        assert set(submits(smsc).values()) == {1}
        assert await claim(w.store) == []
