"""A message whose time is over is never submitted, and ends as `expired` also while every channel is down."""

from __future__ import annotations

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, bring_forward, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_everything_expires_while_all_channels_are_down(valkey: ValkeyServer, shards: int) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")], shards=shards)
        for one in (primary, backup):
            await one.stop_listening()
        async with worker(settings, valkey, bound=False) as w:
            short = await accepted(w.store, [message(w.store, category=i % 3, ttl_ms=300) for i in range(30)])
            longer = await accepted(w.store, [message(w.store, category=i % 3) for i in range(6)])
            last = (await record(w.store, short[-1])).expires_at_ms

            async def over() -> bool:
                bring_forward(valkey, "exp", shards)
                return (await record(w.store, short[-1])).state == "E"

            await until(over, every_s=0.1)
            await end_as(w.store, short, E=30)
            assert (await record(w.store, short[0])).reason == "expired"
            assert (await record(w.store, short[-1])).state_at_ms >= last
            assert await w.store.waiting() == 6

            await primary.start()
            await backup.start()
            await end_as(w.store, longer, D=6)
            assert len(primary.ledger.submits) + len(backup.ledger.submits) == 6
            assert await w.store.waiting() == 0


async def test_nothing_leaves_after_its_time(valkey: ValkeyServer) -> None:
    """A backlog on a slow channel: some are in time, the rest end where they would have been claimed."""
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a", max_tps=40)]), valkey) as w:
        ms = [message(w.store, ttl_ms=1_000) for _ in range(80)]
        sids = await accepted(w.store, ms)
        lasting = await accepted(w.store, [message(w.store)])
        await end_as(w.store, lasting, D=1)
        await until(lambda: w.dispatcher.claims == 0)
        found = {r.msisdn: r for r in [await record(w.store, sid) for sid in sids]}
        delivered = [r for r in found.values() if r.state == "D"]
        assert 20 < len(delivered) < 80
        assert {r.state for r in found.values()} == {"D", "E"}
        for row in smsc.ledger.submits[:-1]:
            # The octets take their way; the decision was made before.
            assert row.at_ms <= found[row.destination].expires_at_ms + 20
        assert len(smsc.ledger.submits) == len(delivered) + 1


async def test_the_smsc_is_told_how_long_a_message_lives(valkey: ValkeyServer) -> None:
    """validity_period: relative, so that a late copy dies at the SMSC whatever its clock says."""
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        ms = [message(w.store, ttl_ms=ttl * 1000) for ttl in (30, 300, 3 * 86_400)]
        await end_as(w.store, await accepted(w.store, ms), D=3)
        periods = {row.destination: row.validity_period for row in smsc.ledger.submits}
        assert [periods[m.msisdn] for m in ms] == [
            "000000000025000R",
            "000000000455000R",
            "000002233000000R",
        ]
