"""Delivery receipts: from the deliver_sm a carrier sends to one value, and how its id finds our submit.

Owns the reading of receipt text and TLVs (SMPP 3.4 appendix B calls its layout "typical" only, and carriers
take it at its word) and the spellings of an id. Refuses to know records, reasons and what a state leads to.
Stands first when something comes in: a deliver_sm that is no receipt is a message from a handset. Pure; reads
no clock; never raises, whatever the octets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.model import State
from gateway.routing.ported_codes import FULL_WIDTH_COLONS
from gateway.store.moves import GUESS_SEPARATOR, ID_SEPARATOR

TLV_RECEIPTED_MESSAGE_ID = 0x001E
TLV_NETWORK_ERROR_CODE = 0x0423
TLV_MESSAGE_PAYLOAD = 0x0424
TLV_MESSAGE_STATE = 0x0427

MAX_ID_CHARS = 128
"""Longer ids are dropped: message_id has 65 octets (SMPP 3.4 §5.2.23), and an id is part of a store key."""
_MAX_WORD_CHARS = 64  # of stat and err, which are recorded
_MAX_TEXT_OCTETS = 1024  # a receipt's fields stand in the first 160; message_payload may hold 64 KiB

# esm_class bits 5-2 (SMPP 3.4 §5.2.12)
_TYPE_MASK = 0x3C
_TYPE_RECEIPT = 0x04
_TYPE_INTERMEDIATE = 0x20

_STATE_OF_WORD = {
    "DELIVRD": State.DELIVERED,
    "DELIVERED": State.DELIVERED,
    "DELIVER": State.DELIVERED,
    "EXPIRED": State.EXPIRED,
    "UNDELIV": State.UNDELIVERABLE,
    "UNDELIVRD": State.UNDELIVERABLE,
    "UNDELIVERABLE": State.UNDELIVERABLE,
    "DELETED": State.UNDELIVERABLE,
    "FAILED": State.UNDELIVERABLE,
    "NACK": State.UNDELIVERABLE,
    "REJECTD": State.REJECTED,
    "REJECTED": State.REJECTED,
    "SKIPPED": State.REJECTED,
    "UNKNOWN": State.UNKNOWN,
    # On their way. ACCEPTD is final in SMPP 3.4 table B-2, but carriers and gateways use it as "handed on".
    "ENROUTE": "",
    "ACCEPTD": "",
    "ACCEPTED": "",
    "SCHEDLD": "",
    "SCHEDULED": "",
    "ACKED": "",
    "BUFFRED": "",
    "BUFFERD": "",
    "": "",
}
# message_state (SMPP 3.4 §5.2.28; 0 and 9 are 5.0's) in the words of table B-2.
_WORD_OF_TLV = {
    0: "SCHEDLD",
    1: "ENROUTE",
    2: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
    9: "SKIPPED",
}
# Chinese carriers put a reason where the state word stands. China Mobile's MI to MN wrap a CMPP state each;
# every other two-letter family names the element that failed (CMPP 3.0 appendix): the message did not arrive.
_FAMILY = re.compile(r"([A-Z]{2}):?[0-9]{4,}(?:_[0-9]+)?").fullmatch
_STATE_OF_FAMILY = {
    "MI": State.EXPIRED,
    "MJ": State.UNDELIVERABLE,
    "MK": State.UNDELIVERABLE,
    "ML": "",
    "MM": State.UNKNOWN,
    "MN": State.REJECTED,
}
# China Telecom hangs a number on the word (UNDELIVS601S, EXPIRED_601), others an explanation.
_STATE_OF_BEGINNING = (
    ("UNDELIV", State.UNDELIVERABLE),
    ("EXPIRED", State.EXPIRED),
    ("REJECT", State.REJECTED),
    ("DELETED", State.UNDELIVERABLE),
)

_STANDARD = re.compile(
    r"id:([^\s\0]+) sub:([0-9]{1,3}) dlvrd:([0-9]{1,3}) submit date:([0-9]{10,14}) done date:([0-9]{10,14})"
    r" stat:([^\s\0]+) err:([^\s\0]+)(?:[ \0][Tt]ext:|[\s\0]*\Z)",
).match
# A colon, also full-width: as UCS-2 gives it, and as its octets in GBK and UTF-8 look as Latin-1.
_COLON = "(?::|\uff1a|\xa3\xba|\xef\xbc\x9a)"
_LABEL = rf"(?:id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text)\s?{_COLON}"
_FIELD = re.compile(
    rf"(?:^|(?<=[\s\0,;]))(id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat|err|text)\s?{_COLON}"
    rf"(?:[ ]?(?!{_LABEL})([^\s\0,;]*))?",
    re.IGNORECASE,
).finditer
_NETWORK_TYPES = {1: "ansi136", 2: "is95", 3: "gsm"}  # SMPP 3.4 §5.3.2.31


@dataclass(slots=True)
class Receipt:
    """One delivery receipt. Words are as received ('' stands for what the carrier did not say), but for `stat` where a
    TLV alone tells the state.
    """

    id: str
    """The id to match: TLV 0x001E before the text's."""
    text_id: str
    """The text's id where it is spelt differently from the TLV's, else ''."""
    state: str
    """A final state's letter (model.State), '' while on its way or when nothing was said."""
    final: bool
    stat: str
    err: str
    network_error: str
    """TLV 0x0423 as `gsm:27` (network type, code), else ''. Where given it is surer than `err`."""
    submit_date: str
    done_date: str
    sub: str
    dlvrd: str
    intermediate: bool
    """Marked as an intermediate notification (esm_class 0x20)."""

    @property
    def submitted_at(self) -> datetime | None:
        """When the carrier says it took the message, in a zone it does not tell."""
        return read_date(self.submit_date)

    @property
    def done_at(self) -> datetime | None:
        """When the carrier says the state was reached; its zone may differ from `submitted_at`'s."""
        return read_date(self.done_date)


def parse(
    short_message: bytes, tlvs: Mapping[int, bytes] | None, esm_class: int, data_coding: int = 0
) -> Receipt | None:
    """Return the receipt a deliver_sm holds, None when it is a message from a handset.

    A receipt says so in esm_class; one that does not is recognised by TLV 0x001E, or by a text with id, both
    dates and stat. A receipt without a readable id comes back with `id` '' (it can be parked, not matched).
    TLVs are surer than the text: 0x001E than id, 0x0427 than stat, 0x0423 than err.
    """
    kind = esm_class & _TYPE_MASK
    octets = short_message or (tlvs.get(TLV_MESSAGE_PAYLOAD, b"") if tlvs else b"")
    text = _text(octets, data_coding)
    match = _STANDARD(text)
    if match is not None:
        text_id, sub, dlvrd, submit_date, done_date, stat, err = match.groups()
        complete = True
    else:
        fields = _fields(text)
        text_id, stat, err = fields.get("id", ""), fields.get("stat", ""), fields.get("err", "")
        sub, dlvrd = fields.get("sub", ""), fields.get("dlvrd", "")
        submit_date, done_date = fields.get("submitdate", ""), fields.get("donedate", "")
        complete = bool(text_id and stat and submit_date and done_date)
    if (
        kind not in (_TYPE_RECEIPT, _TYPE_INTERMEDIATE)
        and not complete
        and not (tlvs and TLV_RECEIPTED_MESSAGE_ID in tlvs)
    ):
        return None
    if len(text_id) > MAX_ID_CHARS:
        text_id = ""
    state = _STATE_OF_WORD.get(stat)
    if state is None:
        state = _state_of_odd_word(stat)
    receipt = Receipt(
        text_id,
        "",
        state,
        state != "",
        stat[:_MAX_WORD_CHARS],
        err[:_MAX_WORD_CHARS],
        "",
        submit_date[:14],
        done_date[:14],
        sub[:3],
        dlvrd[:3],
        kind == _TYPE_INTERMEDIATE,
    )
    if tlvs or receipt.intermediate:
        _apply_tlvs(receipt, tlvs or {})
    return receipt


def submit_key(raw: str, id_format: str = "auto") -> str:
    """Return the one spelling of a submit response's id under which the store keeps it.

    `id_format` says how the channel spells ids: `text` takes them as they are; `auto` takes case and leading
    zeros for nothing where an id is a number or a UUID; `resp_hex_dlr_dec` and `resp_dec_hex` are carriers
    whose responses and receipts write one number in two bases (response first). '' stays ''.
    """
    raw = _bare(raw)
    if id_format == "auto":
        return _canonical(raw)
    if id_format == "resp_hex_dlr_dec":
        return _hex_to_decimal(raw) or _canonical(raw)
    if id_format == "resp_dec_hex":
        return _canonical(raw)
    return raw


def receipt_keys(raw: str, id_format: str = "auto", text_id: str = "") -> tuple[str, ...]:
    """Return the spellings under which `submit_key` may have kept a receipt's id, the likeliest first.

    `text_id` is `Receipt.text_id`, a second spelling to try after those of `raw`. At most six, none twice,
    none empty; `()` for an empty id. Several may exist at once, so a match counts only with the recipient
    compared (`address.same_recipient`).
    """
    if not text_id:
        raw = _bare(raw)
        return _keys(raw, id_format) if raw else ()
    spellings = (text_id, raw) if id_format == "resp_hex_dlr_dec" else (raw, text_id)
    keys: dict[str, None] = {}
    for spelling in spellings:
        bare = _bare(spelling)
        if bare:
            keys.update(dict.fromkeys(_keys(bare, id_format)))
    return tuple(keys)


def sure_keys(raw: str, id_format: str = "auto", text_id: str = "") -> tuple[str, ...]:
    """Return those of `receipt_keys` that are no guesses: each id as this format spells it, the other base left out."""
    spelt = [_keys(bare, id_format)[0] for bare in map(_bare, (raw, text_id)) if bare]
    keys = receipt_keys(raw, id_format, text_id)
    return tuple(key for key in keys if key in spelt)


def read_date(raw: str) -> datetime | None:
    """Return a receipt's date, None when it is none. Digits only, in one of four lengths.

    | digits | read as |
    |---|---|
    | 10 | yyMMddHHmm (SMPP 3.4 appendix B) |
    | 12 | yyMMddHHmmss; where that is no date, yyyyMMddHHmm |
    | 14 | yyyyMMddHHmmss |

    Years of two digits are 2000 to 2099 (appendix C leaves the century to the reader).
    """
    if not (raw.isascii() and raw.isdigit()):
        return None
    if len(raw) == 10:
        return _date("20" + raw + "00")
    if len(raw) == 12:
        return _date("20" + raw) or _date(raw + "00")
    return _date(raw) if len(raw) == 14 else None


class IdLearner:
    """Watches, on one channel with `id_format = "auto"`, in which form receipts match, and then keeps to it.

    Until ENOUGH matches agree, forms are tried in their usual order. Afterwards the learned one comes first,
    and `matched` tells when another matches after all: the carrier changed something, which the operator
    should hear.
    """

    ENOUGH = 20

    def __init__(self) -> None:
        self._form = ""
        self._agreeing = 0

    @property
    def learned(self) -> str:
        """The form all recent matches had (same, hex_to_dec, dec_to_hex), '' until there were ENOUGH."""
        return self._form if self._agreeing >= self.ENOUGH else ""

    def keys(self, spelt: tuple[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return `receipt_keys` of a receipt's id and text_id: those in the learned form, and the others."""
        keys = receipt_keys(spelt[0], "auto", spelt[1])
        learned = self.learned or "same"
        sure = tuple(key for key in keys if _form(spelt, key) == learned) or keys[:1]
        return sure, tuple(key for key in keys if key not in sure)

    def matched(self, spelt: tuple[str, str], key: str) -> bool:
        """Note that `key` was the right one for these ids. Return True when it breaks what had been learned."""
        form = _form(spelt, key)
        if form == self._form:
            self._agreeing += 1
            return False
        surprising = self.learned != ""
        self._form, self._agreeing = form, 1
        return surprising


def _text(octets: bytes, data_coding: int) -> str:
    """Return the text as ISO 8859-1, which cannot fail; UCS-2 where it is declared or plainly there."""
    octets = octets[:_MAX_TEXT_OCTETS]
    if data_coding == 0x08 or octets[:1] == b"\0":
        text = octets.decode("utf-16-be", "replace")
        if ":" in text or "\uff1a" in text:  # declared as UCS-2 and written in ASCII happens, too
            return text
    return octets.decode("latin-1")


def _fields(text: str) -> dict[str, str]:
    """Return labelled fields in any order. `text` ends them: what follows is the message, not the carrier."""
    fields: dict[str, str] = {}
    for match in _FIELD(text):
        label = match[1].lower().replace(" ", "").replace("_", "")
        if label == "text":
            break
        fields.setdefault(label, match[2] or "")
    return fields


def _state_of_odd_word(stat: str) -> str:
    """Return the state of a word the table lacks: another case, a Chinese reason, or one nobody knows."""
    if not stat.isascii():
        for colon in FULL_WIDTH_COLONS:
            stat = stat.replace(colon, ":")
    word = stat.upper()
    known = _STATE_OF_WORD.get(word)
    if known is not None:
        return known
    family = _FAMILY(word)
    if family is not None:
        return _STATE_OF_FAMILY.get(family[1], State.UNDELIVERABLE)
    return next((state for start, state in _STATE_OF_BEGINNING if word.startswith(start)), State.UNKNOWN)


def _apply_tlvs(receipt: Receipt, tlvs: Mapping[int, bytes]) -> None:
    tlv_id = tlvs.get(TLV_RECEIPTED_MESSAGE_ID)
    if tlv_id:
        spelt = _bare(tlv_id.decode("latin-1"))
        if spelt and len(spelt) <= MAX_ID_CHARS and spelt != receipt.id:
            receipt.text_id = receipt.id
            receipt.id = spelt
    octet = tlvs.get(TLV_MESSAGE_STATE)
    if octet is not None and len(octet) == 1:
        word = _WORD_OF_TLV.get(octet[0])
        if word is not None:
            receipt.state = _STATE_OF_WORD[word]
            receipt.stat = receipt.stat or word  # many carriers send no text then, and the record wants a reason
    if receipt.intermediate and receipt.state != State.DELIVERED:
        receipt.state = ""  # the SMSC goes on trying; only "delivered" cannot be taken back
    receipt.final = receipt.state != ""
    network = tlvs.get(TLV_NETWORK_ERROR_CODE)
    if network is not None and len(network) == 3:
        kind = _NETWORK_TYPES.get(network[0], str(network[0]))
        receipt.network_error = f"{kind}:{network[1] << 8 | network[2]}"


def _date(digits: str) -> datetime | None:
    try:
        return datetime(
            int(digits[:4]),
            int(digits[4:6]),
            int(digits[6:8]),
            int(digits[8:10]),
            int(digits[10:12]),
            int(digits[12:14]),
        )
    except ValueError:
        return None


_HEX = re.compile(r"[0-9A-Fa-f]+").fullmatch
_UUID_LIKE = re.compile(r"[0-9A-Fa-f]+(?:-[0-9A-Fa-f]+)+").fullmatch


def _bare(raw: str) -> str:
    """Return an id without the NULs and blanks that carriers leave at its ends; '' when it is too long."""
    raw = raw.strip("\0 \t\r\n")
    if ID_SEPARATOR in raw or GUESS_SEPARATOR in raw:  # ours, between spellings
        raw = raw.replace(ID_SEPARATOR, "?").replace(GUESS_SEPARATOR, "?")
    return raw if len(raw) <= MAX_ID_CHARS else ""


def _canonical(raw: str) -> str:
    """Return one spelling for all that mean the same: case matters only where letters are more than hex."""
    if raw.isascii():
        if raw.isdigit():
            return raw.lstrip("0") or "0"
        if _HEX(raw):
            return raw.lower().lstrip("0")
        if _UUID_LIKE(raw):
            return raw.lower()
    return raw


def _keys(raw: str, id_format: str) -> tuple[str, ...]:
    """Return the spellings for one receipt id, without blanks and not empty."""
    if id_format == "text":
        return (raw,)
    same = _canonical(raw)
    if raw.isascii() and raw.isdigit():
        return _number_keys(same, id_format)
    if not _HEX(raw):
        return (same,)
    as_decimal = str(int(raw, 16))
    if id_format == "resp_hex_dlr_dec":  # a receipt with letters in it must be hex after all
        return (as_decimal,)
    return (as_decimal, same) if id_format == "resp_dec_hex" else (same, as_decimal)


def _number_keys(digits: str, id_format: str) -> tuple[str, ...]:
    """Return the spellings for an id that reads as a number in both bases; `digits` without leading zeros."""
    if len(digits) == 1:
        return (digits,)  # written alike in both bases; from 10 on all three spellings differ
    from_hex = str(int(digits, 16))
    if id_format == "resp_hex_dlr_dec":  # kept as decimal, and so is the receipt
        return (digits, from_hex)
    if id_format == "resp_dec_hex":  # kept as decimal; the receipt is hex
        return (from_hex, digits)
    return (digits, format(int(digits), "x"), from_hex)


def _hex_to_decimal(raw: str) -> str:
    """Return a hex id in decimal, '' when it is not hex. Exact at any length."""
    return str(int(raw, 16)) if _HEX(raw) else ""


def _form(spelt: tuple[str, str], key: str) -> str:
    """Return how `key` came from a receipt's id and text_id: same, or which way a number was written anew."""
    for spelling in spelt:
        same = _canonical(_bare(spelling))
        if key == same:
            return "same"
        if _HEX(same) and key == _hex_to_decimal(same):
            return "hex_to_dec"
    return "dec_to_hex"
