"""What would become of messages, without storing one: prepared as intake does it, and what the store knows of them.

Owns the decisions that `lua/accept.lua` takes after preparation (replay, blacklist, caps, expiry, in that order), taken
here on what was read a moment ago, with the messages of the same request counted as if they had been stored. Refuses to
know HTTP. Stands above intake. Takes nothing from an account's rate and quota, and says nothing about them or about
room in the queue: those are of the moment. At most `_AT_ONCE` requests a worker are looked at, the others wait.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from gateway.errors import RequestError, StoreUnavailable
from gateway.intake import SLICE, Intake, ItemResult, Prepared, Taken, not_taken
from gateway.model import STATE_LABELS, Accepted, MessageKind, State, ValidMessage
from gateway.policy import caps
from gateway.routing.router import Router
from gateway.settings import AccountSettings, Settings
from gateway.store.recipients import Known, Recipients

_AT_ONCE: Final = 2


@dataclass(slots=True)
class Foreseen:
    """What one message would meet now."""

    result: ItemResult
    """What accepting it would answer. A `Taken` has no id unless it is a replay's."""
    prepared: bool = False
    """Whether it came as far as the store; the rest is only known then."""
    parts: int = 0
    encoding: str = ""
    route: str = ""
    price: str = ""
    """Of all parts at the price of the route's first channels (of several the dearest), in their currency's unit."""
    send_at_ms: int = 0
    """When it would be due, 0: at once. Deferred messages leave a while after it, spread over `spread_ms`."""
    spread_ms: int = 0
    window_until_ms: int = 0
    blacklist: str = ""
    """The scope of the blacklist that holds the number."""
    capped_until_ms: int = 0


@dataclass(slots=True)
class _Before:
    """What earlier messages of the same request would have written."""

    marks: dict[bytes, bytes] = field(default_factory=dict)
    times: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)


class Precheck:
    """Looks at messages for all accounts of one api worker."""

    def __init__(self, settings: Settings, intake: Intake, router: Router, recipients: Recipients) -> None:
        self._intake = intake
        self._router = router
        self._recipients = recipients
        self._prices = {channel.id: Decimal(str(channel.price)) for channel in settings.channels}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def look(
        self, account: AccountSettings, items: Sequence[ValidMessage | RequestError], key: str | None
    ) -> list[Foreseen]:
        """Return what would become of each message of a request, in order.

        Nothing is raised for an item: an error stands in its place, one from `items` unchanged.
        """
        async with self._room:
            results: list[ItemResult] = list(items)  # type: ignore[arg-type]  # as in Intake.accept
            prepared: list[Prepared] = []
            for start in range(0, len(items), SLICE):
                prepared += self._intake.prepare(account, items[start : start + SLICE], start, key, results)
                await asyncio.sleep(0)
            foreseen = [Foreseen(result) for result in results]
            try:
                known = await self._recipients.look([message for _, message, _, _ in prepared])
            except StoreUnavailable:
                gone = StoreUnavailable("not read", outcome="not_stored")
                for place, _, _, _ in prepared:
                    foreseen[place].result = gone
                return foreseen
            before = _Before()
            now_ms = time.time_ns() // 1_000_000
            for one, of_it in zip(prepared, known, strict=True):
                foreseen[one[0]] = await self._foresee(account, one, of_it, before, now_ms)
        return foreseen

    async def _foresee(
        self, account: AccountSettings, one: Prepared, known: Known, before: _Before, now_ms: int
    ) -> Foreseen:
        _, message, encoding, _ = one
        kind = message.kind
        second = now_ms // 1000
        held = caps.read(kind.caps)
        sent = {
            cap.name: [*known.sent.get(cap.name, ()), *before.times.get((message.msisdn, kind.category, cap.name), ())]
            for cap in held
        }
        again_s = caps.allowed_again_s(held, {name: sorted(times) for name, times in sent.items()}, second)
        due_ms = kind.send_at_ms if kind.send_at_ms > now_ms else 0
        found = Foreseen(
            Taken(b"", STATE_LABELS[kind.state], message.parts, encoding, kind.route, 0),
            True,
            message.parts,
            encoding,
            kind.route,
            self._price(kind.route, message.parts),
            due_ms,
            kind.spread_ms,
            kind.window_until_ms,
            known.blacklist,
            again_s * 1000,
        )
        replayed = known.replay_of or message.idem in before.marks
        if replayed:
            same = known.same_content if known.replay_of else before.marks[message.idem] == message.digest
            if not same:
                found.result = not_taken(one, Accepted("conflict"))
            elif known.replay_of:
                found.result = await self._intake.replayed(one, known.replay_of)
            else:
                found.result.replayed = True  # type: ignore[union-attr]  # it is the Taken made above
            return found
        if known.blacklist:
            found.result = not_taken(one, Accepted("blocked"))
            return found
        if again_s and kind.defer_capped:
            due_ms, found.spread_ms = max(again_s * 1000, due_ms), 0
        expires_ms = _expires(kind, due_ms, now_ms)
        late = expires_ms <= now_ms or due_ms >= expires_ms
        if again_s and (late or not kind.defer_capped):
            found.result = not_taken(one, Accepted("capped", retry_at_ms=again_s * 1000))
        elif late:
            found.result = not_taken(one, Accepted("expired"))
        else:
            state = State.DEFERRED if again_s else kind.state
            found.send_at_ms = due_ms
            found.result = Taken(b"", STATE_LABELS[state], message.parts, encoding, kind.route, expires_ms)
            if message.idem:
                before.marks[message.idem] = message.digest
            for cap in held:
                counted = before.times.setdefault((message.msisdn, kind.category, cap.name), [])
                insort(counted, due_ms // 1000 if again_s else second)
        return found

    def _price(self, route: str, parts: int) -> str:
        lane = self._router.table.get(route)
        prices = [self._prices.get(channel.id, Decimal(0)) for channel in lane.at_rank(0)] if lane else []
        return format((max(prices, default=Decimal(0)) * parts).normalize(), "f")


def _expires(kind: MessageKind, due_ms: int, now_ms: int) -> int:
    expires_ms = max(due_ms, now_ms) + kind.ttl_ms
    return min(expires_ms, kind.not_after_ms) if kind.not_after_ms else expires_ms
