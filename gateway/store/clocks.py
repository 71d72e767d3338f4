"""What time does: due messages, expiry, overdue receipts, purging, the sweeper's election; stray queues and redelivery.

Owns the order of values that these moves take. Any worker may call them, several at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.store import records
from gateway.store.base import StoreBase, pairs, records_of
from gateway.store.moves import RATING_S, Redelivery
from gateway.store.records import Record


class Clocks(StoreBase):
    """The periodic moves."""

    async def due(self, shard: int, most: int = 200) -> tuple[int, int]:
        """Move due messages to their queues; returns (looked at, ms until the next or -1)."""
        looked, wait_ms, finals = await self.client.call(
            "due", [self.prefixes[shard]], [most, *self._retention, *self._policies]
        )
        self._tell_finals(finals)
        return looked, wait_ms

    async def expire(self, shard: int, most: int = 500) -> tuple[int, int]:
        """End messages whose time is over; returns (looked at, expired)."""
        looked, expired, finals = await self.client.call("expire", [self.prefixes[shard]], [most, *self._retention])
        self._tell_finals(finals)
        return looked, expired

    async def close_waiting(self, shard: int, most: int = 500) -> tuple[int, int]:
        """Close submitted messages whose receipt is overdue; returns (looked at, closed)."""
        looked, closed, finals = await self.client.call(
            "wait", [self.prefixes[shard]], [most, *self._retention, *self._dlr_waits]
        )
        self._tell_finals(finals)
        return looked, closed

    async def rings(self, shard: int) -> list[str]:
        """Return the rings ("route:rank:category") in which messages wait or waited on a shard."""
        return [x.decode() for x in await self.client.execute("SMEMBERS", f"{self.prefixes[shard]}rings")]

    async def strays(self, shard: int, ring: str, most: int) -> tuple[str, list[tuple[bytes, Record | None]]]:
        """Return the first account of a ring and its first entries, (id, record), for `reroute`."""
        raw = await self.client.call("strays", [self.prefixes[shard]], [ring, most])
        if not raw:
            return "", []
        pairs = [(raw[i], raw[i + 1]) for i in range(1, len(raw), 2)]
        return raw[0].decode(), [(sid, records.parse(sid, data) if data else None) for sid, data in pairs]

    async def reroute(self, shard: int, ring: str, account: str, routes: list[tuple[bytes, str]]) -> tuple[int, int]:
        """Move the entries at the head of a queue to other routes ('': none, ends it); returns (moved, ended)."""
        flat = [x for pair in routes for x in pair]
        moved, ended, finals = await self.client.call(
            "reroute", [self.prefixes[shard]], [ring, account, *self._retention, *flat]
        )
        self._tell_finals(finals)
        return moved, ended

    async def purge(self, shard: int, most: int = 1000) -> int:
        """Remove final records whose retention is over; returns how many."""
        return int(await self.client.call("purge", [self.prefixes[shard]], [most]))

    async def sweep(self, shard: int, monotonic_ms: int) -> bool:
        """Take part in the sweeper's election and tell it our monotonic clock; returns whether we are elected."""
        return bool(await self.client.call("sweep", [self.prefixes[shard]], [self.incarnation, monotonic_ms]))

    # --- redelivery

    async def overdue(self, shard: int, most: int = 500) -> int:
        """Ask for redelivery of messages whose receipt ought to have come; returns how many were looked at."""
        return int(await self.client.call("overdue", [self.prefixes[shard]], [most]))

    async def redo(self, shard: int, most: int = 100) -> list[tuple[bytes, Record | None]]:
        """Return the messages whose redelivery was asked for, the oldest first.

        None for one that is gone or cannot be read.
        """
        return records_of(await self.client.call("redo", [self.prefixes[shard]], [most]))

    async def redeliver(self, shard: int, decisions: Sequence[Redelivery]) -> str:
        """Carry out what was decided about them; a letter each, see `lua/redeliver.lua`."""
        flat: list[Any] = []
        for d in decisions:
            flat += (d.id, d.verb, d.rank, d.target, d.delay_ms)
        letters, finals = await self.client.call("redeliver", [self.prefixes[shard]], [*self._retention, *flat])
        self._tell_finals(finals)
        return str(letters.decode())

    async def ratings(self, now_s: float, window_s: int) -> list[tuple[int, str, str, int, str, int]]:
        """Return how channels did: (slot, channel, carrier, category, what, number), see `rate` in `lua/_record.lua`.

        `slot` is when the messages were submitted (epoch s, by `RATING_S`); all that begin within the window.
        """
        latest = int(now_s) // RATING_S * RATING_S
        found: list[tuple[int, str, str, int, str, int]] = []
        for p in self.prefixes:
            for slot in range(latest - window_s // RATING_S * RATING_S, latest + 1, RATING_S):
                for field, n in pairs(await self.client.execute("HGETALL", f"{p}quality:{slot}")).items():
                    channel, carrier, category, what = field.split("\x1f")
                    found.append((slot, channel, carrier, int(category), what, int(n)))
        return found
