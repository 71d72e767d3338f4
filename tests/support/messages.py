"""Building new messages and driving them through the store in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.model import Category, MessageKind, NewMessage
from gateway.store import keys
from gateway.store.blacklists import Blacklists
from gateway.store.moves import ClaimRequest, ClaimSource, ReceiptRow, Settlement, SmscId, named, spellings
from gateway.store.records import pack_body, pack_content
from gateway.store.store import Store

_next = 0


def number(i: int | None = None) -> str:
    """Return a Chinese mobile number nobody else in this run has."""
    global _next
    if i is None:
        _next += 1
        i = _next
    return f"86138{i:08d}"


def body(text: str, encoding: str = "gsm7") -> bytes:
    """Return a record's body as intake packs it."""
    return pack_body(encoding, pack_content(text))


def message(store: Store, msisdn: str | None = None, **changes: Any) -> NewMessage:
    """Build a message as intake would: notification, one part, route `r`, account `shop`."""
    msisdn = msisdn or number()
    shard = keys.shard_of(msisdn, store.shards)
    own: dict[str, Any] = {
        "id": keys.new_id(shard),
        "shard": shard,
        "msisdn": msisdn,
        "parts": 1,
        "body": body("hello"),
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
    limits = ";".join(f"{n},{s}" for n, s in store._settings.categories[Category(shared["category"])].per_number)
    shared.setdefault("caps", f"\x1e{shared['account']}\x1f{limits}" if limits else "")
    shared.setdefault("scopes", (shared["account"],))
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


def smsc_id(sid: bytes, part: int = 0) -> str:
    """Return the SMSC's id of a part, as `settle_sent` records it."""
    return f"{sid.hex()}{part}"


def ids_of(c: Any, channel: str = "ch") -> list[SmscId]:
    """Return the SMSC ids of all parts of a claimed message."""
    return [(f"{channel}:{smsc_id(c.id, part)}", named(c.id, part)) for part in range(c.parts)]


def receipt_row(
    c: Any, state: str = "D", part: int = 0, *, address: str | None = None, channel: str = "ch"
) -> ReceiptRow:
    """Return a final receipt of a part whose SMSC id is that of `ids_of`."""
    digits = c.msisdn if address is None else address
    return (channel, spellings(channel, [smsc_id(c.id, part)]), digits.encode(), state, "why", "001", False, False)


async def record_ids(store: Store, shard: int, ids: list[SmscId], channel: str = "ch") -> list[bytes]:
    """Put SMSC ids on record, with a settlement that moves nothing; returns the receipts that were parked for them."""
    nothing = Settlement(bytes(22), 1, "s", channel)
    return (await store.settle_rows(shard, [nothing.row()], ids))[1]


async def apply(store: Store, *rows: ReceiptRow) -> str:
    """Apply receipts and return a letter for each."""
    return "".join(letter for letter, _ in await store.apply_receipts(list(rows)))


async def held_by(store: Store, shard: int = 0) -> list[bytes]:
    """Return the messages that the store's notes of this incarnation's claims still hold."""
    p = keys.prefix(shard).encode()
    flat = await store.client.execute("HVALS", p + b"claims:" + store.incarnation.encode())
    found = []
    for entry in [entries[i : i + 22] for entries in flat for i in range(0, len(entries), 22)]:
        record = await store.get(entry[:16])
        if record is not None and record.state == "q" and record.state_at_ms == int.from_bytes(entry[16:], "big"):
            found.append(record.id)
    return found


async def blacklisted(
    store: Store, scope: str, *msisdns: str, categories: Sequence[int] = (2,), reason: str = "td"
) -> None:
    """Put numbers on a blacklist, as an operator's import does."""
    mask = sum(1 << c for c in categories)
    await Blacklists(store).add_many(scope, [(m, mask, reason) for m in msisdns], source="operator")
