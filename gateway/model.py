"""The words every layer shares: categories, states, ids, and types that hide what must not be shown.

Pure: no clock, no I/O. Nothing here knows Redis, HTTP or SMPP. Stands at the bottom of the layers, above `errors`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NewType

MessageId = NewType("MessageId", str)
"""Our id as the API shows it: a UUIDv7 in its 36-character form. Its rand_a bits 11..4 are the shard number."""
StoreId = NewType("StoreId", bytes)
"""The same UUID as its 16 bytes: how keys and queue entries write it."""


class Category(IntEnum):
    """What a message is for; the value is its place in the queue's priority order."""

    VERIFICATION = 0
    NOTIFICATION = 1
    MARKETING = 2

    @property
    def label(self) -> str:
        return CATEGORY_LABELS[self]


CATEGORY_LABELS: tuple[str, ...] = ("verification", "notification", "marketing")
CATEGORY_BY_LABEL: dict[str, Category] = {label: Category(i) for i, label in enumerate(CATEGORY_LABELS)}


WITHOUT_VALIDITY, WITHOUT_TLVS = 1, 2
"""Fields of a submit_sm that some SMSCs will not have: validity_period; the TLVs that are not the message itself."""
WITHOUT_LABELS = {WITHOUT_VALIDITY: "validity", WITHOUT_TLVS: "tlvs"}


class State:
    """State of a message as one character, as the record stores it. Upper case is final."""

    QUEUED = "q"  # also while a dispatch worker holds it: the claim stands beside the record
    RETRY = "r"  # waits in `due` for its next attempt; an application sees `queued`
    HELD = "w"  # set aside by a gate; an application sees `queued`
    SCHEDULED = "h"
    DEFERRED = "f"
    SUBMITTED = "s"
    UNCERTAIN = "u"
    DELIVERED = "D"
    UNDELIVERABLE = "U"
    REJECTED = "R"
    EXPIRED = "E"
    FAILED = "F"
    CANCELLED = "C"
    BLOCKED = "B"
    UNKNOWN = "K"


STATE_LABELS: dict[str, str] = {
    State.QUEUED: "queued",
    State.RETRY: "queued",
    State.HELD: "queued",
    State.SCHEDULED: "scheduled",
    State.DEFERRED: "deferred",
    State.SUBMITTED: "submitted",
    State.UNCERTAIN: "uncertain",
    State.DELIVERED: "delivered",
    State.UNDELIVERABLE: "undeliverable",
    State.REJECTED: "rejected",
    State.EXPIRED: "expired",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.BLOCKED: "blocked",
    State.UNKNOWN: "unknown",
}


class Secret(str):
    """A string that never shows itself: `repr` and `str.format` give a mask. Use `reveal()` where it is needed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('****')"

    def __str__(self) -> str:
        return "****"

    def __format__(self, spec: str) -> str:
        return "****"

    def reveal(self) -> str:
        """Return the plain value, for the one place that sends or compares it."""
        return str.__str__(self)


@lru_cache(maxsize=4096)
def iso(at_ms: int) -> str:
    """Return epoch milliseconds as ISO 8601 in UTC (cached: messages of one commit share times)."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def mask_msisdn(digits: str) -> str:
    """Return a number as logs may show it: `+86138****5678` for `8613812345678` (shorter numbers show less)."""
    digits = digits.lstrip("+")
    if len(digits) < 8:
        return "+" + "*" * len(digits)
    return f"+{digits[: max(1, len(digits) - 8)]}****{digits[-4:]}"


def store_id(message_id: str) -> StoreId:
    """Return the store's spelling of an API id. Raises ValueError when it is not a UUID in canonical form."""
    parsed = uuid.UUID(message_id)
    if str(parsed) != message_id.lower():
        raise ValueError("not a canonical UUID")
    return StoreId(parsed.bytes)


def message_id(sid: bytes) -> MessageId:
    """Return the API spelling of a store id (0.3 µs; by way of uuid.UUID it would be 2)."""
    digits = sid.hex()
    return MessageId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


LANE_MARK: Final = "~"
"""Between a route's id and the hash of one of its lanes (`routing.table`); no configured id can have it."""


def route_name(route: str) -> str:
    """Return the configured id of a route or of any of its lanes: what people are shown."""
    return route.partition(LANE_MARK)[0]


def shard_of_id(sid: bytes) -> int:
    """Return the shard number a store id carries (rand_a bits 11..4 of the UUIDv7)."""
    return ((sid[6] & 0x0F) << 4) | (sid[7] >> 4)


class ValidMessage:
    """One message as the application sent it: every field checked and converted, nothing looked up yet.

    Built from the dict of the fields that were given (0.1 µs: class attributes are the defaults,
    so a field that was not sent costs nothing). `given` is that dict, keyed by attribute name.
    """

    to: str = ""  # as sent; normalised at intake
    category: str = ""  # label
    text: str = ""
    sender: str = ""
    ref: str = ""
    ttl_s: int = 0  # 0: the category's
    send_at_ms: int = 0  # epoch ms, 0: now
    not_after_ms: int = 0  # epoch ms, 0: none
    tags: Sequence[str] = ()
    origin: Mapping[str, Any] = MappingProxyType({})
    contact: str = ""
    gate: str = ""
    ext: str = ""
    meta: str = ""
    test: bool = False
    zone: str = ""  # the recipient's time zone, where the application knows it
    local_window: str = ""  # the campaign's own hours there, as 10:00-12:00
    consent: bool = False  # the application says that the recipient agreed
    template: str = ""  # in the place of a text; once rendered, `text` holds what came of it
    template_version: int = 0  # 0: the latest; once rendered, the one that was taken
    params: Mapping[str, Any] = MappingProxyType({})
    asked: str = ""  # once rendered: template, version and params as they were sent, which is what a repeat repeats

    def __init__(self, given: dict[str, Any]) -> None:
        self.__dict__ = given

    @property
    def given(self) -> dict[str, Any]:
        return self.__dict__


@dataclass(slots=True, eq=False)
class MessageKind:
    """What many new messages share: whose, of which category and route, how long they live.

    Compared by identity: the store groups a batch by kind, and hashing fifteen fields for each message costs more than
    everything else it does with it. `packed` is the store's own note of how it writes the kind.
    """

    account: str
    category: int
    route: str
    carrier: str
    sender: str
    ttl_ms: int
    send_at_ms: int = 0  # epoch ms, 0: now
    not_after_ms: int = 0  # epoch ms, 0: none
    state: str = State.QUEUED  # or SCHEDULED, DEFERRED
    template: str = ""
    campaign: str = ""
    variant: str = ""
    gate: str = ""
    tags: tuple[str, ...] = ()
    test: bool = False
    caps: str = ""
    """Frequency caps that hold for it, as `lua/accept.lua` takes them: for each RS name US "limit,window_s;..."."""
    scopes: tuple[str, ...] = ()
    """Blacklists besides the one for all: the account, account/sender, account/signature."""
    signature: str = ""
    """The text's, where a cap or a blacklist goes by it."""
    window_until_ms: int = 0
    """Epoch ms from which on it must not leave the queue before its window opens again; 0: no window."""
    spread_ms: int = 0
    """Deferred messages leave within so long after `send_at_ms`, each at a time of its own."""
    defer_capped: bool = False
    """Whether a message that a cap forbids waits until it is allowed, instead of being refused."""
    packed: Any = None


@dataclass(slots=True)
class NewMessage:
    """One checked message on its way from intake to the store. Slotted, not frozen: built once, never changed.

    `body` is what dispatch and queries read (see `pack_body` in `gateway.store.records`).
    """

    id: bytes  # StoreId
    shard: int
    kind: MessageKind
    msisdn: str = field(repr=False)  # E.164 digits without '+'
    parts: int
    body: bytes = field(repr=False)
    idem: bytes  # 16 bytes naming account + key + recipient + item, or b""
    digest: bytes  # 8 bytes over the canonical fields, compared on a replay


@dataclass(slots=True)
class Accepted:
    """What the store did with one NewMessage."""

    code: str  # accepted | replay | conflict | blocked | capped | expired | full
    id: bytes = b""  # StoreId (of the first message, on a replay)
    accepted_at_ms: int = 0
    expires_at_ms: int = 0
    retry_at_ms: int = 0  # capped: when it is allowed again
    deferred_to_ms: int = 0  # accepted, but a cap lets it go only then
    detail: Any = None  # replay: the stored Record if it is still kept
