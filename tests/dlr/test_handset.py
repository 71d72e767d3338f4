"""Reading what handsets send: every alphabet, every header, parts in any order with gaps; nothing raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dlr import handset
from gateway.dlr.handset import Alphabets, Piece
from gateway.smpp.constants import TAG_SAR_MSG_REF_NUM, TAG_SAR_SEGMENT_SEQNUM, TAG_SAR_TOTAL_SEGMENTS
from gateway.smpp.text import ESM_CLASS_UDHI, GSM7, UCS2, data_coding, encode_parts, pack_septets, plan, unpack_septets

GSM_CHARS = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./09:;<=>?¡AZÄÖÑÜ§¿azäöñüà^{}\\[~]|€"
gsm = st.text(GSM_CHARS, min_size=1, max_size=600)
anything = st.text(st.characters(codec="utf-16-be"), min_size=1, max_size=400)


def pieces(text: str, encoding: str, *, bits: int = 8, packed: bool = False, reference: int = 7) -> list[Piece]:
    """Return a text as a handset's network would send it, read again."""
    found = []
    parts = encode_parts(text, encoding, reference, reference_bits=bits)
    for octets in parts:
        header = len(parts) > 1
        sent = pack_septets(octets, header=header) if packed else octets
        esm_class = ESM_CLASS_UDHI if header else 0
        found.append(handset.read(b"8613800138000", b"+1069", sent, None, esm_class, data_coding(encoding)))
    return found


@settings(max_examples=40)
@given(anything, st.sampled_from([8, 16]), st.randoms())
def test_any_text_comes_back_whole_in_any_order(text: str, bits: int, chance: Any) -> None:
    encoding = plan(text).encoding
    found = pieces(text, encoding, bits=bits)
    chance.shuffle(found)
    assert {(p.reference, p.total) for p in found} in ({(7, len(found))}, {(0, 1)})
    kept = {p.place: handset.packed_part(p) for p in found}
    assert handset.joined(kept, len(found), Alphabets()) == text
    assert len({handset.set_name("a", p) for p in found}) == 1


@given(gsm.filter(lambda text: text[-1] not in "@\r"), st.sampled_from([8, 16]))
def test_packed_septets_come_back(text: str, bits: int) -> None:
    found = pieces(text, GSM7, bits=bits, packed=True)
    kept = {p.place: handset.packed_part(p) for p in found}
    # Padding is told from a letter by what it is (GSM 03.38 §6.1.2.3.1), so a part that is full to the last bit may
    # lose an "@" or a carriage return at its very end.
    joined = handset.joined(kept, len(found), Alphabets(packed=True))
    if all(octets[-1] not in b"\x00\x0d" for octets in encode_parts(text, GSM7, 7, reference_bits=bits)):
        assert joined == text
    assert len(joined) >= len(text) - len(found)


@given(st.text(st.characters(codec="utf-16-be"), min_size=141, max_size=400), st.data())
def test_what_did_not_come_shows_as_a_gap(text: str, data: st.DataObject) -> None:
    found = pieces(text, UCS2)
    missing = data.draw(st.sets(st.integers(1, len(found)), min_size=1, max_size=len(found) - 1))
    kept = {p.place: handset.packed_part(p) for p in found if p.place not in missing}
    joined = handset.joined(kept, len(found), Alphabets())
    assert "…" in joined
    alone = [handset.joined({1: kept[place]}, 1, Alphabets()) for place in sorted(kept)]
    for one in alone:
        assert one in joined


@given(
    st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=300),
    st.dictionaries(st.sampled_from([0x020C, 0x020E, 0x020F, 0x001E]), st.binary(max_size=4)),
    st.integers(0, 255), st.integers(0, 255), st.booleans(),
)  # fmt: skip
def test_whatever_comes_is_read(
    source: bytes, to: bytes, octets: bytes, tlvs: dict[int, bytes], esm_class: int, coding: int, packed: bool
) -> None:
    piece = handset.read(source, to, octets, tlvs, esm_class, coding)
    assert 1 <= piece.place <= piece.total <= 255
    text = handset.text_of(piece, Alphabets(packed=packed))
    text.encode("utf-8")
    handset.about("a", piece)
    handset.set_name("a", piece)
    handset.digest_of("a", piece.source, piece.destination, text, piece.smsc_id)
    numbers, country = handset.spellings(piece.source, ("CN", "DE"))
    assert len(country) in (0, 2)
    assert all(number.isdigit() for number in numbers)
    assert len(unpack_septets(octets)) <= len(octets) * 8 // 7


@pytest.mark.parametrize(
    ("source", "countries", "number", "country"),
    [
        ("8613800138000", "CN DE", "8613800138000", "CN"),
        ("13800138000", "CN DE", "8613800138000", "CN"),
        ("008613800138000", "CN", "8613800138000", "CN"),
        ("4915123456789", "CN DE", "4915123456789", "DE"),
        ("015123456789", "DE", "4915123456789", "DE"),
        ("12025550123", "CN", "12025550123", "US"),
        ("106900001", "CN", "106900001", ""),
        ("Bank", "CN", "", ""),
        ("", "CN", "", ""),
    ],
)
def test_how_a_number_may_be_spelt(source: str, countries: str, number: str, country: str) -> None:
    numbers, found = handset.spellings(source, countries.split())
    assert (next(iter(numbers), ""), found) == (number, country)


def test_a_channel_may_mean_its_own_by_a_data_coding() -> None:
    own = Alphabets(own=((0, "ucs2"), (25, "ucs2"), (1, "gsm7")))
    for coding, octets, text in ((25, "好".encode("utf-16-be"), "好"), (1, b"\x00", "@"), (3, b"\xe9", "é")):
        assert handset.text_of(handset.read(b"1", b"2", octets, None, 0, coding), own) == text
    assert handset.text_of(handset.read(b"1", b"2", b"\xe9", None, 0, 0), Alphabets("latin1")) == "é"


def test_a_repeat_is_known_by_what_it_says_and_by_its_id() -> None:
    same = handset.digest_of("a", "1", "2", "text")
    assert same == handset.digest_of("a", "1", "2", "text")
    others = [("b", "1", "2", "text"), ("a", "3", "2", "text"), ("a", "1", "3", "text"), ("a", "1", "2", "other")]
    assert len({same, *(handset.digest_of(*one) for one in others)}) == 5
    assert handset.digest_of("a", "1", "2", "text", b"id") not in (
        same,
        handset.digest_of("a", "1", "2", "text", b"other"),
    )


def test_a_reference_of_absurd_length_is_read_by_its_end() -> None:
    tlvs = {
        TAG_SAR_MSG_REF_NUM: b"\xff" * 4000 + b"\x01\x02",
        TAG_SAR_TOTAL_SEGMENTS: b"\2",
        TAG_SAR_SEGMENT_SEQNUM: b"\1",
    }
    piece = handset.read(b"8613800138000", b"1069", b"x", tlvs, 0, 0)
    assert (piece.reference, piece.total, piece.place) == (0x0102, 2, 1)
    assert len(handset.set_name("a", piece)) == 32


def test_an_id_that_is_always_the_same_makes_no_repeats_of_other_texts() -> None:
    def digest(text: str, smsc_id: bytes) -> bytes:
        return handset.digest_of("a", "8613800138000", "1069", text, smsc_id)

    assert digest("1", b"0") != digest("2", b"0")
    assert digest("1", b"7") != digest("1", b"8")
    assert len({digest("1", b""), digest("1", b"7"), digest("\x1f1", b""), digest("1", b"\x1f")}) == 4
    assert digest("1", b"7") == digest("1", b"7")
