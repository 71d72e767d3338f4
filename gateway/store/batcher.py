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

MOST_CALLS = 2
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
        self._waiting_messages = 0
        self._running: set[asyncio.Task[None]] = set()

    def add(self, messages: list[NewMessage]) -> asyncio.Future[list[Accepted]]:
        """Queue a slice; the future gives one Accepted a message in order, or StoreUnavailable."""
        future: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Slice(messages, future))
        self._waiting_messages += len(messages)
        # A second call at the same time only for a full batch: it keeps the store busy while the first answer travels,
        # and small batches are still gathered into one.
        running = len(self._running)
        if not running or (running < MOST_CALLS and self._waiting_messages >= MOST_MESSAGES):
            task = asyncio.create_task(self._run(), name=f"commit-{self._shard}")
            self._running.add(task)
        return future

    async def _run(self) -> None:
        # One turn of the loop first: requests parsed from the same read join the first call.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                await self._commit_some()
        except asyncio.CancelledError:
            for s in self._take(len(self._waiting)):  # the process ends
                _fail(s, StoreUnavailable("the commit was broken off", outcome="not_stored"))
            raise
        finally:
            # Here and not in a callback, which runs a turn later: who adds in between must not count on this task.
            task = asyncio.current_task()
            assert task is not None
            self._running.discard(task)

    def _take(self, slices: int) -> list[_Slice]:
        taken, self._waiting = self._waiting[:slices], self._waiting[slices:]
        self._waiting_messages -= sum(len(s.messages) for s in taken)
        return taken

    async def _commit_some(self) -> None:
        size, slices = len(self._waiting[0].messages), 1
        while slices < len(self._waiting) and size + len(self._waiting[slices].messages) <= MOST_MESSAGES:
            size += len(self._waiting[slices].messages)
            slices += 1
        taken = self._take(slices)
        messages = taken[0].messages if len(taken) == 1 else [m for s in taken for m in s.messages]
        started = time.monotonic()
        try:
            answers = await self._commit(self._shard, messages)
        except StoreUnavailable as exc:
            for s in taken:
                _fail(s, exc)
            if time.monotonic() - started > HANGING_S:
                # Who waited behind it has waited long enough: the next call may cost them the same again.
                for s in self._take(len(self._waiting)):
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
