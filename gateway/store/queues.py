"""What waits, as operators ask for it: queues by route, rank and category with their accounts, and the other places.

Owns the reading. Refuses to know routes and words for people. Off the path: some commands a queue, when somebody asks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gateway.model import route_name
from gateway.store.store import Store

_ID_BYTES = 16


@dataclass(slots=True)
class Queue:
    """One queue of all shards and lanes: entries, and the age of the oldest (s); `accounts` has both by account."""

    depth: int = 0
    oldest_s: float = 0.0
    accounts: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, account: str, depth: int, age_s: float) -> None:
        known, oldest_s = self.accounts.get(account, (0, 0.0))
        self.accounts[account] = (known + depth, max(oldest_s, age_s))
        self.depth += depth
        self.oldest_s = max(self.oldest_s, age_s)


@dataclass(slots=True)
class Waiting:
    """Everything that waits."""

    queues: dict[tuple[str, int, int], Queue] = field(default_factory=dict)  # route, rank, category
    pinned: dict[tuple[str, int], Queue] = field(default_factory=dict)  # channel, category
    messages: int = 0  # stored and not final, not claimed and not submitted
    timed: int = 0  # scheduled, deferred, to be retried, uncertain
    held: int = 0  # aside, by gates


async def waiting(store: Store, channels: list[str]) -> Waiting:
    """Read what waits. An entry whose message ended meanwhile counts until it is met.

    Raises:
        StoreUnavailable: as for every call.
    """
    found = Waiting(messages=await store.waiting())
    ask = store.client.execute
    now_ms = time.time() * 1000
    for p in store.prefixes:
        for ring in [x.decode() for x in await ask("SMEMBERS", f"{p}rings")]:
            route, rank, category = ring.rsplit(":", 2)
            queue = found.queues.setdefault((route_name(route), int(rank), int(category)), Queue())
            for account in [x.decode() for x in await ask("LRANGE", f"{p}ring:{ring}", 0, -1)]:
                await _read(store, f"{p}q:{ring}:{account}", queue, account, now_ms)
        for channel in channels:
            for category in range(3):
                key = f"{p}pin:{channel}:{category}"
                if await ask("EXISTS", key):
                    await _read(store, key, found.pinned.setdefault((channel, category), Queue()), "", now_ms)
        found.timed += await ask("ZCARD", f"{p}due")
        for gate in [x.decode() for x in await ask("HKEYS", f"{p}gates")]:
            found.held += await ask("LLEN", f"{p}held:{gate}")
    return found


async def _read(store: Store, key: str, queue: Queue, account: str, now_ms: float) -> None:
    depth = await store.client.execute("LLEN", key)
    head = await store.client.execute("LINDEX", key, 0)
    since_ms = int.from_bytes(head[_ID_BYTES : _ID_BYTES + 6], "big") if head else now_ms
    if depth:
        queue.add(account, depth, max(0.0, (now_ms - since_ms) / 1000))
