"""The store's own numbers for `/metrics`: queues, receipts, webhooks, blacklists. Read once, for all workers.

Owns which readings there are and for how long one is good. Refuses to know keys: the store counts. Off the
path: it runs when somebody asks for the metrics.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.metrics import GaugeReading
from gateway.model import CATEGORY_LABELS, route_name
from gateway.settings import Settings
from gateway.store.blacklists import REASONS, Blacklists
from gateway.store.inbox import InboundStore
from gateway.store.outbox import Outbox
from gateway.store.store import Store

log = logging.getLogger(__name__)

KEEP_S: Final = 1.0
LIMIT_S: Final = 2.0
MOST_ACCOUNTS: Final = 400


class StoreGauges:
    """Reads the gauges when asked, at most once a second."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._inbound = InboundStore(store)
        self._blacklists = Blacklists(store)
        self._read_at = float("-inf")
        self._readings: list[GaugeReading] = []

    async def read(self) -> list[GaugeReading]:
        """Return the readings; none when the store does not answer: what is not known is not shown."""
        if time.monotonic() - self._read_at > KEEP_S:
            try:
                async with asyncio.timeout(LIMIT_S):
                    self._readings = await self._ask()
            except (StoreUnavailable, TimeoutError) as exc:
                log.warning("the store's gauges cannot be read: %s", exc or type(exc).__name__)
                self._readings = []
            except Exception:  # the boundary: what the workers counted is shown whatever the store says
                log.exception("the store's gauges cannot be read")
                self._readings = []
            self._read_at = time.monotonic()
        return self._readings

    async def _ask(self) -> list[GaugeReading]:
        store = self._store
        readings = [GaugeReading("waiting_messages", (), await store.waiting())]
        queues: dict[tuple[str, str, str], tuple[int, float]] = {}
        for route, rank, category, depth, age_s in await store.depths():
            labels = (route_name(route), str(rank), CATEGORY_LABELS[category])  # the lanes of a route are shown as one
            others, oldest_s = queues.get(labels, (0, 0.0))
            queues[labels] = (others + depth, max(oldest_s, age_s))
        for labels, (depth, age_s) in queues.items():
            readings.append(GaugeReading("queue_depth", labels, depth))
            readings.append(GaugeReading("queue_oldest_age_seconds", labels, age_s))
        for channel in self._settings.channels:
            parked = [(await store.parked(shard, channel.id, 1))[0] for shard in range(store.shards)]
            readings.append(GaugeReading("parked_receipts", (channel.id,), sum(parked)))
        consumers = list(self._settings.consumers)[:MOST_ACCOUNTS]
        for account, line in (await Outbox(store).look(consumers)).items():
            backlog = line.waiting + line.taken + line.retrying
            readings.append(GaugeReading("webhook_backlog", (account,), backlog))
            age_s = (line.now_ms - line.oldest_ms) / 1000 if line.oldest_ms else 0.0
            readings.append(GaugeReading("webhook_oldest_age_seconds", (account,), max(0.0, age_s)))
            readings.append(GaugeReading("webhook_dead_letters", (account,), line.dead))
        readings.append(GaugeReading("inbound_review_waiting", (), await self._inbound.waiting_for_review()))
        listed = dict.fromkeys(REASONS, 0)
        for (_, reason), number in (await self._blacklists.counts()).items():
            listed[reason] = listed.get(reason, 0) + number
        readings += [GaugeReading("blacklist_entries", (reason,), number) for reason, number in listed.items()]
        return readings
