"""The audit: who changed what, when, and what was there before; in the store, capped, each entry chained to the last.

Owns the entries' form, how numbers stand in them (masked, and as a keyed hash that finds one again without naming it),
and the comparison that shows an entry changed, left out or put between. Refuses to know what the changes mean. Moves
that change something write their entry in the same step (`lua/_blacklist.lua`); everything else calls `note`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.model import mask_msisdn
from gateway.store import keys
from gateway.store.statistics import Shards

MOST_KEPT: Final = 100_000
"""AUDIT_MOST in `lua/_blacklist.lua`: a shard keeps at least so many entries."""
_US = "\x1f"
DONE: Final = "done"
"""Result of what was changed as asked; else a few words say what came of it."""
_KEY_FIELD = "audit_key"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change as it stands in the audit."""

    shard: int
    number: int  # within its shard, from 1
    at_ms: int
    actor: str
    action: str
    object: str
    before: str
    after: str
    more: dict[str, Any]
    position: str
    """Where it stands in its shard's stream."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing a shard's chain gave; `broken_at` is the number of the first entry that does not fit, 0: none."""

    shard: int
    entries: int
    first: int
    last: int
    head: str
    broken_at: int


class Audit:
    """The audit of one store."""

    def __init__(self, store: Shards) -> None:
        self._store = store
        self._key = b""

    async def prepare(self) -> None:
        """Read the key of the numbers' hashes, or make it at the first use of this store.

        Raises:
            StoreUnavailable: as for every call.
        """
        if not self._key:
            client = self._store.client
            await client.execute("HSETNX", keys.META, _KEY_FIELD, secrets.token_hex(16))
            self._key = (await client.execute("HMGET", keys.META, _KEY_FIELD))[0]

    def named(self, msisdn: str) -> dict[str, str]:
        """Return how a number (E.164 digits) stands in an entry; `prepare` first."""
        return {"number": mask_msisdn(msisdn), "number_hash": self.keyed(msisdn)[:32]}

    def keyed(self, text: str) -> str:
        """Return a hash (hex) that nobody without the store's key can make; `prepare` first."""
        assert self._key, "prepare() first"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def what(actor: str, action: str, object_: str, **more: Any) -> bytes:
        """Return an entry's JSON, for a move that writes it together with the change."""
        return orjson.dumps({"actor": actor, "action": action, "object": object_, "result": DONE, **more})

    async def note(self, actor: str, action: str, object_: str, before: str = "", after: str = "", **more: Any) -> None:
        """Append one change that was made elsewhere; a call repeated after a lost answer appends it once."""
        token = secrets.token_hex(8)
        what = self.what(actor, action, object_, token=token, **more)
        await self._store.client.call("audit", [self._store.prefixes[0]], [what, before, after, token])

    async def read(self, most: int = 100, *, before_ms: int = 0, since_ms: int = 0) -> list[Entry]:
        """Return the latest entries of all shards, the newest first: from `since_ms` on, older than `before_ms`."""
        found: list[Entry] = []
        newest = f"({before_ms}-0" if before_ms else "+"
        oldest = str(since_ms) if since_ms else "-"
        for shard, p in enumerate(self._store.prefixes):
            rows = await self._store.client.execute("XREVRANGE", f"{p}audit", newest, oldest, "COUNT", most)
            found += [_entry(shard, position, fields) for position, fields in rows]
        found.sort(key=lambda entry: (-entry.at_ms, entry.shard, -entry.number))
        return found[:most]

    async def verify(self, page: int = 5000) -> list[Verdict]:
        """Follow every shard's chain from its oldest entry to the head."""
        return [await self._follow(shard, p, page) for shard, p in enumerate(self._store.prefixes)]

    async def _follow(self, shard: int, p: str, page: int) -> Verdict:
        client = self._store.client
        # Before and after: what comes while the chain is read must not look like a break.
        known_n, known_hash = await self._head(p)
        at_known = ""
        start, last_hash, number, first, broken, count = "-", None, 0, 0, 0, 0
        while True:
            rows = await client.execute("XRANGE", f"{p}audit", start, "+", "COUNT", page)
            for _, fields in rows:
                row = _fields(fields)
                n = int(row["n"])
                if last_hash is None:
                    # The oldest that is kept: what stood before it has left, unless it is the first of all.
                    first, last_hash = n, "" if n == 1 else None
                fits = n == number + 1 or not number
                if last_hash is not None:
                    fits = fits and row["h"] == _hash(last_hash, row)
                if not fits and not broken:
                    broken = n
                number, last_hash, count = n, row["h"], count + 1
                if n == known_n:
                    at_known = row["h"]
            if len(rows) < page:
                break
            start = f"({rows[-1][0].decode()}"
        if first > 1 and count < MOST_KEPT:
            broken = broken or first  # the oldest leave when there are more than that, not before
        head_n, head_hash = await self._head(p)
        if at_known != known_hash or head_n < number or (head_n == number and head_hash != (last_hash or "")):
            broken = broken or number + 1
        return Verdict(shard, count, first, number, last_hash or "", broken)

    async def _head(self, p: str) -> tuple[int, str]:
        n, head = await self._store.client.execute("HMGET", f"{p}audit:head", "n", "h")
        return int(n or 0), head.decode() if head else ""


def _hash(before: str, row: dict[str, str]) -> str:
    chained = _US.join((before, row["n"], row["t"], row["e"], row["b"], row["a"]))
    return hashlib.sha1(chained.encode(), usedforsecurity=False).hexdigest()


def _fields(flat: list[bytes]) -> dict[str, str]:
    return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


def _entry(shard: int, position: bytes, flat: list[bytes]) -> Entry:
    row = _fields(flat)
    more = orjson.loads(row["e"])
    more.pop("token", None)
    return Entry(
        shard,
        int(row["n"]),
        int(row["t"]),
        str(more.pop("actor", "")),
        str(more.pop("action", "")),
        str(more.pop("object", "")),
        row["b"],
        row["a"],
        more,
        position.decode(),
    )
