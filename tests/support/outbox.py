"""Events for webhook tests: stored messages, and what the scripts write to an outbox when their state changes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from gateway.dlr.events import entry
from gateway.dlr.webhook import Webhooks
from gateway.metrics import Metrics
from gateway.model import Secret, message_id, shard_of_id
from gateway.settings import AccountSettings, Settings, WebhookSettings
from gateway.store import keys
from gateway.store.outbox import Line, Outbox
from gateway.store.store import Store
from tests.support.messages import accept, message
from tests.support.valkey import ValkeyServer

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def hook(url: str, **changes: Any) -> WebhookSettings:
    """Return a webhook that may reach this machine."""
    own: dict[str, Any] = {"allow_insecure": True, "allow_private": True, "timeout_s": 5.0}
    return WebhookSettings(url, (Secret(SECRET),), **{**own, **changes})


def with_hooks(settings: Settings, **hooks: WebhookSettings) -> Settings:
    """Return settings with an account for each webhook."""
    return replace(settings, accounts=tuple(AccountSettings(id=name, webhook=one) for name, one in hooks.items()))


async def stored(store: Store, n: int = 1, account: str = "shop", **changes: Any) -> list[bytes]:
    """Accept messages; returns their ids."""
    messages = [message(store, account=account, **changes) for _ in range(n)]
    for i in range(0, n, 200):
        assert set(await accept(store, *messages[i : i + 200])) == {"accepted"}
    return [m.id for m in messages]


async def raw_record(store: Store, sid: bytes) -> bytes:
    found: bytes = await store.client.execute("GET", f"{store.prefixes[shard_of_id(sid)]}msg:".encode() + sid)
    return found


def in_state(raw: bytes, state: str, at_ms: int | None = None) -> bytes:
    """Return a record with another state (and time of it)."""
    t = len(raw) - 26
    at = raw[t + 12 : t + 18] if at_ms is None else at_ms.to_bytes(6, "big")
    return raw[:t] + state.encode() + raw[t + 1 : t + 12] + at + raw[t + 18 :]


async def push(store: Store, sid: bytes, kind: str = "f", state: str = "D", account: str = "shop") -> str:
    """Write an event about a message as the scripts do; returns its webhook-id."""
    raw = in_state(await raw_record(store, sid), state)
    line = f"{store.prefixes[shard_of_id(sid)]}out:{account}"
    length = await store.client.execute("RPUSH", line, entry(kind, int(time.time() * 1000), sid, raw))
    if length == 1:
        await store.client.execute("PUBLISH", keys.WAKE_CHANNEL, "events")
    suffix = {"s": "submitted.0", "c": "corrected", "f": "delivered" if state == "D" else "failed"}[kind]
    return f"{message_id(sid)}.{suffix}"


async def push_many(store: Store, n: int, account: str = "shop") -> list[str]:
    """Store messages and write a final event for each; returns the webhook-ids."""
    return [await push(store, sid, account=account) for sid in await stored(store, n, account)]


async def line(store: Store, account: str = "shop") -> Line:
    """Return how an outbox is."""
    return (await Outbox(store).look([account]))[account]


async def empty(store: Store, account: str = "shop") -> bool:
    """Tell whether nothing waits, is out or is to be retried."""
    now = await line(store, account)
    return not (now.waiting or now.taken or now.retrying)


def retries_now(server: ValkeyServer, account: str = "shop", shards: int = 1) -> list[float]:
    """Let every retry be due at once; returns the seconds they would have waited."""
    waits = []
    with server.sync() as client:
        now = time.time()
        for shard in range(shards):
            key = f"{keys.prefix(shard)}outlater:{account}"
            for member, score in client.zrange(key, 0, -1, withscores=True):
                waits.append(score / 1000 - now)
                client.zadd(key, {member: 0})
    return waits


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, store: Store, *, name: str = "events01", lookup: Any = None, number: int = 0
) -> AsyncIterator[Webhooks]:
    """Run an events worker for a block."""
    worker = Webhooks(settings, store, Metrics("events", "0", name), incarnation=name, number=number, lookup=lookup)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.stop(0.5)
