"""Blacklists: numbers that must not be written to, by scope, category and reason. Add, remove, look, list, take back.

Owns the values' form on this side of the store. Refuses to know who may change what (the endpoints) and what a reply
means (`policy.optout`); looking at them is the business of `lua/accept.lua` and `lua/claim.lua`, in the same step as
the message. Every change writes its audit entry with it. Nothing here is asked for each message.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.model import Category
from gateway.store import keys
from gateway.store.audit import Audit
from gateway.store.statistics import Shards

TD, COMPLAINT, OPERATOR, INVALID, DO_NOT_DISTURB = "td", "complaint", "operator", "invalid-number", "do-not-disturb"
REASONS: Final = (TD, COMPLAINT, OPERATOR, INVALID, DO_NOT_DISTURB)
EVERYBODY: Final = "*"
"""The scope of all accounts; others are an account's id, or that with `/` and a sender or signature behind it."""
MARKETING_ONLY: Final = 1 << Category.MARKETING
BUT_VERIFICATION: Final = MARKETING_ONLY | 1 << Category.NOTIFICATION
PAGE: Final = 5000
_IMPORTS: Final = "imports"
_IMPORTS_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a blacklist."""

    scope: str
    mask: int  # 1 verification, 2 notification, 4 marketing
    reason: str
    since_s: int  # epoch seconds
    source: str  # mo.<channel>, api, feedback, receipts, operator, import.<id>; '' for old ones

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(c for c in Category if self.mask >> c & 1)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a change did to a list."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.added + other.added, self.changed + other.changed, self.unchanged + other.unchanged)


Row = tuple[str, int, str]
"""number (E.164 digits), mask of categories, reason"""


def mask_of(categories: Iterable[Category]) -> int:
    """Return categories as a value writes them."""
    return sum(1 << c for c in set(categories))


def parse(scope: str, value: bytes) -> Listed:
    """Return an entry's value read; whatever stands there."""
    reason, _, rest = value[1:].decode("utf-8", "replace").partition(":")
    at, _, source = rest.partition(":")
    return Listed(scope, (value[0] - 48) & 7, reason, int(at) if at.isdigit() else 0, source)


class Blacklists:
    """All blacklists of one store."""

    def __init__(self, store: Shards) -> None:
        self._store = store
        self._client = store.client
        self.audit = Audit(store)

    def _prefix(self, msisdn: str) -> str:
        return self._store.prefixes[keys.shard_of(msisdn, len(self._store.prefixes))]

    # --- one number

    async def get(self, msisdn: str, scope: str = "") -> list[Listed]:
        """Return a number's entries: of a scope and those below it, or with '' of all scopes."""
        flat = await self._client.call("black_get", [self._prefix(msisdn)], [msisdn, scope])
        return [parse(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)]

    async def put(
        self, msisdn: str, scope: str, mask: int, reason: str, *, source: str, actor: str, note_always: bool = False
    ) -> Listed:
        """Make a number's entry just this; one that says so already keeps its time. Returns the entry in force.

        With `note_always` the audit has an entry also where nothing was to change.
        """
        changed, entry = await self._set("replace", msisdn, scope, mask, reason, source, actor)
        if note_always and not changed:
            named = self.audit.named(msisdn)
            await self.audit.note(actor, "blacklist.add", scope, result="nothing to change", **named)
        return entry

    async def add(self, msisdn: str, scope: str, mask: int, reason: str, *, source: str, actor: str) -> bool:
        """Add to what a number's entry says; False when it said so already."""
        return (await self._set("merge", msisdn, scope, mask, reason, source, actor))[0]

    async def _set(
        self, how: str, msisdn: str, scope: str, mask: int, reason: str, source: str, actor: str
    ) -> tuple[bool, Listed]:
        await self.audit.prepare()
        what = self.audit.what(actor, "blacklist.add", scope, **self.audit.named(msisdn))
        args = [scope, how, source, "", "", what, msisdn, mask, reason]
        added, changed, _, _, value = await self._client.call("black_set", [self._prefix(msisdn)], args)
        return bool(added or changed), parse(scope, value)

    async def remove(
        self, msisdn: str, scope: str, *, actor: str, below: bool = False, reason: str = ""
    ) -> list[Listed]:
        """Take a number off a scope, with `below` also off those below it; returns what was there.

        With a `reason` only entries that have it.
        """
        await self.audit.prepare()
        what = self.audit.what(actor, "blacklist.remove", scope, **self.audit.named(msisdn))
        flat = await self._client.call(
            "black_remove", [self._prefix(msisdn)], [msisdn, scope, "1" if below else "", reason, what]
        )
        return [parse(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)]

    async def note_invalid(self, numbers: Iterable[str], day: int) -> list[str]:
        """Note that carriers called numbers (E.164 digits) invalid for good, on a day (epoch days).

        The second day puts a number on everybody's list, verification excepted: a number is given out again, and its
        new owner's first message from anybody is a code. Returns those numbers.
        """
        await self.audit.prepare()
        groups: dict[str, list[Any]] = {}
        for msisdn in numbers:
            what = self.audit.what("receipts", "blacklist.add", EVERYBODY, **self.audit.named(msisdn))
            groups.setdefault(self._prefix(msisdn), []).extend((msisdn, what))
        listed: list[str] = []
        for p, flat in groups.items():
            found = await self._client.call("black_invalid", [p], [day, BUT_VERIFICATION, "receipts", *flat])
            listed += [number.decode() for number in found]
        return listed

    # --- many numbers

    async def add_many(
        self, scope: str, rows: Iterable[Row], *, source: str, import_id: str = "", dry_run: bool = False
    ) -> Counts:
        """Add rows to a scope; what was there before an import is kept for `undo`. Repeating it changes nothing."""
        groups: dict[str, list[Any]] = {}
        for row in rows:
            groups.setdefault(self._prefix(row[0]), []).extend(row)
        total = Counts()
        for p, flat in groups.items():
            args = [scope, "merge", source, import_id, "1" if dry_run else "", "", *flat]
            added, changed, same, _, _ = await self._client.call("black_set", [p], args)
            total += Counts(added, changed, same)
        return total

    async def page(self, scope: str, cursor: str = "") -> tuple[str, list[tuple[str, Listed]]]:
        """Return some entries of a scope and where to go on ('' at the end).

        While a list grows or shrinks a scan may show an entry twice; it misses none that was there all the time.
        """
        shard, _, place = (cursor or "0:0").partition(":")
        at = int(shard)
        key = f"{self._store.prefixes[at]}blacklist:{scope}"
        place_now, flat = await self._client.execute("HSCAN", key, place, "COUNT", PAGE)
        found = [(flat[i].decode(), parse(scope, flat[i + 1])) for i in range(0, len(flat), 2)]
        if place_now != b"0":
            return f"{at}:{place_now.decode()}", found
        return (f"{at + 1}:0" if at + 1 < len(self._store.prefixes) else ""), found

    async def undo(
        self,
        scope: str,
        source: str,
        *,
        since_s: int = 0,
        until_s: int = 1 << 40,
        cursor: str = "",
        import_id: str = "",
    ) -> tuple[str, int, int]:
        """Take back a piece of what a source put on a scope; repeat it with the cursor until that is ''.

        Returns the cursor, entries removed, and entries that got back the value an import had changed.
        """
        shard, _, place = (cursor or "0:0").partition(":")
        at = int(shard)
        place_now, removed, restored = await self._client.call(
            "black_undo",
            [self._store.prefixes[at]],
            [scope, source, since_s, until_s, place, import_id, PAGE],
        )
        if place_now != b"0":
            return f"{at}:{place_now.decode()}", removed, restored
        return (f"{at + 1}:0" if at + 1 < len(self._store.prefixes) else ""), removed, restored

    async def scopes(self) -> list[str]:
        """Return all scopes that have or had entries."""
        found: set[str] = set()
        for p in self._store.prefixes:
            found |= {name.decode() for name in await self._client.execute("SMEMBERS", f"{p}blacklists")}
        return [EVERYBODY, *sorted(found)]

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return how many numbers stand on blacklists: (scope, reason) → number."""
        found: dict[tuple[str, str], int] = {}
        for p in self._store.prefixes:
            flat = await self._client.execute("HGETALL", f"{p}blackcount")
            for i in range(0, len(flat), 2):
                scope, reason = flat[i].decode().split("\x1f")
                found[scope, reason] = found.get((scope, reason), 0) + int(flat[i + 1])
        return found

    async def by_day(self, days: int = 30, now_s: float | None = None) -> list[tuple[int, str, str, int, int]]:
        """Return what came and went: (epoch day, scope, reason, added, removed), the latest days, newest first."""
        today = int(time.time() if now_s is None else now_s) // 86_400
        found: dict[tuple[int, str, str], list[int]] = {}
        for p in self._store.prefixes:
            for day in range(today, today - days, -1):
                flat = await self._client.execute("HGETALL", f"{p}blackday:{day}")
                for i in range(0, len(flat), 2):
                    scope, reason, sign = flat[i].decode().split("\x1f")
                    found.setdefault((day, scope, reason), [0, 0])[sign == "-"] += int(flat[i + 1])
        return [(*place, n[0], n[1]) for place, n in sorted(found.items(), key=lambda item: (-item[0][0], item[0][1:]))]

    # --- imports

    async def begin_import(self, scope: str, what: dict[str, Any], import_id: str = "") -> str:
        """Note an import before its first row; returns its id. One that is there already goes on."""
        new = import_id or secrets.token_hex(4)
        entry = orjson.dumps({"scope": scope, "at_s": int(time.time()), **what})
        await self._client.execute("HSETNX", self._imports_key, new, entry)
        return new

    async def end_import(self, import_id: str, counts: dict[str, Any]) -> None:
        """Note what an import did, or that it was taken back."""
        found = await self.import_named(import_id)
        if found is not None:
            await self._client.execute("HSET", self._imports_key, import_id, orjson.dumps({**found, **counts}))

    async def import_named(self, import_id: str) -> dict[str, Any] | None:
        """Return what is known of an import, None when there is none of this name."""
        raw = (await self._client.execute("HMGET", self._imports_key, import_id))[0]
        return None if raw is None else dict(orjson.loads(raw))

    async def imports(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the imports, the newest first; what is older than the latest 1,000 is forgotten here."""
        flat = await self._client.execute("HGETALL", self._imports_key)
        found = [(flat[i].decode(), dict(orjson.loads(flat[i + 1]))) for i in range(0, len(flat), 2)]
        found.sort(key=lambda item: -item[1]["at_s"])
        if old := [name for name, _ in found[_IMPORTS_KEPT:]]:
            await self._client.execute("HDEL", self._imports_key, *old)
        return found[:_IMPORTS_KEPT]

    @property
    def _imports_key(self) -> str:
        return f"{self._store.prefixes[0]}black{_IMPORTS}"


def of_categories(labels: Sequence[Category]) -> str:
    """Return categories as a CSV cell writes them."""
    return " ".join(c.label for c in labels)
