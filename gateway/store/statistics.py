"""Statistics in the store: hours that are over are folded into tables by account and day, and a day is read as one.

Owns when an hour is folded, how long tables are kept, and that a reader finds each number once: in the tables, in what
is set aside to be folded, or in the hours still counted (`lua/stats_*.lua`). Refuses to know what a number means:
`gateway.statistics` asks and reports. Beside the path: nothing here is called for a message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.store import keys
from gateway.store.client import Client
from gateway.store.stats_table import (
    CONTENT,
    DAILY_DAYS,
    HOURLY_DAYS,
    MERGED,
    PATH,
    US,
    WHOLE,
    Counted,
    Table,
    narrowed,
    pack,
    unpack,
)

log = logging.getLogger(__name__)

GRACE_S: Final = 600
"""An hour is folded this long after its end: until then somebody whose clock is late may count in it."""
EVERY_S: Final = 60.0
_TURN_MS: Final = 50_000
_BACK_H: Final = 72
"""How far behind the last hour folded each round looks; the first one of a process and one a day look back 400 days."""
_ALL_H: Final = 9_600
_DEEP_S: Final = 86_400.0
_FAMILIES: Final = ("stath", "statd")
_DROP_MOST: Final = 8
_DROP_S: Final = 3_600.0
_BATCH_BYTES: Final = 512 * 1024
_BATCH_ACCOUNTS: Final = 64
_SCAN: Final = 1_000
_AT_ONCE_BYTES: Final = 32 * 1024
"""Tables of so many octets are read without a pause: some milliseconds."""
_TRIES: Final = 20
_READERS: Final = 2
_FOLD_TIMEOUT_S: Final = 15.0

_SUFFIX: Final = {WHOLE: "", PATH: f"{US}p", CONTENT: f"{US}c"}
"""What follows an account in the name of its table."""
_MERGED: Final = f"{US}m"


class Shards(Protocol):
    """The part of the store that statistics need."""

    @property
    def client(self) -> Client: ...
    @property
    def prefixes(self) -> list[str]: ...
    @property
    def incarnation(self) -> str: ...


class Statistics:
    """Reads and folds the statistics of all shards."""

    def __init__(self, store: Shards) -> None:
        self._store = store
        self._room = asyncio.Semaphore(_READERS)

    # --- reading

    async def read(
        self,
        days: Sequence[tuple[int, bool]],
        accounts: Sequence[str] | None,
        add: Callable[[str, Table], None],
        kind: str = WHOLE,
    ) -> None:
        """Give all tables of some days to `add`, with their accounts; several tables may be of one account and day.

        A day is (epoch days, whether it is wanted by hours). `accounts` None is all of them. What a `kind` of tables
        (`stats_table.WHOLE` …) leaves out may be left out; of merged tables the account is ''. At most two readings run
        at a time: others wait, so that the worker's other work goes on.

        Raises:
            StoreUnavailable: no answer, or the day was folded again and again while it was read.
        """
        async with self._room:
            for day, by_hour in days:
                for prefix in self._store.prefixes:
                    await self._read_day(prefix, day, by_hour, kind, accounts, add)

    async def _read_day(
        self,
        prefix: str,
        day: int,
        by_hour: bool,
        kind: str,
        accounts: Sequence[str] | None,
        add: Callable[[str, Table], None],
    ) -> None:
        for attempt in range(_TRIES):
            version, folds, hours = await self._store.client.call("stats_open", [prefix], [day])
            kept = await self._kept(f"{prefix}{'stath' if by_hour else 'statd'}:{day}", kind, accounts)
            counted: list[tuple[int, Counted, set[str]]] = []
            for name in folds:
                done = await self._done(prefix, name.decode())
                found = await self._counted(f"{prefix}statfold:{name.decode()}", accounts)
                counted.append((_hour_of(name.decode()), found, done))
            for hour in hours:
                counted.append((hour, await self._counted(f"{prefix}stats:{hour}", accounts), set()))
            if (await self._version(prefix, day)) == version:
                break
            await asyncio.sleep(min(0.5, 0.01 * 2**attempt))
        else:
            raise StoreUnavailable("the statistics are being folded", outcome="not_stored")
        # A month of many accounts takes a while: the worker's other work goes on in between.
        octets = 0
        for account, raw in kept:
            octets += len(raw)
            if octets > _AT_ONCE_BYTES:
                await asyncio.sleep(0)
                octets = 0
            if len(raw) > _AT_ONCE_BYTES:
                await asyncio.to_thread(lambda a, r: add(a, unpack(r)), account, raw)
            else:
                add(account, unpack(raw))
        for hour, one, done in counted:
            for account, numbers in one.accounts.items():
                if account not in done:
                    await asyncio.sleep(0)
                    table = Table()
                    table.add(hour, numbers)
                    add(account, table)

    async def _kept(self, key: str, kind: str, accounts: Sequence[str] | None) -> list[tuple[str, bytes]]:
        execute = self._store.client.execute
        if kind == MERGED:
            names = [_MERGED]
        elif accounts is None:
            named = [n.decode() for n in await execute("HKEYS", key)]
            names = [n for n in named if n == n.partition(US)[0] + _SUFFIX[kind]]
        else:
            names = [account + _SUFFIX[kind] for account in accounts]
        found: list[tuple[str, bytes]] = []
        for i in range(0, len(names), _BATCH_ACCOUNTS):
            some = names[i : i + _BATCH_ACCOUNTS]
            values = await execute("HMGET", key, *some)
            found += [(name.partition(US)[0], raw) for name, raw in zip(some, values, strict=True) if raw is not None]
        return found

    async def _counted(self, key: str, accounts: Sequence[str] | None = None) -> Counted:
        counted = Counted()
        patterns = ["*"] if accounts is None else [f"{_literal(account)}{US}*" for account in accounts]
        for pattern in patterns:
            async for name, number in self._scan(key, pattern):
                counted.add(name, number)
        if counted.unreadable:
            log.warning("%d counters of %s cannot be read", counted.unreadable, key)
        return counted

    async def _scan(self, key: str, pattern: str) -> AsyncIterator[tuple[bytes, bytes]]:
        # Not HGETALL: a hash may hold hundreds of thousands of fields, and the server does nothing else meanwhile.
        cursor = b"0"
        while True:
            cursor, flat = await self._store.client.execute("HSCAN", key, cursor, "MATCH", pattern, "COUNT", _SCAN)
            for i in range(0, len(flat), 2):
                yield flat[i], flat[i + 1]
            if int(cursor) == 0:
                return

    async def opt_outs(self, days: Iterable[int], accounts: Sequence[str] | None, add: OptOutSink) -> None:
        """Give the opt-outs and complaints of some days (epoch days) to `add`, by account, campaign and signature."""
        patterns = ["*"] if accounts is None else [f"{_literal(account)}{US}*" for account in accounts]
        async with self._room:
            for day in days:
                for prefix in self._store.prefixes:
                    seen = set()
                    for pattern in patterns:
                        async for name, number in self._scan(f"{prefix}td:{day}", pattern):
                            if name not in seen:  # a scan may give one twice
                                seen.add(name)
                                account, campaign, signature, kind = name.decode().split(US)
                                add(day, account, campaign, signature, kind, int(number))

    # --- folding

    async def take_turn(self) -> bool:
        """Take the turn to fold; nobody else gets one for the best part of a minute."""
        taken = await self._store.client.execute(
            "SET", keys.STATISTICS_TURN, self._store.incarnation, "NX", "PX", _TURN_MS
        )
        return taken is not None

    async def fold(self, *, back_h: int = _BACK_H, grace_s: int = GRACE_S) -> int:
        """Fold all hours that are over; returns how many. May be called by several at once."""
        folded = 0
        for prefix in self._store.prefixes:
            names = await self._store.client.call("stats_take", [prefix], [grace_s, back_h])
            for name in sorted((n.decode() for n in names), key=_hour_of):
                folded += await self._fold(prefix, name)
        return folded

    async def drop(self, *, most: int = _DROP_MOST) -> int:
        """Remove what is older than it is kept, at most `most` days of each shard; returns how many."""
        dropped = 0
        for prefix in self._store.prefixes:
            dropped += await self._store.client.call("stats_drop", [prefix], [HOURLY_DAYS, DAILY_DAYS, most])
        return dropped

    async def _fold(self, prefix: str, name: str) -> bool:
        counted = await self._counted(f"{prefix}statfold:{name}")
        for attempt in range(_TRIES):
            answer = await self._fold_rest(prefix, name, counted)
            if answer != "moved":
                return answer == "done"
            await asyncio.sleep(min(0.5, 0.01 * 2**attempt))
        log.info("others fold the same day; the rest is left to them")
        return False

    async def _fold_rest(self, prefix: str, name: str, counted: Counted) -> str:
        """Fold what is left of an hour: `done`, `moved` (somebody else wrote to the day) or `gone` (somebody did)."""
        hour = _hour_of(name)
        day = hour // 24
        version = await self._version(prefix, day)
        done = await self._done(prefix, name)
        left = [account for account in counted.accounts if account not in done]
        i = 0
        while True:
            some = left[i : i + _BATCH_ACCOUNTS]
            names = [account + suffix for account in some for suffix in _SUFFIX.values()]
            hourly, daily = [await self._tables(f"{prefix}{family}:{day}", [*names, _MERGED]) for family in _FAMILIES]
            rows: list[Any] = []
            size = taken = 0
            for account in some:
                counts = counted.accounts[account]
                path = narrowed(counts, PATH)
                own = {WHOLE: counts, PATH: path, CONTENT: narrowed(counts, CONTENT)}
                hourly[_MERGED].add(hour, path)
                daily[_MERGED].add(day * 24, path)
                for kind, numbers in own.items():
                    table = account + _SUFFIX[kind]
                    hourly[table].add(hour, numbers)
                    daily[table].add(day * 24, numbers)
                    row = (table, pack(hourly[table]), pack(daily[table]))
                    rows += row
                    size += len(row[1]) + len(row[2])
                taken += 1
                if size >= _BATCH_BYTES:
                    break
                await asyncio.sleep(0)
            if taken:
                rows += (_MERGED, pack(hourly[_MERGED]), pack(daily[_MERGED]))
            i += taken
            last = i >= len(left)
            args = [name, version, "1" if last else "0", *rows]
            answer = await self._store.client.call("stats_fold", [prefix], args, timeout_s=_FOLD_TIMEOUT_S)
            if answer in (b"moved", b"gone"):
                return str(answer.decode())
            if last:
                return "done"
            version = answer

    async def _tables(self, key: str, names: list[str]) -> dict[str, Table]:
        kept = await self._store.client.execute("HMGET", key, *names)
        return {name: unpack(raw) if raw is not None else Table() for name, raw in zip(names, kept, strict=True)}

    async def _version(self, prefix: str, day: int) -> bytes:
        return await self._store.client.execute("HGET", f"{prefix}statv", day) or b""

    async def _done(self, prefix: str, name: str) -> set[str]:
        return {a.decode() for a in await self._store.client.execute("SMEMBERS", f"{prefix}statdone:{name}")}


OptOutSink = Callable[[int, str, str, str, str, int], None]
"""day, account, campaign, signature, kind (td | complained), number"""


class Folder:
    """Folds every minute, in the admin worker; of several machines the one whose turn it is."""

    def __init__(self, statistics: Statistics, metrics: Metrics) -> None:
        self._statistics = statistics
        self._folded = metrics.counter("statistics_folds_total")
        self._failed = metrics.counter("statistics_fold_failures_total")
        self._deep_at = self._dropped_at = float("-inf")

    async def run(self) -> None:
        """Fold and drop until cancelled."""
        while True:
            try:
                if await self._statistics.take_turn():
                    await self.round(time.monotonic())
            except StoreUnavailable as exc:
                self._failed.n += 1
                log.warning("statistics are not folded now: %s", exc)
            except (ResponseError, ValueError, IndexError):
                # The boundary of this task: what cannot be folded stays counted, and is tried again.
                self._failed.n += 1
                log.exception("statistics cannot be folded")
            await asyncio.sleep(EVERY_S)

    async def round(self, now: float) -> None:
        """Fold what is over, and once an hour drop what is old. `now`: monotonic."""
        deep = now - self._deep_at >= _DEEP_S
        self._folded.n += await self._statistics.fold(back_h=_ALL_H if deep else _BACK_H)
        if deep:
            self._deep_at = now
        if now - self._dropped_at >= _DROP_S:
            await self._statistics.drop()
            self._dropped_at = now


def _hour_of(name: str) -> int:
    return int(name.partition(":")[0])


def _literal(account: str) -> str:
    """Return an account's id as a pattern that only it fits."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in account)
