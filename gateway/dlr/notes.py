"""What operators hear of receipts besides the records: codes nobody knows, and signs of receipts that were made up.

Gathers in memory while receipts are recorded, writes to the store once in ten seconds, and sets the gauges from what
all workers wrote. Refuses to know what a code means and how signs are computed (`reasons`, `receipt_signals`). Beside
the path: when the store is down, what was gathered waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from gateway.dlr.receipt_signals import counted, middle_s, signals
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Metrics
from gateway.settings import Settings
from gateway.store.receipt_notes import CODE_CHARS, ReceiptNotes
from gateway.store.store import Store

logger = logging.getLogger(__name__)

EVERY_S: Final = 10.0
_CODES_MOST = 500
"""Different unknown codes gathered between two writes; of a flood of them the rest is counted only."""
_WARN_EVERY_S = 600.0
_LAST_WRITE_S = 1.0

Batch = tuple[int, dict[tuple[str, str], int], dict[tuple[str, str], int]]


class Notes:
    """The notes of one worker."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._kept = ReceiptNotes(store)
        self._metrics = metrics
        self._codes: dict[tuple[str, str], int] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._unknown: dict[str, Cell] = {}
        self._warned_at: dict[str, float] = {}
        self._batch: Batch | None = None
        self._number = 0
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Take other settings into use."""
        self._window_s = settings.receipts.signals_window_s
        self._probes = probe_prefixes(settings.receipts.probe_numbers)
        self._channels = [channel.id for channel in settings.channels]

    # --- what the recorder and the store tell

    def unknown_code(self, channel: str, code: str) -> None:
        """A failed receipt had a code that no table has; `code` is cleaned."""
        cell = self._unknown.get(channel)
        if cell is None:
            cell = self._unknown[channel] = self._metrics.counter("unknown_failure_codes_total", channel=channel)
        cell.n += 1
        key = (channel, code[:CODE_CHARS])
        if key in self._codes or len(self._codes) < _CODES_MOST:
            self._codes[key] = self._codes.get(key, 0) + 1

    def delivered(self, channel: str, address: bytes) -> None:
        """A receipt says delivered; where nobody has its number, the carrier says what cannot be."""
        if not self._probes or not address.startswith(self._probes):
            return
        self._metrics.counter("receipts_impossible_total", channel=channel).n += 1
        now = time.monotonic()
        if now - self._warned_at.get(channel, float("-inf")) >= _WARN_EVERY_S:
            self._warned_at[channel] = now
            logger.warning("channel %s: a receipt says delivered for a number of receipts.probe_numbers", channel)

    def outcome(self, channel: str, state: str, reason: str, n: int) -> None:
        """Messages ended (the store's finals, as statistics count them)."""
        if not channel:
            return
        for what in counted(state, reason):
            key = (channel, what)
            self._counts[key] = self._counts.get(key, 0) + n
        delay_s = middle_s(reason) if state == "D" else None
        if delay_s is not None:
            self._metrics.histogram("receipt_delay_seconds", channel=channel).observe(delay_s, n)

    # --- the task

    async def run(self) -> None:
        """Write and look every ten seconds until cancelled; what is left is written then, if the store answers."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                try:
                    await self.refresh()
                except StoreUnavailable:
                    continue  # the store's own alarms tell; what was gathered waits
                except Exception:
                    # The boundary of this task: without it a fault of ours would end the notes, silently.
                    self._metrics.counter("dispatch_errors_total", where="notes").n += 1
                    logger.exception("receipt notes: a turn failed")
        finally:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self.write()

    async def refresh(self) -> None:
        """Write what was gathered, then set the gauges from what all workers wrote.

        Raises:
            StoreUnavailable: the next call goes on where this one stopped.
        """
        await self.write()
        counts = await self._kept.counts(self._window_s)
        for channel in self._channels:
            found = signals(counts.get(channel, {}))
            for name, value in (
                ("receipts_rated", found.messages),
                ("receipts_delivered_ratio", found.delivered_ratio),
                ("receipt_delay_p50_seconds", found.delay_p50_s),
                ("receipt_delay_p90_seconds", found.delay_p90_s),
                ("receipt_delay_std_seconds", found.delay_std_s),
                ("receipts_fast_share", found.fast_share),
            ):
                self._metrics.gauge(name, channel=channel).n = round(value, 4)

    async def write(self) -> None:
        """Write what was gathered; a batch that may have been written is given again as it was.

        Raises:
            StoreUnavailable: it waits for the next call.
        """
        if self._batch is not None:
            await self._kept.add(*self._batch)
            self._batch = None
        if self._codes or self._counts:
            self._number += 1
            self._batch = (self._number, self._codes, self._counts)
            self._codes, self._counts = {}, {}
            await self._kept.add(*self._batch)
            self._batch = None


def probe_prefixes(numbers: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return how the addresses of such numbers begin: E.164 digits, and for China also as carriers there write them."""
    found = [digits.encode() for digits in numbers]
    return (*found, *(digits[2:] for digits in found if digits.startswith(b"861") and len(digits) > 4))
