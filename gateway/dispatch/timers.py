"""The clocks of the store, kept by every dispatch worker: what is due, expired, overdue, parked or out of its window.

Each tick is an atomic move that any number of workers may make at once; a worker that dies in between leaves nothing
half done. Sleeps until the next due message, at most half a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from gateway.dispatch.reopener import Reopener
from gateway.dispatch.rerouter import Rerouter
from gateway.dispatch.settler import OnParked
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.store.store import Store

logger = logging.getLogger(__name__)

DUE_S, EXPIRE_S, WAIT_S, PARKED_S, SWEEP_S, REOPEN_S = 0.5, 1.0, 10.0, 5.0, 5.0, 1.0
_RETRY_S = 1.0


class Timers:
    """The periodic moves of one worker over all shards."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        rerouter: Rerouter | None,
        reopener: Reopener,
        *,
        on_parked: OnParked,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._on_parked = on_parked
        self._errors = metrics.counter("dispatch_errors_total", where="timers")
        self.use(settings, rerouter, reopener)

    def use(
        self, settings: Settings, rerouter: Rerouter | None, reopener: Reopener, *, left: Iterable[str] = ()
    ) -> None:
        """Take other settings into use from the next tick on. Of the channels that `left` receipts may wait still."""
        self._reopener = reopener
        self._rerouter = rerouter
        self._channels = [c.id for c in settings.channels]
        self._left = list(left)

    async def run(self) -> None:
        """Run every timer until cancelled."""
        await asyncio.gather(
            self._every(self._due),
            self._every(self._expire),
            self._every(self._close_waiting),
            self._every(self._purge),
            self._every(self._parked),
            self._every(self._sweep),
            self._every(self._reopen),
        )

    async def _every(self, tick: Callable[[], Awaitable[float]]) -> None:
        while True:
            try:
                pause_s = await tick()
            except StoreUnavailable as exc:
                self._errors.n += 1
                logger.warning("timers: %s", exc)
                pause_s = _RETRY_S
            except Exception:
                # The boundary of this task: a fault in one tick must not stop the clock.
                self._errors.n += 1
                logger.exception("timers: a tick failed")
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def _due(self) -> float:
        pause_s = DUE_S
        for shard in range(self._store.shards):
            looked, wait_ms = await self._store.due(shard)
            if looked:
                pause_s = 0.0
            elif wait_ms >= 0:
                pause_s = min(pause_s, max(0.005, wait_ms / 1000))
        return pause_s

    async def _expire(self) -> float:
        busy = False
        for shard in range(self._store.shards):
            looked, _ = await self._store.expire(shard)
            busy |= looked >= 500
        return 0.01 if busy else EXPIRE_S

    async def _close_waiting(self) -> float:
        busy = False
        for shard in range(self._store.shards):
            looked, _ = await self._store.close_waiting(shard)
            busy |= looked >= 500
        return 0.01 if busy else WAIT_S

    async def _purge(self) -> float:
        busy = False
        for shard in range(self._store.shards):
            busy |= await self._store.purge(shard) >= 1000
        return 0.02 if busy else WAIT_S

    async def _parked(self) -> float:
        for channel in (*self._channels, *self._left):
            total = 0
            for shard in range(self._store.shards):
                number, known, waited = await self._store.parked(shard, channel)
                total += number
                if known:
                    await self._on_parked(known)
                if waited:
                    await self._on_parked(waited, waited=True)
            if channel in self._channels:
                self._metrics.gauge("parked_receipts", channel=channel).n = total
        return PARKED_S

    async def _reopen(self) -> float:
        busy = False
        for shard in range(self._store.shards):
            busy |= await self._reopener.look(shard)
        return 0.01 if busy else REOPEN_S

    async def _sweep(self) -> float:
        for shard in range(self._store.shards):
            elected = await self._store.sweep(shard, int(time.monotonic() * 1000))
            if elected and self._rerouter is not None:
                await self._rerouter.look(shard)
        return SWEEP_S
