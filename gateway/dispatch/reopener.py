"""Says when messages leave whose window closed before they could be sent: at its next opening, spread over time.

The claim keeps them back (`lua/claim.lua`); here the rules are asked anew, as intake asked them, and the store is told
(`lua/defer.lua`). Decides nothing itself: `policy.send_window` says when. Any worker may do it, several at once: a
message's place within the opening follows from its id.
"""

from __future__ import annotations

import logging
import time

from gateway.errors import RequestError
from gateway.metrics import Metrics
from gateway.model import Category
from gateway.policy.send_window import SendWindows, spread_ms
from gateway.routing.msisdn import normalise
from gateway.settings import Settings
from gateway.store.records import Record, place_in_spread
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_MOST = 200
_NO_END_MS = 2_800_000_000_000
"""In 2058: the end of a window that no rule ends, within the eight characters that the record has for it."""


class Reopener:
    """The watch of one worker over messages that wait for their window again."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics, windows: SendWindows) -> None:
        self._store = store
        self._windows = windows
        self._spread_s = {c: rules.spread_s for c, rules in settings.categories.items()}
        self._deferred = metrics.counter("deferred_total", where="claim")

    async def look(self, shard: int) -> bool:
        """Say when the first messages of a shard leave; returns whether there may be more of them."""
        kept_back = await self._store.reopen(shard, _MOST)
        if kept_back:
            now_ms = time.time_ns() // 1_000_000
            times = [(sid, *self._when(record, now_ms)) for sid, record in kept_back]
            self._deferred.n += await self._store.defer(shard, times)
        return len(kept_back) >= _MOST

    def _when(self, record: Record | None, now_ms: int) -> tuple[int, int]:
        """Return when a message is due again, and the end of that window (epoch ms)."""
        if record is None:
            return now_ms, _NO_END_MS
        category = Category(record.category)
        try:
            country = normalise(f"+{record.msisdn}", "").country
            zone, hours = record.carried.get("z", ""), record.carried.get("w", "")
            window = self._windows.window(now_ms, category, country, zone, hours, record.expires_at_ms)
        except RequestError:
            return record.expires_at_ms, _NO_END_MS  # never again in its time: that ends it
        closes_ms = window.closes_ms or _NO_END_MS
        if not window.opens_ms:
            return now_ms, closes_ms
        spread = spread_ms(window, self._spread_s[category], record.expires_at_ms)
        return window.opens_ms + place_in_spread(record.id, spread), closes_ms
