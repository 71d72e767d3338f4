"""`POST /admin/v1/accounts/{id}/test-send`: one real message of an account, which an operator sends to see it go.

    {"to", "country"?, "category", "text", "sender"?} → {"id", "state", "parts", "encoding", "route", "expires_at"}

It goes the way of every message of that account: the same checks, rate, quota, rules, blacklists, routes and channels,
and it costs what a message costs. It is marked `test`: caps and statistics leave it out. What refuses it is answered as
the application would hear it, with the field. At most `MOST_A_MINUTE` a minute. Owns the endpoint; refuses to decide:
`gateway.intake` does. The audit has who and which message, never the number and the text.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, number_of, read_object, unknown_field
from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable
from gateway.intake import Intake
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, ValidMessage, iso, message_id, route_name
from gateway.policy.policy import load_policy
from gateway.routing.router import Router
from gateway.settings import AccountSettings, Settings
from gateway.store.audit import Audit
from gateway.store.limits import AccountLimiter
from gateway.store.store import Store

log = logging.getLogger(__name__)

MOST_A_MINUTE: Final = 20
MAX_TEXT: Final = 1530
_CONTROL: Final = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_sent: deque[float] = deque(maxlen=MOST_A_MINUTE)
"""When the last ones of this process were sent (monotonic seconds): a reload gives no more of them."""


@dataclass
class TrialApi:
    """What the endpoint works on; the parts of intake are built when the first one is sent."""

    settings: Settings
    store: Store
    router: Router
    audit: Audit
    metrics: Metrics | None = None
    _intake: Intake | None = None
    _building: asyncio.Lock = field(default_factory=asyncio.Lock)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.post("/admin/v1/accounts/{id}/test-send", self.send)]

    async def send(self, request: web.Request) -> web.Response:
        """Send one test message of an account.

        Raises:
            RequestError: there is no such account (404), or what intake refuses it for.
            Backpressure: too many in a minute, or the account's own limits.
            StoreUnavailable: the store does not answer.
        """
        body = await read_object(request)
        unknown_field(body, {"to", "country", "category", "text", "sender"})
        account = _account(self.settings, request.match_info["id"])
        message = _message(body, account)
        now = time.monotonic()
        if len(_sent) == MOST_A_MINUTE and now - _sent[0] < 60:
            detail = f"at most {MOST_A_MINUTE} test messages a minute"
            raise Backpressure("rate_limited", detail, retry_after_s=60 - (now - _sent[0]), status=429)
        _sent.append(now)
        intake = await self._ready()
        (taken,) = await intake.accept(account, [message], None)
        await intake.close()  # what was drawn of its quota and not spent goes back at once
        if isinstance(taken, GatewayError):
            raise taken
        noted(request)
        sid = message_id(taken.id)
        try:
            await self.audit.note(actor_of(request), "account.test_send", account.id, message=sid)
        except StoreUnavailable:
            # It is stored and goes: an error would have it sent once more. The log has who, then.
            log.error("account.test_send %s by %s: message %s is not in the audit", account.id, actor_of(request), sid)
        return json_answer(
            {
                "id": sid,
                "state": taken.state,
                "parts": taken.parts,
                "encoding": taken.encoding,
                "route": route_name(taken.route),
                "expires_at": iso(taken.expires_at_ms) if taken.expires_at_ms else None,
            }
        )

    async def _ready(self) -> Intake:
        async with self._building:
            if self._intake is None:
                policy = await asyncio.to_thread(load_policy, self.settings)
                metrics = self.metrics or Metrics("admin", "0")
                limiter = AccountLimiter(self.store)
                self._intake = Intake(self.settings, self.router, self.store, limiter, metrics, None, policy)
            return self._intake


def _account(settings: Settings, name: str) -> AccountSettings:
    found = next((a for a in settings.accounts if a.id == name), None)
    if found is None:
        raise RequestError("not_found", "no such account is configured", field="id", status=404)
    return found


def _message(body: dict[str, Any], account: AccountSettings) -> ValidMessage:
    """Return the message that a body asks for. Raises RequestError with the field at fault."""
    for name in ("to", "category", "text"):
        if body.get(name) in (None, ""):
            raise RequestError("missing_field", f"{name} is wanted", field=name)
    category, text, sender = body["category"], body["text"], body.get("sender", "")
    if category not in CATEGORY_LABELS:
        raise RequestError("invalid_field", f"one of {', '.join(CATEGORY_LABELS)} is wanted", field="category")
    if not isinstance(text, str) or len(text) > MAX_TEXT or _CONTROL.search(text) or not _encodes(text):
        detail = f"a text of at most {MAX_TEXT} characters without control characters is wanted"
        raise RequestError("invalid_field", detail, field="text")
    if not isinstance(sender, str) or len(sender) > 20:
        raise RequestError("invalid_field", "at most 20 characters are wanted", field="sender")
    country = body.get("country") or account.default_country
    try:
        number = number_of({"number": body["to"], "country": country})
    except RequestError as error:
        field_ = "to" if error.field == "number" else error.field
        raise RequestError(error.code, error.detail, field=field_) from None
    given: dict[str, Any] = {"to": f"+{number}", "category": category, "text": text, "test": True}
    if sender:
        given["sender"] = sender
    return ValidMessage(given)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
