"""What a handset wrote, out of the octets of a deliver_sm or data_sm: its text, or its place in a longer one.

Owns the reading of headers and of what data_coding means on a channel, and the joining of parts. Refuses to know the
store, opt-outs and whose a message is. Pure, and nothing here raises on what a peer sent: what cannot be read becomes
U+FFFD. Stands before `inbound`. No text is ever in an error here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from gateway.errors import RequestError
from gateway.routing.msisdn import calling_code, normalise
from gateway.settings import ChannelSettings
from gateway.smpp.constants import TAG_SAR_MSG_REF_NUM, TAG_SAR_SEGMENT_SEQNUM, TAG_SAR_TOTAL_SEGMENTS
from gateway.smpp.text import ESM_CLASS_UDHI, GSM7, UCS2, concatenation, decode, split_udh, unpack_septets

MAX_CHARS: Final = 20_000
"""What is kept of a text: 255 parts of 67 characters are fewer, message_payload may hold 65,535."""
TAG_MESSAGE_ID: Final = 0x001E  # receipted_message_id: some SMSCs give their own id of the message here
_MAX_DIGITS: Final = 20
_GAP: Final = "…"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one PDU holds: a whole message (`total` 1) or one part of it."""

    source: str  # as received, digits without '+' where it is a number
    destination: str
    coding: int
    octets: bytes  # without header
    header_octets: int
    smsc_id: bytes = b""
    reference: int = 0
    total: int = 1
    place: int = 1


@dataclass(frozen=True, slots=True)
class Alphabets:
    """How a channel's SMSC means its data_coding."""

    default: str = "gsm"
    packed: bool = False
    own: tuple[tuple[int, str], ...] = ()  # (data_coding, encoding) in place of the usual

    @classmethod
    def of(cls, channel: ChannelSettings) -> Alphabets:
        return cls(channel.alphabet, channel.packed, tuple((number, name) for name, number in channel.data_coding))


def read(
    source: bytes,
    destination: bytes,
    short_message: bytes,
    tlvs: Mapping[int, bytes] | None,
    esm_class: int,
    data_coding: int,
) -> Piece:
    """Return what a PDU holds; a header or TLVs that make no sense count as none."""
    tlvs = tlvs or {}
    header, octets = b"", short_message
    place = None
    if esm_class & ESM_CLASS_UDHI:
        header, octets = split_udh(short_message)
        place = concatenation(header)
    if place is None:
        place = _sar(tlvs)
    reference, total, number = place or (0, 1, 1)
    if not 1 <= number <= total:
        reference, total, number = 0, 1, 1
    return Piece(
        _address(source), _address(destination), data_coding, octets, len(header),
        tlvs.get(TAG_MESSAGE_ID, b"").rstrip(b"\0")[:65], reference, total, number,
    )  # fmt: skip


def set_name(channel: str, piece: Piece) -> str:
    """Return the name under which the parts of one message gather: whatever bind or worker they come by."""
    parts = (channel, piece.source, piece.destination, str(piece.reference), str(piece.total))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def about(channel: str, piece: Piece) -> bytes:
    """Return what a set of parts keeps of its message, for one that is given up."""
    return orjson.dumps({"c": channel, "s": piece.source, "d": piece.destination, "n": piece.total})


def packed_part(piece: Piece) -> bytes:
    """Return a part as it is kept: data_coding, octets of its header, text."""
    return bytes((piece.coding & 0xFF, piece.header_octets & 0xFF)) + piece.octets


def text_of(piece: Piece, alphabets: Alphabets) -> str:
    """Return the text of a message of one PDU."""
    return joined({1: packed_part(piece)}, 1, alphabets)


def joined(parts: Mapping[int, bytes], total: int, alphabets: Alphabets) -> str:
    """Return the text of the parts that came (`packed_part`), by their places from 1; a gap shows as …

    Octets of neighbours are joined before they are decoded: handsets cut between the halves of a character.
    """
    texts: list[str] = []
    run: list[bytes] = []
    coding = -1

    def flush() -> None:
        if run:
            texts.append(_decoded(coding, b"".join(run), alphabets))
            run.clear()

    for place in range(1, total + 1):
        part = parts.get(place)
        if part is None or len(part) < 2:
            flush()
            if part is None and (not texts or texts[-1] != _GAP):
                texts.append(_GAP)
            continue
        if part[0] != coding:
            flush()
            coding = part[0]
        octets = part[2:]
        if alphabets.packed and _is_default(coding, alphabets):
            octets = unpack_septets(octets, header_octets=part[1])
        run.append(octets)
    flush()
    return "".join(texts)[:MAX_CHARS]


def fingerprints(parts: Mapping[int, bytes]) -> bytes:
    """Return what the store remembers of the parts of a whole message, to know one that comes again (`mo_part.lua`)."""
    found = (f"{place}={hashlib.sha1(octets, usedforsecurity=False).hexdigest()};" for place, octets in parts.items())
    return "".join(found).encode()


def digest_of(channel: str, source: str, destination: str, text: str, smsc_id: bytes = b"") -> bytes:
    """Return the 16 bytes by which a message that comes again is known.

    The text counts beside the SMSC's id: there are SMSCs that give every message the same one.
    """
    said = smsc_id + b"\x1f" + text.encode("utf-8", "surrogatepass")
    head = "\x1f".join((channel, source, destination, "id" if smsc_id else "text", ""))
    return hashlib.sha256(head.encode() + said).digest()[:16]


def spellings(source: str, countries: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return how the store may spell a handset's number (E.164 digits, likeliest first), and its country ('' unknown).

    Carriers give it with or without the country code; `countries` are those whose national numbers may be meant. Where
    it does not begin with the code of one, that comes first: 13800138000 is a Chinese number here, no American one.
    Nothing where it is no number.
    """
    if not (source.isascii() and source.isdigit()):
        return (), ""
    found: dict[str, str] = {}
    bare = source.removeprefix("00")
    tries = [(source, country) for country in countries]
    codes = tuple(filter(None, map(calling_code, countries)))
    tries.insert(0 if codes and bare.startswith(codes) else len(tries), (f"+{bare}", ""))
    for raw, country in tries:
        try:
            number = normalise(raw, country)
        except RequestError:
            continue
        found.setdefault(number.msisdn, number.country)
    if not found:
        return (bare,), ""
    return tuple(found), next(iter(found.values()))


def _address(raw: bytes) -> str:
    """Return an address as text; what is no printable character goes."""
    text = raw.strip(b"\0 ").decode("latin-1").removeprefix("+")
    return "".join(char for char in text if char.isprintable())[:_MAX_DIGITS]


def _sar(tlvs: Mapping[int, bytes]) -> tuple[int, int, int] | None:
    reference, total, place = (
        tlvs.get(tag) for tag in (TAG_SAR_MSG_REF_NUM, TAG_SAR_TOTAL_SEGMENTS, TAG_SAR_SEGMENT_SEQNUM)
    )
    if reference is None or not total or not place:
        return None
    return int.from_bytes(reference[-2:], "big"), total[-1], place[-1]  # two octets by SMPP 3.4 §5.3.2.22


def _encoding(coding: int, alphabets: Alphabets) -> str | None:
    return next((name for number, name in alphabets.own if number == coding), None)


def _is_default(coding: int, alphabets: Alphabets) -> bool:
    """Tell whether this data_coding means GSM text on the channel (SMPP 3.4 §5.2.19, GSM 03.38 §4)."""
    own = _encoding(coding, alphabets)
    if own is not None:
        return own == GSM7
    return coding == 0 or 0xC0 <= coding <= 0xDF or (coding >= 0xF0 and not coding & 0x04)


def _decoded(coding: int, octets: bytes, alphabets: Alphabets) -> str:
    own = _encoding(coding, alphabets)
    if own is not None:
        coding = {GSM7: 0x00, UCS2: 0x08}.get(own, 0x03)
    text = decode(coding, octets, alphabets.default)
    # A lone half of a surrogate pair cannot be written as UTF-8; utf-16 leaves none, other charsets have none.
    return text.encode("utf-8", "replace").decode("utf-8")
