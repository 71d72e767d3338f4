"""gateway.smpp.text: the alphabet against the published table, counts and cuts against vectors, any text."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import EncodeError
from gateway.smpp import text

DATA = Path(__file__).parent.parent / "data"
ALPHABETS = ("gsm", "latin1", "ascii")
ROOM = {
    ("gsm7", 8): 153,
    ("gsm7", 16): 152,
    ("ucs2", 8): 67,
    ("ucs2", 16): 66,
    ("latin1", 8): 134,
    ("latin1", 16): 133,
}


def gsm_table() -> dict[bytes, str]:
    lines = (line for line in (DATA / "gsm0338.csv").read_text().splitlines() if not line.startswith("#"))
    table = {bytes.fromhex(row["septets"]): chr(int(row["code_point"], 16)) for row in csv.DictReader(lines)}
    del table[b"\x1b"]  # the escape itself
    return table


def vectors() -> list[dict]:
    return json.loads((DATA / "encoding_vectors.json").read_text())["vectors"]


def units(encoding: str, octets: bytes) -> int:
    return len(octets) // 2 if encoding == "ucs2" else len(octets)


def joined(parts: list[bytes], encoding: str, alphabet: str) -> str:
    """Read a message back from its parts, checking each header."""
    coding = text.data_coding(encoding, alphabet)
    if len(parts) == 1:
        return text.decode(coding, parts[0], alphabet)
    pieces = []
    for number, part in enumerate(parts, 1):
        udh, octets = text.split_udh(part)
        reference, total, sequence = text.concatenation(udh) or (0, 0, 0)
        assert (total, sequence) == (len(parts), number)
        assert reference == 0xABCD & (0xFFFF if len(udh) == 7 else 0xFF)
        pieces.append(text.decode(coding, octets, alphabet))
    return "".join(pieces)


def test_every_character_of_the_published_table_both_ways() -> None:
    table = gsm_table()
    assert len(table) == 127 + 10
    for octets, char in table.items():
        assert text.plan(char) == text.TextPlan("gsm7", 1)
        assert text.encode_parts(char, "gsm7", 0) == [octets]
        assert text.decode(0, octets) == char
    whole = "".join(table.values())
    assert text.encode_parts(whole, "gsm7", 0) == [b"".join(table)]
    assert text.decode(0, b"".join(table)) == whole


def test_nothing_outside_the_table_is_gsm() -> None:
    known = set(gsm_table().values())
    for point in (*range(0x0500), *range(0x2000, 0x2200), 0x3010, 0x4FE1, 0xFFFD, 0x1F600):
        assert (text.plan(chr(point)).encoding == "gsm7") == (chr(point) in known)


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: f"{v['encoding']}-{v['reference_bits']}-{v['units']}")
def test_vectors(vector: dict) -> None:
    message = "".join(char * count for char, count in vector["text"])
    bits, encoding = vector["reference_bits"], vector["encoding"]
    assert text.plan(message, reference_bits=bits) == text.TextPlan(encoding, len(vector["parts"]))
    parts = text.encode_parts(message, encoding, 0xABCD, reference_bits=bits)
    contents = [text.split_udh(part)[1] for part in parts] if len(parts) > 1 else parts
    assert [units(encoding, octets) for octets in contents] == vector["parts"]
    assert sum(vector["parts"]) == vector["units"]
    assert joined(parts, encoding, "gsm") == message


def test_headers_are_those_of_gsm_0340() -> None:
    short = text.encode_parts("a" * 161, "gsm7", 0x1234)
    assert [part[:6].hex(" ") for part in short] == ["05 00 03 34 02 01", "05 00 03 34 02 02"]
    long = text.encode_parts("a" * 161, "gsm7", 0x1234, reference_bits=16)
    assert [part[:7].hex(" ") for part in long] == ["06 08 04 12 34 02 01", "06 08 04 12 34 02 02"]
    assert all(len(part) <= 160 for part in short + long)


@pytest.mark.parametrize(
    ("message", "alphabet", "encoding", "octets"),
    [
        ("@_£", "gsm", "gsm7", b"\x00\x11\x01"),
        ("@_£", "latin1", "gsm7", b"@_\xa3"),
        ("@_£", "ascii", "ucs2", b"\x00@\x00_\x00\xa3"),
        ("[€]", "gsm", "gsm7", b"\x1b\x3c\x1b\x65\x1b\x3e"),
        ("[€]", "latin1", "ucs2", b"\x00[\x20\xac\x00]"),
        ("[x]", "ascii", "gsm7", b"[x]"),
        ("ça`", "gsm", "ucs2", b"\x00\xe7\x00a\x00`"),
        ("ça`", "latin1", "latin1", b"\xe7a`"),
        ("Ω", "gsm", "gsm7", b"\x15"),
        ("Ω", "latin1", "ucs2", b"\x03\xa9"),
        ("\x1b", "latin1", "ucs2", b"\x00\x1b"),
    ],
)
def test_what_data_coding_zero_means_decides(message: str, alphabet: str, encoding: str, octets: bytes) -> None:
    assert text.plan(message, alphabet=alphabet) == text.TextPlan(encoding, 1)
    assert text.encode_parts(message, encoding, 0, alphabet=alphabet) == [octets]


def test_septets_are_counted_also_where_the_smsc_takes_latin_1() -> None:
    message = "[" * 80 + "a"  # 161 septets on the air, 81 octets to the SMSC
    assert text.plan(message, alphabet="latin1") == text.TextPlan("gsm7", 2)
    parts = text.encode_parts(message, "gsm7", 0xABCD, alphabet="latin1")
    assert [len(text.split_udh(part)[1]) for part in parts] == [76, 5]
    assert joined(parts, "gsm7", "latin1") == message


def test_data_coding() -> None:
    assert text.data_coding("gsm7") == text.data_coding("gsm7", "ascii") == 0
    assert text.data_coding("ucs2", "latin1") == 8
    assert (text.data_coding("latin1", "gsm"), text.data_coding("latin1", "latin1")) == (3, 0)


@pytest.mark.parametrize("message", ["\ud800", "code 1 \udfff", "信" * 80 + "\ud83d"])
def test_a_lone_surrogate_is_refused_without_showing_the_text(message: str) -> None:
    for attempt in (lambda: text.plan(message), lambda: text.encode_parts(message, "ucs2", 0)):
        with pytest.raises(EncodeError) as caught:
            attempt()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "code" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "alphabet"), [("gsm7", "gsm"), ("gsm7", "ascii"), ("latin1", "gsm"), ("x", "gsm")]
)
def test_a_text_that_does_not_fit_the_encoding_asked_for(encoding: str, alphabet: str) -> None:
    with pytest.raises(EncodeError):
        text.encode_parts("信", encoding, 0, alphabet=alphabet)


def test_no_more_than_255_parts() -> None:
    assert text.plan("a" * 153 * 255).parts == 255
    assert len(text.encode_parts("a" * 153 * 255, "gsm7", 0)) == 255
    assert text.plan("a" * (153 * 255 + 1)).parts == 256
    with pytest.raises(EncodeError):
        text.encode_parts("a" * (153 * 255 + 1), "gsm7", 0)


def test_an_empty_text_is_one_empty_part() -> None:
    assert text.plan("") == text.TextPlan("gsm7", 1)
    assert text.encode_parts("", "gsm7", 0) == [b""]


# Texts that are near the limits and full of pairs, so that cuts fall on them often.
_MIXED = st.lists(st.tuples(st.sampled_from("a@€[é`çΩ信😀\n{"), st.integers(1, 120)), max_size=6).map(
    lambda runs: "".join(char * count for char, count in runs)
)
_TEXTS = _MIXED | st.text(st.characters(exclude_categories=("Cs",)), max_size=400)


@settings(max_examples=400, deadline=None)
@given(message=_TEXTS, alphabet=st.sampled_from(ALPHABETS), bits=st.sampled_from((8, 16)))
@example(message="a" * 152 + "€" + "a" * 152, alphabet="gsm", bits=8)
@example(message="信" * 66 + "😀" + "信" * 66, alphabet="gsm", bits=8)
def test_plan_and_parts_agree_and_no_pair_is_cut(message: str, alphabet: str, bits: int) -> None:
    planned = text.plan(message, alphabet=alphabet, reference_bits=bits)
    parts = text.encode_parts(message, planned.encoding, 0xABCD, reference_bits=bits, alphabet=alphabet)
    assert len(parts) == planned.parts
    assert joined(parts, planned.encoding, alphabet) == message  # a cut pair would not read back
    assert all(len(part) <= 160 for part in parts)
    if len(parts) > 1:
        room = ROOM[planned.encoding, bits]
        for part in parts:
            octets = text.split_udh(part)[1]
            assert 0 < units(planned.encoding, octets) <= room
        if alphabet == "gsm":  # nothing wasted: only a pair may leave one unit of a part empty
            for part in parts[:-1]:
                assert units(planned.encoding, text.split_udh(part)[1]) >= room - 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 255), st.binary(max_size=200), st.sampled_from(ALPHABETS))
def test_decode_never_raises(data_coding: int, octets: bytes, alphabet: str) -> None:
    assert isinstance(text.decode(data_coding, octets, alphabet), str)
    udh, rest = text.split_udh(octets)
    assert udh + rest == octets
    text.concatenation(udh)


@pytest.mark.parametrize(
    ("data_coding", "octets", "expected"),
    [
        (0x00, b"\x1b\x65\x1b", "€ "),
        (0x00, b"\x1bA", "A"),
        (0x00, b"\x80", "�"),
        (0x03, b"\xe9", "é"),
        (0x08, "信😀".encode("utf-16-be"), "信😀"),
        (0x08, b"\x4f\xe1\x00", "信�"),
        (0x0F, "退订".encode("gb18030"), "退订"),
        (0xF0, b"\x00", "@"),
        (0xF4, b"@", "@"),
        (0xE0, "信".encode("utf-16-be"), "信"),
        (0x42, b"\xff", "ÿ"),
    ],
)
def test_decode(data_coding: int, octets: bytes, expected: str) -> None:
    assert text.decode(data_coding, octets) == expected


@pytest.mark.parametrize(
    "udh", [b"", b"\x00", b"\x02\x00", b"\x03\x00\x03\x01", b"\x05\x01\x03\x01\x02\x03", b"\x03\x08\x04"]
)
def test_a_header_without_concatenation(udh: bytes) -> None:
    assert text.concatenation(udh) is None


def test_concatenation_behind_another_element() -> None:
    assert text.concatenation(b"\x0b\x05\x04\x0b\x84\x23\xf0\x00\x03\x07\x02\x01") == (7, 2, 1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("message", "encoding", "alphabet"),
    [("x" * 152 + "€" * 200, "gsm7", "gsm"), ("信" * 66 + "😀" * 70, "ucs2", "gsm"), ("ê" * 400, "latin1", "gsm"),
     ("x{" * 200, "gsm7", "latin1")],
)  # fmt: skip
def test_without_headers_the_same_cuts(message: str, encoding: str, alphabet: str, bits: int) -> None:
    options = {"reference_bits": bits, "alphabet": alphabet}
    marked = text.encode_parts(message, encoding, 7, **options)
    bare = text.encode_parts(message, encoding, 7, headers=False, **options)
    assert bare == [text.split_udh(part)[1] for part in marked]
    assert b"".join(bare) == text.encode_whole(message, encoding, alphabet=alphabet)
    with pytest.raises(EncodeError):
        text.encode_parts("x" * (153 * 255 + 1), "gsm7", 0, headers=False)


def test_a_whole_text_that_does_not_fit_is_refused() -> None:
    for encoding in ("gsm7", "latin1", "utf8"):
        with pytest.raises(EncodeError):
            text.encode_whole("信", encoding)


@pytest.mark.parametrize(
    ("message", "packed"),
    [
        ("hellohello", "e8329bfd4697d9ec37"),
        ("hello", "e8329bfd06"),
        ("1234567", "31d98c56b3dd1a"),  # seven spare bits: a carriage return, not an "@"
        ("12345678", "31d98c56b3dd70"),
        ("", ""),
    ],
)
def test_septets_are_packed(message: str, packed: str) -> None:
    (part,) = text.encode_parts(message, "gsm7", 0)
    assert text.pack_septets(part, header=False).hex() == packed


@pytest.mark.parametrize("bits", [8, 16])
@given(message=st.text("abc€@[{ÄΔ", min_size=161, max_size=500))
def test_packed_parts_unpack_to_the_same_septets(bits: int, message: str) -> None:
    for part in text.encode_parts(message, "gsm7", 0xABCD, reference_bits=bits):
        head, septets = text.split_udh(part)
        packed = text.pack_septets(part, header=True)
        assert packed[: len(head)] == head
        assert len(packed) <= 140
        whole = int.from_bytes(packed, "little")  # the header counts as septets too, up to the next boundary
        first = -(-8 * len(head) // 7)
        assert bytes(whole >> 7 * (first + i) & 0x7F for i in range(len(septets))) == septets
