"""A carrier that refuses or falls silent is left alone, an operator can do the same, and traffic returns by itself."""

from __future__ import annotations

import time

import pytest

from gateway.dispatch import dispatcher, health
from gateway.simulator.behaviour import Plan
from gateway.store import keys
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TICK_S", 0.02)
    monkeypatch.setattr(health, "PROBE_EVERY_S", 0.05)


def age(valkey: ValkeyServer, ms: int) -> None:
    with valkey.sync() as client:
        state, since, opened, rest = client.hget(keys.HEALTH, "a").decode().split(",", 3)
        client.hset(keys.HEALTH, "a", f"{state},{int(since) - ms},{int(opened) - ms},{rest}")


def state(w: Worker) -> tuple[str, str]:
    h = w.dispatcher._health.of("a")
    return h.state, h.operator


async def test_a_primary_that_refuses_all_is_left_alone_and_taken_back(valkey: ValkeyServer) -> None:
    async with carrier(error_rate=1.0, error_codes=(0x45,)) as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(60)])
            await end_as(w.store, sids, D=60)
            await until(lambda: state(w) == ("open", "run"))
            seen = len(primary.ledger.submits)
            sids = await accepted(w.store, [message(w.store, category=VERIFICATION) for _ in range(40)])
            await end_as(w.store, sids, D=40)
            assert len(primary.ledger.submits) == seen, "nothing more is tried there"

            # Half open: one message at a time, never a code, until ten went well and a minute is over.
            primary.options.error_rate = 0.0
            age(valkey, 31_000)
            await until(lambda: state(w)[0] == "half")
            probes = await accepted(w.store, [message(w.store, category=NOTIFICATION) for _ in range(40)])
            codes = await accepted(w.store, [message(w.store, category=VERIFICATION) for _ in range(20)])
            await end_as(w.store, probes + codes, D=60)
            for sid in codes:
                assert (await record(w.store, sid)).attempts[-1].channel == "b"
            while state(w)[0] == "half":
                more = await accepted(w.store, [message(w.store, category=MARKETING)])
                await end_as(w.store, more, D=1)
                age(valkey, 3_000)
            assert state(w) == ("closed", "run")
            before = len(backup.ledger.submits)
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(20)]), D=20)
            assert len(backup.ledger.submits) == before


async def test_an_operator_pauses_and_resumes(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            await w.store.health([("a", "pause", 0)])
            await until(lambda: state(w)[1] == "pause")
            started = time.monotonic()
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(60)])
            await end_as(w.store, sids, D=60)
            assert time.monotonic() - started < 10
            assert not primary.ledger.submits
            assert w.dispatcher.channels["a"].up, "its sessions stay, for receipts"
            await w.store.health([("a", "resume", 0)])
            await until(lambda: state(w)[1] == "run")
            before = len(backup.ledger.submits)
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(20)]), D=20)
            assert len(backup.ledger.submits) == before


async def test_a_drained_channel_unbinds_when_nothing_is_in_flight(valkey: ValkeyServer) -> None:
    async with carrier(latency_s=0.2) as smsc, carrier() as backup:
        settings = line_settings([channel_to(smsc, "a", binds=2), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(10)])
            await until(lambda: len(smsc.ledger.submits) == 10)
            await w.store.health([("a", "drain", 0)])
            await until(lambda: not w.dispatcher.channels["a"].slots)
            assert w.dispatcher.claims == 0
            assert smsc.counters.answered_ok == 10
            await w.store.health([("a", "resume", 0)])
            await until(lambda: w.dispatcher.channels["a"].up)
            await end_as(w.store, sids, D=10)


@pytest.mark.parametrize("status", [0x67, 0x0E])
async def test_the_channels_own_fault_closes_it_and_costs_no_attempt(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(dispatcher, "_FAULT_FIRST_S", 0.3)
    monkeypatch.setattr(dispatcher, "_AUTH_FIRST_S", 0.3)
    async with carrier(error_rate=1.0, error_codes=(status,)) as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a", window=5), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(30)])
            await end_as(w.store, sids, D=30)
            for sid in sids:
                r = await record(w.store, sid)
                assert r.attempt == 1
                assert not r.possible_duplicate
            assert len(primary.ledger.submits) <= 10, "what was under way when it said so"
            primary.options.error_rate = 0.0
            await until(lambda: primary.counters.binds >= 2)


async def test_what_a_channel_says_can_be_read_otherwise(valkey: ValkeyServer) -> None:
    async with carrier(error_rate=1.0, error_codes=(0x45,)) as primary, carrier() as backup:
        mine = channel_to(primary, "a", outcomes=((0x45, "permanent"),))
        async with worker(line_settings([mine, channel_to(backup, "b")]), valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(5)])
            await end_as(w.store, sids, F=5)
            assert not backup.ledger.submits


async def test_next_goes_through_all_channels_before_it_returns(valkey: ValkeyServer) -> None:
    """Three channels, two of them on one rank: nobody is asked twice while another is left."""
    async with carrier() as one, carrier() as two, carrier() as three:
        asked: list[str] = []

        def refusing(name: str) -> object:
            def plan(link: object, pdu: object) -> Plan | None:
                asked.append(name)
                return Plan(status=0x401) if len(asked) < 3 else None

            return plan

        for name, smsc in (("a", one), ("b", two), ("c", three)):
            smsc.on_submit = refusing(name)  # type: ignore[assignment]
        overrides = ((0x401, "next"),)
        channels = [channel_to(s, n, outcomes=overrides) for n, s in (("a", one), ("b", two), ("c", three))]
        settings = line_settings(channels, ranks=(0, 0, 1))
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store)])
            await end_as(w.store, sids, D=1)
            assert sorted(asked) == ["a", "b", "c"]
            assert asked[2] == "c"
            assert sum(sum(submits(s).values()) for s in (one, two, three)) == 3
