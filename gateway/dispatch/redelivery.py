"""Sends a message again through another channel when the first did not deliver it: at most one copy, flagged as such.

Asked for by receipts of failure and by the clock (`lua/receipt.lua`, `lua/overdue.lua`); decided here, where it is
known which channels can submit and how they do. A receipt that is late proves nothing on a channel whose receipts are
slow or do not come, so without a receipt a copy goes only where at least 80 % come, and after 95 % of them would have.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.dispatch.ratings import ENOUGH, Ratings
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import Category, State
from gateway.routing.table import Route, RouteTable
from gateway.settings import Settings
from gateway.store.moves import Redelivery
from gateway.store.records import Record
from gateway.store.store import Store

logger = logging.getLogger(__name__)

RECEIPTS_COME = 0.8
"""Share of receipts below which a missing one says nothing."""
_TICK_S = 0.5
_RETRY_S = 1.0
_LEAST_LIFE_MS = 1000
_CLEARING_S = 60.0
"""So long what was asked for is still decided once nothing is redelivered any more: those messages wait for it."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the decision about one message depends on besides its record."""

    now_ms: int
    after_s: int  # the route's and category's redeliver_after_s; 0: switched off meanwhile
    max_attempts: int
    route: Route | None
    available: frozenset[str]
    ratings: Ratings


def decide(record: Record, at: Circumstances) -> Redelivery:
    """Decide about a message whose redelivery was asked for."""
    stays = Redelivery(record.id, "n")
    failed = any(r.state != State.DELIVERED for r in record.receipts)
    if (
        not at.after_s
        or at.route is None
        or record.attempt >= at.max_attempts
        or record.expires_at_ms - at.now_ms < _LEAST_LIFE_MS
        or any(attempt.outcome == "uncertain" for attempt in record.attempts)  # it may have had its copy already
    ):
        return stays
    if not failed and record.attempts:
        channel = record.attempts[-1].channel
        rating, delay_s = at.ratings.of(channel), at.ratings.delay_p95_s(channel)
        if delay_s is None or rating.submitted < ENOUGH or rating.receipt_share < RECEIPTS_COME:
            return stays
        left_ms = record.state_at_ms + 1000 * max(at.after_s, delay_s) - at.now_ms
        if left_ms > 0:
            return Redelivery(record.id, "w", delay_ms=int(left_ms) + 1)
    tried = {attempt.channel for attempt in record.attempts}
    choices = [c for c in at.route.channels if c.id in at.available and c.id not in tried]
    if not choices:
        return stays
    best = min(choices, key=lambda c: (c.rank < record.rank, c.rank))
    return Redelivery(record.id, "g", best.rank, best.id)


class Redeliverer:
    """The redelivery of one worker over all shards."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        table: RouteTable,
        *,
        ratings: Callable[[], Ratings],
        available: Callable[[], frozenset[str]],
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._ratings = ratings
        self._available = available
        self._wake = wake
        self._errors = metrics.counter("dispatch_errors_total", where="redelivery")
        self._after_s: dict[tuple[str, int], int] = {}
        self._look_until = 0.0
        self.use(settings, table)

    def use(self, settings: Settings, table: RouteTable) -> None:
        """Take other settings into use."""
        self._settings = settings
        self._table = table
        # Also what is filed by the time at which its receipt ought to have come.
        self._look_until = time.monotonic() + _CLEARING_S + 2 * max(self._after_s.values(), default=0)
        self._after_s = {
            (route.id, int(c)): after for route in settings.routes for c in Category
            if (after := settings.redeliver_after_s(route.id, c))
        }  # fmt: skip

    @property
    def on(self) -> bool:
        """Whether any route redelivers anything."""
        return bool(self._after_s)

    def after_ms(self, lane: str, category: int, channel: str) -> int:
        """Return when to look whether the receipt of a message that a channel just took has come; 0: not at all."""
        route = self._table.get(lane)
        after_s = self._after_s.get((route.name, category), 0) if route is not None else 0
        return int(1000 * max(after_s, self._ratings().delay_p95_s(channel) or 0.0)) if after_s else 0

    async def run(self) -> None:
        """Redeliver until cancelled."""
        while True:
            pause_s = _TICK_S
            try:
                looks = self.on or time.monotonic() < self._look_until
                for shard in range(self._store.shards if looks else 0):
                    if await self._look(shard):
                        pause_s = 0.02
            except StoreUnavailable as exc:
                self._errors.n += 1
                logger.warning("redelivery: %s", exc)
                pause_s = _RETRY_S
            except Exception:
                # The boundary of this task: what was asked for stays asked for.
                self._errors.n += 1
                logger.exception("redelivery: a tick failed")
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def _look(self, shard: int) -> bool:
        """Decide about one page of a shard; returns whether there is more."""
        overdue = await self._store.overdue(shard)
        asked = await self._store.redo(shard)
        if not asked:
            return overdue >= 500
        self._look_until = max(self._look_until, time.monotonic() + _CLEARING_S)
        now_ms, available, ratings = int(time.time() * 1000), self._available(), self._ratings()
        decisions = []
        for sid, record in asked:
            if record is None:
                decisions.append(Redelivery(sid, "n"))
                continue
            route = self._table.get(record.route)
            category = Category(record.category)
            after_s = self._after_s.get((route.name, record.category), 0) if route is not None else 0
            most = self._settings.categories[category].max_attempts
            decisions.append(decide(record, Circumstances(now_ms, after_s, most, route, available, ratings)))
        letters = await self._store.redeliver(shard, decisions)
        for letter in letters:
            if letter != "0":
                self._metrics.counter("redeliveries_total", decision=_WORDS[letter]).n += 1
        if "g" in letters:
            self._wake()
        return len(asked) >= 100


_WORDS = {"g": "sent", "n": "not", "w": "later"}
