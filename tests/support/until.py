"""Waiting for a fact instead of for time: poll a predicate until it holds or a deadline passes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(
    predicate: Callable[[], Any | Awaitable[Any]], *, timeout_s: float = 10.0, every_s: float = 0.01
) -> Any:
    """Return the predicate's first truthy value; raise AssertionError when none came within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_s} s: {inspect.getsource(predicate).strip()[:200]}")
        await asyncio.sleep(every_s)
