"""Reads how channels do, takes turns with the other workers in moving their shares, and tells metrics.

The arithmetic is `ratings` and `shares`; here are only the rhythm, the store and the gauges. One worker at a time makes
a step (a turn in the store that lapses), all read the result, so that every worker and machine shares alike. Looks only
while a route is ordered by quality or something is redelivered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import orjson

from gateway.dispatch.ratings import Ratings
from gateway.dispatch.shares import Key, Shared, next_shares
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, route_name
from gateway.routing.table import RouteTable
from gateway.settings import Settings
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_LOOK_S = 2.0


class QualityKeeper:
    """The ratings and shares of one worker's channels, not older than a few seconds."""

    def __init__(
        self, settings: Settings, store: Store, metrics: Metrics, table: RouteTable, *, on_change: Callable[[], None]
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._on_change = on_change
        self.use(settings, table)
        self._errors = metrics.counter("dispatch_errors_total", where="quality")
        self.ratings = Ratings()
        self.shares: dict[Key, Shared] = {}

    def use(self, settings: Settings, table: RouteTable) -> None:
        """Take other settings into use."""
        self._rules = settings.quality
        self._rates = settings.rates_channels
        self._ordered = any(route.order == "quality" for route in settings.routes)
        self._table = table
        self._channels = [c.id for c in settings.channels]

    async def run(self) -> None:
        """Look and step until cancelled."""
        while True:
            try:
                if self._rates:
                    await self.look()
            except StoreUnavailable:
                self._errors.n += 1  # what was known last holds
            except Exception:
                # The boundary of this task: shares stay as they are.
                self._errors.n += 1
                logger.exception("rating the channels failed")
            await asyncio.sleep(min(_LOOK_S, self._rules.every_s))

    async def look(self) -> None:
        """Read the ratings; make a step when it is our turn; take the shares that hold."""
        now = time.time()
        self.ratings = Ratings(await self._store.ratings(now, self._rules.window_s), now)
        for channel in self._channels:
            rating, delay = self.ratings.of(channel), self.ratings.delay_p95_s(channel)
            if rating.submitted:
                self._metrics.gauge("channel_delivered_ratio", channel=channel).n = rating.ratio
                self._metrics.gauge("channel_receipt_share", channel=channel).n = rating.receipt_share
            if delay is not None:
                self._metrics.gauge("channel_receipt_p95_seconds", channel=channel).n = delay
        if not self._ordered:
            return
        known = read_shares(await self._store.shares())
        if await self._store.shares_turn(int(self._rules.every_s * 1000)):
            known = next_shares(self._table, self.ratings, self._rules, known)
            await self._store.set_shares({_field(key): _value(shared) for key, shared in known.items()})
        changed = {k: s.shares for k, s in known.items()} != {k: s.shares for k, s in self.shares.items()}
        self.shares = known
        if changed:
            self._on_change()
        for (route, _, category, carrier), shared in known.items():
            for channel, share in shared.shares.items() if not carrier else ():
                labels = {"route": route_name(route), "category": CATEGORY_LABELS[category], "channel": channel}
                self._metrics.gauge("channel_share", **labels).n = share


def _field(key: Key) -> str:
    return "\x1f".join(str(part) for part in key)


def _value(shared: Shared) -> bytes:
    data = {"shares": shared.shares, "moving": shared.moving, "why": shared.why, "inputs": shared.inputs}
    return orjson.dumps(data)


def read_shares(fields: dict[str, bytes]) -> dict[Key, Shared]:
    """Read the shares as the store keeps them."""
    found: dict[Key, Shared] = {}
    for field, value in fields.items():
        route, rank, category, carrier = field.split("\x1f")
        data = orjson.loads(value)
        found[route, int(rank), int(category), carrier] = Shared(
            data["shares"], data["moving"], data["why"], data["inputs"]
        )
    return found
