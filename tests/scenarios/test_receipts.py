"""Receipts as carriers really send them: early, doubled, in other spellings, about others, unreadable."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Smsc
from gateway.smpp import constants as c
from gateway.smpp.pdu import SubmitSm
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, receipt_pdu, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


class FixedIds:
    """Gives out these ids, the answer's and the receipt's, in turn."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = [(answer.encode(), receipt.encode()) for answer, receipt in pairs]

    def new(self) -> tuple[bytes, bytes]:
        return self._pairs.pop(0)


def counted(w: Worker, state: str, channel: str = "a") -> int:
    return int(w.metrics.counter("receipts_total", channel=channel, state=state).n)


def acks(smsc: Smsc) -> int:
    """Answers to receipts written as raw octets: the session did not send them, so it only counts them."""
    return sum(link.session.counters.unmatched_responses for link in smsc.links)


async def kept(w: Worker, family: str) -> list[dict[str, Any]]:
    return [orjson.loads(row) for row in await w.store.client.execute("LRANGE", f"gw:{{s00}}:{family}", 0, -1)]


async def test_every_receipt_before_its_response(valkey: ValkeyServer, shards: int) -> None:
    async with (
        carrier(early_rate=1.0, latency_s=0.05) as smsc,
        worker(line_settings([channel_to(smsc, "a", binds=2)], shards=shards), valkey) as w,
    ):
        sids = await accepted(w.store, [message(w.store) for _ in range(200)])
        await end_as(w.store, sids, D=200)
        assert counted(w, "delivered") == 200
        for sid in sids:
            r = await record(w.store, sid)
            assert (len(r.receipts), len(r.attempts)) == (1, 1)
        for shard in range(shards):
            assert await w.store.parked(shard, "a") == (0, [], [])
        assert {row.ack for row in smsc.ledger.receipts} == {0}


async def test_five_times_the_same_on_two_binds(valkey: ValkeyServer) -> None:
    async with (
        carrier(receipts=False) as smsc,
        worker(line_settings([channel_to(smsc, "a", binds=2)]), valkey) as w,
    ):
        m = message(w.store)
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], s=1)
        smsc_id = smsc.ledger.submits[0].smsc_id
        for i in range(5):
            for link in smsc.links:
                link.write_raw(receipt_pdu(smsc_id, m.msisdn, i))
        await until(lambda: acks(smsc) == 10)
        await end_as(w.store, [m.id], D=1)
        assert (counted(w, "delivered"), counted(w, "duplicate")) == (1, 9)
        assert len((await record(w.store, m.id)).receipts) == 1


async def test_an_id_nobody_knows_yet_is_kept_until_it_is_known(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        m = message(w.store)
        smsc.send_raw(receipt_pdu("1", m.msisdn, 1) + receipt_pdu("77777", m.msisdn, 2))
        await until(lambda: acks(smsc) == 2)
        assert counted(w, "parked") == 2
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], D=1)
        known = await w.store.parked(0, "a")
        assert known[1] == []
        assert known[0] >= 1  # the other one stays for a day, under each of its spellings


@pytest.mark.parametrize(
    ("carriers", "channels"),
    [
        ("decimal", "auto"),
        ("hex", "auto"),
        ("uuid", "auto"),
        ("uuid", "text"),
        ("resp_hex_dlr_dec", "auto"),
        ("resp_hex_dlr_dec", "resp_hex_dlr_dec"),
        ("resp_dec_hex", "auto"),
        ("resp_dec_hex", "resp_dec_hex"),
    ],
)
async def test_each_receipt_finds_its_own_message_in_every_spelling(
    valkey: ValkeyServer, carriers: str, channels: str
) -> None:
    """Ids count up from 1, so 10 and 0x10 are both given out: a receipt must not settle the wrong one."""

    def receipts(link: object, pdu: SubmitSm) -> Plan:
        stat = "DELIVRD" if pdu.destination_addr[-1] % 2 else "UNDELIV"
        return Plan(receipts=(ReceiptPlan(0.0, stat),))

    async with carrier(id_format=carriers) as smsc:
        smsc.on_submit = receipts
        async with worker(line_settings([channel_to(smsc, "a", id_format=channels)]), valkey) as w:
            ms = [message(w.store) for _ in range(80)]
            await accepted(w.store, ms)
            delivered = [m.id for m in ms if int(m.msisdn[-1]) % 2]
            await end_as(w.store, delivered, D=40)
            await end_as(w.store, [m.id for m in ms if m.id not in delivered], U=40)


@pytest.mark.parametrize("latest", ["delivered", "submitted"])
async def test_an_early_receipt_is_not_taken_for_another_message_to_its_number(
    valkey: ValkeyServer, latest: str
) -> None:
    """100 is 0x64, which this carrier gave to the message before: only the response tells that there is a 100."""
    async with (
        carrier(early_rate=1.0, latency_s=0.3, receipts=False) as smsc,
        worker(line_settings([channel_to(smsc, "a")]), valkey) as w,
    ):
        smsc._ids = FixedIds([("64", "64"), ("100", "100")])  # type: ignore[assignment]
        first, second = message(w.store), message(w.store)
        second = replace(second, msisdn=first.msisdn, shard=first.shard)
        await accepted(w.store, [first])
        await end_as(w.store, [first.id], s=1)
        if latest == "delivered":
            smsc.send_raw(receipt_pdu("64", first.msisdn, 1))
            await end_as(w.store, [first.id], D=1)
        await accepted(w.store, [second])
        await until(lambda: len(smsc.ledger.submits) == 2)
        smsc.send_raw(receipt_pdu("100", first.msisdn, 2))
        await end_as(w.store, [second.id], D=1)
        assert (await record(w.store, first.id)).state == ("D" if latest == "delivered" else "s")
        assert (counted(w, "delivered"), counted(w, "duplicate")) == (2 if latest == "delivered" else 1, 0)


async def test_zeros_case_and_long_ids(valkey: ValkeyServer) -> None:
    pairs = [
        ("0000001234", "1234"),
        ("5678", "0000005678"),
        ("00ABCDEF", "abcdef"),
        ("deadbeef", "DEADBEEF"),
        ("812FC7470000001B", "812fc7470000001b"),
        ("812FC7470000001C", "9308878062554710044"),
        ("0", "0"),
        ("X" * 64, "X" * 64),
        ("Ab-Cd:12/x", "Ab-Cd:12/x"),
    ]
    async with carrier() as smsc:
        smsc._ids = FixedIds(pairs)  # type: ignore[assignment]
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in pairs])
            await end_as(w.store, sids, D=len(pairs))
            assert counted(w, "delivered") == len(pairs)


async def test_a_receipt_about_another_number_changes_nothing(valkey: ValkeyServer) -> None:
    async with (
        carrier(wrong_destination_rate=1.0) as smsc,
        worker(line_settings([channel_to(smsc, "a")]), valkey) as w,
    ):
        sids = await accepted(w.store, [message(w.store) for _ in range(10)])
        await until(lambda: counted(w, "quarantined") == 10)
        await end_as(w.store, sids, s=10)
        assert {row.ack for row in smsc.ledger.receipts} == {0}


async def test_only_the_channel_that_took_the_message_may_report_it(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as ours, carrier(receipts=False) as other:
        settings = line_settings([channel_to(ours, "a"), channel_to(other, "b")])
        async with worker(settings, valkey) as w:
            m = message(w.store)
            await accepted(w.store, [m])
            await end_as(w.store, [m.id], s=1)
            smsc_id = ours.ledger.submits[0].smsc_id
            other.send_raw(receipt_pdu(smsc_id, m.msisdn, 1, "UNDELIV"))
            await until(lambda: acks(other) == 1)
            assert counted(w, "quarantined", "b") == 1
            ours.send_raw(receipt_pdu(smsc_id, m.msisdn, 1))
            await end_as(w.store, [m.id], D=1)


@pytest.mark.parametrize(
    ("stats", "state", "corrected"),
    [
        (["UNKNOWN", "DELIVRD"], "D", True),
        (["EXPIRED", "DELIVRD"], "D", True),
        (["DELIVRD", "UNDELIV"], "D", False),
        (["UNDELIV", "DELIVRD"], "U", False),
        (["REJECTD", "DELIVRD"], "R", False),
        (["ENROUTE", "DELIVRD", "ENROUTE"], "D", False),
        (["DELETED", "UNKNOWN"], "U", False),
        (["SKIPPED"], "R", False),
        (["NEVER-SEEN-WORD"], "K", False),
    ],
)
async def test_the_first_final_receipt_wins(
    valkey: ValkeyServer, stats: list[str], state: str, corrected: bool
) -> None:
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        m = message(w.store)
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], s=1)
        for i, stat in enumerate(stats, 1):
            smsc.send_raw(receipt_pdu(smsc.ledger.submits[0].smsc_id, m.msisdn, i, stat))
            await until(lambda i=i: acks(smsc) == i)
        r = await record(w.store, m.id)
        assert (r.state, r.late_correction) == (state, corrected)


async def test_what_cannot_be_read_is_kept_and_acknowledged(valkey: ValkeyServer) -> None:
    """Else the same PDU comes back for days. The session lives, and the receipts behind it count."""
    body_without_nul = b"\x00\x01\x01" + b"9" * 60
    bodies = [b"", b"\x00", body_without_nul, bytes(200), b"\xff" * 300]
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        m = message(w.store)
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], s=1)
        octets = b"".join(
            struct.pack(">IIII", 16 + len(body), c.DELIVER_SM, 0, 0x20000 + i) + body for i, body in enumerate(bodies)
        )
        octets += receipt_pdu("", m.msisdn, 1, short_message=b"your message was handled, thank you")
        octets += receipt_pdu("", m.msisdn, 2, short_message=b"\x00\xff\xfe" * 40)
        octets += receipt_pdu(smsc.ledger.submits[0].smsc_id, m.msisdn, 3)
        smsc.send_raw(octets)
        await end_as(w.store, [m.id], D=1)
        await until(lambda: acks(smsc) == len(bodies) + 3)
        dead = await kept(w, "dead")
        assert len(dead) == counted(w, "unreadable")
        assert len(dead) >= len(bodies) + 1
        assert smsc.counters.binds == 1


async def test_one_receipt_we_cannot_digest_does_not_hold_up_the_others(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours with one receipt: it becomes a dead letter instead of coming back for days with its batch."""
    from gateway.dlr import recorder

    parse = recorder.parse

    def failing(short_message: bytes, *rest: Any) -> Any:
        if b"stat:REJECTD" in short_message:
            raise RuntimeError("a fault of ours")
        return parse(short_message, *rest)

    monkeypatch.setattr(recorder, "parse", failing)
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        ms = [message(w.store) for _ in range(6)]
        sids = await accepted(w.store, ms)
        await end_as(w.store, sids, s=6)
        rows = smsc.ledger.submits
        stats = ["DELIVRD", "REJECTD", *["DELIVRD"] * 4]
        smsc.send_raw(
            b"".join(
                receipt_pdu(row.smsc_id, row.destination, i, stat)
                for i, (row, stat) in enumerate(zip(rows, stats, strict=True))
            )
        )
        await end_as(w.store, sids, D=5, s=1)
        await until(lambda: acks(smsc) == 6)
        assert len(await kept(w, "dead")) == 1
