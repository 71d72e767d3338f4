"""How late this process was at worst: a carrier inside a busy test sees octets in lumps that were sent one by one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

_LOOK_S = 0.005


class Lag:
    """Watches the event loop while its block runs; `most_s` is the longest time in which nothing was looked at."""

    def __init__(self) -> None:
        self.most_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_LOOK_S)
            self.most_s = max(self.most_s, time.monotonic() - began - _LOOK_S)
