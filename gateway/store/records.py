"""The message record: one binary string that is the only copy of the text, written here and in the Lua scripts.

Layout (offsets from 0; the scripts count from 1, see `lua/_record.lua`): three times, the concatenation reference and
a version; category, parts, flags; four lengths; msisdn, dims, extras, body (see `pack_body`); then a log of attempts,
receipts and feedback, and last a trailer of fixed size that holds all that changes, so that one SETRANGE at the end
does both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import orjson

from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY, MessageKind, NewMessage, State
from gateway.store.moves import Feedback

TRAILER_BYTES = 26
FIXED_BYTES = 32
US = "\x1f"
RS = "\x1e"

FLAG_POSSIBLE_DUPLICATE = 1
FLAG_LATE_CORRECTION = 2
FLAG_CAPS_RETURNED = 4
FLAG_LEFT = 8
FLAG_PINNED = 16
FLAG_REDELIVERED = 64

_LEAD = Struct(">2sBBBHHBH")  # "1" category | parts | flags | lengths of msisdn, dims, extras, body (24 bits)


ENCODING_LETTERS = {"gsm7": b"g", "ucs2": b"u", "latin1": b"l"}
_ENCODINGS = {ord(letter): name for name, letter in ENCODING_LETTERS.items()}


def pack_body(encoding: str, content: bytes) -> bytes:
    """Return a record's body: a letter for the encoding, then what the application sent (`pack_content`)."""
    return ENCODING_LETTERS[encoding] + content


def pack_content(text: str, ref: str = "", carried: bytes = b"") -> bytes:
    """Return lengths of ref and carried fields (2 bytes each), the ref, those fields (JSON), and the text."""
    named = ref.encode()
    return _CONTENT.pack(len(named), len(carried)) + named + carried + text.encode()


_CONTENT = Struct(">HH")


def unpack_body(raw: bytes) -> tuple[str, str, str, bytes]:
    """Return encoding, text, ref and the carried fields (JSON or nothing) of a body.

    Raises ValueError or IndexError when it is none.
    """
    a = 5 + (raw[1] << 8 | raw[2])
    b = a + (raw[3] << 8 | raw[4])
    encoding = _ENCODINGS.get(raw[0])
    if encoding is None or b > len(raw):
        raise ValueError("not a body")
    return encoding, raw[b:].decode(), raw[5:a].decode(), raw[a:b]


class PackedKind:
    """How a kind of message is written: its labels, and the values the accept script takes for it."""

    __slots__ = ("dims", "extras", "flags", "head", "lead")

    def __init__(self, kind: MessageKind) -> None:
        labels = (kind.account, kind.carrier, kind.route, kind.template, kind.campaign, kind.variant)
        self.dims = US.join(labels).encode()
        self.extras = f"{kind.sender}{US}{kind.gate}{US}{RS.join(kind.tags)}".encode()
        self.lead = bytes((0x31, 48 + kind.category))
        self.flags = 1 if kind.test else 0
        self.head = (
            kind.category,
            kind.account,
            self.dims,
            kind.route,
            kind.ttl_ms,
            kind.send_at_ms,
            kind.not_after_ms,
            kind.state,
            "1" if kind.test else "0",
        )


def pack_rest(m: NewMessage, kind: PackedKind) -> bytes:
    """Return everything of a new record behind the times that only the store's script can know."""
    size = len(m.body)
    msisdn = m.msisdn.encode()
    lead = _LEAD.pack(
        kind.lead, m.parts, kind.flags, len(msisdn), len(kind.dims), len(kind.extras), size >> 16, size & 0xFFFF
    )
    return b"".join((lead, msisdn, kind.dims, kind.extras, m.body))


@dataclass(slots=True)
class Attempt:
    """One attempt as the log keeps it."""

    number: int
    channel: str
    at_ms: int
    status: int | None  # command_status of the answer, None when there was none
    outcome: str
    smsc_ids: dict[int, str] = field(default_factory=dict)  # part (from 0, or moves.ALL_PARTS) → id


@dataclass(slots=True)
class PartReceipt:
    """One final receipt as the log keeps it; its part may be moves.ALL_PARTS."""

    part: int
    channel: str
    at_ms: int
    state: str
    reason: str
    carrier_code: str


@dataclass(slots=True)
class Record:
    """A message as the store knows it."""

    id: bytes
    state: str
    account: str
    category: int
    route: str
    carrier: str
    template: str
    campaign: str
    variant: str
    msisdn: str
    parts: int
    test: bool
    reference: int
    accepted_at_ms: int
    expires_at_ms: int
    send_at_ms: int
    state_at_ms: int
    rank: int
    attempt: int
    flags: int
    slow: int
    done: int
    delivered: int
    accepted: int
    incarnation: str
    sender: str
    gate: str
    tags: tuple[str, ...]
    encoding: str
    text: str
    ref: str
    carried: dict[str, Any]
    """`o` origin, `c` contact, `m` meta, `x` ext: those that were sent."""
    attempts: list[Attempt]
    receipts: list[PartReceipt]
    feedback: list[Feedback]
    """In the order in which it came."""
    reason: str
    carrier_code: str

    @property
    def possible_duplicate(self) -> bool:
        return bool(self.flags & FLAG_POSSIBLE_DUPLICATE)

    @property
    def late_correction(self) -> bool:
        return bool(self.flags & FLAG_LATE_CORRECTION)

    @property
    def parts_delivered(self) -> int:
        return self.delivered.bit_count()

    @property
    def final(self) -> bool:
        return self.state.isupper()


def _int6(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 6], "big")


def parse(sid: bytes, raw: bytes) -> Record:
    """Read a whole record. Raises ValueError on a record of another version."""
    if raw[20] != 0x31:
        raise ValueError(f"record version {raw[20]:#x} is not known")
    ml = raw[24]
    dl = int.from_bytes(raw[25:27], "big")
    el = int.from_bytes(raw[27:29], "big")
    bl = int.from_bytes(raw[29:32], "big")
    at = FIXED_BYTES
    msisdn = raw[at : at + ml].decode()
    at += ml
    account, carrier, route, template, campaign, variant = raw[at : at + dl].decode().split(US)
    at += dl
    sender, gate, tags = raw[at : at + el].decode().split(US)
    at += el
    encoding, text, ref, carried = _read_body(raw[at : at + bl])
    at += bl
    t = len(raw) - TRAILER_BYTES
    attempts, receipts, feedback, reason, code = _read_log(raw[at:t])
    tail = raw[t:]
    return Record(
        id=sid,
        state=chr(tail[0]),
        account=account,
        category=raw[21] - 48,
        route=route,
        carrier=carrier,
        template=template,
        campaign=campaign,
        variant=variant,
        msisdn=msisdn,
        parts=raw[22],
        test=bool(raw[23] & 1),
        reference=int.from_bytes(raw[18:20], "big"),
        accepted_at_ms=_int6(raw, 0),
        expires_at_ms=_int6(raw, 6),
        send_at_ms=_int6(raw, 12),
        state_at_ms=_int6(tail, 12),
        rank=tail[1],
        attempt=tail[2],
        flags=tail[3],
        slow=tail[11],
        done=int.from_bytes(tail[4:6], "big"),
        delivered=int.from_bytes(tail[6:8], "big"),
        accepted=int.from_bytes(tail[8:10], "big"),
        incarnation=tail[18:26].decode(),
        sender=sender,
        gate=gate,
        tags=tuple(tags.split(RS)) if tags else (),
        encoding=encoding,
        text=text,
        ref=ref,
        carried=carried,
        attempts=attempts,
        receipts=receipts,
        feedback=feedback,
        reason=reason,
        carrier_code=code,
    )


def _read_body(raw: bytes) -> tuple[str, str, str, dict[str, Any]]:
    """Read the body; empty when it cannot be read, so that such a message still has a state to show."""
    try:
        encoding, text, ref, carried = unpack_body(raw)
        return encoding, text, ref, orjson.loads(carried) if carried else {}
    except (ValueError, IndexError):
        return "", "", "", {}


def _read_log(log: bytes) -> tuple[list[Attempt], list[PartReceipt], list[Feedback], str, str]:
    attempts: list[Attempt] = []
    receipts: list[PartReceipt] = []
    feedback: list[Feedback] = []
    reason = code = ""
    at = 0
    while at + 3 <= len(log):
        kind = log[at : at + 1]
        size = int.from_bytes(log[at + 1 : at + 3], "big")
        fields = log[at + 3 : at + 3 + size].decode(errors="replace").split(US)
        at += 3 + size
        if kind == b"A":
            at_ms, number, channel, status, outcome, ids = (*fields, "", "", "", "", "", "")[:6]
            smsc_ids = dict(_part_ids(ids))
            outcome = outcome or _PLAIN
            attempts.append(
                Attempt(
                    int(number or 0),
                    channel,
                    _log_time(at_ms),
                    int(status) if status else None,
                    outcome,
                    smsc_ids,
                )
            )
            if outcome not in (_PLAIN, "uncertain"):
                reason, code = outcome, status
        elif kind == b"R":
            at_ms, part, channel, state, why, carrier_code = (*fields, "", "", "", "", "", "")[:6]
            receipts.append(PartReceipt(int(part or 0), channel, _log_time(at_ms), state, why, carrier_code))
            if state != State.DELIVERED:
                reason, code = why, carrier_code
        elif kind == b"X":
            _, _, reason, code = (*fields, "", "", "", "")[:4]
        elif kind == b"V":
            told_at, outcome, event_id, amount, currency, customer, at_ms = (*fields, *[""] * 7)[:7]
            happened = _log_time(at_ms or told_at)
            feedback.append(Feedback(outcome, event_id, amount, currency, customer, happened))
    return attempts, receipts, feedback, reason, code


def _log_time(text: str) -> int:
    """Read a time of the log: base 36, as the scripts write it."""
    return int(text, 36) if text else 0


def _part_ids(text: str) -> list[tuple[int, str]]:
    """Read `part=id` pairs, comma between them."""
    pairs = []
    for item in text.split(","):
        part, _, smsc_id = item.partition("=")
        if smsc_id:
            pairs.append((int(part), smsc_id))
    return pairs


WITHOUT_WORDS = {WITHOUT_VALIDITY: "without_validity", WITHOUT_TLVS: "without_tlvs"}
"""The outcomes of attempts after which the message goes again to the same channel without a field."""
_WITHOUT = {word: field for field, word in WITHOUT_WORDS.items()}

_PLAIN = "sent"
"""The outcome that most attempts have; the log leaves it out."""


def attempt_log(number: int, channel: str, status: int | None, outcome: str, smsc_ids: list[tuple[int, str]]) -> str:
    """Return the payload of a log item for one attempt; the script puts the time before it."""
    if len(smsc_ids) == 1:
        part, smsc_id = smsc_ids[0]
        ids = f"{part}={smsc_id if smsc_id.isalnum() else _clean(smsc_id)}"
    else:
        ids = ",".join([f"{part}={i if i.isalnum() else _clean(i)}" for part, i in smsc_ids])
    shown = "" if outcome == _PLAIN else outcome
    return f"{number}{US}{channel}{US}{'' if status is None else status}{US}{shown}{US}{ids}"


def _clean(smsc_id: str) -> str:
    # An SMSC may put any byte into an id; the log's separators must stay ours.
    return smsc_id.translate({0x1F: "?", 0x1E: "?", 0x2C: "?"})


def caps_of_number(value: bytes) -> dict[tuple[int, str], tuple[int, ...]]:
    """Read the times (epoch s) of a number's value, by category and account (layout in `lua/_record.lua`)."""
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    at, stop = 4, 4 + int.from_bytes(value[2:4], "big")
    while at < stop:
        category, size = value[at], value[at + 1]
        account = value[at + 2 : at + 2 + size].decode()
        at += 2 + size
        n = int.from_bytes(value[at : at + 2], "big")
        at += 2
        found[category, account] = tuple(int.from_bytes(value[i : i + 4], "big") for i in range(at, at + 4 * n, 4))
        at += 4 * n
    return found


class Claimed:
    """A record that a worker has claimed: what every message needs is read at once, the rest when it is asked for."""

    __slots__ = (
        "_dims_at",
        "_raw",
        "_tail_at",
        "accepted",
        "attempt",
        "carried",
        "category",
        "destination",
        "encoding",
        "id",
        "logged",
        "parts",
        "text",
    )

    def __init__(self, sid: bytes, raw: bytes) -> None:
        a = FIXED_BYTES + raw[24]
        c = a + (raw[25] << 8 | raw[26]) + (raw[27] << 8 | raw[28])
        t = len(raw) - TRAILER_BYTES
        self.id = sid
        self.category = raw[21] - 48
        self.parts = raw[22]
        self.destination = raw[FIXED_BYTES:a]
        """The recipient's E.164 digits, as a PDU takes them."""
        self.attempt = raw[t + 2] + 1
        """The attempt this claim is."""
        self.accepted = raw[t + 8] << 8 | raw[t + 9]
        """Mask of the parts the SMSC has accepted before."""
        end = c + (raw[29] << 16 | raw[30] << 8 | raw[31])
        self.encoding, self.text, _, self.carried = unpack_body(raw[c:end])
        self.logged = end < t
        """Whether its log has something: an attempt before this one, mostly."""
        self._raw = raw
        self._dims_at = a
        self._tail_at = t

    @property
    def claim(self) -> bytes:
        """What proves to the store that this claim still holds: the id and the time in the record."""
        t = self._tail_at
        return self.id + self._raw[t + 12 : t + 18]

    @property
    def msisdn(self) -> str:
        return self.destination.decode()

    @property
    def due_at_ms(self) -> int:
        """When it was accepted, or its `send_at` when that is later: waiting is counted from here."""
        raw = self._raw
        accepted, due = raw[0:6], raw[12:18]  # of equal length, so they compare as the numbers do
        return int.from_bytes(due if due > accepted else accepted, "big")

    @property
    def expires_at_ms(self) -> int:
        return int.from_bytes(self._raw[6:12], "big")

    def expires_by(self, moment: bytes) -> bool:
        """Whether its time is over at a moment, which is given as `moment_of` makes it: asked of every message."""
        return self._raw[6:12] <= moment

    @property
    def reference(self) -> int:
        """The concatenation reference of its parts."""
        return self._raw[18] << 8 | self._raw[19]

    @property
    def dims(self) -> bytes:
        """The labels it is counted under, as they stand in the record."""
        raw = self._raw
        return raw[self._dims_at : self._dims_at + (raw[25] << 8 | raw[26])]

    @property
    def route(self) -> str:
        return self.dims.split(b"\x1f", 3)[2].decode()

    @property
    def sender(self) -> str:
        raw = self._raw
        at = self._dims_at + (raw[25] << 8 | raw[26])
        return raw[at : raw.index(b"\x1f", at)].decode()

    @property
    def ext(self) -> str:
        """The sub-number digits the application asked for, '' without."""
        return str(orjson.loads(self.carried).get("x", "")) if self.carried else ""

    @property
    def refusals(self) -> dict[str, int]:
        """How often each channel has refused this message (only looked at when one more does)."""
        counted: dict[str, int] = {}
        for attempt in self._attempts():
            if attempt.outcome not in (_PLAIN, "uncertain") and attempt.outcome not in _WITHOUT:
                counted[attempt.channel] = counted.get(attempt.channel, 0) + 1
        return counted

    @property
    def took(self) -> frozenset[str]:
        """The channels that took this message, or may have."""
        return frozenset(a.channel for a in self._attempts() if a.outcome in (_PLAIN, "uncertain"))

    def without(self, channel: str) -> int:
        """Return the fields (WITHOUT_*) that it goes to a channel without, because that one refused it for them."""
        fields = 0
        for attempt in self._attempts():
            if attempt.channel == channel:
                fields |= _WITHOUT.get(attempt.outcome, 0)
        return fields

    def _attempts(self) -> list[Attempt]:
        raw = self._raw
        at = self._dims_at + (raw[25] << 8 | raw[26]) + (raw[27] << 8 | raw[28]) + int.from_bytes(raw[29:32], "big")
        return _read_log(raw[at : self._tail_at])[0]

    @property
    def rank(self) -> int:
        return self._raw[self._tail_at + 1]

    @property
    def flags(self) -> int:
        return self._raw[self._tail_at + 3]

    @property
    def slow(self) -> int:
        """Retries so far that used no attempt."""
        return self._raw[self._tail_at + 11]


def moment_of(at_ms: float) -> bytes:
    """Return a time as records hold it, for `Claimed.expires_by`."""
    return int(at_ms).to_bytes(6, "big")


def claim_of(sid: bytes, raw: bytes) -> tuple[bytes, int]:
    """Return the claim of a record and which attempt it is (also where its body cannot be read)."""
    t = len(raw) - TRAILER_BYTES
    return sid + raw[t + 12 : t + 18], raw[t + 2] + 1
