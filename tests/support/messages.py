"""Building new messages and driving them through the store in tests."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.model import MessageKind, NewMessage
from gateway.store import keys
from gateway.store.moves import ClaimRequest, ClaimSource
from gateway.store.store import Store

_next = 0


def number(i: int | None = None) -> str:
    """Return a Chinese mobile number nobody else in this run has."""
    global _next
    if i is None:
        _next += 1
        i = _next
    return f"86138{i:08d}"


def message(store: Store, msisdn: str | None = None, **changes: Any) -> NewMessage:
    """Build a message as intake would: notification, one part, route `r`, account `shop`."""
    msisdn = msisdn or number()
    shard = keys.shard_of(msisdn, store.shards)
    own: dict[str, Any] = {
        "id": keys.new_id(shard),
        "shard": shard,
        "msisdn": msisdn,
        "parts": 1,
        "body": orjson.dumps({"t": "hello", "e": "gsm7"}),
        "idem": b"",
        "digest": b"",
    }
    shared: dict[str, Any] = {
        "account": "shop",
        "category": 1,
        "route": "r",
        "carrier": "china-mobile",
        "sender": "1069",
        "ttl_ms": 3_600_000,
    }
    for name, value in changes.items():
        (own if name in own else shared)[name] = value
    key = tuple(sorted(shared.items()))
    kind = _kinds.get(key)
    if kind is None:
        kind = _kinds[key] = MessageKind(**shared)
    return NewMessage(kind=kind, **own)


_kinds: dict[tuple[Any, ...], MessageKind] = {}


async def accept(store: Store, *messages: NewMessage) -> list[str]:
    """Accept messages and return the codes."""
    results = await store.accept(list(messages))
    return [r.code if hasattr(r, "code") else f"unavailable:{r.outcome}" for r in results]


def request(
    parts: int = 100, *, channel: str = "ch", rest: int | None = None, route: str = "r", rank: int = 0
) -> ClaimRequest:
    """Build a claim request of one channel for one route and rank."""
    return ClaimRequest(channel, parts, parts if rest is None else rest, [ClaimSource(route, rank, (0, 0, 0))])


async def claim(store: Store, parts: int = 100, *, token: str = "t1", **kwargs: Any) -> list[Any]:
    """Claim on every shard; returns the claimed messages."""
    found = []
    for shard in range(store.shards):
        _, claimed, bad = await store.claim(shard, f"{token}{shard}", [request(parts, **kwargs)])
        assert not bad
        found += [c for _, c in claimed]
    return found
