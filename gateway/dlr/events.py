"""Events as applications read them: from what the scripts wrote (or a record, for a replay) to JSON and a webhook-id.

Owns types, ids and fields of every event, and what must not leave: the number is masked and the text left out unless
the account asked for them. Refuses to know endpoints and the store's calls. Pure. Stands between the outbox lists and
the call. docs/webhooks.md shows each field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.model import CATEGORY_LABELS, STATE_LABELS, Category, State, iso, mask_msisdn, message_id, route_name
from gateway.settings.values import EVENT_LETTERS
from gateway.store import records
from gateway.store.record_log import Attempt
from gateway.store.records import Record

SUBMITTED, DELIVERED, FAILED = "message.submitted", "message.delivered", "message.failed"
CORRECTED, INBOUND, OPTED_OUT = "message.corrected", "message.inbound", "recipient.opted_out"
TYPES = tuple(EVENT_LETTERS)

_JSON_TYPES = {ord("i"): INBOUND, ord("o"): OPTED_OUT}
_HEAD = 7  # kind and time
_ID = 16
_NUMBERS = ("from", "number", "msisdn")
"""Members of inbound and opt-out events that hold the number of a person (`to` is one of ours there)."""


@dataclass(slots=True)
class Event:
    """One event, ready to be sent."""

    id: str  # webhook-id: the same for the same fact, whoever builds the event and when
    type: str
    at_ms: int
    data: dict[str, Any]

    def body(self) -> bytes:
        """Return the body of a call with this event alone."""
        return orjson.dumps({"type": self.type, "timestamp": iso(self.at_ms), "data": self.data})

    def member(self) -> dict[str, Any]:
        """Return the event as a member of a batch."""
        return {"id": self.id, "type": self.type, "timestamp": iso(self.at_ms), "data": self.data}


class Unreadable(ValueError):
    """What lies in the outbox is no event (of this version)."""


def batch(events: Sequence[Event], at_ms: int) -> tuple[str, bytes]:
    """Return webhook-id and body of a call with several events.

    The id names exactly these events in this order; each has its own id besides, by which a receiver tells repeats.
    """
    digest = hashlib.sha256("\n".join([event.id for event in events]).encode()).hexdigest()
    body = {"type": "batch", "timestamp": iso(at_ms), "events": [event.member() for event in events]}
    return f"batch.{digest[:32]}", orjson.dumps(body)


def key_of(raw: bytes) -> bytes:
    """Return what orders events: those of one message follow each other; b"" where there is no such message."""
    return raw[_HEAD : _HEAD + _ID] if raw[0] not in _JSON_TYPES else b""


def read(raw: bytes, *, full_number: bool = False, include_text: bool = False) -> Event:
    """Read one entry of an outbox list.

    Raises:
        Unreadable: it is none.
    """
    try:
        at_ms = int.from_bytes(raw[1:_HEAD], "big")
        iso(at_ms)  # here and not when it is sent: whatever has been read can be written
        kind = raw[0]
        if kind in _JSON_TYPES:
            return _told(_JSON_TYPES[kind], at_ms, raw[_HEAD:], full_number, include_text)
        record = records.parse(bytes(raw[_HEAD : _HEAD + _ID]), raw[_HEAD + _ID :])
        if kind == ord("s"):
            return _submitted(record, at_ms, full_number, include_text)
        if kind == ord("f") and record.final:
            delivered = record.state == State.DELIVERED
            name, suffix = (DELIVERED, "delivered") if delivered else (FAILED, "failed")
        elif kind == ord("c"):
            name, suffix = CORRECTED, "corrected"
        else:
            raise Unreadable("kind")
        view = _view(record, record.attempts, full_number, include_text)
        return Event(f"{message_id(record.id)}.{suffix}", name, at_ms, view)
    except Unreadable:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as exc:
        raise Unreadable(type(exc).__name__) from exc


def entries_of(
    sid: bytes, raw: bytes, from_ms: int, to_ms: int, types: frozenset[str], *, keep_text: Container[Category] = ()
) -> Iterator[bytes]:
    """Yield the outbox entries that a record can still tell of, in order, of what happened in [from, to].

    A corrected message tells of its correction only: what was said before is no longer true. The text stays in those of
    messages whose category is in `keep_text`.

    Raises:
        Unreadable: it is no record (of this version).
    """
    try:
        record = records.parse(sid, raw)
        kept = raw if record.category in keep_text else without_text(raw)
    except (ValueError, IndexError, KeyError, TypeError) as exc:
        raise Unreadable(type(exc).__name__) from exc
    if SUBMITTED in types:
        for attempt in record.attempts:
            if attempt.outcome == "sent" and from_ms <= attempt.at_ms <= to_ms:
                yield entry("s", attempt.at_ms, sid, _as_submitted(kept, attempt.number))
    if record.final and from_ms <= record.state_at_ms <= to_ms:
        corrected = record.late_correction
        kind = CORRECTED if corrected else DELIVERED if record.state == State.DELIVERED else FAILED
        if kind in types:
            yield entry("c" if corrected else "f", record.state_at_ms, sid, kept)


def entry(kind: str, at_ms: int, sid: bytes, record: bytes) -> bytes:
    """Return an outbox entry as the scripts write it."""
    return kind.encode() + at_ms.to_bytes(6, "big") + sid + record


def without_text(raw: bytes) -> bytes:
    """Return a record without its text (as the scripts cut it)."""
    at = records.FIXED_BYTES + raw[24] + int.from_bytes(raw[25:27], "big") + int.from_bytes(raw[27:29], "big")
    size = int.from_bytes(raw[29:32], "big")
    if size < 5:
        return raw
    kept = 5 + int.from_bytes(raw[at + 1 : at + 3], "big") + int.from_bytes(raw[at + 3 : at + 5], "big")
    return raw[:29] + kept.to_bytes(3, "big") + raw[32 : at + kept] + raw[at + size :]


def _as_submitted(raw: bytes, attempt: int) -> bytes:
    """Return a record as it was when a carrier had taken it in an attempt: state and number of attempts."""
    t = len(raw) - records.TRAILER_BYTES
    return b"%b%c%b%c%b" % (raw[:t], ord(State.SUBMITTED), raw[t + 1 : t + 2], attempt, raw[t + 3 :])


def _submitted(record: Record, at_ms: int, full_number: bool, include_text: bool) -> Event:
    """Return the event that a carrier took it: of the latest attempt, and what is known since is left out."""
    number = record.attempt
    view = _view(record, [a for a in record.attempts if a.number <= number], full_number, include_text)
    view |= {"state": "submitted", "final": False, "reason": None, "parts_delivered": 0, "attempt": number}
    return Event(f"{message_id(record.id)}.submitted.{number}", SUBMITTED, at_ms, view)


def _view(record: Record, attempts: Sequence[Attempt], full_number: bool, include_text: bool) -> dict[str, Any]:
    """Return `data` of an event about a message."""
    carried = record.carried
    taken = [attempt for attempt in attempts if attempt.outcome == "sent"]
    last = taken[-1] if taken else None
    view: dict[str, Any] = {
        "id": message_id(record.id),
        "smsc_ids": [last.smsc_ids[part] for part in sorted(last.smsc_ids)] if last else [],
        "state": STATE_LABELS[record.state],
        "final": record.final,
        "reason": None,
        "to": f"+{record.msisdn}" if full_number else mask_msisdn(record.msisdn),
        "category": CATEGORY_LABELS[record.category],
        "sender": record.sender,
        "route": route_name(record.route),
        "carrier": record.carrier,
        "channel": last.channel if last else None,
        "parts": record.parts,
        "parts_delivered": record.parts_delivered,
        "possible_duplicate": record.possible_duplicate,
        "accepted_at": iso(record.accepted_at_ms),
        "submitted_at": iso(taken[0].at_ms) if taken else None,
        "state_at": iso(record.state_at_ms or record.accepted_at_ms),
        "expires_at": iso(record.expires_at_ms),
        "tags": list(record.tags),
    }
    if record.reason and record.state != State.DELIVERED:
        view["reason"] = {
            "code": record.reason,
            "permanent": record.permanent,
            "carrier_code": record.carrier_code or None,
        }
    if record.send_at_ms:
        view["send_at"] = iso(record.send_at_ms)
    if record.ref:
        view["ref"] = record.ref
    for name, key in (("origin", "o"), ("contact", "c"), ("meta", "m"), ("ext", "x")):
        if key in carried:
            view[name] = carried[key]
    if record.template:
        view["template"] = record.template
    if record.test:
        view["test"] = True
    if include_text and record.text:
        view["text"] = record.text
    return view


def _told(kind: str, at_ms: int, payload: bytes, full_number: bool, include_text: bool) -> Event:
    """Return an event whose JSON its sender made: an inbound message, an opt-out."""
    data = orjson.loads(payload)
    own = data.get("id")
    if not isinstance(own, str) or not own:
        raise Unreadable("id")
    if not full_number:
        for name in _NUMBERS:
            if isinstance(data.get(name), str):
                data[name] = mask_msisdn(data[name])
    if not include_text:
        data.pop("text", None)
    return Event(f"{own}.{kind.rpartition('.')[2]}", kind, at_ms, data)
