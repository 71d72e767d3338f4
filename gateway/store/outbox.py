"""The outboxes: events that wait for applications, who delivers whose, and what became of each.

Owns the moves `outbox_*` and the keys under `gw:{hooks}:`. The scripts that change a message's state fill the lists
(`out:<account>`); events workers take from them and settle. Refuses to know what an event says and HTTP. Stands beside
`Store`, whose connections it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from gateway.store import keys
from gateway.store.client import Client

LINE_MOST: Final = 200_000
"""Events a list holds a shard; the scripts drop the oldest above it (OUT_MOST in `lua/_counts.lua`)."""
HELD_MOST: Final = 50_000
"""Messages an account may have waiting for a retry, a shard; what fails beyond becomes a dead letter (`too_many`)."""
DEAD_MOST: Final = 10_000
"""Dead letters kept an account and shard, the latest."""
WAKE_WORD: Final = b"events"
CHANGED_WORD: Final = b"webhooks"

DONE, LATER, GIVEN_UP, BACK = "d", "l", "x", "b"
"""What became of a taken event: delivered, tried again after a delay, never again, or not tried at all."""


class Shards(Protocol):
    """The part of the store that outboxes need."""

    @property
    def client(self) -> Client: ...
    @property
    def prefixes(self) -> list[str]: ...


class NotHeld(Exception):
    """Somebody else serves the account by now: what was taken for it is theirs."""


@dataclass(slots=True)
class Taken:
    """One event as it was taken."""

    shard: int
    number: int
    attempts: int  # failed ones so far
    first_ms: int  # time of the first attempt in the store's clock; 0: none
    event: bytes


@dataclass(slots=True)
class Verdict:
    """What became of a taken event; `followers` are taken events of the same message that must come after it."""

    number: int
    what: str  # DONE | LATER | GIVEN_UP | BACK
    delay_ms: int = 0
    reason: str = ""
    followers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """How an account's outbox is, over all shards."""

    waiting: int = 0
    oldest_ms: int = 0  # time of the event at the head of the line; 0: none
    taken: int = 0
    retrying: int = 0  # messages whose first waiting event has failed before
    next_retry_ms: int = 0
    dead: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    now_ms: int = 0


@dataclass(slots=True)
class Holders:
    """Who serves whom: worker → beats, account → (epoch, worker)."""

    workers: dict[str, int]
    accounts: dict[str, tuple[int, str]]


class Outbox:
    """All moves on outboxes. One instance a process."""

    def __init__(self, store: Shards) -> None:
        self._client = store.client
        self.prefixes = store.prefixes
        self.shards = len(store.prefixes)

    # --- who serves whom

    async def beat(self, incarnation: str, wanted: Iterable[str] = (), dead: Iterable[tuple[str, int]] = ()) -> Holders:
        """Keep this worker's accounts, take wanted ones that nobody holds, declare the dead (with the beats seen)."""
        accounts = list(wanted)
        args: list[Any] = [incarnation, "beat", len(accounts), *accounts]
        for name, beats in dead:
            args += (name, beats)
        return _holders(await self._client.call("outbox_lease", [keys.HOOKS], args))

    async def leave(self, incarnation: str) -> None:
        """Give up what a worker holds: it ends, or is dead."""
        await self._client.call("outbox_lease", [keys.HOOKS], [incarnation, "leave", 0])

    # --- events

    async def due(self, shard: int, accounts: Sequence[str]) -> list[str]:
        """Return the accounts that have something to take now."""
        if not accounts:
            return []
        marks: bytes = await self._client.call("outbox_due", [self.prefixes[shard]], accounts)
        return [account for account, mark in zip(accounts, marks, strict=True) if mark == ord("1")]

    async def take(self, shard: int, account: str, epoch: int, token: str, most: int) -> list[Taken]:
        """Take up to `most` events; the same token gives what it gave before, so that a lost answer loses nothing.

        Raises:
            NotHeld: another worker serves the account.
        """
        raw = await self._client.call("outbox_take", [self.prefixes[shard]], [account, epoch, token, most])
        if raw is None:
            raise NotHeld
        return [Taken(shard, int(raw[i]), raw[i + 1], int(raw[i + 2]), raw[i + 3]) for i in range(0, len(raw), 4)]

    async def settle(self, shard: int, account: str, epoch: int, verdicts: Iterable[Verdict]) -> int:
        """Note what became of taken events; returns how many became dead letters. May be repeated.

        Raises:
            NotHeld: as `take`.
        """
        args: list[Any] = [account, epoch, HELD_MOST, DEAD_MOST]
        for v in verdicts:
            args += (v.number, v.what, v.delay_ms, v.reason, ",".join(map(str, v.followers)) if v.followers else "")
        buried = await self._client.call("outbox_settle", [self.prefixes[shard]], args)
        if buried is None:
            raise NotHeld
        return int(buried)

    async def put(self, shard: int, account: str, events: Sequence[bytes]) -> None:
        """Append events as the scripts do (replays)."""
        if events:
            await self._client.execute("RPUSH", f"{self.prefixes[shard]}out:{account}", *events)

    async def waiting(self, shard: int, account: str) -> int:
        """Return how many events stand in line."""
        return int(await self._client.execute("LLEN", f"{self.prefixes[shard]}out:{account}"))

    async def look(self, accounts: Sequence[str]) -> dict[str, Line]:
        """Return how the outboxes of accounts are."""
        lines = {account: Line() for account in accounts}
        if not accounts:
            return lines
        for p in self.prefixes:
            raw = await self._client.call("outbox_look", [p], accounts)
            for i, account in enumerate(accounts):
                _add(lines[account], int(raw[0]), raw[1 + 8 * i : 9 + 8 * i])
        return lines

    async def revive(self, account: str) -> int:
        """Put dead letters back in line, as many as it has room for; returns how many."""
        revived = 0
        for p in self.prefixes:
            left = 1
            while left:
                moved, left = await self._client.call("outbox_revive", [p], [account, 500, LINE_MOST // 2])
                revived += moved
                if not moved:
                    break
        return revived

    async def scan(
        self, shard: int, cursor: str, account: str, from_ms: int, to_ms: int, *, slice_keys: int = 1000
    ) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Look through a slice of the records; returns the next cursor ("0": done) and those that fit: id, record."""
        args = [cursor, slice_keys, account, from_ms, to_ms]
        raw = await self._client.call("outbox_scan", [self.prefixes[shard]], args)
        return raw[0].decode(), [(raw[i], raw[i + 1]) for i in range(1, len(raw), 2)]

    async def server_run(self) -> str:
        """Return a name for this life of the server: the cursors of `scan` mean nothing in another one."""
        info: bytes = await self._client.execute("INFO", "server")
        return next((line[7:].decode() for line in info.splitlines() if line.startswith(b"run_id:")), "")

    # --- what endpoints are like: JSON by account, one hash a family

    async def told(self, family: str) -> dict[str, Any]:
        """Return what is kept of every account: family `closed` (disabled), `seen` (latest results), `replay`."""
        flat = await self._client.execute("HGETALL", f"{keys.HOOKS}{family}")
        return {flat[i].decode(): orjson.loads(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def tell(self, family: str, account: str, value: Any) -> None:
        """Keep something of an account; None: forget it."""
        key = f"{keys.HOOKS}{family}"
        if value is None:
            await self._client.execute("HDEL", key, account)
        else:
            await self._client.execute("HSET", key, account, orjson.dumps(value))

    # --- wake-ups

    async def changed(self) -> None:
        """Let the events workers hear at once what an operator said."""
        await self._client.execute("PUBLISH", keys.WAKE_CHANNEL, CHANGED_WORD)

    async def listen(self, wake: Callable[[], None], changed: Callable[[], None]) -> None:
        """Call `wake` when an empty outbox got an event, `changed` when an operator said something, until cancelled.

        Wake-ups can be lost: callers poll as well.
        """

        def hear(word: bytes) -> None:
            if word == WAKE_WORD:
                wake()
            elif word == CHANGED_WORD:
                changed()

        await self._client.listen(keys.WAKE_CHANNEL, hear)


def _holders(raw: list[Any]) -> Holders:
    n = int(raw[0])
    workers = {raw[1 + 2 * i].decode(): int(raw[2 + 2 * i]) for i in range(n)}
    accounts = {}
    for i in range(1 + 2 * n, len(raw), 2):
        epoch, _, holder = raw[i + 1].decode().partition(":")
        accounts[raw[i].decode()] = (int(epoch), holder)
    return Holders(workers, accounts)


def _add(line: Line, now_ms: int, values: Sequence[Any]) -> None:
    waiting, oldest, taken, retrying, retry, dead, reasons, dropped = values
    line.now_ms = now_ms
    line.waiting += waiting
    line.taken += taken
    line.retrying += retrying
    line.dead += dead
    line.dropped += int(dropped)
    if oldest:
        line.oldest_ms = min(line.oldest_ms or int(oldest), int(oldest))
    if retry:
        at_ms = int(float(retry))
        line.next_retry_ms = min(line.next_retry_ms or at_ms, at_ms)
    for pair in reasons.decode().split(",") if reasons else ():
        why, _, n = pair.partition("=")
        line.reasons[why] = line.reasons.get(why, 0) + int(n)
