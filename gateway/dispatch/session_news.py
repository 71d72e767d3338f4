"""Tells all others how this worker's sessions are, and why those that are missing are: once, when it changes.

Looks twice a second at what the channels know anyhow, so that nothing is done per message; says it again once a minute,
in case another worker took it for that of a dead one. Owns the rhythm; the words are `smpp.trouble`'s, what all workers
said together is the store's (`store/changes.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.smpp.channel import Channel
from gateway.store.changes import Changes, Told
from gateway.store.store import Store

logger = logging.getLogger(__name__)

LOOK_S = 0.5
AGAIN_S = 60.0
LEAVE_S = 1.0


class SessionNews:
    """What one worker says; `living` gives the incarnations that have a lease, by its last beat."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        channels: Callable[[], Iterable[Channel]],
        living: Callable[[], Iterable[str]],
    ) -> None:
        self._changes = Changes(store)
        self._channels = channels
        self._living = living
        self._said: dict[str, Told] = {}
        self._again_at = 0.0
        self._errors = metrics.counter("dispatch_errors_total", where="sessions")

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            try:
                await self.look(time.monotonic())
            except StoreUnavailable:
                self._errors.n += 1  # told at the next look
            except Exception:
                # The boundary of this task: without it nobody would hear why a channel is down.
                self._errors.n += 1
                logger.exception("telling of the sessions failed")
            await asyncio.sleep(LOOK_S)

    async def look(self, now: float) -> None:
        """Tell what changed since the last look, and everything when it is time. `now`: monotonic."""
        found = {told.channel: told for told in map(_told, self._channels())}
        whole = now >= self._again_at
        news = [
            told
            for channel, told in found.items()
            # Of a channel that is only starting: that it is served here. Where it is not, there is nothing to tell.
            if (whole or self._said.get(channel) != told) and (channel in self._said or told.slots or told.kind)
        ]
        if gone := [channel for channel in self._said if channel not in found]:
            await self._changes.forget(gone, list(self._living()))
            for channel in gone:
                del self._said[channel]
        if news:
            await self._changes.tell(news, list(self._living()))
            self._said.update({told.channel: told for told in news})
        if whole:
            self._again_at = now + AGAIN_S

    async def leave(self) -> None:
        """Take back what was said: this worker ends."""
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._changes.leave(list(self._living()))


def _told(channel: Channel) -> Told:
    what = channel.trouble
    kind, detail = (what.kind, what.detail) if what is not None else ("", "")
    return Told(channel.id, channel.bound, len(channel.slots), kind, detail)
