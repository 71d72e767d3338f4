"""Runs the sweeps of closed gates in the admin worker, a slice at a time, with a pause after each for other traffic.

Owns the loop, its pauses and what is told of an end (log, audit, metric). Refuses to know what a slice does
(`store.gates`). One admin worker of all machines has the turn; when it dies another goes on where it stood.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NoReturn

from gateway.errors import StoreUnavailable
from gateway.logs import redact
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, STATE_LABELS, route_name
from gateway.store.audit import DONE, Audit
from gateway.store.gates import GateSweeps
from gateway.store.store import Store

log = logging.getLogger(__name__)

IDLE_S: Final = 0.5
SHARE: Final = 0.5
"""The part of the time that slices may take; the rest is a pause after each."""
PAUSE_MOST_S: Final = 0.003
"""A call that took longer than its slice needs waited for others, or for the disk: they had their turn."""
_ASK_S: Final = 1.0


class GateSweeper:
    """The sweeps of one admin worker."""

    def __init__(self, store: Store, audit: Audit, metrics: Metrics | None = None) -> None:
        self._sweeps = GateSweeps(store)
        self._store = store
        self._audit = audit
        self._metrics = metrics
        if metrics is not None:
            store.on_finals = self._count

    async def run(self) -> NoReturn:
        """Sweep until cancelled."""
        asked_at, mine = float("-inf"), False
        while True:
            try:
                if time.monotonic() - asked_at > _ASK_S:
                    mine, asked_at = await self._sweeps.turn(), time.monotonic()
                started = time.monotonic()
                did = await self._sweeps.go_on() if mine else None
                if did is not None and did.over:
                    await self._tell(did.over)
                if did is not None and did.busy:
                    spent = time.monotonic() - started
                    await asyncio.sleep(min(PAUSE_MOST_S, spent * (1 - SHARE) / SHARE))
                    continue
            except StoreUnavailable as exc:
                log.warning("gates: %s", exc)
            except Exception:  # the boundary of this task: a fault in one slice must not end all sweeps
                log.exception("gates: a slice failed")
            await asyncio.sleep(IDLE_S)

    async def _tell(self, names: list[str]) -> None:
        gates = await self._store.gates()
        for name in dict.fromkeys(names):
            sweep = gates.get(name, {}).get("sweep")
            if sweep is None or not sweep["done"]:
                continue  # opened meanwhile, or another shard is not done
            seconds = (sweep["ended_ms"] - sweep["started_ms"]) / 1000
            log.info("gate swept: %d messages closed in %.1f s", sweep["closed"], seconds)
            await self._audit.note(
                "gateway", "gate.swept", redact(name), after="closed", closed=sweep["closed"], result=DONE
            )

    def _count(self, category: int, route: str, state: str, reason: str, n: int) -> None:
        assert self._metrics is not None
        labels = {"category": CATEGORY_LABELS[category], "route": route_name(route)}
        self._metrics.counter("messages_total", **labels, state=STATE_LABELS[state], reason=reason).n += n
