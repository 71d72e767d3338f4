"""`/admin/v1/webhooks`: how each account's deliveries go, and what an operator wants of them.

    GET                                                    → {"webhooks": [{account, host, state, waiting, ...}]}
    POST {"account": "shop", "action": "enable"}           → the account's entry
    POST {"account", "action": "replay", "from", "to", "types"} → the account's entry, with the replay begun
    POST {"account", "action": "test"}                     → {"result": "delivered", "status": 204, "seconds": 0.02}

`disable`: nothing is taken until `enable`; events wait in line. `retry-dead`: dead letters go back in line. `replay`:
the events of the account's records in a time once more. `test`: one signed call, now, from this process. Owns the
shapes; refuses to know calls and lists. Of a URL only the host is shown: its path may be a secret.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import read_object, unknown_field
from gateway.dlr import events, webhook_replay
from gateway.dlr.webhook import CLOSED, SEEN
from gateway.dlr.webhook_client import WebhookClient
from gateway.dlr.webhook_guard import SystemLookup
from gateway.dlr.webhook_replay import Replay
from gateway.dlr.webhook_sign import Signer
from gateway.errors import RequestError
from gateway.model import iso
from gateway.settings import Settings, WebhookSettings
from gateway.store.outbox import Line, Outbox

ACTIONS: Final = ("enable", "disable", "replay", "retry-dead", "test")
REPLAYED: Final = (events.DELIVERED, events.FAILED, events.CORRECTED, events.SUBMITTED)
OPERATOR: Final = "operator"


class WebhookRoutes:
    """The endpoints over one store."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._accounts = {a.id: a.webhook for a in settings.accounts if a.webhook is not None}
        self._outbox = outbox

    def routes(self) -> list[web.RouteDef]:
        """Return what the admin listener serves."""
        return [web.get("/admin/v1/webhooks", self.get), web.post("/admin/v1/webhooks", self.post)]

    async def get(self, request: web.Request) -> web.Response:
        """List the accounts that have a webhook."""
        del request
        return json_answer({"webhooks": await self.entries(list(self._accounts))})

    async def post(self, request: web.Request) -> web.Response:
        """Do what an operator asks of one account.

        Raises:
            RequestError: the body is not what is wanted; the field says what.
        """
        body = await read_object(request)
        unknown_field(body, {"account", "action", "from", "to", "types"})
        action = body.get("action")
        if action not in ACTIONS:
            raise RequestError("invalid_field", f"one of {', '.join(ACTIONS)} is wanted", field="action")
        account = body.get("account")
        webhook = self._accounts.get(account) if isinstance(account, str) else None
        if not isinstance(account, str) or webhook is None:
            raise RequestError("invalid_field", "no such account with a webhook is configured", field="account")
        if action != "replay" and (given := [name for name in ("from", "to", "types") if name in body]):
            raise RequestError("invalid_field", "goes with replay only", field=given[0])
        more: dict[str, Any] = {}
        if action == "test":
            return json_answer({"account": account, **await try_out(webhook)})
        if action == "disable":
            await self._outbox.tell(CLOSED, account, {"why": OPERATOR, "at_ms": _now_ms()})
        elif action == "enable":
            await self._outbox.tell(CLOSED, account, None)
        elif action == "retry-dead":
            more["revived"] = await self._outbox.revive(account)
        else:
            await self._begin_replay(account, _replay(body, webhook))
        await self._outbox.changed()
        return json_answer({**(await self.entries([account]))[0], **more})

    async def _begin_replay(self, account: str, replay: Replay) -> None:
        running = (await self._outbox.told(webhook_replay.FAMILY)).get(account)
        if running is not None and not running["done"]:
            raise RequestError("replay_running", "a replay of this account is not done yet", status=409)
        await self._outbox.tell(webhook_replay.FAMILY, account, replay.as_json())

    async def entries(self, accounts: list[str]) -> list[dict[str, Any]]:
        """Return how the deliveries of accounts that have a webhook go, as GET shows them."""
        lines = await self._outbox.look(accounts)
        closed = await self._outbox.told(CLOSED)
        seen = await self._outbox.told(SEEN)
        replays = await self._outbox.told(webhook_replay.FAMILY)
        return [
            _entry(a, self._accounts[a], lines[a], closed.get(a), seen.get(a, {}), replays.get(a)) for a in accounts
        ]


async def try_out(webhook: WebhookSettings) -> dict[str, Any]:
    """Make one signed call with a `webhook.test` event and tell what became of it."""
    now_s = time.time()
    body = orjson.dumps({"type": "webhook.test", "timestamp": iso(int(now_s * 1000)), "data": {}})
    headers = Signer([s.reveal() for s in webhook.secrets]).headers(f"test.{secrets.token_hex(8)}", int(now_s), body)
    lookup = SystemLookup()
    client = WebhookClient(webhook, lookup, timeout_s=min(webhook.timeout_s, 10.0))
    started = time.monotonic()
    try:
        answer = await client.call(headers, body)
    finally:
        await client.close()
        lookup.close()
    return {"result": answer.result, "status": answer.status, "seconds": round(time.monotonic() - started, 3)}


def _entry(
    account: str,
    webhook: WebhookSettings | None,
    line: Line,
    closed: dict[str, Any] | None,
    seen: dict[str, Any],
    replay: dict[str, Any] | None,
) -> dict[str, Any]:
    assert webhook is not None
    circuit = seen.get("circuit", "closed")
    state = "enabled" if circuit == "closed" else "backing_off"
    return {
        "account": account,
        "host": webhook.host,
        "state": "disabled" if closed else state,
        "disabled_by": closed["why"] if closed else None,
        "disabled_at": _iso(closed["at_ms"]) if closed else None,
        "backlog": line.waiting + line.taken + line.retrying,
        "waiting": line.waiting,
        "oldest_age_s": round(max(0, line.now_ms - line.oldest_ms) / 1000, 1) if line.oldest_ms else 0.0,
        "taken": line.taken,
        "retrying": line.retrying,
        "next_retry_at": _iso(line.next_retry_ms),
        "calls": 0 if closed else seen.get("in_flight", 0),
        "dead": line.dead,
        "dead_reasons": line.reasons,
        "dropped": line.dropped,
        "last_success_at": _iso(seen.get("last_ok_ms", 0)),
        "last_failure_at": _iso(seen.get("last_failure_ms", 0)),
        "last_failure": seen.get("last_result") or None,
        "replay": _replay_view(replay) if replay else None,
    }


def _replay_view(replay: dict[str, Any]) -> dict[str, Any]:
    return {
        "from": _iso(replay["from_ms"]),
        "to": _iso(replay["to_ms"]),
        "types": replay["types"],
        "started_at": _iso(replay["started_ms"]),
        "events": replay["events"],
        "done": replay["done"],
    }


def _replay(body: dict[str, Any], webhook: WebhookSettings) -> Replay:
    """Return the replay that a body asks for; without types, what the account hears of anyhow."""
    from_ms, to_ms = _time(body, "from", 0), _time(body, "to", _now_ms())
    if from_ms > to_ms:
        raise RequestError("invalid_field", "before `from`", field="to")
    types = body.get("types")
    if types is None:
        types = [name for name in REPLAYED if name in webhook.events]
    if not isinstance(types, list) or not types or not all(isinstance(t, str) and t in REPLAYED for t in types):
        raise RequestError("invalid_field", f"some of {', '.join(REPLAYED)} are wanted", field="types")
    if deaf := [name for name in types if name not in webhook.events]:
        detail = f"this account does not hear of {deaf[0]} (events in accounts.toml)"
        raise RequestError("invalid_field", detail, field="types")
    return Replay.begun(from_ms, to_ms, sorted(set(types)))


def _time(body: dict[str, Any], field: str, default: int) -> int:
    text = body.get(field)
    if text is None:
        return default
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise RequestError("invalid_field", "a time with its offset is wanted (RFC 3339)", field=field)
    return max(0, int(at.astimezone(UTC).timestamp() * 1000))


def _iso(at_ms: int) -> str | None:
    return iso(at_ms) if at_ms else None


def _now_ms() -> int:
    return int(time.time() * 1000)
