"""What goes over the HTTP API, as values: what is asked for, and every kind of answer.

Pure: no I/O, no clock. Times are aware datetimes, money is the decimal text that the API carries. `raw` of an answer
is its JSON object, with whatever a newer gateway says besides. Refuses to check what the gateway checks: one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

Category = Literal["verification", "notification", "marketing"]
Json = Mapping[str, Any]


class Origin(TypedDict, total=False):
    """Where a message comes from, in the application's own terms."""

    campaign: str
    run: str
    step: str
    variant: str
    ordinal: int


@dataclass(slots=True)
class Message:
    """One message to send; a field left None is not transmitted; `extra` carries fields not named here.

    `send_at` and `not_after` are RFC 3339 texts or aware datetimes. docs/http_api.md describes each field.
    """

    to: str
    category: Category | str | None = None
    text: str | None = None
    sender: str | None = None
    ref: str | None = None
    ttl_s: int | None = None
    send_at: str | datetime | None = None
    not_after: str | datetime | None = None
    tags: Sequence[str] | None = None
    origin: Origin | Mapping[str, Any] | None = None
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
        """Return the object as the API takes it.

        Raises:
            ValueError: a datetime without its offset: nobody could tell when that is.
        """
        named = {name: _plain(value) for name in _MESSAGE_FIELDS if (value := getattr(self, name)) is not None}
        return {**self.extra, **named}


_MESSAGE_FIELDS = tuple(entry.name for entry in fields(Message) if entry.name != "extra")


def _plain(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError("a datetime needs its offset: datetime.now(UTC), or .astimezone()")
    return value.isoformat()


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a message led to; a field left None is not transmitted. `outcome`: clicked, converted or complained."""

    outcome: Literal["clicked", "converted", "complained"] | str
    event_id: str
    amount: str | None = None
    currency: str | None = None
    customer: Literal["new", "returning"] | str | None = None
    at: str | datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object as the API takes it. Raises ValueError as `Message.to_json` does."""
        return {entry.name: _plain(value) for entry in fields(self) if (value := getattr(self, entry.name)) is not None}


# --- answers


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway has the message, stored as `durability` says (fsync, replicated or relaxed)."""

    id: str
    state: str
    parts: int
    route: str
    replayed: bool
    raw: Json = field(repr=False)
    encoding: str = ""
    expires_at: datetime | None = None
    durability: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway does not have the message (or, with `outcome` "unknown", may not have it)."""

    code: str
    detail: str = ""
    field: str | None = None
    outcome: str = "not_stored"
    retry_after_s: float | None = None
    retry_at: datetime | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same message may be accepted later."""
        return self.code in RETRYABLE_CODES or self.outcome == "unknown"


RETRYABLE_CODES = frozenset(
    {"rate_limited", "quota_exceeded", "overloaded", "store_unavailable", "draining", "too_many_connections"}
)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What accepting a message now would answer: `refused` or a state, and what is known of it besides."""

    refused: Refused | None
    state: str
    parts: int
    encoding: str
    route: str
    price: str
    replayed: bool
    send_at: datetime | None
    expires_at: datetime | None
    spread_s: int
    window_until: datetime | None
    blacklisted: bool
    capped_until: datetime | None
    raw: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a message ended as it did; `permanent`: the next one to the number would end so too."""

    code: str
    permanent: bool
    carrier_code: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to give a message to a carrier."""

    number: int
    channel: str
    at: datetime | None
    outcome: str
    command_status: str | None
    smsc_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One feedback as it stands on record."""

    outcome: str
    at: datetime | None
    event_id: str
    amount: str | None
    currency: str | None
    customer: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """Where a message stands. `reason` is None until there is one."""

    id: str
    state: str
    final: bool
    reason: Reason | None
    to: str
    category: str
    sender: str
    parts: int
    parts_delivered: int
    cost: str
    encoding: str
    route: str
    carrier: str
    possible_duplicate: bool
    late_correction: bool
    accepted_at: datetime | None
    send_at: datetime | None
    expires_at: datetime | None
    state_at: datetime | None
    attempts: tuple[Attempt, ...]
    feedback: tuple[Told, ...]
    tags: tuple[str, ...]
    test: bool
    ref: str | None
    template: str | None
    raw: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A message that will not be sent."""

    id: str
    state: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of the account's blacklist. `scope`: the account, or with / behind it a sender or signature."""

    scope: str
    categories: tuple[str, ...]
    reason: str
    since: datetime | None
    source: str


class StatsFailure(TypedDict):
    """How many ended in a state for a reason, and their share of what failed."""

    state: str
    reason: str
    n: int
    share: float | None


class StatsRow(TypedDict, total=False):
    """Counts of a group, beside the values it is grouped by; by signature, `td` and `complaints` alone."""

    hour: str
    day: str
    category: str
    carrier: str
    route: str
    channel: str
    reason: str
    template: str
    campaign: str
    variant: str
    signature: str
    accepted: int
    submitted: int
    delivered: int
    failed: int
    expired: int
    unknown: int
    cancelled: int
    blocked: int
    uncertain: int
    refused: int
    td: int
    complaints: int
    clicks: int
    conversions: int
    parts: int
    delivery_ratio: float | None
    latency: Mapping[str, Any] | None
    cost: str
    amounts: Mapping[str, str]
    failures: Sequence[StatsFailure]
    refusals: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """How the account's messages fared between two times (docs/statistics.md says what each count means)."""

    since: datetime | None
    until: datetime | None
    zone: str
    by: tuple[str, ...]
    rows: tuple[StatsRow, ...]
    total: StatsRow
    raw: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class Health:
    """The gateway takes this key's calls, and its store answers."""

    account: str
    status: str
