"""An SMSC that will not have a field: a message arrives by its second submit there, later ones go without at once."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dispatch import health
from gateway.model import NewMessage
from gateway.reasons import of_status
from gateway.simulator.behaviour import Plan
from gateway.simulator.ledger import Submit
from gateway.simulator.smsc import Link, Smsc
from gateway.smpp.pdu import SubmitSm
from gateway.store.store import Store
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TEXT = "".join(f"{i:04d}" for i in range(100))  # three parts
TAG = 0x1400
WORDS = {0x61: "without_validity", 0x62: "without_validity"}
BINDS = ("transceiver", "transmitter_receiver")
STATUSES = (0x61, 0x62, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4)


def has_it(row: Submit | SubmitSm, status: int) -> bool:
    return TAG in (row.tlvs or {}) if status >= 0xC0 else bool(row.validity_period)


def refuse(smsc: Smsc, status: int, *, always: bool = False) -> None:
    """Answer with `status` whatever has the field it is about, or everything."""

    def on_submit(link: Link, pdu: SubmitSm) -> Plan | None:
        return Plan(status=status) if always or has_it(pdu, status) else None

    smsc.on_submit = on_submit


def to(smsc: Smsc, name: str = "a", **changes: Any) -> Any:
    return channel_to(smsc, name, **({"tlvs": ((TAG, b"1101"),)} | changes))


def outcomes(w: Worker) -> dict[str, float]:
    return {outcome: w.metrics.counter("channel_alarms_total", channel="a", outcome=outcome).n for outcome in ("bug",)}


@pytest.mark.parametrize("bind", BINDS)
@pytest.mark.parametrize("status", STATUSES)
async def test_delivered_by_its_second_submit_and_later_ones_by_their_first(
    valkey: ValkeyServer, status: int, bind: str
) -> None:
    async with carrier() as primary, carrier() as backup:
        refuse(primary, status)
        settings = line_settings([to(primary, bind=bind), to(backup, "b", bind=bind)])
        async with worker(settings, valkey) as w:
            first = await accepted(w.store, [message(w.store)])
            await end_as(w.store, first, D=1)
            assert [has_it(row, status) for row in primary.ledger.submits] == [True, False]
            r = await record(w.store, first[0])
            word = WORDS.get(status, "without_tlvs")
            assert [(a.channel, a.status, a.outcome) for a in r.attempts] == [("a", status, word), ("a", 0, "sent")]
            assert (r.attempt, r.possible_duplicate) == (1, False)
            later = await accepted(w.store, [message(w.store, category=i % 3) for i in range(30)])
            await end_as(w.store, later, D=30)
            assert len(primary.ledger.submits) == 2 + 30
            assert not any(has_it(row, status) for row in primary.ledger.submits[1:])
            assert not backup.ledger.submits
            assert outcomes(w) == {"bug": 0}
            assert await w.store.waiting() == 0


@pytest.mark.parametrize("status", [0x62, 0xC1])
async def test_refused_again_without_it_another_channel_is_asked_once(valkey: ValkeyServer, status: int) -> None:
    async with carrier() as primary, carrier() as backup:
        refuse(primary, status, always=True)
        settings = line_settings([to(primary), to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(3)])
            await end_as(w.store, sids, D=3)
            assert set(submits(backup).values()) == {1}
            for sid in sids:
                r = await record(w.store, sid)
                here = [a.outcome for a in r.attempts if a.channel == "a"]
                # Once with the field at most, and never twice without it; who came later may have gone without at once.
                assert here in ([WORDS.get(status, "without_tlvs"), "bug"], ["bug"])
                assert submits(primary)[r.msisdn] == len(here)
                assert r.attempts[-1].channel == "b"
            assert outcomes(w) == {"bug": 3}
        refuse(backup, status, always=True)
        async with worker(settings, valkey, "worker02") as w:
            sids = await accepted(w.store, [message(w.store)])
            await end_as(w.store, sids, F=1)
            r = await record(w.store, sids[0])
            assert [a.channel for a in r.attempts] == ["a", "a", "b", "b"]
            assert (r.reason, r.carrier_code) == (of_status(status)[0], f"0x{status:08X}")


async def test_what_is_not_sent_is_ours_to_mend(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        refuse(primary, 0x62, always=True)
        settings = line_settings([to(primary, validity="none"), to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store)])
            await end_as(w.store, sids, D=1)
            r = await record(w.store, sids[0])
            assert [(a.channel, a.outcome) for a in r.attempts] == [("a", "bug"), ("b", "sent")]


async def test_both_fields_one_after_the_other(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:

        def on_submit(link: Link, pdu: SubmitSm) -> Plan | None:
            return Plan(status=0x62) if pdu.validity_period else Plan(status=0xC1) if pdu.tlvs else None

        smsc.on_submit = on_submit
        async with worker(line_settings([to(smsc)]), valkey) as w:
            sids = await accepted(w.store, [message(w.store)])
            await end_as(w.store, sids, D=1)
            r = await record(w.store, sids[0])
            assert [a.outcome for a in r.attempts] == ["without_validity", "without_tlvs", "sent"]
            assert len(smsc.ledger.submits) == 3


async def test_a_whole_window_refused_opens_no_breaker(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TICK_S", 0.02)
    async with carrier(latency_s=0.05) as smsc, carrier() as backup:
        refuse(smsc, 0x62)
        settings = line_settings([to(smsc, window=100), to(backup, "b")])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(100)])
            await end_as(w.store, sids, D=100)
            seen = submits(smsc)
            assert len(seen) == 100
            assert 25 <= sum(seen.values()) - 100 <= 100, "those under way were refused, and each went once more"
            assert max(seen.values()) == 2
            assert w.metrics.counter("breaker_opened_total", channel="a").n == 0
            assert not backup.ledger.submits


def long_message(store: Store) -> NewMessage:
    return message(store, parts=3, body=body(TEXT))


@pytest.mark.parametrize("long", ["udh", "sar", "payload"])
async def test_a_long_message_keeps_what_joins_its_parts(valkey: ValkeyServer, long: str) -> None:
    async with carrier() as smsc:
        refuse(smsc, 0xC1)
        async with worker(line_settings([to(smsc, long=long)]), valkey) as w:
            sids = await accepted(w.store, [long_message(w.store)])
            await end_as(w.store, sids, D=1)
            rows = smsc.ledger.submits
            n = 1 if long == "payload" else 3
            assert [has_it(row, 0xC1) for row in rows] == [True] * n + [False] * n
            tags = {"udh": set(), "sar": {0x020C, 0x020E, 0x020F}, "payload": {0x0424}}[long]
            assert all(set(row.tlvs or {}) == tags for row in rows[n:])
            assert (await record(w.store, sids[0])).parts_delivered == 3


async def test_only_the_refused_part_goes_again(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        refused: list[int] = []

        def on_submit(link: Link, pdu: SubmitSm) -> Plan | None:
            if pdu.short_message[5] == 2 and pdu.validity_period:
                refused.append(2)
                return Plan(status=0x62)
            return None

        primary.on_submit = on_submit
        async with worker(line_settings([to(primary), to(backup, "b")]), valkey) as w:
            sids = await accepted(w.store, [long_message(w.store)])
            await end_as(w.store, sids, D=1)
            assert [row.part()[2] for row in primary.ledger.submits] == [1, 2, 3, 2]
            assert refused == [2]
            assert not backup.ledger.submits


async def test_another_worker_sends_it_without_the_field_as_well(valkey: ValkeyServer) -> None:
    """The message says what it was refused for: whoever claims it next leaves that out, and nothing else."""
    async with carrier() as smsc:
        refuse(smsc, 0x62)
        settings = line_settings([to(smsc, binds=2)])
        async with worker(settings, valkey) as one, worker(settings, valkey, "worker02", bound=False) as two:
            await until(lambda: one.dispatcher.channels["a"].up and two.dispatcher.channels["a"].up, timeout_s=20)
            sids = await accepted(one.store, [message(one.store) for _ in range(60)])
            await end_as(one.store, sids, D=60)
            assert max(submits(smsc).values()) == 2
            for sid in sids:
                r = await record(one.store, sid)
                assert [a.outcome for a in r.attempts] in (["without_validity", "sent"], ["sent"])
