"""A channel against a simulated SMSC on real sockets: each key of channels.toml as the carrier sees it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY, Category, Secret
from gateway.simulator.behaviour import Plan
from gateway.simulator.ledger import Submit
from gateway.simulator.smsc import Smsc
from gateway.smpp import channel as channel_module
from gateway.smpp import constants as c
from gateway.smpp.channel import Channel, Outbound
from gateway.smpp.codec import encode
from gateway.smpp.pdu import DeliverSm, Unknown
from gateway.smpp.text import split_udh
from tests.simulator.esme import Esme
from tests.support.channel import Heard, bound_channel, make_channel, outbound
from tests.support.scenario import carrier
from tests.support.until import until

LONG = "".join(f"{i:04d}" for i in range(100))  # 400 septets: three parts
LONG_UCS2 = "".join(chr(0x4E00 + i) for i in range(150))  # three parts of 67


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(channel_module, "_BACKOFF_MOST_S", 0.1)
    monkeypatch.setattr(channel_module, "_UNBIND_S", 0.5)


async def seen(out: Outbound | list[Outbound], **settings: Any) -> list[Submit]:
    """Send messages through a channel with these settings; return what the SMSC saw of them."""
    outs = out if isinstance(out, list) else [out]
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard, **settings) as channel:
        parts = sum(channel.submit(one, i).bit_count() for i, one in enumerate(outs))
        await until(lambda: len(heard.answers) == parts)
        return list(smsc.ledger.submits)


async def seen_one(out: Outbound, **settings: Any) -> Submit:
    (row,) = await seen(out, **settings)
    return row


# ------------------------------------------------------------------------------------------------------------
# The bind
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [0x33, 0x34, 0x50])
async def test_the_bind_claims_version_and_system_type(version: int) -> None:
    async with carrier() as smsc, bound_channel(smsc, Heard(), interface_version=version, system_type="vma"):
        (link,) = smsc.links
        assert (link.interface_version, link.system_type) == (version, b"vma")


async def test_a_long_password_goes_only_where_it_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    password = "a-password-of-25-letters."
    async with carrier(system_id="acme", password=password) as smsc:
        async with bound_channel(smsc, Heard(), password=Secret(password), long_password=True):
            assert smsc.counters.binds == 1
        heard = Heard()
        strict = make_channel(smsc, heard, password=Secret(password))
        strict.set_slots([0])
        try:
            await until(lambda: strict._failed)
            assert not strict.up
            assert (smsc.counters.binds, smsc.counters.binds_refused) == (1, 0), "nothing was cut and sent"
        finally:
            await strict.stop(abort=True)
        async with carrier() as other:
            longest = make_channel(other, heard, password=Secret("x" * 65), long_password=True)
            longest.set_slots([0])
            await until(lambda: longest._failed)
            await longest.stop(abort=True)
            assert other.counters.binds == 0
    assert password not in caplog.text


# ------------------------------------------------------------------------------------------------------------
# Fields that are fixed by channel
# ------------------------------------------------------------------------------------------------------------
async def test_without_any_key_everything_is_as_it_was() -> None:
    row = await seen_one(outbound())
    assert (row.service_type, row.protocol_id, row.priority_flag, row.registered_delivery) == ("", 0, 0, 1)
    assert (row.tlvs, row.validity_period, row.data_coding, row.esm_class) == (None, "000000000500000R", 0, 0)
    assert (row.source_ton, row.source_npi, row.source) == (3, 0, "1069")


async def test_fixed_fields_and_vendor_tlvs_are_in_every_submit() -> None:
    tlvs = ((0x1400, b"1101000000001234\0"), (0x1401, b"77"))
    rows = await seen(
        [outbound("one"), outbound(LONG), outbound("信息", encoding="ucs2")],
        service_type="VMA",
        protocol_id=0x40,
        validity="none",
        tlvs=tlvs,
    )
    assert len(rows) == 5
    for row in rows:
        assert (row.service_type, row.protocol_id, row.validity_period) == ("VMA", 0x40, "")
        assert row.tlvs == dict(tlvs)
    assert [row.part()[1:] for row in rows[1:4]] == [(3, 1), (3, 2), (3, 3)]
    assert (rows[0].short_message, rows[4].short_message) == (b"one", "信息".encode("utf-16-be"))


async def test_priority_by_category() -> None:
    outs = [outbound(category=category) for category in Category]
    assert [row.priority_flag for row in await seen(outs, priority=(3, 1, 0))] == [3, 1, 0]
    assert [row.priority_flag for row in await seen(outs, priority=(2, 2, 2))] == [2, 2, 2]


@pytest.mark.parametrize(
    ("setting", "octet"), [("final", 1), ("failure", 2), ("none", 0), (True, 1), (False, 0)], ids=str
)
async def test_registered_delivery(setting: bool | str, octet: int) -> None:
    assert (await seen_one(outbound(), registered_delivery=setting)).registered_delivery == octet


async def test_only_failures_are_reported_where_only_they_were_asked_for() -> None:
    heard = Heard()
    async with carrier(by_number=True) as smsc, bound_channel(smsc, heard, registered_delivery="failure") as channel:
        channel.submit(outbound(destination=b"8613800000001"), "arrives")
        channel.submit(outbound(destination=b"8613800900320"), "fails")
        channel.submit(outbound(destination=b"8613800900320"), "fails too")
        await until(lambda: len(heard.inbound) == 2)
        assert all(b"stat:UNDELIV" in inbound.short_message for inbound in heard.inbound)
        Channel.acknowledge(heard.inbound)
        await until(lambda: smsc.counters.settled == 2)


@pytest.mark.parametrize(
    ("encoding", "text", "usual", "changed"),
    [("gsm7", "hi", 0, 1), ("ucs2", "信", 8, 0x18), ("latin1", "ê", 3, 0xF4)],
)
async def test_data_coding_by_encoding(encoding: str, text: str, usual: int, changed: int) -> None:
    out = outbound(text, encoding=encoding)
    assert (await seen_one(out)).data_coding == usual
    numbers = (("gsm7", 1), ("ucs2", 0x18), ("latin1", 0xF4))
    row = await seen_one(out, data_coding=numbers)
    assert (row.data_coding, row.short_message) == (changed, (await seen_one(out)).short_message)
    others = tuple(pair for pair in numbers if pair[0] != encoding)
    assert (await seen_one(out, data_coding=others)).data_coding == usual


async def test_senders_are_rewritten_and_get_their_kinds_numbers() -> None:
    senders = ["Acme", "Shop", "10690001", "106900012345", "8613800138000", "10086", ""]
    rows = await seen(
        [outbound(sender=sender) for sender in senders],
        source=(("Acme", "10690077001"), ("", "1069")),
        source_types=(("alphanumeric", (5, 1)), ("access", (2, 8))),
    )
    assert [(row.source, row.source_ton, row.source_npi) for row in rows] == [
        ("10690077001", 2, 8),
        ("Shop", 5, 1),
        ("10690001", 3, 0),
        ("106900012345", 2, 8),
        ("8613800138000", 1, 1),
        ("10086", 3, 0),
        ("1069", 3, 0),
    ]
    rest = await seen([outbound(sender=s) for s in ("Acme", "Shop")], source=(("Acme", "1069"), ("*", "")))
    assert [(row.source, row.source_ton) for row in rest] == [("1069", 3), ("", 0)]


# ------------------------------------------------------------------------------------------------------------
# Long messages
# ------------------------------------------------------------------------------------------------------------
def text_of(rows: list[Submit], encoding: str) -> str:
    octets = b"".join(
        split_udh(row.octets())[1] if row.esm_class & 0x40 else row.octets()
        for row in sorted(rows, key=lambda row: row.part())
    )
    return octets.decode("utf-16-be" if encoding == "ucs2" else "ascii")


@pytest.mark.parametrize(("encoding", "text"), [("gsm7", LONG), ("ucs2", LONG_UCS2)])
@pytest.mark.parametrize(("long", "bits"), [("udh", 8), ("udh", 16), ("sar", 8), ("sar", 16)])
async def test_parts_are_joined_by_header_or_by_tlvs(long: str, bits: int, encoding: str, text: str) -> None:
    rows = await seen(outbound(text, encoding=encoding), long=long, reference_bits=bits, tlvs=((0x1400, b"id"),))
    assert [row.part() for row in rows] == [(0x1234 if bits == 16 else 0x34, 3, n) for n in (1, 2, 3)]
    assert text_of(rows, encoding) == text
    for row in rows:
        assert row.tlvs is not None
        assert row.tlvs[0x1400] == b"id"
        if long == "sar":
            assert row.esm_class == 0
            assert set(row.tlvs) == {0x1400, 0x020C, 0x020E, 0x020F}
            # The SMSC puts a header before it, which must leave it in one short message.
            assert len(row.short_message) <= (134 if encoding == "ucs2" else 153)
        else:
            assert (row.esm_class, set(row.tlvs)) == (0x40, {0x1400})


@pytest.mark.parametrize("long", ["sar", "payload"])
async def test_a_text_of_one_part_has_no_marks(long: str) -> None:
    row = await seen_one(outbound("x" * 160), long=long)
    assert (row.short_message, row.esm_class, row.tlvs) == (b"x" * 160, 0, None)


@pytest.mark.parametrize("long", ["udh", "sar"])
async def test_of_a_text_longer_than_the_window_the_rest_follows(long: str) -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard, long=long, window=2) as channel:
        assert channel.submit(outbound(LONG), "a") == 0b011
        await until(lambda: len(heard.answers) == 2)
        assert channel.submit(outbound(LONG, skip=0b011), "a") == 0b100
        await until(lambda: len(heard.answers) == 3)
        assert text_of(smsc.ledger.submits, "gsm7") == LONG


@pytest.mark.parametrize(("encoding", "text"), [("gsm7", LONG), ("ucs2", LONG_UCS2), ("latin1", "ê" * 300)])
async def test_a_whole_text_in_one_submit_answers_for_all_its_parts(encoding: str, text: str) -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard, long="payload", window=1) as channel:
        assert channel.submit(outbound(text, encoding=encoding), "a") == 0b111
        await until(lambda: heard.answers)
        assert heard.answers == [("a", -3, "answered", 0, "0000000001")]
        (row,) = smsc.ledger.submits
        assert (row.short_message, row.esm_class) == (b"", 0)
        codec = {"gsm7": "ascii", "ucs2": "utf-16-be", "latin1": "latin-1"}[encoding]
        assert (row.tlvs or {})[0x0424].decode(codec) == text


async def test_a_whole_text_that_is_refused_lost_or_late_is_so_for_all_parts() -> None:
    heard = Heard()
    plans = [Plan(status=0x45), Plan(status=None, connection="cut")]
    async with carrier() as smsc, bound_channel(smsc, heard, long="payload") as channel:
        smsc.on_submit = lambda link, pdu: plans.pop(0)
        channel.submit(outbound(LONG), "refused")
        await until(lambda: heard.answers)
        assert heard.answers == [("refused", -3, "answered", 0x45, "")]
        heard.answers.clear()
        channel.submit(outbound(LONG), "lost")
        await until(lambda: heard.answers)
        assert heard.answers == [("lost", -3, "lost", 0, "")]
        heard.answers.clear()
    async with carrier() as smsc, bound_channel(smsc, heard, long="payload", response_timer_s=0.1) as channel:
        smsc.on_submit = lambda link, pdu: Plan(status=0, delay_s=0.3)
        channel.submit(outbound(LONG), "late")
        await until(lambda: len(heard.answers) == 2)
        assert [answer[1:4] for answer in heard.answers] == [(-3, "timed_out", 0), (-3, "answered", 0)]


async def test_what_was_begun_in_parts_is_ended_in_parts() -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard, long="payload") as channel:
        assert channel.submit(outbound(LONG, skip=0b010), "a") == 0b101
        await until(lambda: len(heard.answers) == 2)
        assert [row.part() for row in smsc.ledger.submits] == [(0x34, 3, 1), (0x34, 3, 3)]
        assert all(row.esm_class == 0x40 for row in smsc.ledger.submits)


async def test_packed_gsm_text() -> None:
    outs = [outbound("hellohello"), outbound(LONG), outbound("信", encoding="ucs2")]
    rows = await seen(outs, packed=True)
    assert rows[0].short_message.hex() == "e8329bfd4697d9ec37"
    assert [row.part()[1:] for row in rows[1:4]] == [(3, 1), (3, 2), (3, 3)]
    assert [len(row.short_message) for row in rows[1:4]] == [140, 140, 6 + 83]
    assert rows[4].short_message == "信".encode("utf-16-be")


# ------------------------------------------------------------------------------------------------------------
# What an SMSC will not have
# ------------------------------------------------------------------------------------------------------------
async def test_a_field_that_is_refused_is_left_out_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    settings = {"tlvs": ((0x1400, b"id"),), "long": "sar"}
    async with carrier() as smsc, bound_channel(smsc, heard, **settings) as channel:
        channel.submit(outbound(), 0)
        channel.submit(outbound(without=WITHOUT_VALIDITY), 1)  # this one alone
        assert channel.leave_out(WITHOUT_VALIDITY)
        channel.submit(outbound(), 2)
        assert channel.leave_out(WITHOUT_TLVS)
        assert channel.leave_out(WITHOUT_TLVS)
        out = outbound(LONG)
        channel.submit(out, 3)
        assert out.without == WITHOUT_VALIDITY | WITHOUT_TLVS
        await until(lambda: len(heard.answers) == 6)
        rows = smsc.ledger.submits
        assert [bool(row.validity_period) for row in rows] == [True, False, False, False, False, False]
        assert [0x1400 in (row.tlvs or {}) for row in rows] == [True, True, True, False, False, False]
        assert [row.part()[1:] for row in rows[3:]] == [(3, 1), (3, 2), (3, 3)], "what joins the parts stays"
        for field in ("validity", "tlvs"):
            assert channel._metrics.gauge("channel_left_out", channel="a", field=field).n == 1
            assert caplog.text.count(f"refuses {field}") == 1


async def test_what_is_not_sent_cannot_be_left_out() -> None:
    async with carrier() as smsc:
        channel = make_channel(smsc, Heard(), validity="none")
        assert not channel.leave_out(WITHOUT_VALIDITY)
        assert not channel.leave_out(WITHOUT_TLVS)
        assert channel._left_out == 0


# ------------------------------------------------------------------------------------------------------------
# What comes in
# ------------------------------------------------------------------------------------------------------------
def answers_of(smsc: Smsc) -> list[tuple[int, int | None]]:
    return [(i, row.ack) for i, row in enumerate(smsc.ledger.receipts)]


async def test_receipts_by_data_sm_come_like_others_and_wait_for_their_answer() -> None:
    heard = Heard()
    async with carrier(receipt_pdu="data_sm") as smsc, bound_channel(smsc, heard) as channel:
        for i in range(3):
            channel.submit(outbound(), i)
        await until(lambda: len(heard.inbound) == 3)
        first = heard.inbound[0]
        assert (first.source, first.destination, first.esm_class) == (b"8613800000001", b"1069", 4)
        assert re.match(rb"id:0000000001 .* stat:DELIVRD ", first.short_message)
        assert (first.tlvs or {})[c.TAG_RECEIPTED_MESSAGE_ID] == b"0000000001\0"
        assert answers_of(smsc) == [(0, None), (1, None), (2, None)]
        Channel.acknowledge([first])
        Channel.acknowledge(heard.inbound[1:2], c.RSYSERR)
        await until(lambda: answers_of(smsc)[:2] == [(0, 0), (1, c.RSYSERR)])
        assert smsc.ledger.receipts[2].ack is None
        await until(lambda: len(heard.inbound) == 4)  # the refused one again
        assert heard.inbound[3].short_message.startswith(b"id:0000000002 ")


async def test_a_data_sm_nobody_can_read_is_kept_and_answered_as_data_sm() -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard) as channel:
        smsc.send_raw(encode(Unknown(c.DATA_SM, b"\0\1", 0, 77)))
        await until(lambda: heard.inbound)
        assert heard.inbound[0].malformed
        Channel.acknowledge(heard.inbound)
        # An answer to nothing we sent is only counted; a deliver_sm_resp would be counted the same, so look closer.
        await until(lambda: smsc.links[0].session.counters.unmatched_responses == 1)
        assert channel.up


async def test_a_text_in_message_payload_is_handed_on() -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard):
        pdu = DeliverSm(source_addr=b"8613800000001", destination_addr=b"1069", tlvs={0x0424: b"a long reply"})
        smsc.send_raw(encode(pdu, 78))
        await until(lambda: heard.inbound)
        assert heard.inbound[0].short_message == b"a long reply"
        Channel.acknowledge(heard.inbound)


async def test_alert_notification_and_outbind_are_ignored() -> None:
    heard = Heard()
    async with carrier() as smsc, bound_channel(smsc, heard) as channel:
        smsc.send_raw(encode(Unknown(c.ALERT_NOTIFICATION, b"\1\18613800000001\0\1\11069\0", 0, 5)))
        smsc.send_raw(encode(Unknown(c.OUTBIND, b"smsc\0pw\0", 0, 6)))
        smsc.send_raw(encode(Unknown(0x0111, b"", 0, 7)))  # broadcast_sm: a request, so it wants an answer
        link = smsc.links[0].session
        # The last one's generic_nack: the two before it were not answered.
        await until(lambda: link.counters.unmatched_nacks == 1)
        assert link.counters.pdus_received == 2, "the bind and the one nack"
        assert channel.submit(outbound(), "after") == 1
        await until(lambda: len(heard.answers) == 1)
        assert heard.inbound == []


async def test_sequence_numbers_wrap_on_the_wire() -> None:
    async with carrier() as smsc:
        esme = await Esme.bind(smsc.port, first_sequence_number=c.MAX_SEQUENCE_NUMBER - 2)
        await until(lambda: esme.bound)
        for i in range(6):
            esme.submit("8613800000001", i)
        await until(lambda: len(esme.answers) == 6)
        numbers = [row.sequence_number for row in smsc.ledger.submits]
        assert numbers == [0x7FFFFFFE, 0x7FFFFFFF, 1, 2, 3, 4]
        assert {answer.status for answer in esme.answers.values()} == {0}
        esme.connection.unbind()
        async with asyncio.timeout(5):
            await esme.connection.wait_closed()
