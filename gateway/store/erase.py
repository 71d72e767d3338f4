"""Erasing a number: every place of the store that may tell of it, walked in slices, and what was found there.

Owns the order of the walk and which key is looked at how (`lua/erase.lua`, `lua/erase_kept.lua`). Refuses to decide
who may ask for it. Stands beside the path: a walk reads the whole store once or twice, some milliseconds at a time, and
can be left and taken up again by its `next`.

Kept on purpose: blacklist entries (the wish not to be written to must be remembered) unless asked for; statistics and
the audit, which hold no number (the audit a masked one and a keyed hash); idempotency marks, which are hashes and are
gone after two days. Gone from memory is not gone from the append-only file: that is rewritten at the end.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis.exceptions import ResponseError

from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from gateway.store.inbox import InboundStore
from gateway.store.store import Store

SLICE: Final = 2000
BUDGET_S: Final = 3.0
"""How long one call walks before it answers with `next`."""
NOTE_S: Final = 10
"""How long the note stays by which workers hear that a learned number is forgotten; they read every two seconds."""
NEXT: Final = r"look:[0-9]{1,20}(:[0-9]{1,12}){4}|(look|rest|learned):0|walk:[0-9]{1,20}"
_LOOK, _WALK, _REST, _LEARNED = "look", "walk", "rest", "learned"

# What holds things of many numbers, by the family of its key: how `erase_kept.lua` looks at it.
_KEPT: Final = {
    "park": "list",
    "out": "events",
    "outdead": "dead",
    "outbusy": "busy",
    "outheld": "held",
    "mo": "values",
    "mooptout": "values",
    "mopart": "parts",
    "num": "fields",
    "invalid": "fields",
}
_COUNTED: Final = {
    "park": "parked", "out": "events", "outdead": "events", "outbusy": "events", "outheld": "events",
    "mo": "inbound", "mooptout": "inbound", "mopart": "inbound", "num": "number", "invalid": "number",
}  # fmt: skip


class StillLive(Exception):
    """Messages to the number are not final, and the caller did not ask for their end; nothing was removed."""

    def __init__(self, final: int, waiting: int, sent: int, busy: int) -> None:
        super().__init__(f"{waiting} waiting, {sent} sent, {busy} being sent")
        self.final, self.waiting, self.sent, self.busy = final, waiting, sent, busy


@dataclass(slots=True)
class Erased:
    """What one call did, and where the next goes on ('': nothing is left to do)."""

    counts: dict[str, int] = field(default_factory=dict)
    next: str = ""
    wait_s: float = 0.0
    file: str = ""  # what becomes of the append-only file: rewriting | running | not_allowed | ''

    def add(self, what: str, n: int) -> None:
        """Count what was removed, or left."""
        if n:
            self.counts[what] = self.counts.get(what, 0) + n


class Eraser:
    """Erases numbers from one store."""

    def __init__(self, store: Store, audit: Audit, *, keep_periods: int) -> None:
        self._store = store
        self._audit = audit
        self._periods = keep_periods

    async def go_on(
        self,
        msisdn: str,
        *,
        at: str = "",
        cancel: bool = False,
        also_blacklist: bool = False,
        rewrite: bool = True,
        learned_ttl_s: float = 0.0,
        actor: str = "admin",
        budget_s: float = BUDGET_S,
    ) -> Erased:
        """Walk on from `at` ('': begin) for about `budget_s`.

        Without `cancel` the whole store is looked through first, and nothing is removed while a message is not final.

        Raises:
            StillLive: without `cancel`, when that look is over and found some.
            StoreUnavailable: what was done stays done; the same call can be repeated.
        """
        done = Erased()
        phase, _, rest = (at or (_WALK if cancel else _LOOK) + ":0").partition(":")
        cursor, *counted = rest.split(":")
        until = time.monotonic() + budget_s
        if phase == _LOOK:
            numbers = [int(n) for n in counted] or [0, 0, 0, 0]
            cursor = await self._look(msisdn, cursor, numbers, until)
            if cursor != "0":
                done.next = f"{_LOOK}:{cursor}:{':'.join(map(str, numbers))}"
                return done
            if any(numbers[1:]):
                raise StillLive(*numbers)
            phase = _WALK
        if phase == _WALK:
            cursor = await self._walk(msisdn, cursor, cancel, also_blacklist, until, done)
            if cursor != "0":
                done.next = f"{_WALK}:{cursor}"
                return done
            phase = _REST
        if phase == _REST:
            await self._rest(msisdn, also_blacklist, learned_ttl_s, actor, done)
        await self._learned(msisdn, done)
        if not done.next:
            await self._finish(msisdn, actor, rewrite, done)
        return done

    # --- the whole keyspace

    async def _look(self, msisdn: str, cursor: str, numbers: list[int], until: float) -> str:
        """Count the number's records by what they are; returns the cursor where it stopped, '0' at the end."""
        shard = keys.shard_of(msisdn, self._store.shards)
        family = f"{self._store.prefixes[shard]}msg:".encode()
        while True:
            cursor, found = await self._scan(cursor, f"{family.decode()}*")
            ids = [key[len(family) :] for key in found]
            _, *counts, _ = await self._records(shard, msisdn, "look", ids)
            for i, n in enumerate(counts):
                numbers[i] += n
            if cursor == "0" or time.monotonic() > until:
                return cursor

    async def _walk(
        self, msisdn: str, cursor: str, cancel: bool, also_blacklist: bool, until: float, done: Erased
    ) -> str:
        shard = keys.shard_of(msisdn, self._store.shards)
        family = f"{self._store.prefixes[shard]}msg:".encode()
        prefixes = {p.encode(): number for number, p in enumerate(self._store.prefixes)}
        size = len(next(iter(prefixes)))
        kinds = {**_KEPT, **({"blackundo": "fields"} if also_blacklist else {})}
        while True:
            cursor, found = await self._scan(cursor, "*")
            ids = [key[len(family) :] for key in found if key.startswith(family)]
            finals, _, _, _, busy, removed = await self._records(shard, msisdn, "cancel" if cancel else "erase", ids)
            self._store._tell_finals(finals)
            done.add("records", removed)
            done.add("left", busy)
            for key in found:
                name = key[size:].split(b":", 1)[0].decode("latin-1")
                if name in kinds and key[:size] in prefixes:
                    place = self._store.prefixes[prefixes[key[:size]]]
                    done.add(
                        _COUNTED.get(name, "blacklisted"), await self._kept(place, key[size:], msisdn, kinds[name])
                    )
            if cursor == "0" or time.monotonic() > until:
                return cursor

    async def _scan(self, cursor: str, pattern: str) -> tuple[str, list[bytes]]:
        match = pattern.replace("[", "\\[")
        raw, found = await self._store.client.execute("SCAN", cursor, "MATCH", match, "COUNT", SLICE)
        return raw.decode(), found

    async def _records(self, shard: int, msisdn: str, mode: str, ids: list[bytes]) -> list[Any]:
        total: list[Any] = [b"", 0, 0, 0, 0, 0]
        for i in range(0, len(ids), SLICE):
            args = [*self._store._retention, msisdn, mode, *ids[i : i + SLICE]]
            answer = await self._store.client.call("erase", [self._store.prefixes[shard]], args)
            total = [a + b for a, b in zip(total, answer, strict=True)]
        return total

    async def _kept(self, place: str, key: bytes, msisdn: str, kind: str) -> int:
        cursor, removed = b"0", 0
        while True:
            cursor, n, *_ = await self._store.client.call("erase_kept", [place], [msisdn, key, cursor, 1000, kind])
            removed += int(n)
            if cursor == b"0":
                return removed

    # --- what has a place of its own

    async def _rest(self, msisdn: str, also_blacklist: bool, learned_ttl_s: float, actor: str, done: Erased) -> None:
        """Remove what is filed under the number, and the events that its cancelled messages made a moment ago."""
        store = self._store
        place = store.prefixes[keys.shard_of(msisdn, store.shards)]
        done.add("inbound", await InboundStore(store).erase(msisdn, self._periods))
        for account in await store.client.execute("HKEYS", f"{place}consumers"):
            for name in ("out", "outbusy", "outheld", "outdead"):
                done.add("events", await self._kept(place, f"{name}:".encode() + account, msisdn, _KEPT[name]))
        # Ending a message gave its caps back, which may have written the number's value again.
        now = int(time.time()) // 691_200
        for period in (now - 1, now):
            done.add("number", await self._kept(place, f"num:{period}".encode(), msisdn, "fields"))
        done.add("unreadable", await self._unreadable(msisdn))
        if also_blacklist:
            lists = Blacklists(store)
            for entry in await lists.get(msisdn):
                done.add("blacklisted", len(await lists.remove(msisdn, entry.scope, actor=actor)))
        if learned_ttl_s:
            done.add("learned", await store.forget_ported(msisdn, learned_ttl_s))

    async def _unreadable(self, msisdn: str) -> int:
        """Remove PDUs that nobody could read and that hold the number: it may stand in their octets alone."""
        key, removed, seen = f"{self._store.prefixes[0]}dead", 0, 0
        while True:
            # From the tail, as everywhere: the list is cut at its head.
            rows = await self._store.client.execute("LRANGE", key, -seen - SLICE, -seen - 1)
            gone = 0
            for row in rows:
                if msisdn.encode() in row or msisdn.encode() in _octets_of(row):
                    gone += await self._store.client.execute("LREM", key, -1, row)
            removed += gone
            seen += len(rows) - gone
            if len(rows) < SLICE:
                return removed

    async def _learned(self, msisdn: str, done: Erased) -> None:
        """Remove the notes that a learned number is forgotten, once every worker has had the time to read them."""
        place = self._store.prefixes[keys.shard_of(msisdn, self._store.shards)]
        cursor, young = "0", False
        while True:
            cursor, found = await self._scan(cursor, f"{place}ported:*")
            for key in found:
                at = b"0"
                while True:
                    args = [msisdn, key[len(place) :], at, 1000, "learned"]
                    at, _, *more = await self._store.client.call("erase_kept", [place], args)
                    young = young or bool(more[0])
                    if at == b"0":
                        break
            if cursor == "0":
                break
        if young:
            done.next, done.wait_s = f"{_LEARNED}:0", NOTE_S

    async def _finish(self, msisdn: str, actor: str, rewrite: bool, done: Erased) -> None:
        await self._audit.prepare()
        number_hash = self._audit.named(msisdn)["number_hash"]
        await self._audit.note(actor, "number.erase", "number", number_hash=number_hash)
        if rewrite:
            try:
                await self._store.client.execute("BGREWRITEAOF")
                done.file = "rewriting"
            except (ResponseError, StoreUnavailable) as exc:
                # One that runs already began too early to leave all of this out; hosted servers allow none.
                done.file = "running" if "in progress" in str(exc) else "not_allowed"


def _octets_of(row: bytes) -> bytes:
    """Return the octets of an unreadable PDU as it is kept (`dlr.recorder`), b'' where there are none."""
    try:
        return base64.b64decode(orjson.loads(row).get("octets", ""))
    except (ValueError, AttributeError):
        return b""
