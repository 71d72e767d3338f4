"""A time wheel: very many small delays for one timer. Pure: `now` is an argument, seconds of a monotonic
clock.

Items of one tick lie in one list, so adding costs a dictionary look-up and an append however many are
waiting, and the owner sleeps until `next_deadline()`. Ticks are rounded up: nothing comes early. Knows
nothing of what it holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import ceil
from typing import Generic, TypeVar

T = TypeVar("T")


class TimeWheel(Generic[T]):
    """Holds items until their time, in ticks of `tick_s`."""

    def __init__(self, tick_s: float = 0.001) -> None:
        self.tick_s = tick_s
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, due: float, item: T) -> None:
        """Keep `item` until `due`."""
        self.slot(due).append(item)
        self._count += 1

    def slot(self, due: float) -> list[T]:
        """Return the list of the tick that `due` falls in; what is appended to it directly is not counted by
        `len`.
        """
        tick = ceil(due / self.tick_s)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = []
            heapq.heappush(self._order, tick)
        return slot

    def next_deadline(self) -> float | None:
        """Return when the next items are due, None when there are none."""
        return self._order[0] * self.tick_s if self._order else None

    def due(self, now: float) -> list[T]:
        """Take out and return every item whose tick has come, in the order of time."""
        items: list[T] = []
        order = self._order
        while order and order[0] * self.tick_s <= now:
            items.extend(self._slots.pop(heapq.heappop(order)))
        self._count -= len(items)
        return items

    def drain(self) -> Iterator[T]:
        """Take out everything, whatever its time."""
        for tick in sorted(self._slots):
            yield from self._slots[tick]
        self._slots.clear()
        self._order.clear()
        self._count = 0
