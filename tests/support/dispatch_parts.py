"""Stand-ins for the unit tests of dispatch: a claimed message as plain values, and a store that follows a script.

Only where the subject is a decision of one part; whatever concerns the store's own behaviour is tested on a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from gateway.dispatch.flight import Flight
from gateway.errors import StoreUnavailable

_next = 0


def claimed(**changes: Any) -> Any:
    """Return what dispatch reads of a claimed message: a notification of one part on route `r`, its first attempt."""
    global _next
    _next += 1
    values: dict[str, Any] = {
        "id": b"id-%013d" % _next,
        "claim": b"id-%013dabcdef" % _next,
        "category": 1,
        "parts": 1,
        "reference": 0,
        "due_at_ms": 0,
        "expires_at_ms": 10**15,
        "msisdn": b"8613800138000",
        "destination": b"8613800138000",
        "dims": b"shop\x1fchina-mobile\x1fr\x1f\x1f\x1f",
        "account": "shop",
        "route": "r",
        "rank": 0,
        "attempt": 1,
        "flags": 0,
        "slow": 0,
        "refusals": {},
        "logged": False,
        "took": frozenset(),
        "carried": b"",
        "accepted": 0,
        "sender": "1069",
        "text": "hello",
        "encoding": "gsm7",
    }
    values.update(changes)
    values["expires_by"] = lambda moment: values["expires_at_ms"] <= int.from_bytes(moment, "big")
    return SimpleNamespace(**values)


def flight(channel: str = "a", **changes: Any) -> Flight:
    """Return a flight whose parts are all on their way."""
    message = claimed(**changes)
    return Flight(message, 0, channel, pending=message.parts - message.accepted.bit_count())


class ScriptedStore:
    """Records the calls of dispatch; `fail` holds how many calls of each name end in StoreUnavailable (done or not)."""

    def __init__(self) -> None:
        self.shards = 1
        self.incarnation = "worker01"
        self.calls: list[tuple[str, Any]] = []
        self.fail: dict[str, int] = {}
        self.parked_receipts: list[Any] = []
        self.claims: list[Any] = []
        self.smsc_ids: list[Any] = []
        self.finished: list[str] = []
        self.draws: list[tuple[int, int]] = []

    def _call(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        if self.fail.get(name, 0):
            self.fail[name] -= 1
            raise StoreUnavailable("scripted")

    def named(self, name: str) -> list[Any]:
        return [what for called, what in self.calls if called == name]

    async def settle_rows(
        self, shard: int, rows: list[Any], smsc_ids: Sequence[Any] = (), finished: Sequence[str] = ()
    ) -> tuple[str, list[Any]]:
        self.smsc_ids += smsc_ids
        self.finished += finished
        self._call("settle", list(rows))
        return "1" * len(rows), self.parked_receipts

    async def settle(self, shard: int, items: list[Any]) -> str:
        return (await self.settle_rows(shard, [item.row() for item in items]))[0]

    async def release(self, shard: int, claims: Sequence[bytes], finished: Sequence[str] = ()) -> int:
        self.finished += finished
        self._call("release", list(claims))
        return len(claims)

    @staticmethod
    def claim_field(token: str, channel: str) -> str:
        return f"{token}/{channel}"

    async def claim(self, shard: int, token: str, requests: list[Any], **kwargs: Any) -> Any:
        self._call("claim", (token, requests, kwargs))
        return self.claims.pop(0) if self.claims else (0, [], [])

    async def draw_parts(self, channel: str, rate: float, wanted: int, **kwargs: Any) -> tuple[int, int, float]:
        self._call("draw", wanted)
        granted, wait_us = self.draws.pop(0) if self.draws else (wanted, 0)
        return granted, wait_us, float(rate)
