"""What goes over the HTTP API, as values: a message, the three kinds of answer, and the errors of a call.

Pure: no I/O. `ApiError` says that the gateway answered and refused the whole call, `Unreachable` that no
answer came in time and the call may or may not have been carried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gateway.errors import GatewayError


@dataclass(slots=True)
class Message:
    """One message to send; a field left None is not transmitted; `extra` carries fields not named here."""

    to: str
    category: str | None = None
    text: str | None = None
    sender: str | None = None
    ref: str | None = None
    ttl_s: int | None = None
    send_at: str | None = None
    not_after: str | None = None
    tags: Sequence[str] | None = None
    origin: Mapping[str, Any] | None = None
    contact: str | None = None
    gate: str | None = None
    ext: str | None = None
    meta: Any = None
    test: bool | None = None
    template: str | None = None
    template_version: int | None = None
    params: Mapping[str, Any] | None = None
    zone: str | None = None
    local_window: str | None = None
    consent: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the object as the API takes it."""
        named = {name: value for name in _MESSAGE_FIELDS if (value := getattr(self, name)) is not None}
        return {**self.extra, **named}


_MESSAGE_FIELDS = tuple(entry.name for entry in fields(Message) if entry.name != "extra")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a message led to; a field left None is not transmitted. `outcome`: clicked, converted or complained."""

    outcome: str
    event_id: str
    amount: str | None = None
    currency: str | None = None
    customer: str | None = None
    at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object as the API takes it."""
        return {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name)) is not None}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway has the message. `raw` is the whole answer."""

    id: str
    state: str
    parts: int
    route: str
    replayed: bool
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway does not have the message (or, with `outcome` "unknown", may not have it)."""

    code: str
    detail: str = ""
    field: str | None = None
    outcome: str = "not_stored"
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same message may be accepted later."""
        return self.code in RETRYABLE_CODES or self.outcome == "unknown"


RETRYABLE_CODES = frozenset({"rate_limited", "quota_exceeded", "overloaded", "store_unavailable", "draining"})


@dataclass(frozen=True, slots=True)
class Status:
    """Where a message stands. `raw` is the whole answer, with attempts and times."""

    id: str
    state: str
    reason: str
    raw: Mapping[str, Any] = field(repr=False)


class ApiError(GatewayError):
    """The gateway refused the call as a whole."""

    def __init__(self, status: int, refused: Refused) -> None:
        where = f" ({refused.field})" if refused.field else ""
        super().__init__(f"{status} {refused.code}{where}: {refused.detail}")
        self.status = status
        self.refused = refused


class Unreachable(GatewayError):
    """No usable answer within the time allowed; whether anything was stored is unknown."""
