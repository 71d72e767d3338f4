"""The codec alone: round trips by property, limits on what we send, the four ways a read can end, nothing
shown.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import EncodeError, FramingError, MalformedPdu
from gateway.smpp import codec
from gateway.smpp import constants as c
from gateway.smpp.pdu import (
    Bind,
    BindResp,
    DataSm,
    DataSmResp,
    DecodedPdu,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    GenericNack,
    Malformed,
    Pdu,
    ShortMessagePdu,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    Unknown,
)

# ------------------------------------------------------------------------------------------------------------
# Strategies
# ------------------------------------------------------------------------------------------------------------
octet = st.integers(0, 255)
number = st.integers(0, 0xFFFFFFFF)


def cstring(most: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=most).map(lambda value: value.replace(b"\0", b"0"))


tlvs = st.none() | st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=300), min_size=1, max_size=6)
short_message_fields = {
    "service_type": cstring(5),
    "source_addr_ton": octet,
    "source_addr_npi": octet,
    "source_addr": cstring(20),
    "dest_addr_ton": octet,
    "dest_addr_npi": octet,
    "destination_addr": cstring(20),
    "esm_class": octet,
    "protocol_id": octet,
    "priority_flag": octet,
    "schedule_delivery_time": cstring(16),
    "validity_period": cstring(16),
    "registered_delivery": octet,
    "replace_if_present_flag": octet,
    "data_coding": octet,
    "sm_default_msg_id": octet,
    "short_message": st.binary(max_size=254),
    "tlvs": tlvs,
    "command_status": number,
    "sequence_number": number,
}
DATA_FIELDS = ("service_type", "source_addr_ton", "source_addr_npi", "dest_addr_ton", "dest_addr_npi")
DATA_FIELDS += ("esm_class", "registered_delivery", "data_coding", "tlvs", "command_status", "sequence_number")
short_messages = st.one_of(st.builds(kind, **short_message_fields) for kind in (SubmitSm, DeliverSm))
others = st.one_of(
    st.builds(SubmitSmResp, message_id=cstring(64), sequence_number=number),
    st.builds(SubmitSmResp, command_status=st.integers(1, 0xFFFFFFFF), sequence_number=number),
    st.builds(DeliverSmResp, command_status=number, sequence_number=number),
    st.builds(
        Bind,
        command_id=st.sampled_from([c.BIND_TRANSMITTER, c.BIND_RECEIVER, c.BIND_TRANSCEIVER]),
        system_id=cstring(15),
        password=cstring(8),
        system_type=cstring(12),
        interface_version=octet,
        addr_ton=octet,
        addr_npi=octet,
        address_range=cstring(40),
        sequence_number=number,
    ),
    st.builds(
        BindResp,
        command_id=st.sampled_from([c.BIND_TRANSMITTER_RESP, c.BIND_RECEIVER_RESP, c.BIND_TRANSCEIVER_RESP]),
        system_id=cstring(15),
        tlvs=tlvs,
        sequence_number=number,
    ),
    st.builds(
        DataSm,
        **{name: short_message_fields[name] for name in DATA_FIELDS},
        source_addr=cstring(64),
        destination_addr=cstring(64),
    ),
    st.builds(DataSmResp, message_id=cstring(64), sequence_number=number),
    st.builds(EnquireLink, sequence_number=number),
    st.builds(Unbind, sequence_number=number),
    st.builds(GenericNack, command_status=number, sequence_number=number),
    st.builds(Unknown, command_id=st.just(0x00000111), body=st.binary(max_size=99), sequence_number=number),
)
pdus = short_messages | others

SUBMIT = SubmitSm(
    source_addr=b"106900001",
    dest_addr_ton=1,
    dest_addr_npi=1,
    destination_addr=b"8613800138000",
    short_message=b"hello",
    sequence_number=7,
)


# ------------------------------------------------------------------------------------------------------------
# Round trips
# ------------------------------------------------------------------------------------------------------------
@given(pdus)
def test_what_was_encoded_decodes_to_itself(pdu: Pdu) -> None:
    assert codec.decode(codec.encode(pdu)) == pdu


@given(short_messages)
def test_the_hot_encoder_writes_what_the_table_writes(pdu: ShortMessagePdu) -> None:
    hot = codec.encode_submit_sm if isinstance(pdu, SubmitSm) else codec.encode_deliver_sm
    expected = codec.encode(pdu)
    assert hot(pdu, pdu.sequence_number) == expected
    assert hot(pdu, pdu.sequence_number) == expected  # and again, from what it remembered


@given(short_messages | st.builds(SubmitSmResp, message_id=cstring(200), sequence_number=number))
def test_the_hot_decoder_reads_what_the_table_reads(pdu: ShortMessagePdu | SubmitSmResp) -> None:
    data = struct.pack(">IIII", 0, pdu.command_id, pdu.command_status, pdu.sequence_number)
    if isinstance(pdu, SubmitSmResp):
        data += pdu.message_id + b"\0"
    else:
        data = codec.encode(pdu)
    data = struct.pack(">I", len(data)) + data[4:]
    by_table = codec._decode_by_table(pdu.command_id, data, 16, len(data), pdu.command_status, pdu.sequence_number)
    assert codec.decode(data) == by_table


@given(st.binary(max_size=64).filter(lambda v: b"\0" not in v), number, st.integers(1, 0xFFFFFFFF))
def test_the_hot_responses_are_those_of_the_table(message_id: bytes, sequence: int, status: int) -> None:
    assert codec.encode_submit_sm_resp(sequence, message_id) == codec.encode(SubmitSmResp(message_id), sequence)
    assert codec.encode_submit_sm_resp(sequence, b"x", status) == codec.encode(SubmitSmResp(b"x", status), sequence)
    assert codec.encode_deliver_sm_resp(sequence) == codec.encode(DeliverSmResp(), sequence)
    # an error answer to deliver_sm keeps its one NUL: message_id stands there in every case (SMPP 3.4 §4.6.2)
    assert codec.encode_deliver_sm_resp(sequence, status)[4:] == (
        struct.pack(">III", c.DELIVER_SM_RESP, status, sequence) + b"\0"
    )
    assert codec.encode_deliver_sm_resps([sequence, 5], status) == (
        codec.encode_deliver_sm_resp(sequence, status) + codec.encode_deliver_sm_resp(5, status)
    )


@settings(max_examples=60)
@given(st.lists(pdus, max_size=12), st.data())
def test_a_stream_means_the_same_however_it_is_cut(expected: list[Pdu], data: st.DataObject) -> None:
    stream = b"".join(codec.encode(pdu) for pdu in expected)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    decoder = codec.Decoder()
    got: list[DecodedPdu] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == expected
    assert (decoder.pending, decoder.failure) == (0, None)
    one_by_one = codec.Decoder()
    assert [pdu for i in range(len(stream)) for pdu in one_by_one.feed(stream[i : i + 1])] == expected


def test_200_pdus_of_one_read_and_the_half_one_behind_them() -> None:
    one = codec.encode_submit_sm(SUBMIT, 7)
    decoder = codec.Decoder()
    assert decoder.feed(one * 200 + one[:30]) == [SUBMIT] * 200
    assert decoder.pending == 30
    assert decoder.feed(one[30:]) == [SUBMIT]


# ------------------------------------------------------------------------------------------------------------
# What we refuse to send
# ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "longest"),
    [
        ("service_type", 5),
        ("source_addr", 20),
        ("destination_addr", 20),
        ("schedule_delivery_time", 16),
        ("validity_period", 16),
        ("short_message", 254),
    ],
)
def test_a_short_messages_fields_are_never_cut(field: str, longest: int) -> None:
    fits = SubmitSm(**{field: b"1" * longest})
    assert codec.decode(codec.encode_submit_sm(fits, 0)) == fits
    for value in (b"1" * (longest + 1), "text", None, 5):
        for encode in (codec.encode_submit_sm, codec.encode):
            with pytest.raises(EncodeError):
                encode(SubmitSm(**{field: value}), 0)


@pytest.mark.parametrize(
    ("field", "longest"), [("system_id", 15), ("password", 8), ("system_type", 12), ("address_range", 40)]
)
def test_a_binds_fields_are_never_cut(field: str, longest: int) -> None:
    fits = Bind(c.BIND_TRANSCEIVER, **{field: b"1" * longest})
    assert codec.decode(codec.encode(fits)) == fits
    with pytest.raises(EncodeError) as refused:
        codec.encode(Bind(c.BIND_TRANSCEIVER, **{field: b"s3cret-" * 9}))
    assert "s3cret" not in str(refused.value)


def test_an_id_of_more_than_64_octets_is_refused() -> None:
    assert codec.encode_submit_sm_resp(1, b"1" * 64)
    with pytest.raises(EncodeError):
        codec.encode_submit_sm_resp(1, b"1" * 65)


@pytest.mark.parametrize("field", ["source_addr", "destination_addr", "validity_period", "service_type"])
def test_a_nul_inside_a_field_would_shift_all_behind_it_and_is_refused(field: str) -> None:
    for encode in (codec.encode_submit_sm, codec.encode):
        with pytest.raises(EncodeError):
            encode(SubmitSm(**{field: b"1\x002"}), 0)
    with pytest.raises(EncodeError):
        codec.encode_submit_sm_resp(1, b"1\x002")


@pytest.mark.parametrize("value", [-1, 256, "1", None, 1.5])
@pytest.mark.parametrize("field", ["esm_class", "data_coding", "dest_addr_ton", "registered_delivery"])
def test_a_number_that_does_not_fit_its_octet_is_refused(field: str, value: object) -> None:
    for encode in (codec.encode_submit_sm, codec.encode):
        with pytest.raises(EncodeError):
            encode(SubmitSm(**{field: value}), 0)


@pytest.mark.parametrize(
    "tlvs", [{0x10000: b""}, {-1: b""}, {5: "x"}, {5: b"x" * 65536}, {5: b"x" * 65500}, [5], {"a": b""}]
)
def test_optional_parameters_that_cannot_be_written_are_refused(tlvs: object) -> None:
    for encode in (codec.encode_submit_sm, codec.encode):
        with pytest.raises(EncodeError):
            encode(SubmitSm(tlvs=tlvs), 0)


@pytest.mark.parametrize("sequence", [-1, 1 << 32, None, "1"])
def test_a_sequence_number_that_does_not_fit_is_refused(sequence: object) -> None:
    calls = (
        lambda: codec.encode_submit_sm(SUBMIT, sequence),
        lambda: codec.encode_submit_sm_resp(sequence),
        lambda: codec.encode_deliver_sm_resp(sequence),
        lambda: codec.encode_deliver_sm_resps([sequence]),
        lambda: codec.encode_header(c.UNBIND, sequence),
    )
    for call in calls:
        with pytest.raises(EncodeError):
            call()


def test_what_is_remembered_of_senders_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_CACHE_ENTRIES", 10)
    codec._fixed_parts.clear()
    for sender in range(100):
        pdu = SubmitSm(source_addr=b"%d" % sender)
        assert codec.encode_submit_sm(pdu, 1) == codec.encode(pdu, 1)
        assert len(codec._fixed_parts) <= 10


# ------------------------------------------------------------------------------------------------------------
# What peers send
# ------------------------------------------------------------------------------------------------------------
def raw(command_id: int, body: bytes = b"", *, status: int = 0, sequence: int = 9, length: int | None = None) -> bytes:
    size = 16 + len(body) if length is None else length
    return struct.pack(">IIII", size, command_id, status, sequence) + body


@pytest.mark.parametrize("length", [0, 3, 15, 65537, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_cannot_be_true_ends_the_stream(length: int) -> None:
    good = codec.encode_submit_sm(SUBMIT, 7)
    for cut in (1, 4, 10_000):
        stream = good + raw(c.SUBMIT_SM, length=length) + good
        decoder = codec.Decoder()
        got = [pdu for i in range(0, len(stream), cut) for pdu in decoder.feed(stream[i : i + cut])]
        assert got == [SUBMIT]
        assert isinstance(decoder.failure, FramingError)
        assert decoder.feed(good) == []
        assert decoder.pending == 0


def test_a_pdu_over_the_cap_is_refused_though_it_came_whole() -> None:
    decoder = codec.Decoder()
    assert decoder.feed(raw(c.SUBMIT_SM_RESP, b"x" * (c.MAX_PDU_OCTETS - 15))) == []
    assert decoder.failure is not None


def test_four_octets_are_enough_to_see_a_wrong_length() -> None:
    decoder = codec.Decoder()
    decoder.feed(b"\0\0\0\x0f")
    assert decoder.failure is not None


def test_the_longest_pdu_is_taken_and_held_while_it_comes() -> None:
    pdu = SubmitSm(tlvs={c.TAG_MESSAGE_PAYLOAD: b"x" * (65536 - 16 - 17 - 4)})
    data = codec.encode_submit_sm(pdu, 0)
    assert len(data) == 65536
    decoder = codec.Decoder()
    assert [got for i in range(0, 65536, 999) for got in decoder.feed(data[i : i + 999])] == [pdu]


BODY = codec.encode_submit_sm(SUBMIT, 7)[16:]


@pytest.mark.parametrize("command_id", [c.SUBMIT_SM, c.DELIVER_SM])
def test_every_truncation_is_malformed_and_the_next_pdu_is_read(command_id: int) -> None:
    good = codec.encode_submit_sm(SUBMIT, 7)
    for octets in range(len(BODY)):
        first, second = codec.Decoder().feed(raw(command_id, BODY[:octets]) + good)
        assert isinstance(first, Malformed), octets
        assert (first.command_id, first.sequence_number) == (command_id, 9)
        assert first.raw == raw(command_id, BODY[:octets])
        assert (first.error.command_id, first.error.sequence_number) == (command_id, 9)
        assert second == SUBMIT


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no nul at all", c.RINVCMDLEN),
        (BODY[:-6] + b"\xff" + BODY[-5:], c.RINVMSGLEN),
        (BODY + b"\x00", c.RINVOPTPARSTREAM),
        (BODY + b"\x04\x27\x00\x02\x01", c.RINVOPTPARSTREAM),
        (BODY + b"\x04\x27\xff\xff\x01", c.RINVOPTPARSTREAM),
        (b"\0\1\1" + b"1" * 300 + b"\0" + BODY[13:], c.RINVCMDLEN),
    ],
)
def test_what_is_wrong_decides_the_answer(body: bytes, status: int) -> None:
    with pytest.raises(MalformedPdu) as malformed:
        codec.decode(raw(c.DELIVER_SM, body))
    assert malformed.value.status == status


def test_ten_thousand_optional_parameters_unknown_and_doubled() -> None:
    many = b"".join(struct.pack(">HH", 0x1400 + i % 5000, 2) + b"%02d" % (i % 100) for i in range(10_000))
    pdu = codec.decode(raw(c.DELIVER_SM, BODY + many))
    assert isinstance(pdu, DeliverSm)
    assert pdu.tlvs is not None
    assert len(pdu.tlvs) == 5000
    assert pdu.tlvs[0x1400] == b"00"


@pytest.mark.parametrize("command_id", [c.SUBMIT_SM_RESP, c.DELIVER_SM_RESP, c.BIND_TRANSCEIVER_RESP])
@pytest.mark.parametrize("status", [0, c.RTHROTTLED])
def test_a_response_may_come_without_its_body(command_id: int, status: int) -> None:
    pdu = codec.decode(raw(command_id, status=status))
    assert (pdu.command_id, pdu.command_status, pdu.sequence_number) == (command_id, status, 9)
    assert getattr(pdu, "message_id", b"") == b""


@pytest.mark.parametrize(
    ("body", "message_id"),
    [(b"42\0", b"42"), (b"42", b"42"), (b"\0", b""), (b"", b""), (b"42\0rest", b"42"), (b"4" * 999, b"")],
)
def test_message_ids_as_smscs_really_send_them(body: bytes, message_id: bytes) -> None:
    pdu = codec.decode(raw(c.SUBMIT_SM_RESP, body))
    assert isinstance(pdu, SubmitSmResp)
    assert pdu.message_id == message_id


def test_an_unknown_command_keeps_its_body() -> None:
    assert codec.decode(raw(0x00010203, b"abc")) == Unknown(0x00010203, b"abc", 0, 9)


@pytest.mark.parametrize("data", [b"", b"\0", raw(c.UNBIND)[:-1], raw(c.UNBIND) * 2, raw(c.UNBIND) + b"\0\0"])
def test_decode_wants_exactly_one_pdu(data: bytes) -> None:
    with pytest.raises(FramingError):
        codec.decode(data)


# ------------------------------------------------------------------------------------------------------------
# What a log may show
# ------------------------------------------------------------------------------------------------------------
def test_no_repr_shows_a_person_a_text_or_a_secret() -> None:
    shown = repr(
        [
            SUBMIT,
            DeliverSm(source_addr=b"8613800138000", short_message=b"code 482913", tlvs={0x424: b"482913"}),
            Bind(c.BIND_TRANSCEIVER, b"acme-id", b"s3cret"),
            BindResp(c.BIND_TRANSCEIVER_RESP, b"acme-id"),
            Unknown(0x103, b"482913"),
            Malformed(c.DELIVER_SM, MalformedPdu("sm_length 9 too long"), b"8613800138000 482913"),
            SubmitSmResp(b"id-1", c.RTHROTTLED, 5),
        ]
    )
    for secret in ("8613800138000", "hello", "482913", "s3cret", "acme-id"):
        assert secret not in shown
    assert "****8000" in shown
    assert "id-1" in shown
    assert "RTHROTTLED" in shown


# ------------------------------------------------------------------------------------------------------------
# Templates, their TLVs, and TLVs of one short message
# ------------------------------------------------------------------------------------------------------------
@given(
    pdu=st.builds(SubmitSm, **{**short_message_fields, "command_status": st.just(0)}),
    own=st.none() | st.binary(max_size=9),
)
def test_a_template_writes_what_the_table_writes(pdu: SubmitSm, own: bytes | None) -> None:
    template = codec.submit_template(pdu)
    item = (template, pdu.destination_addr, pdu.short_message)
    if own is None:
        octets = codec.encode_templated(item, pdu.sequence_number)
        assert octets == codec.encode(pdu)
    else:
        octets = codec.encode_templated_with((*item, codec.payload_tlv(own)), pdu.sequence_number)
        pdu.tlvs = {**(pdu.tlvs or {}), c.TAG_MESSAGE_PAYLOAD: own}
        assert codec.decode(octets) == pdu


def test_a_template_still_refuses_what_does_not_fit() -> None:
    template = codec.submit_template(SUBMIT)
    for destination, text in ((b"1" * 21, b""), (b"1\x002", b""), (b"1", b"x" * 255)):
        with pytest.raises(EncodeError):
            codec.encode_templated((template, destination, text), 1)
        with pytest.raises(EncodeError):
            codec.encode_templated_with((template, destination, text, b""), 1)
    with pytest.raises(EncodeError):
        codec.encode_templated_with((template, b"1", b"", codec.payload_tlv(b"x" * 0xFFFF)), 1)
    with pytest.raises(EncodeError):
        codec.payload_tlv(b"x" * 0x10000)
    with pytest.raises(EncodeError):
        codec.submit_template(SubmitSm(tlvs={0x1400: "text"}))


def test_sar_marks_are_the_octets_of_the_specification() -> None:
    assert codec.sar_tlvs(0x1234, 2) == [
        bytes.fromhex("020c00021234020e000102020f000101"),
        bytes.fromhex("020c00021234020e000102020f000102"),
    ]
    for reference, total in ((0x10000, 2), (0, 256)):
        with pytest.raises(EncodeError):
            codec.sar_tlvs(reference, total)


def test_data_sm_is_read_as_the_specification_lays_it_out() -> None:
    body = (
        b"\0" b"\x01\x01" b"8613800138000\0" b"\x00\x00" b"1069\0" b"\x04\x00\x00"  # SMPP 3.4 §4.7.1
        b"\x00\x1e\x00\x03" b"77\0" b"\x04\x27\x00\x01\x02"
    )  # fmt: skip
    pdu = codec.decode(struct.pack(">IIII", 16 + len(body), 0x103, 0, 9) + body)
    assert pdu == DataSm(
        source_addr_ton=1,
        source_addr_npi=1,
        source_addr=b"8613800138000",
        destination_addr=b"1069",
        esm_class=4,
        tlvs={0x1E: b"77\0", 0x427: b"\x02"},
        sequence_number=9,
    )
    assert codec.encode_data_sm_resp(9) == bytes.fromhex("00000011 80000103 00000000 00000009 00")
    assert "8613800138000" not in repr(pdu)


def test_a_password_longer_than_the_specifications_needs_its_limit_named() -> None:
    bind = Bind(c.BIND_TRANSCEIVER, b"acme", b"x" * 64)
    with pytest.raises(EncodeError):
        codec.encode(bind)
    assert codec.decode(codec.encode(bind, limits={"password": 64})) == bind
    with pytest.raises(EncodeError):
        codec.encode(bind, limits={"password": 63})
