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

from gateway.model import MessageKind, NewMessage, State
from gateway.store.moves import ALL_PARTS, Feedback
from gateway.store.record_log import LEFT_OUT, PLAIN, Attempt, PartReceipt, base36, read_log, time_of, why
from gateway.store.record_log import US as LOG_US

TRAILER_BYTES = 26
US = LOG_US
FIXED_BYTES = 32
RS = "\x1e"

FLAG_POSSIBLE_DUPLICATE = 1
FLAG_LATE_CORRECTION = 2
FLAG_CAPS_RETURNED = 4
FLAG_LEFT = 8
FLAG_PINNED = 16
FLAG_REDELIVERED = 64

MARK_TEST, MARK_COUNTED_AS_OTHER, MARK_WINDOW, MARK_DEFERRED = 1, 2, 4, 8
"""The flags a message has from the first: see `lua/_record.lua`."""

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
        extras = f"{kind.sender}{US}{kind.gate}{US}{RS.join(kind.tags)}"
        if kind.signature or kind.window_until_ms:
            extras += f"{US}{kind.signature}{US}{base36(kind.window_until_ms) if kind.window_until_ms else ''}"
        self.extras = extras.encode()
        self.lead = bytes((0x31, 48 + kind.category))
        self.flags = (
            (MARK_TEST if kind.test else 0)
            | (MARK_WINDOW if kind.window_until_ms else 0)
            | (MARK_DEFERRED if kind.state == State.DEFERRED else 0)
        )
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
            kind.caps,
            US.join(kind.scopes),
            kind.spread_ms,
            "1" if kind.defer_capped else "",
        )


def place_in_spread(sid: bytes, spread_ms: int) -> int:
    """Return how long after the opening a deferred message leaves (ms): by its id, as in `lua/accept.lua`."""
    return int(spread_ms * (int.from_bytes(sid[12:15], "big") / 16777216))


def pack_rest(m: NewMessage, kind: PackedKind) -> bytes:
    """Return everything of a new record behind the times that only the store's script can know."""
    size = len(m.body)
    msisdn = m.msisdn.encode()
    lead = _LEAD.pack(
        kind.lead, m.parts, kind.flags, len(msisdn), len(kind.dims), len(kind.extras), size >> 16, size & 0xFFFF
    )
    return b"".join((lead, msisdn, kind.dims, kind.extras, m.body))


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
    msisdn: str = field(repr=False)
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
    text: str = field(repr=False)
    ref: str
    carried: dict[str, Any] = field(repr=False)
    """`o` origin, `c` contact, `m` meta, `x` ext: those that were sent."""
    attempts: list[Attempt]
    receipts: list[PartReceipt]
    feedback: list[Feedback]
    """In the order in which it came."""
    reason: str
    """Why it ended as it did: that of its worst part; '' when it was delivered, or is on its way without trouble."""
    carrier_code: str
    permanent: bool
    """Whether the carrier says that this will be so the next time too."""
    signature: str
    """The text's, where a cap or a blacklist goes by it."""
    window_until_ms: int
    """The end of the window in which it may be sent (epoch ms), 0: none."""
    deferred: bool
    """Whether it had to wait for a window or a cap when it was accepted."""

    @property
    def cost(self) -> int:
        """What the carriers take for it, in millionths of the price's unit: each part that one accepted."""
        return sum(
            a.price * (self.parts if ALL_PARTS in a.smsc_ids or not a.smsc_ids else len(a.smsc_ids))
            for a in self.attempts
            if a.outcome == PLAIN or a.smsc_ids
        )

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
    sender, gate, tags, signature, closes = (*raw[at : at + el].decode().split(US), "", "")[:5]
    at += el
    encoding, text, ref, carried = _read_body(raw[at : at + bl])
    at += bl
    t = len(raw) - TRAILER_BYTES
    tail = raw[t:]
    log = read_log(raw[at:t])
    reason, code, permanent = why(log, chr(tail[0]), bool(tail[3] & FLAG_LATE_CORRECTION))
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
        attempts=log.attempts,
        receipts=log.receipts,
        feedback=log.feedback,
        reason=reason,
        carrier_code=code,
        permanent=permanent,
        signature=signature,
        window_until_ms=time_of(closes),
        deferred=bool(raw[23] & MARK_DEFERRED),
    )


def _read_body(raw: bytes) -> tuple[str, str, str, dict[str, Any]]:
    """Read the body; empty when it cannot be read, so that such a message still has a state to show."""
    try:
        encoding, text, ref, carried = unpack_body(raw)
        return encoding, text, ref, orjson.loads(carried) if carried else {}
    except (ValueError, IndexError):
        return "", "", "", {}


def caps_of_number(value: bytes) -> dict[tuple[int, str], tuple[int, ...]]:
    """Read the times (epoch s) of a number's value, by category and name of the cap (layout in `lua/_numbers.lua`)."""
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    at, stop = 4, 4 + int.from_bytes(value[2:4], "big")
    while at < stop:
        category, size = value[at], value[at + 1]
        name = value[at + 2 : at + 2 + size].decode()
        at += 2 + size
        n = int.from_bytes(value[at : at + 2], "big")
        at += 2
        found[category, name] = tuple(int.from_bytes(value[i : i + 4], "big") for i in range(at, at + 4 * n, 4))
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
            if attempt.outcome not in (PLAIN, "uncertain") and attempt.outcome not in LEFT_OUT:
                counted[attempt.channel] = counted.get(attempt.channel, 0) + 1
        return counted

    @property
    def took(self) -> frozenset[str]:
        """The channels that took this message, or may have."""
        return frozenset(a.channel for a in self._attempts() if a.outcome in (PLAIN, "uncertain"))

    def without(self, channel: str) -> int:
        """Return the fields (WITHOUT_*) that it goes to a channel without, because that one refused it for them."""
        fields = 0
        for attempt in self._attempts():
            if attempt.channel == channel:
                fields |= LEFT_OUT.get(attempt.outcome, 0)
        return fields

    def _attempts(self) -> list[Attempt]:
        raw = self._raw
        at = self._dims_at + (raw[25] << 8 | raw[26]) + (raw[27] << 8 | raw[28]) + int.from_bytes(raw[29:32], "big")
        return read_log(raw[at : self._tail_at]).attempts

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
