"""JSON answers to the values of `model`: one function a shape, shared by every way of making the call.

Pure. Reads with care: a member that is missing or of another type becomes empty and never an exception, because an
answer says that something was done, and what was done must not be lost over how it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import orjson

from gateway.client.model import (
    Accepted,
    Attempt,
    Cancelled,
    Foreseen,
    Health,
    Json,
    Listed,
    Reason,
    Refused,
    Report,
    StatsRow,
    Status,
    Told,
)


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Return a body as a JSON object; None where it is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def refused_call(status: int, headers: Mapping[str, str], raw: bytes, now_s: float) -> Refused:
    """Read an RFC 9457 problem; something else in between (a proxy) is told by its status alone.

    `headers` by lower-case names; `now_s`: epoch seconds, for a Retry-After that is a date.
    """
    body = json_object(raw)
    after_s = _retry_after(headers.get("retry-after", ""), now_s)
    if body is None or not isinstance(body.get("code"), str):
        # Whoever stands before the gateway may have passed the call on before it gave up.
        return Refused(f"http_{status}", f"status {status} without a problem document", None, "unknown", after_s)
    found = refused(body)
    if after_s is None:
        return found
    return Refused(found.code, found.detail, found.field, found.outcome, after_s, found.retry_at)


def _retry_after(text: str, now_s: float) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s) if text else None
    except (ValueError, OverflowError):
        return None


def refused(error: Json) -> Refused:
    """Read a problem document, of a call or of one item."""
    after, field = error.get("retry_after_s"), error.get("field")
    return Refused(
        code=_text(error, "code") or "unknown",
        detail=_text(error, "detail"),
        field=field if isinstance(field, str) else None,
        outcome=_text(error, "outcome") or "not_stored",
        retry_after_s=float(after) if isinstance(after, int | float) else None,
        retry_at=_time(error, "retry_at"),
    )


def accepted(body: Json, *, replayed: bool = False) -> Accepted:
    """Read what a 202 says of one message."""
    return Accepted(
        id=_text(body, "id"),
        state=_text(body, "state"),
        parts=_count(body, "parts"),
        route=_text(body, "route"),
        replayed=bool(body.get("replayed", replayed)),
        raw=body,
        encoding=_text(body, "encoding"),
        expires_at=_time(body, "expires_at"),
        durability=_text(body, "durability"),
    )


def item(entry: Json, *, replayed: bool = False) -> Accepted | Refused:
    """Read one result of a batch."""
    error = entry.get("error")
    return refused(error) if isinstance(error, dict) else accepted(entry, replayed=replayed)


def foreseen(entry: Json) -> Foreseen:
    """Read one result of a check."""
    error = entry.get("error")
    return Foreseen(
        refused=refused(error) if isinstance(error, dict) else None,
        state=_text(entry, "state"),
        parts=_count(entry, "parts"),
        encoding=_text(entry, "encoding"),
        route=_text(entry, "route"),
        price=_text(entry, "price"),
        replayed=entry.get("replayed") is True,
        send_at=_time(entry, "send_at"),
        expires_at=_time(entry, "expires_at"),
        spread_s=_count(entry, "spread_s"),
        window_until=_time(entry, "window_until"),
        blacklisted=entry.get("blacklisted") is True,
        capped_until=_time(entry, "capped_until"),
        raw=entry,
    )


def status(body: Json) -> Status:
    """Read a message's record, as the API shows it and as events carry it."""
    return Status(
        id=_text(body, "id"),
        state=_text(body, "state"),
        final=body.get("final") is True,
        reason=_reason(body.get("reason")),
        to=_text(body, "to"),
        category=_text(body, "category"),
        sender=_text(body, "sender"),
        parts=_count(body, "parts"),
        parts_delivered=_count(body, "parts_delivered"),
        cost=_text(body, "cost"),
        encoding=_text(body, "encoding"),
        route=_text(body, "route"),
        carrier=_text(body, "carrier"),
        possible_duplicate=body.get("possible_duplicate") is True,
        late_correction=body.get("late_correction") is True,
        accepted_at=_time(body, "accepted_at"),
        send_at=_time(body, "send_at"),
        expires_at=_time(body, "expires_at"),
        state_at=_time(body, "state_at"),
        attempts=tuple(_attempt(one) for one in _objects(body, "attempts")),
        feedback=tuple(_told(one) for one in _objects(body, "feedback")),
        tags=texts(body, "tags"),
        test=body.get("test") is True,
        ref=_text(body, "ref") or None,
        template=_text(body, "template") or None,
        raw=body,
    )


def statuses(body: Json) -> list[Status]:
    """Read the answer to a search."""
    return [status(one) for one in _objects(body, "messages")]


def cancelled(body: Json) -> Cancelled:
    """Read the answer to a cancel."""
    return Cancelled(_text(body, "id"), _text(body, "state"))


def listed(body: Json, name: str) -> list[Listed]:
    """Read entries of a blacklist, which stand under `name`."""
    return [
        Listed(
            _text(one, "scope"),
            texts(one, "categories"),
            _text(one, "reason"),
            _time(one, "since"),
            _text(one, "source"),
        )
        for one in _objects(body, name)
    ]


def report(body: Json) -> Report:
    """Read a report of statistics."""
    total = body.get("total")
    return Report(
        since=_time(body, "from"),
        until=_time(body, "to"),
        zone=_text(body, "zone"),
        by=texts(body, "by"),
        rows=tuple(cast(StatsRow, one) for one in _objects(body, "rows")),
        total=cast(StatsRow, total if isinstance(total, dict) else {}),
        raw=body,
    )


def health(body: Json) -> Health:
    """Read the answer of the health call."""
    return Health(_text(body, "account"), _text(body, "status"))


# --- members


def _reason(given: Any) -> Reason | None:
    if not isinstance(given, dict):
        return None
    return Reason(_text(given, "code"), given.get("permanent") is True, _text(given, "carrier_code") or None)


def _attempt(one: Json) -> Attempt:
    return Attempt(
        _count(one, "number"),
        _text(one, "channel"),
        _time(one, "at"),
        _text(one, "outcome"),
        _text(one, "command_status") or None,
        texts(one, "smsc_ids"),
    )


def _told(one: Json) -> Told:
    names = ("amount", "currency", "customer")
    return Told(
        _text(one, "outcome"), _time(one, "at"), _text(one, "event_id"), *(_text(one, n) or None for n in names)
    )


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _count(body: Json, name: str) -> int:
    value = body.get(name)
    return value if isinstance(value, int) else 0


def time_of(value: Any) -> datetime | None:
    """Read an RFC 3339 time; None where it is none."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _time(body: Json, name: str) -> datetime | None:
    return time_of(body.get(name))


def texts(body: Json, name: str) -> tuple[str, ...]:
    """Return a list of strings as a tuple."""
    value = body.get(name)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _objects(body: Json, name: str) -> list[dict[str, Any]]:
    value = body.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
