"""Text of a short message: which alphabet carries it, how many parts it takes, and the octets of each part.

Owns the GSM 03.38 tables, the counting and the cutting. Refuses to know PDUs, channels and who sends: callers
hand in the alphabet a channel gives to data_coding 0. Stands on the path twice: intake asks for the `plan`,
dispatch for the octets (`encode_parts`), and both must agree on every text. `decode` serves what comes in.
Pure. No error here repeats a character of the text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import EncodeError

GSM7 = "gsm7"
UCS2 = "ucs2"
LATIN1 = "latin1"

ESM_CLASS_UDHI = 0x40
"""Bit of esm_class that says short_message begins with a user data header (SMPP 3.4 §5.2.12)."""

MAX_PARTS = 255
"""Total and sequence of a concatenated message are one octet each (GSM 03.40 §9.2.3.24.1)."""

# GSM 03.38 §6.2.1, row by row; 0x1B is the escape and stands for no character of its own.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
# §6.2.1.1: reached by the escape, so each costs two septets.
_EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
_ESC = 0x1B

# Room in one short message: 140 octets, or 160 septets. A header of 6 octets takes 7 septets, of 7 octets 8.
_SINGLE = {GSM7: 160, UCS2: 70, LATIN1: 140}
_PART = {
    8: {GSM7: 153, UCS2: 67, LATIN1: 134},
    16: {GSM7: 152, UCS2: 66, LATIN1: 133},
}

_SEPTETS: dict[int, int | bytes] = {
    **{ord(char): code for code, char in enumerate(_BASIC) if code != _ESC},
    **{ord(char): bytes((_ESC, code)) for code, char in _EXTENSION.items()},
}
_EXTENSION_CHARS = frozenset(_EXTENSION.values())
_NO_SEPTET = 0xFF  # marks, in _ASCII_SEPTETS, what the basic table lacks
_ASCII_SEPTETS = bytes(
    code if isinstance(code := _SEPTETS.get(byte), int) and byte < 0x80 else _NO_SEPTET for byte in range(256)
)
_ASCII_BASIC = bytes(byte for byte in range(0x80) if _ASCII_SEPTETS[byte] != _NO_SEPTET)
_ASCII_EXTENSION = "".join(char for char in _EXTENSION.values() if char.isascii()).encode()

_UNDEFINED = "\ufffe"  # what codecs.charmap_decode takes for "no such code"
_BASIC_DECODING = _BASIC + _UNDEFINED * 128


def _search_outside(chars: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(f"[^{re.escape(chars)}]").search


_GSM_CHARS = "".join(map(chr, _SEPTETS))
_NOT_GSM = {
    # The air carries GSM septets whatever the SMSC reads in data_coding 0, so the text must fit both.
    "gsm": _search_outside(_GSM_CHARS),
    "latin1": _search_outside("".join(char for char in _GSM_CHARS if char <= "\xff")),
    "ascii": _search_outside("".join(char for char in _GSM_CHARS if char.isascii())),
}
_NOT_LATIN1 = re.compile("[^\n\r\x20-\x7e\xa0-\xff]").search
_EXTENSION_FOUND = re.compile(f"[{re.escape(''.join(_EXTENSION_CHARS))}]").findall


@dataclass(frozen=True, slots=True)
class TextPlan:
    """How a text will travel: `encoding` is gsm7, ucs2 or latin1; `parts` counts short messages, from 1."""

    encoding: str
    parts: int


_PLANS = {encoding: tuple(TextPlan(encoding, parts) for parts in range(33)) for encoding in _SINGLE}
_GSM7_ONE, _UCS2_ONE = _PLANS[GSM7][1], _PLANS[UCS2][1]


def plan(text: str, *, alphabet: str = "gsm", reference_bits: int = 8) -> TextPlan:
    """Choose the encoding of `text` and count its parts, without building them.

    GSM 03.38 when every character is in its table, else UCS-2 (as UTF-16, so a character above U+FFFF counts
    twice). `alphabet` is what the route's channels read in data_coding 0: `latin1` and `ascii` narrow the
    table to what both can say, and `latin1` carries the rest of ISO 8859-1 in octets. The count may exceed
    MAX_PARTS: the caller has a limit of its own.

    Raises:
        EncodeError: a lone surrogate, which no encoding can carry.
    """
    if text.isascii():
        rest = text.encode().translate(None, _ASCII_BASIC)
        if not rest or not rest.translate(None, _ASCII_EXTENSION):
            return _plan_gsm7(text, len(rest), reference_bits)
    elif _NOT_GSM[alphabet](text) is None:
        return _plan_gsm7(text, len(_EXTENSION_FOUND(text)), reference_bits)
    if alphabet == "latin1" and _NOT_LATIN1(text) is None:
        return _plan_units(LATIN1, len(text), reference_bits)
    octets = _utf16(text)
    if len(octets) <= 140:
        return _UCS2_ONE
    if len(octets) == 2 * len(text):  # no surrogate pair that a cut would have to spare
        return _plan_units(UCS2, len(text), reference_bits)
    return _planned(UCS2, len(_cut_utf16(octets, _PART[reference_bits][UCS2])))


def encode_parts(
    text: str, encoding: str, reference: int, *, reference_bits: int = 8, alphabet: str = "gsm", headers: bool = True
) -> list[bytes]:
    """Return the short_message octets of each part, in order; as many as `plan` counted.

    GSM text is one septet an octet, unpacked, as SMSCs take it in data_coding 0. One part has no header; with
    several, each begins with the concatenation header (set ESM_CLASS_UDHI) holding the low `reference_bits`
    of `reference`; without `headers` the parts hold text alone, cut at the same places, for an SMSC that makes the
    header itself. Neither an escape pair nor a surrogate pair is cut in two.

    Raises:
        EncodeError: the text does not fit the encoding, or takes more than MAX_PARTS.
    """
    if encoding == UCS2:
        octets = _utf16(text)
        if len(octets) <= 140:
            return [octets]
        pieces = _cut_utf16(octets, _PART[reference_bits][UCS2])
    elif encoding == GSM7:
        if alphabet == "gsm":
            octets = _septets(text)
            if len(octets) <= 160:
                return [octets]
            pieces = _cut_septets(octets, _PART[reference_bits][GSM7])
        else:
            pieces = _as_octets(text, alphabet, reference_bits)
    elif encoding == LATIN1:
        octets = _charset(text, "latin-1")
        if len(octets) <= _SINGLE[LATIN1]:
            return [octets]
        room = _PART[reference_bits][LATIN1]
        pieces = [octets[at : at + room] for at in range(0, len(octets), room)]
    else:
        raise EncodeError("no such encoding")
    if len(pieces) == 1:
        return pieces
    if not headers:
        if len(pieces) > MAX_PARTS:
            raise EncodeError(f"more than {MAX_PARTS} parts")
        return pieces
    return _with_headers(pieces, reference, reference_bits)


def encode_whole(text: str, encoding: str, *, alphabet: str = "gsm") -> bytes:
    """Return the octets of a whole text, however long: what message_payload takes.

    Raises:
        EncodeError: the text does not fit the encoding.
    """
    if encoding == UCS2:
        return _utf16(text)
    if encoding == LATIN1:
        return _charset(text, "latin-1")
    if encoding != GSM7:
        raise EncodeError("no such encoding")
    octets = _septets(text)
    return octets if alphabet == "gsm" else _charset(text, "latin-1" if alphabet == "latin1" else "ascii")


def pack_septets(part: bytes, *, header: bool) -> bytes:
    """Return a part of GSM text packed, eight septets in seven octets, as a few SMSCs want it (GSM 03.38 §6.1.2.1).

    With a `header` (which stays as it is) the text begins at the next septet boundary (GSM 03.40 §9.2.3.24). Seven
    spare bits at the end would read as one more "@", so they hold a carriage return (GSM 03.38 §6.1.2.3.1).
    """
    head, septets = split_udh(part) if header else (b"", part)
    bits = -8 * len(head) % 7
    value = 0
    for septet in septets:
        value |= septet << bits
        bits += 7
    octets = (bits + 7) // 8
    if 8 * octets - bits == 7:
        value |= 0x0D << bits
    return head + value.to_bytes(octets, "little")


def unpack_septets(octets: bytes, *, header_octets: int = 0) -> bytes:
    """Return packed GSM text as one septet an octet; what `pack_septets` makes, without its header. Never raises.

    `header_octets` stood before it: the text then begins at the next septet boundary. Seven spare bits at the end are
    padding, not a letter: a carriage return, or zero where the sender did not know better (GSM 03.38 §6.1.2.3.1).
    """
    skipped = -8 * header_octets % 7
    bits = 8 * len(octets)
    aligned = (int.from_bytes(octets, "little") >> skipped).to_bytes(len(octets), "little")
    found = bytearray()
    for at in range(0, len(aligned), 7):  # eight septets in seven octets
        block = int.from_bytes(aligned[at : at + 7], "little")
        found += bytes(block >> shift & 0x7F for shift in range(0, 56, 7))
    count = max(0, bits - skipped) // 7
    septets = bytes(found[:count])
    if count and (bits - skipped) % 7 == 0 and septets[-1] in (0x00, 0x0D):
        return septets[:-1]
    return septets


def data_coding(encoding: str, alphabet: str = "gsm") -> int:
    """Return the data_coding of a part (SMPP 3.4 §5.2.19). 0 is the SMSC's default: what `alphabet` names."""
    if encoding == UCS2:
        return 0x08
    if encoding == LATIN1:
        return 0x00 if alphabet == "latin1" else 0x03
    return 0x00


def decode(data_coding: int, octets: bytes, alphabet: str = "gsm") -> str:
    """Return the text of received octets (without a header: see `split_udh`). Never raises.

    What cannot be read becomes U+FFFD; an unknown data_coding is read as ISO 8859-1, which keeps every octet.
    """
    if data_coding == 0x00:
        if alphabet == "gsm":
            return _from_septets(octets)
        return octets.decode("latin-1" if alphabet == "latin1" else "ascii", "replace")
    codec = _CODECS.get(data_coding)
    if codec is None and data_coding >= 0xC0:
        # GSM 03.38 §4: message waiting 0xC0-0xDF in GSM, 0xE0-0xEF in UCS-2; in 0xF0-0xFF bit 2: 8-bit data.
        if data_coding < 0xE0 or (data_coding >= 0xF0 and not data_coding & 0x04):
            return _from_septets(octets)
        codec = "utf-16-be" if data_coding < 0xF0 else "latin-1"
    return octets.decode(codec or "latin-1", "replace")


def split_udh(octets: bytes) -> tuple[bytes, bytes]:
    """Split short_message of a PDU with the UDHI bit into (header with its length octet, the rest).

    A header that claims more than there is counts as none: the octets come back whole.
    """
    if not octets or octets[0] + 1 > len(octets):
        return b"", octets
    end = octets[0] + 1
    return octets[:end], octets[end:]


def concatenation(udh: bytes) -> tuple[int, int, int] | None:
    """Return (reference, total, sequence from 1) from a user data header, None when it holds none."""
    at = 1
    while at + 1 < len(udh):
        kind, length = udh[at], udh[at + 1]
        value = udh[at + 2 : at + 2 + length]
        if len(value) == length and (kind, length) in ((0x00, 3), (0x08, 4)):
            return int.from_bytes(value[:-2], "big"), value[-2], value[-1]
        at += 2 + length
    return None


_CODECS = {
    0x01: "ascii",
    0x03: "latin-1",
    0x05: "shift_jis",
    0x06: "iso8859_5",
    0x07: "iso8859_8",
    0x08: "utf-16-be",
    0x0A: "iso2022_jp",
    0x0E: "euc_kr",
    0x0F: "gb18030",  # what SMSCs behind CMPP (Msg_Fmt 15) hand through
}


def _plan_gsm7(text: str, extension_chars: int, reference_bits: int) -> TextPlan:
    septets = len(text) + extension_chars
    if septets <= 160:
        return _GSM7_ONE
    if not extension_chars:
        return _plan_units(GSM7, septets, reference_bits)
    return _planned(GSM7, len(_cut_septets(_septets(text), _PART[reference_bits][GSM7])))


def _plan_units(encoding: str, units: int, reference_bits: int) -> TextPlan:
    """Plan a text that may be cut between any two units."""
    if units <= _SINGLE[encoding]:
        return _PLANS[encoding][1]
    return _planned(encoding, -(-units // _PART[reference_bits][encoding]))


def _planned(encoding: str, parts: int) -> TextPlan:
    plans = _PLANS[encoding]
    return plans[parts] if parts < len(plans) else TextPlan(encoding, parts)


def _utf16(text: str) -> bytes:
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError:
        # Not chained: that error carries the whole text.
        raise EncodeError("a lone surrogate cannot be sent") from None


def _charset(text: str, codec: str) -> bytes:
    try:
        return text.encode(codec)
    except UnicodeEncodeError:
        raise EncodeError(f"a character does not fit {codec}") from None


def _septets(text: str) -> bytes:
    """Return one septet an octet. ASCII without extension characters goes through one table look-up."""
    if text.isascii():
        octets = text.encode().translate(_ASCII_SEPTETS)
        if _NO_SEPTET not in octets:
            return octets
    try:
        return codecs.charmap_encode(text, "strict", _SEPTETS)[0]
    except UnicodeEncodeError:
        raise EncodeError("a character does not fit GSM 03.38") from None


def _from_septets(octets: bytes) -> str:
    basic: str = codecs.charmap_decode(octets, "replace", _BASIC_DECODING)[0]
    if _ESC not in octets:
        return basic
    chars = []
    escaped = False
    for octet, char in zip(octets, basic, strict=True):
        if escaped:
            # §6.2.1.1: a code the extension table lacks shows the character of the basic table.
            chars.append(_EXTENSION.get(octet, " " if octet == _ESC else char))
            escaped = False
        elif octet == _ESC:
            escaped = True
        else:
            chars.append(char)
    if escaped:
        chars.append(" ")  # an escape with nothing behind it
    return "".join(chars)


def _cut_septets(octets: bytes, room: int) -> list[bytes]:
    """Cut so that no piece ends in an escape: in `_septets` output that is always half a pair."""
    pieces = []
    at = 0
    while at < len(octets):
        end = at + room
        if end < len(octets) and octets[end - 1] == _ESC:
            end -= 1
        pieces.append(octets[at:end])
        at = end
    return pieces


def _cut_utf16(octets: bytes, room: int) -> list[bytes]:
    """Cut into pieces of at most `room` code units so that none ends in a high surrogate (U+D800-U+DBFF)."""
    pieces = []
    at = 0
    while at < len(octets):
        end = at + 2 * room
        if end < len(octets) and octets[end - 2] & 0xFC == 0xD8:
            end -= 2
        pieces.append(octets[at:end])
        at = end
    return pieces


def _as_octets(text: str, alphabet: str, reference_bits: int) -> list[bytes]:
    """Cut by septets, encode by `alphabet`: the SMSC turns these octets into GSM septets for the air."""
    septets = _septets(text)
    codec = "latin-1" if alphabet == "latin1" else "ascii"
    if len(septets) <= _SINGLE[GSM7]:
        return [_charset(text, codec)]
    pieces = []
    at = 0
    for piece in _cut_septets(septets, _PART[reference_bits][GSM7]):
        end = at + len(piece) - piece.count(_ESC)
        pieces.append(_charset(text[at:end], codec))
        at = end
    return pieces


def _with_headers(pieces: list[bytes], reference: int, reference_bits: int) -> list[bytes]:
    total = len(pieces)
    if total > MAX_PARTS:
        raise EncodeError(f"more than {MAX_PARTS} parts")
    if reference_bits == 16:
        head = bytes((6, 0x08, 4, reference >> 8 & 0xFF, reference & 0xFF, total))
    else:
        head = bytes((5, 0x00, 3, reference & 0xFF, total))
    return [head + bytes((number,)) + piece for number, piece in enumerate(pieces, 1)]
