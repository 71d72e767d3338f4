"""Group commit: while one accept call of a shard is in flight, the next batch gathers; no timer.

Verification has a lane of its own, so that a code never waits behind a slice of marketing. Knows nothing of Redis: it
is given the coroutine that commits a list.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.errors import StoreUnavailable
from gateway.model import Accepted, NewMessage

logger = logging.getLogger(__name__)

MOST_MESSAGES = 200
"""More would block the store for milliseconds (1,000 messages: 3 ms measured)."""

HANGING_S = 1.0
"""A call that failed after longer than this found the store hanging, not refusing."""

Commit = Callable[[int, list[NewMessage]], Awaitable[list[Accepted]]]


@dataclass(slots=True)
class _Slice:
    messages: list[NewMessage]
    future: asyncio.Future[list[Accepted]]


class Batcher:
    """One lane of one shard."""

    def __init__(self, shard: int, commit: Commit) -> None:
        self._shard = shard
        self._commit = commit
        self._waiting: list[_Slice] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, messages: list[NewMessage]) -> asyncio.Future[list[Accepted]]:
        """Queue a slice; the future gives one Accepted a message in order, or StoreUnavailable."""
        future: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Slice(messages, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name=f"commit-{self._shard}")
        return future

    async def _run(self) -> None:
        # One turn of the loop first: requests parsed from the same read join the first call.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                await self._commit_some()
        finally:
            self._running = None
            for s in self._waiting:  # only when this task was cancelled: the process ends
                _fail(s, StoreUnavailable("the commit was broken off", outcome="not_stored"))
            self._waiting.clear()

    async def _commit_some(self) -> None:
        taken = [self._waiting.pop(0)]
        size = len(taken[0].messages)
        while self._waiting and size + len(self._waiting[0].messages) <= MOST_MESSAGES:
            taken.append(self._waiting.pop(0))
            size += len(taken[-1].messages)
        messages = taken[0].messages if len(taken) == 1 else [m for s in taken for m in s.messages]
        started = time.monotonic()
        try:
            answers = await self._commit(self._shard, messages)
        except StoreUnavailable as exc:
            for s in taken:
                _fail(s, exc)
            if time.monotonic() - started > HANGING_S:
                # Who waited behind it has waited long enough: the next call may cost them the same again.
                late, self._waiting = self._waiting, []
                for s in late:
                    _fail(s, StoreUnavailable("the store does not answer", outcome="not_stored"))
            return
        except Exception as exc:
            # The boundary of this task: a fault of ours costs its own batch, never those that wait behind it.
            logger.error("a commit of %d messages failed (%s)", len(messages), type(exc).__name__)
            for s in taken:
                _fail(s, StoreUnavailable("the commit failed"))
            return
        except BaseException:
            for s in taken:
                _fail(s, StoreUnavailable("the commit was broken off"))
            raise
        at = 0
        for s in taken:
            if not s.future.done():
                s.future.set_result(answers[at : at + len(s.messages)])
            at += len(s.messages)


def _fail(waiting: _Slice, exc: StoreUnavailable) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(exc)
