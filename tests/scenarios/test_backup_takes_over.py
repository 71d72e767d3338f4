"""The primary goes, its backlog flows to the backup; it returns, and so does the traffic. Nothing is ever stuck."""

from __future__ import annotations

from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_the_backlog_flows_to_the_backup_and_back(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a", max_tps=100), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            ms = [message(w.store, category=i % 3) for i in range(240)]
            sids = await accepted(w.store, ms)
            await until(lambda: len(primary.ledger.submits) >= 40)
            assert not backup.ledger.submits  # a bound primary keeps its work, however slow it is

            await primary.stop_listening()
            primary.drop_sessions()
            kept = submits(primary)
            await until(lambda: len(submits(backup)) >= 200 - sum(kept.values()))
            await until(lambda: w.dispatcher.claims == 0)
            # In flight at the cut: codes went again, the others wait. Of what the primary took before, the receipts
            # are still to come from there.
            found = [await record(w.store, sid) for sid in sids]
            assert {r.state for r in found} <= {"D", "s", "u"}
            assert sum(r.state == "u" or r.possible_duplicate for r in found) <= 50
            both = submits(primary) + submits(backup)
            # What was cut may or may not have reached the primary.
            assert all(both[r.msisdn] <= (2 if r.possible_duplicate else 1) for r in found)
            assert all(both[r.msisdn] or r.state == "u" for r in found)
            assert await w.store.waiting() == 0

            await primary.start()
            await until(lambda: w.dispatcher.channels["a"].up)
            answered = [r.id for r in found if r.state != "u"]
            await end_as(w.store, answered, D=len(answered))
            before = len(backup.ledger.submits)
            sids = await accepted(w.store, [message(w.store, category=NOTIFICATION) for _ in range(20)])
            await end_as(w.store, sids, D=20)
            assert len(backup.ledger.submits) == before


async def test_messages_accepted_while_both_are_down_leave_by_whichever_comes_back(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        for one in (primary, backup):
            await one.stop_listening()
        async with worker(settings, valkey, bound=False) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(30)])
            await until(lambda: not w.dispatcher.channels["a"].starting)
            await backup.start()
            await end_as(w.store, sids, D=30)
            assert not primary.ledger.submits


async def test_a_refused_message_moves_on_and_one_channel_that_refuses_all_holds_up_nobody(
    valkey: ValkeyServer,
) -> None:
    async with carrier(error_rate=1.0, error_codes=(0x45,)) as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(30)])
            await end_as(w.store, sids, D=30)
            assert set(submits(primary).values()) == {1}
            assert set(submits(backup).values()) == {1}
            r = await record(w.store, sids[0])
            assert [(a.number, a.channel, a.outcome) for a in r.attempts] == [(1, "a", "next"), (2, "b", "sent")]


async def test_a_backup_lost_as_well_gives_its_queue_back_to_the_primary(valkey: ValkeyServer) -> None:
    """Refused by the primary, then the backup dies; the earlier rank serves what waits there."""
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b", max_tps=5)])
        async with worker(settings, valkey) as w:
            primary.options.error_rate, primary.options.error_codes = 1.0, (0x45,)
            sids = await accepted(w.store, [message(w.store, category=MARKETING) for _ in range(20)])
            await until(lambda: len(primary.ledger.submits) == 20 and backup.ledger.submits)
            primary.options.error_rate = 0.0
            code = await accepted(w.store, [message(w.store, category=VERIFICATION)])
            await end_as(w.store, code, D=1)
            await backup.stop_listening()
            backup.drop_sessions()
            done = len(submits(backup))
            await until(lambda: len(primary.ledger.submits) == 21 + 20 - done)
            await until(lambda: w.dispatcher.claims == 0)
            final = [(await record(w.store, sid)).state for sid in sids]
            assert set(final) <= {"D", "s", "u"}  # s: its receipt went with the backup
            assert final.count("u") <= done
