"""What operators are told of receipts, as the store keeps it: unknown codes, and counts by channel and five minutes.

Owns their layout; one shard has it all, for it is a few thousand fields whatever the traffic. Refuses to know what a
code or a count means. Beside the path: every worker writes once in some seconds (`dlr.notes`), operators read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.store.client import Client
from gateway.store.moves import ID_SEPARATOR

CODES_MOST: Final = 1000
"""Unknown codes kept, over all channels; those that were not seen for longest go."""
CODE_CHARS: Final = 32
SLOT_S: Final = 300


class NotedStore(Protocol):
    """The part of the store that this needs."""

    @property
    def client(self) -> Client: ...
    @property
    def prefixes(self) -> list[str]: ...
    @property
    def incarnation(self) -> str: ...


@dataclass(frozen=True, slots=True)
class UnknownCode:
    """One failure code that no table has."""

    channel: str
    code: str
    count: int
    last_seen_ms: int


class ReceiptNotes:
    """The notes of all workers."""

    def __init__(self, store: NotedStore) -> None:
        self._store = store
        self._prefix = store.prefixes[0]

    async def add(
        self, number: int, codes: Mapping[tuple[str, str], int], counts: Mapping[tuple[str, str], int]
    ) -> None:
        """Add one batch of this worker: times each (channel, code) was seen, and each (channel, what) was counted.

        `number` counts the worker's batches from 1; the same number again changes nothing.

        Raises:
            StoreUnavailable: it may have been added; the same batch can be given again.
        """
        args: list[Any] = [self._store.incarnation, number, CODES_MOST, len(codes)]
        for (channel, code), n in codes.items():
            args += (f"{channel}{ID_SEPARATOR}{code[:CODE_CHARS]}", n)
        for (channel, what), n in counts.items():
            args += (f"{channel}{ID_SEPARATOR}{what}", n)
        await self._store.client.call("receipt_notes", [self._prefix], args)

    async def unknown_codes(self) -> list[UnknownCode]:
        """Return the codes that no table had when they came, the most frequent first."""
        flat = await self._store.client.execute("HGETALL", f"{self._prefix}codes")
        found = []
        for field, value in _pairs(flat):
            channel, _, code = field.partition(ID_SEPARATOR)
            n, _, at_ms = value.partition(":")
            found.append(UnknownCode(channel, code, int(n), int(at_ms)))
        return sorted(found, key=lambda one: (-one.count, one.channel, one.code))

    async def counts(self, window_s: int) -> dict[str, dict[str, int]]:
        """Return what was counted in the last `window_s` seconds (whole five minutes), by channel."""
        newest = int(time.time()) // SLOT_S * SLOT_S
        found: dict[str, dict[str, int]] = {}
        for slot in range(newest - max(window_s // SLOT_S - 1, 0) * SLOT_S, newest + 1, SLOT_S):
            flat = await self._store.client.execute("HGETALL", f"{self._prefix}receipts:{slot}")
            for field, n in _pairs(flat):
                channel, _, what = field.partition(ID_SEPARATOR)
                by = found.setdefault(channel, {})
                by[what] = by.get(what, 0) + int(n)
        return found


def _pairs(flat: Any) -> list[tuple[str, str]]:
    if isinstance(flat, dict):
        return [(k.decode(), v.decode()) for k, v in flat.items()]
    return [(flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2)]
