"""Ported numbers between receipts and routing: one end notes what a receipt taught, the other brings it to the router.

Owns which carrier a code accuses, and the rhythm in which workers read what all of them learned and look for new
imported tables. Refuses to know how a carrier is chosen from that (`routing.router`) and how it is kept (the store).
Stands beside the path: the teacher runs for receipts with such a code only, the follower every two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from gateway.dlr.receipt import Receipt
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import State, route_name
from gateway.routing.learned import Fact, Learned
from gateway.routing.ported_codes import PortedCode, PortedCodes
from gateway.routing.ported_table import PortedTables, Signature
from gateway.routing.router import PORTED, Router
from gateway.settings import Settings
from gateway.store.moves import ReceiptRow
from gateway.store.store import Store

logger = logging.getLogger(__name__)

EVERY_S: Final = 2.0
"""A number learned anywhere is used everywhere within this and one read: 5 s are promised."""
_OVERLAP_MS = 2000
"""Read again each time: the store's clock may be set back a little."""
_PAGE = 2000

Lesson = tuple[ReceiptRow, PortedCode]
"""A failed receipt that was applied, and what its code says."""


def accused(code: PortedCode, route_carrier: str, carrier: str) -> Fact | None:
    """Return what a code teaches about a number, None where it teaches nothing.

    `route_carrier` is the carrier that the message's route matches and `carrier` the one the message was accepted for;
    either may be '' or `ported`. The route's is surer: its channels lead there.
    """
    left = next((name for name in (route_carrier, carrier) if name not in ("", PORTED)), "")
    if code.carriers:
        if left and left not in code.carriers:
            return None  # another carrier's code: it means something else here
        left = left or code.carriers[0]
    if left == code.new_carrier:
        return None  # nothing was said, or "ported to us" by the one who does not have it
    return Fact(left, code.new_carrier)


class Teacher:
    """Notes what receipts teach; one for each receipt processor."""

    def __init__(self, settings: Settings, codes: PortedCodes, store: Store, metrics: Metrics) -> None:
        self.use(settings, codes)
        self._store = store
        self._metrics = metrics

    def use(self, settings: Settings, codes: PortedCodes) -> None:
        """Take other settings, and their table of codes, into use."""
        self._codes = codes if settings.ported.learned_ttl_s else PortedCodes()
        self._ttl_s = settings.ported.learned_ttl_s
        self._route_carriers = {route.id: route.match.carrier or "" for route in settings.routes}

    def meaning(self, receipt: Receipt) -> PortedCode | None:
        """Return what a receipt says about portability: its err, its network error or its stat; nearly always None."""
        if receipt.state == State.DELIVERED:
            return None
        return self.of_words(receipt.err, receipt.network_error, receipt.stat)

    def of_words(self, *words: str) -> PortedCode | None:
        """Return the same for the words of a receipt that did not say delivered."""
        for word in words:
            if word and (found := self._codes.get(word)) is not None:
                return found
        return None

    async def teach(self, lessons: Sequence[Lesson]) -> None:
        """Find the numbers of such receipts and note what was learned, for all workers.

        Raises:
            StoreUnavailable: nothing may have been noted; the same receipts can be taught again.
        """
        facts: list[tuple[str, str, str]] = []
        found = await self._store.recipients([row for row, _ in lessons])
        for (_, code), (msisdn, carrier, route) in zip(lessons, found, strict=True):
            fact = accused(code, self._route_carriers.get(route_name(route), ""), carrier) if msisdn else None
            if fact is not None:
                facts.append((msisdn, *fact))
        if facts:
            await self._store.learn_ported(facts, self._ttl_s)
            for _, left, _ in facts:
                self._metrics.counter("ported_learned_total", carrier=left).n += 1


class Follower:
    """Keeps one worker's router at what is known about ported numbers."""

    def __init__(self, settings: Settings, router: Router, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._told: dict[str, Signature | None] = {}
        self._told_evicted = False
        self._learned: Learned | None = None
        self._from_ms: list[int] = []
        self.use(settings, router)

    def use(self, settings: Settings, router: Router) -> None:
        """Follow another router from now on. Where it knows nothing yet of what was learned, all is read anew."""
        self._tables = router.imported if isinstance(router.imported, PortedTables) else None
        learned = router.learned if settings.ported.learned_ttl_s else None
        if learned is not self._learned or not self._from_ms:
            self._learned, self._from_ms = learned, [0] * self._store.shards
        self._ttl_ms = int(settings.ported.learned_ttl_s * 1000)

    async def run(self) -> None:
        """Refresh every two seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.refresh()
            except Exception:
                # The boundary of this task: without it a fault of ours would freeze what is known, silently.
                self._metrics.counter("ported_faults_total", what="fault").n += 1
                logger.exception("ported numbers: a refresh failed")

    async def refresh(self) -> None:
        """Take in new tables and newly learned numbers; a store that does not answer leaves the known ones."""
        if self._tables is not None:
            # In a thread: a new table is read whole once, to check it.
            self._tell(self._tables, await asyncio.to_thread(self._tables.refresh))
        if self._learned is not None:
            learned, from_ms = self._learned, self._from_ms
            learned.forget(_now_ms())
            try:
                for shard in range(self._store.shards):
                    await self._read(learned, from_ms, shard)
            except StoreUnavailable:
                self._metrics.counter("ported_faults_total", what="learned").n += 1
            self._metrics.gauge("ported_learned").n = len(self._learned)
            if self._learned.evicted and not self._told_evicted:
                self._told_evicted = True
                logger.warning(
                    "ported numbers: more than ported.learned_most = %d were learned, the oldest are forgotten; "
                    "import a table",
                    self._learned.most,
                )

    async def _read(self, learned: Learned, read_to_ms: list[int], shard: int) -> None:
        from_ms = max(read_to_ms[shard] - _OVERLAP_MS, _now_ms() - self._ttl_ms, 0)
        page = _PAGE
        while True:
            _, facts = await self._store.ported_since(shard, from_ms, page)
            rows = [(msisdn, Fact(left, joined), at_ms) for msisdn, left, joined, at_ms in facts]
            learned.add(rows, _now_ms())
            if facts:
                read_to_ms[shard] = max(read_to_ms[shard], facts[-1][3])
            if len(facts) < page:
                return
            if facts[-1][3] == from_ms:
                page *= 2  # all of one millisecond: the next page would be the same
            from_ms = facts[-1][3]

    def _tell(self, tables: PortedTables, changed: Sequence[str]) -> None:
        for country, table in tables.tables.items():
            self._metrics.gauge("ported_rows", country=country).n = table.rows
        for country in changed:
            if country in tables.tables and country not in tables.refused:
                logger.info("ported numbers of %s: a table of %d rows is in use", country, tables.tables[country].rows)
            elif country not in tables.refused:
                self._metrics.gauge("ported_rows", country=country).n = 0
                logger.warning("ported numbers of %s: the table was removed", country)
        for country, (signature, problem) in tables.refused.items():
            if self._told.get(country, ()) != signature:
                self._told[country] = signature
                self._metrics.counter("ported_faults_total", what="table").n += 1
                kept = "the one before stays in use" if country in tables.tables else "number segments decide"
                logger.error("ported numbers of %s: %s; %s", country, problem, kept)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
