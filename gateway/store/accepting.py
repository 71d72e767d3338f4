"""Taking new messages: grouped with those of other requests, a lane for verification, each item decided by itself.

Owns the order of values that `lua/accept.lua` takes. Refuses to know what they mean to an application (`intake`). Every
message of the gateway comes through here once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.model import Accepted, MessageKind, NewMessage
from gateway.settings import Settings
from gateway.store import records
from gateway.store.base import StoreBase
from gateway.store.batcher import Batcher

_ID_BYTES = 16
_ACCEPTED, _DEFERRED = b"ad"
_CODES = {ord("b"): "blocked", ord("e"): "expired", ord("f"): "full"}


class Accepting(StoreBase):
    """The commit lanes of every shard."""

    def __init__(self, settings: Settings, url: str, *, incarnation: str = "--------") -> None:
        super().__init__(settings, url, incarnation=incarnation)
        self._fast = [Batcher(s, self._commit) for s in range(self.shards)]
        self._bulk = [Batcher(s, self._commit) for s in range(self.shards)]

    async def accept(self, messages: list[NewMessage]) -> list[Accepted | StoreUnavailable]:
        """Store messages, grouped with those of other requests; one result an item, in order.

        A shard that fails answers its own items only.
        """
        if self.shards == 1 and len({m.kind.category == 0 for m in messages}) == 1:
            lane = self._fast[0] if messages[0].kind.category == 0 else self._bulk[0]
            try:
                return list(await lane.add(messages))
            except StoreUnavailable as exc:
                return [exc] * len(messages)
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, m in enumerate(messages):
            groups.setdefault((m.shard, m.kind.category == 0), []).append(i)
        futures = [
            (self._fast if fast else self._bulk)[shard].add([messages[i] for i in places])
            for (shard, fast), places in groups.items()
        ]
        results: list[Accepted | StoreUnavailable] = [StoreUnavailable("not decided")] * len(messages)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for places, answer in zip(groups.values(), answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                for i in places:
                    results[i] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for i, one in zip(places, answer, strict=True):
                    results[i] = one
        return results

    async def _commit(self, shard: int, messages: list[NewMessage]) -> list[Accepted]:
        places: dict[MessageKind, int] = {}
        head: list[Any] = []
        items: list[Any] = []
        for m in messages:
            kind = m.kind
            place = places.get(kind)
            if place is None:
                place = places[kind] = len(places) + 1
                if kind.packed is None:
                    kind.packed = records.PackedKind(kind)
                head += kind.packed.head
            rest = records.pack_rest(m, kind.packed)
            items += (place, m.id, m.msisdn, rest, m.idem + m.digest if m.idem else b"")
        args = [*self._limits, "0", len(places), *head, *items]
        started = time.perf_counter()
        raw = await self._call_twice("accept", shard, args, repeat_at=2)
        if self.commit_seconds is not None:
            self.commit_seconds("accept", len(messages), time.perf_counter() - started)
        now = int(raw[0])
        details = iter(raw[2:])
        return [
            self._accepted(m, now)
            if letter == _ACCEPTED
            else self._accepted(m, now, int(next(details)))
            if letter == _DEFERRED
            else _refused(letter, details)
            for m, letter in zip(messages, raw[1], strict=True)
        ]

    @staticmethod
    def _accepted(m: NewMessage, now: int, deferred_to_ms: int = 0) -> Accepted:
        k = m.kind
        due = deferred_to_ms or k.send_at_ms
        if k.spread_ms and not deferred_to_ms and due > now:
            due += records.place_in_spread(m.id, k.spread_ms)
        expires = (due if due > now else now) + k.ttl_ms
        if k.not_after_ms and expires > k.not_after_ms:
            expires = k.not_after_ms
        return Accepted("accepted", m.id, now, expires, deferred_to_ms=deferred_to_ms)


def _refused(letter: int, details: Iterator[bytes]) -> Accepted:
    """Return what the store did with a message it did not take; `details` are those of its answer, in order."""
    if letter == ord("r"):
        first = next(details)
        return Accepted("replay" if first[_ID_BYTES:] == b"1" else "conflict", first[:_ID_BYTES])
    if letter == ord("c"):
        return Accepted("capped", retry_at_ms=int(next(details)))
    return Accepted(_CODES[letter])
