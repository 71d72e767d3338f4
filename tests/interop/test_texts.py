"""Texts as a foreign SMSC reads them: every alphabet, every way of sending a long one, every field of the PDU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peer import Peer, Row, texts
from tests.support.gateway_process import AuditedGateway
from tests.support.until import until

pytestmark = pytest.mark.needs_peer

# GSM 03.38 without what a request may not hold (escape and form feed): 126 septets and nine pairs.
GSM_ALL = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€"
)
LATIN1_ALL = "".join(map(chr, [0x0A, 0x0D, *range(0x20, 0x7F), *range(0xA0, 0x100)]))

# text: (encoding, parts); the long ones have a pair of octets or of surrogates where a cut would come.
SHORT = {
    "Your code is 482913": ("gsm7", 1),
    GSM_ALL: ("gsm7", 1),
    "@" * 160: ("gsm7", 1),
    "€" * 80: ("gsm7", 1),
    "【Acme】您的验证码是482913，5分钟内有效": ("ucs2", 1),
    "验" * 70: ("ucs2", 1),
    "你好 😀 👩\u200d👩\u200d👧 ✓": ("ucs2", 1),
    "Ñandú, façade, þ, ÿ": ("ucs2", 1),
}
LONG = {
    "x" * 161: ("gsm7", 2),
    "a" * 151 + "€" * 2 + "b" * 150 + "[~]" + "c" * 200: ("gsm7", 4),
    "0123456789" * 152: ("gsm7", 10),
    "验" * 71: ("ucs2", 2),
    "验" * 65 + "😀😀" + "码" * 64 + "😀" * 3 + "。": ("ucs2", 3),
    GSM_ALL + "验": ("ucs2", 3),
}
LATIN1 = {
    "Ñandú, façade, þ, ÿ, ½ ×": ("latin1", 1),
    LATIN1_ALL[:140]: ("latin1", 1),
    LATIN1_ALL: ("latin1", 2),
    "þ" * 134 + "ÿ" * 10: ("latin1", 2),
    "Ä ö ü ß @ £ ¥ § é": ("gsm7", 1),
    "ä@" * 90: ("gsm7", 2),
    "您好": ("ucs2", 1),
    "验" * 71: ("ucs2", 2),
}


async def sent_as(gateway: AuditedGateway, pool: dict[str, tuple[str, int]]) -> dict[str, str]:
    """Post every text to a number of its own, with the encoding and parts it must have; returns them by number."""
    wanted = {}
    for text, expected in pool.items():
        body = gateway.message("verification", text=text)
        answer = await gateway.send(body)
        assert answer.status == 202, answer
        assert (answer.body["encoding"], answer.body["parts"]) == expected, text[:40]
        wanted[body["to"]] = text
    return wanted


@pytest.mark.parametrize(
    ("joined_by", "channel"),
    [
        ("udh8", ""),
        ("udh16", "reference_bits = 16"),
        ("sar", 'long = "sar"'),
        ("sar", 'long = "sar"\nreference_bits = 16'),
    ],
    ids=["udh-8", "udh-16", "sar-8", "sar-16"],
)
async def test_every_text_is_read_as_it_was_sent(tmp_path: Path, joined_by: str, channel: str) -> None:
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        wanted = await sent_as(gateway, SHORT | LONG)
        assert await gateway.until_final() == {"delivered": len(wanted)}
        report = await gateway.audit([peer])
        assert (report.accepted, report.live) == (len(wanted), 0)
        rows = peer.ledger.submits()
        assert report.submits == sum(parts for _, parts in (SHORT | LONG).values())
        assert texts(rows) == wanted
        assert {row["joined_by"] for row in rows if row["parts"] > 1} == {joined_by}
        assert {row["joined_by"] for row in rows if row["parts"] == 1} == {""}
        assert {row["place"] for row in rows} == {"short_message"}
        assert {row["data_coding"] for row in rows} == {0x00, 0x08}


@pytest.mark.parametrize("long", ["udh", "sar"])
async def test_sixteen_bits_tell_more_than_256_texts_to_one_number_apart(tmp_path: Path, long: str) -> None:
    channel = f'long = "{long}"\nreference_bits = 16'
    wanted = [f"{i:08d}" * 21 for i in range(260)]
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        to = gateway.message()["to"]
        bodies = [{"to": to, "category": "notification", "text": text} for text in wanted]
        assert {answer.status for answer in await gateway.send_batch(bodies)} == {202}
        assert await gateway.until_final() == {"delivered": 260}
        assert (await gateway.audit([peer])).submits == 520
        by_reference: dict[int, list[Row]] = {}
        for row in peer.ledger.submits():
            by_reference.setdefault(row["reference"], []).append(row)
        assert len(by_reference) == 260
        assert max(by_reference) > 0xFF
        assert sorted(texts(rows)[to] for rows in by_reference.values()) == wanted


async def test_a_long_text_travels_whole_in_message_payload(tmp_path: Path) -> None:
    channel = 'long = "payload"'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        short, long = await sent_as(gateway, SHORT), await sent_as(gateway, LONG)
        # One receipt speaks for the whole text.
        assert await gateway.until_final() == {"delivered": len(short) + len(long)}
        rows = peer.ledger.submits()
        assert texts(rows) == short | long
        assert len(rows) == len(short) + len(long)
        places = {"+" + row["to"]: row["place"] for row in rows}
        assert Counter(places[to] for to in long) == {"message_payload": len(long)}
        assert Counter(places[to] for to in short) == {"short_message": len(short)}
        await until(lambda: [row["status"] for row in peer.ledger.all("ack")] == [0] * len(rows))


@pytest.mark.parametrize(
    ("default", "channel", "codings"),
    [
        ("LATIN1", 'alphabet = "latin1"', {0x00, 0x08}),
        ("ASCII", 'alphabet = "latin1"\ndata_coding = { gsm7 = 3, latin1 = 3 }', {0x03, 0x08}),
    ],
    ids=["as-the-default", "declared"],
)
async def test_latin1(tmp_path: Path, default: str, channel: str, codings: set[int]) -> None:
    async with (
        Peer(tmp_path, default=default) as peer,
        AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway,
    ):
        wanted = await sent_as(gateway, LATIN1)
        assert await gateway.until_final() == {"delivered": len(wanted)}
        report = await gateway.audit([peer])
        rows = peer.ledger.submits()
        assert report.submits == sum(parts for _, parts in LATIN1.values())
        assert texts(rows) == wanted
        assert {row["data_coding"] for row in rows} == codings


CHANNEL = """
service_type = "CMT"
protocol_id = 0x41
priority = { verification = 3, notification = 1, marketing = 0 }
registered_delivery = "final"
tlvs = { "0x1400" = "1101407060000036713", "0x1401" = "0x00ff7f" }
"""


async def test_every_field_of_the_channel_reaches_the_smsc(tmp_path: Path) -> None:
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=CHANNEL) as gateway:
        sent = {
            category: await gateway.send(gateway.message(category, ttl_s=ttl_s, text="x" * 161))
            for category, ttl_s in (("verification", 120), ("notification", 3_600), ("marketing", 172_800))
        }
        assert {answer.status for answer in sent.values()} == {202}
        assert await gateway.until_final() == {"delivered": 3}
        assert (await gateway.audit([peer])).submits == 6
        records = {message.msisdn: message.category for message in await gateway.records()}
        wanted: dict[str, Any] = {
            "to_type": [1, 1],
            "source": "106900001",
            "source_type": [0, 0],
            "service_type": "CMT",
            "protocol_id": 0x41,
            "registered_delivery": 1,
            "esm_class": 0x40,
            "replace_if_present_flag": 0,
            "schedule_delivery_time": "",
            "tlvs": {"0x1400": b"1101407060000036713".hex(), "0x1401": "00ff7f"},
        }
        # priority_flag, and validity_period as the SMSC counts it: rounded down, never longer than asked for
        by_category = {0: (3, 120, 5), 1: (1, 3_600, 60), 2: (0, 172_800, 1_800)}
        for row in peer.ledger.submits():
            assert {name: row[name] for name in wanted} == wanted
            priority, ttl_s, grain_s = by_category[records[row["to"]]]
            assert row["priority_flag"] == priority
            assert ttl_s - 2 * grain_s <= row["validity_s"] <= ttl_s


async def test_the_other_choices_of_a_channel(tmp_path: Path) -> None:
    """No validity, no receipts, another sender with types of its own; interface version 5.0."""
    channel = """
    validity = "none"
    registered_delivery = "none"
    source = { "*" = "Acme" }
    source_types = { alphanumeric = [5, 1] }
    interface_version = 0x50
    """
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        await gateway.send(gateway.message())
        assert await gateway.until_final(but=["submitted"]) == {"submitted": 1}
        [row] = peer.ledger.submits()
        assert (row["source"], row["source_type"]) == ("Acme", [5, 1])
        assert (row["validity_s"], row["registered_delivery"]) == (None, 0)
        assert [bind["interface_version"] for bind in peer.binds()] == [0x50]
        assert not peer.ledger.all("receipt")


async def test_receipts_of_failures_alone(tmp_path: Path) -> None:
    channel = 'registered_delivery = "failure"'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        fails = gateway.message()
        await peer.rules(by_number={fails["to"].lstrip("+"): {"stat": "UNDELIV"}})
        for body in (fails, gateway.message()):
            assert (await gateway.send(body)).status == 202
        assert await gateway.until_final(but=["submitted"]) == {"undeliverable": 1, "submitted": 1}
        assert {row["registered_delivery"] for row in peer.ledger.submits()} == {2}
        assert [row["stat"] for row in peer.ledger.all("receipt")] == ["UNDELIV"]
