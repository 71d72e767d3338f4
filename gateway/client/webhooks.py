"""The receiving end of webhooks: is this call from the gateway, and what does it say.

    for event in verify(request.headers, body, ["whsec_…"]):
        match event:
            case MessageDelivered(): ...

Owns the check of Standard Webhooks signatures and the typed events of docs/webhooks.md. Pure but for the clock that it
is given by default. Refuses to parse what it has not verified, and to know any web framework: docs/examples/ has two.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.client import reading
from gateway.client.errors import BadSignature
from gateway.client.model import Json, Status

TOLERANCE_S = 300
_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64  # of a key, by Standard Webhooks
_MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` is the same whenever the same fact is told again: remember it, and do nothing twice."""

    id: str
    type: str
    at: datetime | None
    data: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class MessageEvent(Event):
    """An event about a message; `message` is what is known of it, `ref` the application's own id in it."""

    message: Status

    @property
    def submitted_at(self) -> datetime | None:
        """When a carrier first took it."""
        return reading.time_of(self.data.get("submitted_at"))

    @property
    def channel(self) -> str | None:
        """The channel it took."""
        return self.data.get("channel")

    @property
    def smsc_ids(self) -> tuple[str, ...]:
        """The SMSC's ids of its parts."""
        return reading.texts(self.data, "smsc_ids")

    @property
    def text(self) -> str | None:
        """The text, where the account asked for texts and its category keeps them."""
        return self.data.get("text")


class MessageSubmitted(MessageEvent):
    """A carrier took it (`attempt` says at which try)."""

    @property
    def attempt(self) -> int:
        """Which try it was, from 1."""
        return int(self.data.get("attempt") or 0)


class MessageDelivered(MessageEvent):
    """The receipt says so."""


class MessageFailed(MessageEvent):
    """It ended otherwise; `message.state` and `message.reason` say how and why."""


class MessageCorrected(MessageEvent):
    """A late receipt: what was unknown or expired is delivered after all."""


@dataclass(frozen=True, slots=True)
class InboundMessage(Event):
    """Somebody wrote to one of the account's numbers. `opt`: stop, start, review, or empty."""

    sender: str
    to: str
    text: str | None
    received_at: datetime | None
    in_reply_to: str | None
    channel: str
    signature: str
    keyword: str
    opt: str


@dataclass(frozen=True, slots=True)
class OptedOut(Event):
    """A recipient wants no more; `scope` says from whom."""

    number: str
    scope: str
    reason: str
    word: str
    in_reply_to: str | None
    campaign: str
    opted_at: datetime | None


class WebhookTest(Event):
    """An operator ran `smsgw webhooks test`."""


_MESSAGES: dict[str, type[MessageEvent]] = {
    "message.submitted": MessageSubmitted,
    "message.delivered": MessageDelivered,
    "message.failed": MessageFailed,
    "message.corrected": MessageCorrected,
}


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    tolerance_s: float = TOLERANCE_S,
    *,
    now_s: float | None = None,
) -> list[Event]:
    """Return the events of a call that is shown to be from the gateway: one, or those of a batch, in order.

    `headers` in any case; `body`: the very bytes that came; `secrets`: those in force, two while one replaces the
    other; `tolerance_s`: how far the time of the attempt may be from `now_s` (epoch seconds, this machine's clock where
    not given). A type that this version does not know comes as a plain `Event`: answer 2xx and leave it.

    Raises:
        BadSignature: a header is missing, the time is too far away, or no signature fits; the body was not read.
        ValueError: a secret is none.
    """
    found = {name.lower(): value for name, value in headers.items()}
    name, at, given = (found.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not name or not given or not (at.isascii() and at.isdigit() and len(at) <= 12):
        raise BadSignature("the call lacks the headers of a signed one")
    if abs((time.time() if now_s is None else now_s) - int(at)) > tolerance_s:
        raise BadSignature("the call's time is too far from now")
    if not _signed(f"{name}.{at}.".encode() + body, given, [_key(secret) for secret in secrets]):
        raise BadSignature("no signature fits")
    return _events(name, body)


def _signed(content: bytes, given: str, keys: Sequence[bytes]) -> bool:
    """Compare every signature with every key, all of them, in constant time each."""
    wanted = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()) for key in keys]
    good = False
    for one in given.split(" ")[:_MAX_SIGNATURES]:
        version, _, value = one.partition(",")
        if version == "v1":
            for signature in wanted:
                good |= hmac.compare_digest(value.encode("utf-8", "surrogateescape"), signature)
    return good


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"a secret is {_PREFIX} and base64 of {_LEAST_BYTES} to {_MOST_BYTES} bytes")
    return key


def _events(name: str, body: bytes) -> list[Event]:
    document: Any = reading.json_object(body)
    if document is None:
        raise BadSignature("the body is no JSON object")
    if document.get("type") == "batch":
        return [_event(str(one.get("id", "")), one) for one in document.get("events", ()) if isinstance(one, dict)]
    return [_event(name, document)]


def _event(name: str, given: Json) -> Event:
    kind, data = str(given.get("type", "")), given.get("data")
    data = data if isinstance(data, dict) else {}
    common = (name, kind, reading.time_of(given.get("timestamp")), data)
    if kind in _MESSAGES:
        return _MESSAGES[kind](*common, reading.status(data))
    if kind == "message.inbound":
        return InboundMessage(
            *common, _text(data, "from"), _text(data, "to"), data.get("text"), reading.time_of(data.get("received_at")),
            data.get("in_reply_to"), _text(data, "channel"), _text(data, "signature"), _text(data, "keyword"),
            _text(data, "opt"),
        )  # fmt: skip
    if kind == "recipient.opted_out":
        return OptedOut(
            *common, _text(data, "number"), _text(data, "scope"), _text(data, "reason"), _text(data, "word"),
            data.get("in_reply_to"), _text(data, "campaign"), reading.time_of(data.get("at")),
        )  # fmt: skip
    return WebhookTest(*common) if kind == "webhook.test" else Event(*common)


def _text(data: Json, name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
