"""The octets of receipts: equal to what the session's own codec reads, for every state and every option."""

from __future__ import annotations

import itertools
import re

import pytest

from gateway.simulator.behaviour import ReceiptPlan
from gateway.simulator.receipts import (
    MESSAGE_STATES,
    RECEIPT_ESM_CLASS,
    TAG_MESSAGE_STATE,
    TAG_RECEIPTED_MESSAGE_ID,
    Outgoing,
    OutgoingEncoder,
)
from gateway.smpp.codec import decode
from gateway.smpp.pdu import DataSm, DeliverSm, SubmitSm

ABOUT = SubmitSm(
    source_addr_ton=5,
    source_addr=b"Acme",
    dest_addr_ton=1,
    dest_addr_npi=1,
    destination_addr=b"8613800000001",
)


def read(item: Outgoing, number: int = 77) -> DeliverSm:
    encoder = OutgoingEncoder(wall_offset_s=1_800_000_000.0)
    encoder.now = 90.0
    first = encoder.encode(item, number)
    assert encoder.encode(item, number) == first, "and the kept frame gives the same"
    pdu = decode(first)
    assert isinstance(pdu, DeliverSm)
    return pdu


@pytest.mark.parametrize(
    ("state", "text", "tlvs"), list(itertools.product(MESSAGE_STATES, (True, False), (True, False)))
)
@pytest.mark.parametrize("smsc_id", [b"0000000001", b"1F", b"812FC7470000001B", b"x" * 64])
def test_a_receipt_reads_back_as_planned(state: str, text: bool, tlvs: bool, smsc_id: bytes) -> None:
    plan = ReceiptPlan(0.0, state, "042", text=text, tlvs=tlvs)
    pdu = read(Outgoing(ABOUT, smsc_id, plan, 1_800_000_000.0))
    assert pdu.sequence_number == 77
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr) == (1, 1, b"8613800000001")
    assert (pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr) == (5, 0, b"Acme")
    assert (pdu.esm_class, pdu.data_coding, pdu.registered_delivery) == (RECEIPT_ESM_CLASS, 0, 0)
    if text:
        pattern = r"id:(\S+) sub:001 dlvrd:(\d{3}) submit date:(\d{10}) done date:(\d{10}) stat:(\w+) err:042 text:"
        found = re.fullmatch(pattern, pdu.short_message.decode())
        assert found is not None
        assert found[1].encode() == smsc_id
        assert found[5] == state
        assert int(found[4]) > int(found[3])
    else:
        assert pdu.short_message == b""
    expected = {
        TAG_RECEIPTED_MESSAGE_ID: smsc_id + b"\0",
        TAG_MESSAGE_STATE: bytes((MESSAGE_STATES[state],)),
    }
    assert pdu.tlvs == (expected if tlvs else None)


def test_a_wrong_destination_is_another_number() -> None:
    plan = ReceiptPlan(0.0, wrong_destination=True)
    assert read(Outgoing(ABOUT, b"1", plan, 0.0)).source_addr == b"8613800000000"[:-4] + b"0000"
    zeros = SubmitSm(destination_addr=b"8613800000000")
    assert read(Outgoing(zeros, b"1", plan, 0.0)).source_addr != b"8613800000000"


def test_garbage_and_messages_from_the_recipient() -> None:
    garbage = read(Outgoing(ABOUT, b"1", ReceiptPlan(0.0, garbage=True), 0.0))
    assert garbage.esm_class == RECEIPT_ESM_CLASS
    assert b"id:" not in garbage.short_message
    inbound = read(Outgoing(ABOUT, b"", None, 0.0, "退订".encode("utf-16-be"), 8))
    assert (inbound.esm_class, inbound.data_coding) == (0, 8)
    assert inbound.short_message.decode("utf-16-be") == "退订"
    assert (inbound.source_addr, inbound.destination_addr) == (b"8613800000001", b"Acme")


@pytest.mark.parametrize(("text", "tlvs"), [(True, True), (True, False), (False, True)])
def test_a_receipt_as_data_sm_says_the_same(text: bool, tlvs: bool) -> None:
    item = Outgoing(ABOUT, b"1F", ReceiptPlan(0.0, "UNDELIV", "042", text=text, tlvs=tlvs), 1_800_000_000.0)
    deliver = read(item)
    encoder = OutgoingEncoder(wall_offset_s=1_800_000_000.0)
    encoder.now, encoder.as_data_sm = 90.0, True
    data = decode(encoder.encode(item, 77))
    assert isinstance(data, DataSm)
    assert data.short_message == deliver.short_message
    assert (data.source_addr, data.destination_addr, data.esm_class) == (b"8613800000001", b"Acme", RECEIPT_ESM_CLASS)
    for tag in (TAG_RECEIPTED_MESSAGE_ID, TAG_MESSAGE_STATE):
        assert (data.tlvs or {}).get(tag) == (deliver.tlvs or {}).get(tag)
