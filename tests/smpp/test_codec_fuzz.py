"""Hostile octets: random ones and mutations of sound PDUs; nothing but our own two errors may ever come out.

`SMSGW_FUZZ_PDUS` sets how many (default 200,000), `SMSGW_FUZZ_SEED` which (default fixed, printed on
failure).
"""

from __future__ import annotations

import os
import random
import struct

from gateway.errors import FramingError, MalformedPdu
from gateway.smpp import codec
from gateway.smpp import constants as c
from gateway.smpp.pdu import Bind, BindResp, DeliverSm, Malformed, Pdu, SubmitSm

PDUS = int(os.environ.get("SMSGW_FUZZ_PDUS", "200000"))
SEED = int(os.environ.get("SMSGW_FUZZ_SEED", "20261121"))

RECEIPT = b"id:0123456789 sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:DELIVRD err:000 text:"
SOUND = [
    codec.encode(pdu, 77)
    for pdu in (
        SubmitSm(source_addr=b"106900001", destination_addr=b"8613800138000", short_message=b"\x4f\x60" * 30),
        DeliverSm(
            source_addr=b"8613800138000",
            esm_class=4,
            short_message=RECEIPT,
            tlvs={0x1E: b"7\0", 0x427: b"\2"},
        ),
        DeliverSm(source_addr=b"8613800138000", tlvs={c.TAG_MESSAGE_PAYLOAD: b"x" * 400}),
        Bind(c.BIND_TRANSCEIVER, b"acme", b"secret", b"type"),
        BindResp(c.BIND_TRANSCEIVER_RESP, b"smsc", {c.TAG_SC_INTERFACE_VERSION: b"\x34"}),
    )
] + [
    codec.encode_submit_sm_resp(77, b"0123456789"),
    codec.encode_deliver_sm_resp(77),
    codec.encode_header(c.ENQUIRE_LINK, 77),
    codec.encode_header(c.GENERIC_NACK, 0, c.RINVCMDID),
    codec.encode_header(0x103, 5),
]
EDGES = [0, 1, 2, 5, 15, 16, 17, 127, 128, 254, 255]


def mutated(rng: random.Random) -> bytes:
    """Return a sound PDU with one to four wounds; three times of four its length is made true again."""
    pdu = bytearray(rng.choice(SOUND))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(pdu)) if pdu else 0
        match rng.randrange(6):
            case 0 if pdu:
                pdu[at] = rng.randrange(256)
            case 1 if pdu:
                pdu[at] = rng.choice(EDGES)
            case 2:
                del pdu[at : at + rng.randint(1, 20)]
            case 3:
                pdu[at:at] = rng.randbytes(rng.randint(1, 20))
            case 4:
                pdu += rng.choice(SOUND)[16 : 16 + rng.randint(1, 60)]
            case 5:
                pdu[at:] = pdu[at:].replace(b"\0", b"", 1)
    return with_true_length(bytes(pdu)) if rng.random() < 0.75 else bytes(pdu)


def with_true_length(pdu: bytes) -> bytes:
    return struct.pack(">I", max(16, len(pdu))) + pdu[4:].ljust(12, b"\0")


def random_octets(rng: random.Random) -> bytes:
    """Return noise; mostly behind a header that sends it to one of the body decoders."""
    body = rng.randbytes(rng.randrange(120))
    if rng.random() < 0.2:
        return body
    command_id = rng.choice([*codec.LAYOUTS, 0x103, rng.getrandbits(32)])
    return struct.pack(">IIII", 16 + len(body), command_id, rng.getrandbits(8), rng.getrandbits(32)) + body


def test_no_foreign_exception_in_random_and_mutated_pdus() -> None:
    rng = random.Random(SEED)
    outcome = {"pdu": 0, "malformed": 0, "framing": 0, "more": 0}
    for round_ in range(PDUS):
        data = mutated(rng) if round_ % 2 else random_octets(rng)
        decoder = codec.Decoder()
        try:
            pdus = decoder.feed(data)
        except Exception as exc:
            raise AssertionError(f"seed {SEED}, PDU {round_}: {data.hex()}") from exc
        for pdu in pdus:
            bad = isinstance(pdu, Malformed)
            outcome["malformed" if bad else "pdu"] += 1
            if bad:
                assert type(pdu.error) is MalformedPdu
        if decoder.failure is not None:
            assert type(decoder.failure) is FramingError
            outcome["framing"] += 1
        elif decoder.pending:
            assert decoder.pending <= c.MAX_PDU_OCTETS
            outcome["more"] += 1
    # A fuzzer that only ever reaches one branch proves little.
    assert min(outcome.values()) > PDUS // 50, outcome


def test_the_hot_decoders_agree_with_the_table_on_hostile_octets() -> None:
    rng = random.Random(SEED + 1)
    compared = 0
    for _ in range(PDUS // 10):
        data = with_true_length(mutated(rng) if rng.random() < 0.7 else random_octets(rng))
        command_id = struct.unpack_from(">I", data, 4)[0]
        if command_id not in (c.SUBMIT_SM, c.DELIVER_SM):
            continue
        compared += 1
        (hot,) = codec.Decoder().feed(data)
        table = by_table(command_id, data)
        if isinstance(table, MalformedPdu):
            assert isinstance(hot, Malformed)
            assert (hot.error.status, str(hot.error)) == (table.status, str(table))
        else:
            assert hot == table
    assert compared > PDUS // 100


def by_table(command_id: int, data: bytes) -> Pdu | MalformedPdu:
    _, _, status, sequence = struct.unpack_from(">IIII", data)
    try:
        return codec._decode_by_table(command_id, data, 16, len(data), status, sequence)
    except MalformedPdu as exc:
        return exc
