"""Messages of several parts: one reference, one channel, only what was refused is sent again, one final state."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dispatch import outcome
from gateway.model import NewMessage
from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.ledger import Submit
from gateway.simulator.smsc import Smsc
from gateway.smpp.pdu import SubmitSm
from gateway.store.store import Store
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import NOTIFICATION, VERIFICATION, accepted, bring_forward, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer

TEXT = "".join(f"{i:04d}" for i in range(100))  # 400 septets: three parts of 153


def long_message(store: Store, **changes: Any) -> NewMessage:
    return message(store, parts=3, body=body(TEXT), **changes)


def parts_of(smsc: Smsc) -> list[int]:
    return [s.part()[2] for s in smsc.ledger.submits]


def text_of(rows: list[Submit]) -> str:
    return "".join(s.short_message[1 + s.short_message[0] :].decode() for s in sorted(rows, key=lambda s: s.part()))


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SAME_DELAYS_MS", (20, 40))
    monkeypatch.setattr(outcome, "SLOW_FIRST_MS", 20)


async def test_three_parts_arrive_as_one_message(valkey: ValkeyServer, shards: int) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")], shards=shards), valkey) as w:
        ms = [long_message(w.store) for _ in range(10)]
        ms.append(long_message(w.store, msisdn=ms[0].msisdn))
        sids = await accepted(w.store, ms)
        await end_as(w.store, sids, D=11)
        for m in ms[1:10]:
            rows = smsc.ledger.to(m.msisdn)
            assert [s.part()[1:] for s in rows] == [(3, 1), (3, 2), (3, 3)]
            assert len({s.part()[0] for s in rows}) == 1
            assert text_of(rows) == TEXT
            assert (await record(w.store, m.id)).parts_delivered == 3
        # Two to one handset must not mix their parts.
        assert len({s.part()[0] for s in smsc.ledger.to(ms[0].msisdn)}) == 2


@pytest.mark.parametrize("status", [0x08, 0x58])
async def test_only_the_refused_part_goes_again_on_the_same_channel(valkey: ValkeyServer, status: int) -> None:
    refusals = 5 if status == 0x58 else 1

    def second_part_refused(link: object, pdu: SubmitSm) -> Plan | None:
        nonlocal refusals
        if pdu.short_message[5] == 2 and refusals:
            refusals -= 1
            return Plan(status=status)
        return None

    async with carrier() as primary, carrier() as backup:
        primary.on_submit = second_part_refused
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            m = long_message(w.store, category=VERIFICATION)
            sids = await accepted(w.store, [m])
            await end_as(w.store, sids, D=1)
            assert sorted(parts_of(primary)) == sorted([1, 2, 3] + [2] * (5 if status == 0x58 else 1))
            assert len({s.part()[0] for s in primary.ledger.submits}) == 1
            assert not backup.ledger.submits
            r = await record(w.store, m.id)
            assert r.parts_delivered == 3
            assert r.attempt == (1 if status == 0x58 else 2)  # slowness uses up no attempt
            assert not r.possible_duplicate
            assert await w.store.waiting() == 0


async def test_a_message_waits_for_its_channel_once_a_part_is_out(valkey: ValkeyServer) -> None:
    """The rest of a handset's text must come the same way, so the backup does not help here."""
    async with carrier() as primary, carrier() as backup:
        primary.on_submit = lambda link, pdu: Plan(status=0x58) if pdu.short_message[5] == 3 else None
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            m = long_message(w.store)
            other = message(w.store)
            sids = await accepted(w.store, [m])
            await until(lambda: 3 in parts_of(primary))
            await until(lambda: w.dispatcher.claims == 0)
            await primary.stop_listening()
            primary.drop_sessions()
            await until(lambda: not w.dispatcher.channels["a"].up)
            primary.on_submit = None
            await end_as(w.store, await accepted(w.store, [other]), D=1)
            await primary.start()
            await end_as(w.store, sids, D=1)
            assert backup.ledger.destinations() == [other.msisdn]
            assert parts_of(primary).count(1) == parts_of(primary).count(2) == 1


async def test_parts_without_an_answer_are_the_only_copies(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RESEND_GRACE_MS", 50)
    silent = {2}

    def one_part_unanswered(link: object, pdu: SubmitSm) -> Plan | None:
        if pdu.short_message[5] in silent:
            silent.clear()
            return Plan(status=None)
        return None

    async with carrier() as smsc:
        smsc.on_submit = one_part_unanswered
        async with worker(line_settings([channel_to(smsc, "a", response_timer_s=0.2)]), valkey) as w:
            sids = await accepted(w.store, [long_message(w.store, category=NOTIFICATION)])
            await end_as(w.store, sids, D=1)
            assert sorted(parts_of(smsc)) == [1, 2, 2, 3]
            assert (await record(w.store, sids[0])).possible_duplicate


async def test_a_message_longer_than_the_window_goes_out_in_turns(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a", window=2)]), valkey) as w:
        ms = [long_message(w.store) if i % 2 else message(w.store) for i in range(6)]
        sids = await accepted(w.store, ms)
        await end_as(w.store, sids, D=6)
        assert sorted(parts_of(smsc)) == [1] * 6 + [2] * 3 + [3] * 3
        for m in ms:
            r = await record(w.store, m.id)
            assert r.attempt == 1
            assert not r.possible_duplicate


async def test_the_worst_part_is_the_messages_state(valkey: ValkeyServer) -> None:
    def receipts(link: object, pdu: SubmitSm) -> Plan:
        stat = {2: "UNDELIV"}.get(pdu.short_message[5], "DELIVRD")
        return Plan(receipts=(ReceiptPlan(0.01 * pdu.short_message[5], stat, "001"),))

    async with carrier() as smsc:
        smsc.on_submit = receipts
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            sids = await accepted(w.store, [long_message(w.store)])
            await end_as(w.store, sids, U=1)
            r = await record(w.store, sids[0])
            assert (r.parts_delivered, r.reason, r.carrier_code) == (2, "invalid-number", "001")


async def test_one_receipt_of_three_leaves_it_submitted_until_the_wait_is_over(valkey: ValkeyServer) -> None:
    """Some carriers report one part only."""

    def first_part_only(link: object, pdu: SubmitSm) -> Plan:
        return Plan(receipts=(ReceiptPlan(0.0),) if pdu.short_message[5] == 1 else ())

    async with carrier() as smsc:
        smsc.on_submit = first_part_only
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            sids = await accepted(w.store, [long_message(w.store)])

            async def one_part() -> bool:
                return (await record(w.store, sids[0])).parts_delivered == 1

            await until(one_part)
            await end_as(w.store, sids, s=1)
            bring_forward(valkey, "wait")
            await w.store.close_waiting(0)
            await end_as(w.store, sids, D=1)
            r = await record(w.store, sids[0])
            assert (r.parts_delivered, r.parts) == (1, 3)
