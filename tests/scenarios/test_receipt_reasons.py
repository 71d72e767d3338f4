"""What a failed receipt says stands on the record in words that are known, whatever the carrier's words and octets."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.model import NewMessage
from gateway.reasons import REASONS
from gateway.settings import ReceiptsSettings
from gateway.simulator.smsc import Smsc
from gateway.store.moves import ParkedReceipt, spellings
from gateway.store.receipt_notes import ReceiptNotes
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, receipt_pdu, receipt_text, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"
NUMBER_27 = b"\x03\x00\x1b"  # network_error_code: GSM, absent subscriber


def counted(w: Worker, state: str) -> int:
    return int(w.metrics.counter("receipts_total", channel="a", state=state).n)


def acks(smsc: Smsc) -> int:
    return sum(link.session.counters.unmatched_responses for link in smsc.links)


async def submitted(w: Worker, smsc: Smsc, n: int) -> list[tuple[NewMessage, str]]:
    """Send messages; returns them with their SMSC ids."""
    ms = {m.msisdn: m for m in (message(w.store) for _ in range(n))}
    before = len(smsc.ledger.submits)
    sids = await accepted(w.store, ms.values())
    await end_as(w.store, sids, s=n)
    return [(ms[row.destination], row.smsc_id) for row in smsc.ledger.submits[before:]]


def failed_text(smsc_id: str, stat: str, err: str, coding: str = "ascii") -> bytes:
    text = receipt_text(smsc_id, stat, err).decode()
    if coding == "wide":  # full-width colons, as a Chinese input method writes them
        return text.replace(":", "：").encode("gbk")
    return (text + "您的验证码是 1234【某某】").encode(coding)


@pytest.mark.parametrize(
    ("stat", "err", "fields", "state", "reason", "code", "permanent"),
    [
        ("UNDELIV", "MK:0001", {}, "U", "invalid-number", "MK:0001", True),
        ("mk0005", "000", {}, "U", "out-of-service", "mk0005", True),
        ("MBBLACK", "000", {}, "U", "blacklisted", "MBBLACK", True),
        ("EXPIRED", "000", {}, "E", "powered-off", "EXPIRED", False),
        ("REJECTD", "DB:0151", {"coding": "gbk", "data_coding": 15}, "R", None, "DB:0151", None),
        ("UNDELIV", "IB:0008", {"coding": "utf-16-be", "data_coding": 8}, "U", "carrier-internal", "IB:0008", False),
        ("MK:0023", "000", {"coding": "wide", "data_coding": 15}, "U", "powered-off", "MK:0023", False),
        ("UNDELIV", "021", {"tlvs": {0x0423: NUMBER_27}}, "U", "powered-off", "gsm:27", False),
        ("UNDELIV", "MK:0001", {"payload": True}, "U", "invalid-number", "MK:0001", True),
        ("UNDELIV", "QQ:42", {}, "U", "out-of-service", "QQ:42", False),
        ("NEVER-SEEN", "", {}, "K", "unknown", "NEVER-SEEN", False),
    ],
)
async def test_reason_raw_code_and_permanent_are_on_record(
    valkey: ValkeyServer, stat: str, err: str, fields: dict[str, Any], state: str, reason: str | None, code: str,
    permanent: bool | None,
) -> None:  # fmt: skip
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        ((m, smsc_id),) = await submitted(w, smsc, 1)
        text = failed_text(smsc_id, stat, err, fields.get("coding", "ascii") if fields.get("coding") else "utf-8")
        if not fields.get("coding"):
            text = receipt_text(smsc_id, stat, err)
        pdu: dict[str, Any] = {"short_message": text, "data_coding": fields.get("data_coding", 0)}
        if "tlvs" in fields:
            pdu["tlvs"] = fields["tlvs"]
        if fields.get("payload"):
            pdu |= {"short_message": b"", "tlvs": {0x0424: text}}
        smsc.send_raw(receipt_pdu("", m.msisdn, 1, **pdu))
        await end_as(w.store, [m.id], **{state: 1})
        r = await record(w.store, m.id)
        assert r.carrier_code == code
        assert r.reason in REASONS
        if reason is not None:
            assert (r.reason, r.permanent) == (reason, permanent)
        (found,) = r.receipts
        assert (found.reason, found.carrier_code) == (r.reason, code)


async def test_only_known_words_reach_statistics_and_metrics(valkey: ValkeyServer) -> None:
    """Carriers' words are theirs; a label that they could make up would flood what counts by it."""
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        sent = await submitted(w, smsc, 30)
        smsc.send_raw(
            b"".join(
                receipt_pdu("", m.msisdn, i, short_message=receipt_text(smsc_id, f"W{i:02d}", f"X{i}:\x07{i}"))
                for i, (m, smsc_id) in enumerate(sent)
            )
        )
        await end_as(w.store, [m.id for m, _ in sent], K=30)
        with valkey.sync() as client:
            (stats,) = client.keys(f"{P}stats:*")
            fields = [field.decode().split("\x1f") for field in client.hkeys(stats)]
        assert {f[9] for f in fields if f[8] in "DUREK"} == {"unknown"}
        assert {labels[3] for name, labels, _ in w.metrics.snapshot()["cells"] if name == "messages_total"} <= {
            "", *REASONS,
        }  # fmt: skip
        assert w.metrics.counter("unknown_failure_codes_total", channel="a").n == 30
        await w.recorder.notes.write()
        codes = await ReceiptNotes(w.store).unknown_codes()
        assert len(codes) == 30
        assert all(one.code.isascii() and one.code.isprintable() for one in codes)
        for m, _ in sent:
            assert (await record(w.store, m.id)).carrier_code.isprintable()


async def test_intermediate_states_are_counted_and_change_nothing(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        ((m, smsc_id),) = await submitted(w, smsc, 1)
        before = await record(w.store, m.id)
        stats = ["ENROUTE", "ACCEPTD", "SCHEDLD", "BUFFRED", "ML:0001"]
        for i, stat in enumerate(stats):
            smsc.send_raw(receipt_pdu(smsc_id, m.msisdn, i, stat))
        smsc.send_raw(receipt_pdu(smsc_id, m.msisdn, 9, "UNDELIV", esm_class=0x20))
        await until(lambda: acks(smsc) == len(stats) + 1)
        assert counted(w, "intermediate") == len(stats) + 1
        assert await record(w.store, m.id) == before


async def test_three_days_late_and_after_the_record_is_gone(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        (late, late_id), (gone, gone_id) = await submitted(w, smsc, 2)
        smsc.send_raw(receipt_pdu(late_id, late.msisdn, 1, "UNKNOWN"))
        await end_as(w.store, [late.id], K=1)
        today = int(time.time()) // 86_400
        with valkey.sync() as client:
            client.rename(f"{P}corr:{today}", f"{P}corr:{today - 3}")  # as if both had been sent three days ago
            client.delete(f"{P}msg:".encode() + gone.id)
        smsc.send_raw(receipt_pdu(late_id, late.msisdn, 2) + receipt_pdu(gone_id, gone.msisdn, 3))
        await until(lambda: acks(smsc) == 3)
        r = await record(w.store, late.id)
        assert (r.state, r.late_correction) == ("D", True)
        assert (counted(w, "corrected"), counted(w, "orphan")) == (1, 1)


async def test_receipts_parked_by_the_version_before_are_still_understood(valkey: ValkeyServer) -> None:
    """They hold the receipt's words only; today's hold what these mean as well."""
    async with carrier(receipts=False) as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        (old, old_id), (new, new_id) = await submitted(w, smsc, 2)
        payloads = []
        for m, smsc_id, more in (
            (old, old_id, {}),
            (new, new_id, {"r": "blacklisted", "d": "QQ:7", "g": False, "p": True}),
        ):
            kept = {"c": "a", "k": [smsc_id], "a": m.msisdn, "s": "U", "w": "UNDELIV", "e": "MK:0001", **more}
            payloads.append(orjson.dumps(kept))
            row = ("a", spellings("a", [smsc_id]), m.msisdn.encode(), "U", "", "", False, False)
            await w.store.park([ParkedReceipt(row, payloads[-1], False)])
        await w.recorder.apply_parked(payloads)
        found = [await record(w.store, m.id) for m in (old, new)]
        assert [(r.state, r.reason, r.carrier_code, r.permanent) for r in found] == [
            ("U", "invalid-number", "MK:0001", True),
            ("U", "blacklisted", "QQ:7", True),
        ]
        assert await w.store.parked(0, "a") == (0, [], [])


async def test_a_failed_receipt_before_its_response_keeps_its_reason(valkey: ValkeyServer) -> None:
    options: dict[str, Any] = {"early_rate": 1.0, "latency_s": 0.05, "failed_rate": 1.0}
    async with carrier(**options, failed_states=(("UNDELIV", "MK:0001"),)) as smsc:
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(20)])
            await end_as(w.store, sids, U=20)
            found = [await record(w.store, sid) for sid in sids]
            assert {(r.reason, r.carrier_code, r.permanent) for r in found} == {("invalid-number", "MK:0001", True)}
            assert not w.metrics.counter("unknown_failure_codes_total", channel="a").n


async def test_delivered_to_a_number_that_nobody_has_is_counted(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = replace(
            line_settings([channel_to(smsc, "a")]), receipts=ReceiptsSettings(probe_numbers=("8617099",))
        )
        async with worker(settings, valkey) as w:
            probe, real = message(w.store, msisdn="8617099000001"), message(w.store)
            await end_as(w.store, await accepted(w.store, [probe, real]), D=2)
            assert w.metrics.counter("receipts_impossible_total", channel="a").n == 1


@pytest.mark.parametrize("early", [False, True])
async def test_two_days_of_a_safe_code_mark_a_number_as_not_in_use(valkey: ValkeyServer, early: bool) -> None:
    options: dict[str, Any] = {"failed_rate": 1.0, "early_rate": float(early), "latency_s": 0.05 if early else 0.0}
    async with carrier(**options, failed_states=(("UNDELIV", "MK:0001"),)) as smsc:
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            gone = message(w.store)
            await end_as(w.store, await accepted(w.store, [gone, message(w.store)]), U=2)
            period = int(time.time()) // 86_400 // 30
            yesterday = int(time.time()) // 86_400 - 1

            def noted() -> dict[bytes, bytes]:
                with valkey.sync() as client:
                    return dict(client.hgetall(f"{P}invalid:{period}"))

            await until(lambda: len(noted()) == 2)
            await end_as(w.store, await accepted(w.store, [message(w.store, msisdn=gone.msisdn)]), U=1)
            await until(lambda: smsc.counters.settled == 3)  # noted before it was acknowledged
            with valkey.sync() as client:
                assert not client.hgetall(f"{P}blacklist:*"), "twice on one day is once"
                client.hset(f"{P}invalid:{period}", gone.msisdn, yesterday)
            await end_as(w.store, await accepted(w.store, [message(w.store, msisdn=gone.msisdn)]), U=1)

            def listed() -> list[str]:
                with valkey.sync() as client:
                    return [number.decode() for number in client.hkeys(f"{P}blacklist:*")]

            await until(lambda: listed() == [gone.msisdn])


async def test_other_codes_mark_no_number(valkey: ValkeyServer) -> None:
    """Nor does a bare 001, which is GSM's unknown subscriber only where the channel says that it counts so."""
    async with carrier(failed_rate=1.0, failed_states=(("UNDELIV", "001"), ("UNDELIV", "DB:0144"))) as smsc:
        async with worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(10)]), U=10)
            await until(lambda: smsc.counters.settled == 10)
            with valkey.sync() as client:
                assert not client.keys(f"{P}invalid:*")
