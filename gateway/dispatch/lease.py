"""The worker's lease: renewed every two seconds, looked at before every write; and the reaping of those who died.

A lease that was not renewed in time is as good as lost: nothing may be sent on it. Another worker is taken for dead
only when its heartbeat stood still for a whole lease on *our* monotonic clock while the store could be reached, and its
lease has ended in the store's time: a jump of a wall clock alone reaps nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.errors import StoreUnavailable
from gateway.store.moves import LEASE_MS, Lease
from gateway.store.store import Store

logger = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
_LEASE_S = LEASE_MS / 1000


class LeaseKeeper:
    """Renews this worker's lease on every shard and knows everybody's."""

    def __init__(
        self,
        store: Store,
        *,
        channels_up: Callable[[], list[str]],
        on_lost: Callable[[], None],
        each_beat: Callable[[], Awaitable[None]],
        on_reaped: Callable[[str, dict[str, int]], None],
    ) -> None:
        self._store = store
        self._channels_up = channels_up
        self._on_lost = on_lost
        self._each_beat = each_beat
        self._on_reaped = on_reaped
        self._valid_until = 0.0
        self._seen: dict[str, tuple[int, float]] = {}  # incarnation → heartbeats, our time when they last moved
        self._last_ok = 0.0
        self._now = asyncio.Event()
        self.leases: dict[str, Lease] = {}
        self.lost = False

    def valid(self) -> bool:
        """Whether this worker may send now."""
        return not self.lost and time.monotonic() < self._valid_until

    def beat_soon(self) -> None:
        """Renew at once: what the lease says about our channels has changed."""
        self._now.set()

    async def begin(self) -> None:
        """Take the lease on every shard."""
        await self._beat(first=True)

    async def run(self) -> None:
        """Renew until cancelled, reap the dead, run the owner's periodic work."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()
            try:
                await self._beat(first=False)
                if self.lost:
                    return
                await self._reap_dead()
                await self._each_beat()
            except StoreUnavailable as exc:
                logger.warning("lease: %s", exc)
            except Exception:
                # The boundary of this task: without it one fault of ours would cost the lease, and all in flight.
                logger.exception("lease: a beat failed")

    async def _beat(self, *, first: bool) -> None:
        started = time.monotonic()
        store_ms = 0
        everybody: dict[str, Lease] = {}
        for shard in reversed(range(self._store.shards)):
            ours, store_ms, leases = await self._store.heartbeat(shard, first=first, channels=self._channels_up())
            if not ours:
                self.lost = True
                logger.error("this worker was taken for dead: it drops what it holds")
                self._on_lost()
                return
            everybody.update(leases)  # of a reaped worker something may be left on another shard
        self.leases = everybody
        self._valid_until = started + _LEASE_S
        now = time.monotonic()
        if now - self._last_ok > HEARTBEAT_S * 2.5:
            self._seen.clear()  # time in which we could not look does not count against anybody
        self._last_ok = now
        self._store_ms = store_ms
        for name, lease in self.leases.items():
            seen = self._seen.get(name)
            if seen is None or seen[0] != lease.heartbeats:
                self._seen[name] = (lease.heartbeats, now)
        for name in [n for n in self._seen if n not in self.leases]:
            del self._seen[name]

    async def _reap_dead(self) -> None:
        now = time.monotonic()
        for name, (_, moved_at) in list(self._seen.items()):
            lease = self.leases.get(name)
            if name == self._store.incarnation or lease is None:
                continue
            if now - moved_at >= _LEASE_S and lease.ends_at_ms < self._store_ms:
                taken = await self._store.reap(name)
                logger.warning("worker %s is dead; reaped %s", name, taken)
                self._on_reaped(name, taken)
                self._seen.pop(name, None)
