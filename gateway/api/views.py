"""How messages look to an application: accepted ones in a 202, stored ones in a query.

Owns the JSON shapes of answers. Refuses to show a text: it may hold a code, and whoever sent it has it.
Stands at the end of the endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from gateway.api.problem import describe
from gateway.intake import ItemResult, Taken
from gateway.model import CATEGORY_LABELS, STATE_LABELS, iso, message_id, route_name
from gateway.statistics import decimal_text
from gateway.store.moves import Feedback
from gateway.store.record_log import Attempt
from gateway.store.records import Record


def taken_view(taken: Taken, durability: str) -> bytes:
    """Return what a 202 says of one message, as JSON.

    Messages of one commit differ in their id alone, so the rest is written once for all of them.
    """
    rest = _taken_rest(
        taken.state, taken.parts, taken.encoding, taken.route, taken.expires_at_ms, taken.replayed, durability
    )
    return b'{"id":"%b",%b' % (message_id(taken.id).encode(), rest)


@lru_cache(maxsize=1024)
def _taken_rest(
    state: str, parts: int, encoding: str, route: str, expires_at_ms: int, replayed: bool, durability: str
) -> bytes:
    view: dict[str, Any] = {
        "state": state,
        "parts": parts,
        "encoding": encoding,
        "route": route_name(route),
        "expires_at": iso(expires_at_ms) if expires_at_ms else None,
        "durability": durability,
    }
    if replayed:
        view["replayed"] = True
    return orjson.dumps(view)[1:]


def batch_view(results: Sequence[ItemResult], accepted: int, durability: str) -> bytes:
    """Return the answer to a batch: counts, and in order each accepted message or its `error`."""
    items = b",".join(
        [
            taken_view(result, durability) if isinstance(result, Taken) else orjson.dumps({"error": describe(result)})
            for result in results
        ]
    )
    return b'{"accepted":%d,"rejected":%d,"results":[%b]}' % (accepted, len(results) - accepted, items)


def record_view(record: Record) -> dict[str, Any]:
    """Return what a query says of one message."""
    carried = record.carried
    view: dict[str, Any] = {
        "id": message_id(record.id),
        "state": STATE_LABELS[record.state],
        "final": record.final,
        "to": f"+{record.msisdn}",
        "category": CATEGORY_LABELS[record.category],
        "sender": record.sender,
        "parts": record.parts,
        "parts_delivered": record.parts_delivered,
        "cost": decimal_text(record.cost, 6),
        "encoding": record.encoding,
        "route": route_name(record.route),
        "carrier": record.carrier,
        "reason": _reason_view(record),
        "possible_duplicate": record.possible_duplicate,
        "late_correction": record.late_correction,
        "accepted_at": iso(record.accepted_at_ms),
        "send_at": iso(record.send_at_ms) if record.send_at_ms else None,
        "expires_at": iso(record.expires_at_ms),
        "state_at": iso(record.state_at_ms or record.accepted_at_ms),
        "attempts": [_attempt_view(attempt) for attempt in record.attempts],
        "feedback": [_feedback_view(told) for told in record.feedback],
        "tags": list(record.tags),
        "test": record.test,
    }
    if record.ref:
        view["ref"] = record.ref
    for name, key in _CARRIED:
        if key in carried:
            view[name] = carried[key]
    if record.gate:
        view["gate"] = record.gate
    if record.template:
        view["template"] = record.template
        view["template_version"] = carried.get("t", 0)
    return view


_CARRIED = (
    ("origin", "o"),
    ("contact", "c"),
    ("meta", "m"),
    ("ext", "x"),
    ("zone", "z"),
    ("local_window", "w"),
    ("consent", "y"),
)
"""Fields of a message and how its record names them."""


def _reason_view(record: Record) -> dict[str, Any] | None:
    if not record.reason:
        return None
    return {"code": record.reason, "permanent": record.permanent, "carrier_code": record.carrier_code or None}


def _attempt_view(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "channel": attempt.channel,
        "at": iso(attempt.at_ms),
        "outcome": attempt.outcome,
        "command_status": None if attempt.status is None else f"0x{attempt.status:08X}",
        "smsc_ids": [attempt.smsc_ids[part] for part in sorted(attempt.smsc_ids)],
    }


def _feedback_view(told: Feedback) -> dict[str, Any]:
    view = {"outcome": told.outcome, "at": iso(told.at_ms), "event_id": told.event_id}
    for name in ("amount", "currency", "customer"):
        if value := getattr(told, name):
            view[name] = value
    return view
