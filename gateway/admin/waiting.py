"""What a message waits for now: a gate, a time, a window, its next attempt, a receipt, or a channel that can take it.

Owns the order in which these are told: what must change first comes first, what would hold it next stands in `also`.
Refuses to know how a wait ends. Stands below `messages_v1`; reads what is agreed in the store, as the claims do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.model import CATEGORY_LABELS, Category, State, iso, route_name
from gateway.settings import ChannelSettings, RouteSettings, Settings
from gateway.store import whereabouts
from gateway.store.moves import Health
from gateway.store.records import Record
from gateway.store.store import Store

GATE, TIME, WINDOW, CAP, RETRY, SENDING, CHANNELS, ROUTE, TURN, ANSWER, RECEIPT = WHYS = (
    "gate", "time", "window", "cap", "retry", "sending", "channels", "route", "turn", "answer", "receipt",
)  # fmt: skip
_TO_BE_SENT: Final = frozenset((State.QUEUED, State.RETRY, State.HELD, State.SCHEDULED, State.DEFERRED))


@dataclass(frozen=True, slots=True)
class Now:
    """What is agreed about gates and channels, read once for all messages of an answer."""

    gates: dict[str, str]
    health: dict[str, Health]
    bound: set[str]


class Waits:
    """Says it of single messages, by one configuration."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._store = store
        self._categories = settings.categories
        self._channels = {c.id: c for c in settings.channels}
        self._routes = {r.id: r for r in settings.routes}

    async def of(self, records: Iterable[Record]) -> dict[bytes, dict[str, Any]]:
        """Return by id what each message that is not final waits for: {why, what, since, until, also[, channels]}.

        Raises:
            StoreUnavailable: as for every call.
        """
        open_ones = [record for record in records if not record.final]
        if not open_ones:
            return {}
        gates = {name: str(entry["state"]) for name, entry in (await self._store.gates()).items()}
        now = Now(gates, await self._store.health(), await self._store.channels_bound())
        return {r.id: self._of(r, now, await whereabouts.of(self._store, r)) for r in open_ones}

    def _of(self, r: Record, now: Now, at: whereabouts.Whereabouts) -> dict[str, Any]:
        since_ms = r.state_at_ms or r.accepted_at_ms
        last = r.attempts[-1].channel if r.attempts else ""
        if r.state == State.SUBMITTED:
            wait_ms = self._categories[Category(r.category)].dlr_wait_s * 1000
            return _wait(RECEIPT, last, since_ms, since_ms + wait_ms)
        if r.state == State.UNCERTAIN:
            return _wait(ANSWER, last, since_ms, at.due_ms)
        if at.worker:
            return _wait(SENDING, at.channel, since_ms, 0)
        # What stands in its way, the first to change first: its time, then a gate at its claim, then a channel.
        found: list[dict[str, Any]] = []
        if r.state in (State.SCHEDULED, State.DEFERRED, State.RETRY):
            why = {State.SCHEDULED: TIME, State.RETRY: RETRY}.get(r.state) or (WINDOW if r.window_until_ms else CAP)
            found.append(_wait(why, last if why == RETRY else "", since_ms, at.due_ms or r.send_at_ms))
        if r.state in _TO_BE_SENT and (gate := _gate_of(r, now.gates)) is not None:
            name, state = gate
            found.append({**_wait(GATE, name, since_ms if r.state == State.HELD else 0, 0), "state": state})
        if (blocked := self._channels_of(r, now)) is not None:
            found.append(blocked)
        first = found[0] if found else _wait(TURN, route_name(r.route), since_ms, 0)
        return {**first, "also": found[1:]}

    def _channels_of(self, r: Record, now: Now) -> dict[str, Any] | None:
        """Return why no channel of its route can take it now, None where one can."""
        route = self._routes.get(route_name(r.route))
        if route is None:
            return _wait(ROUTE, route_name(r.route), 0, 0)
        told = [_channel(self._channels.get(one.id), one.id, one.rank, r, now) for one in _ranked(route)]
        if any(not one["why"] for one in told):
            return None
        since = [h.since_ms for one in told if (h := now.health.get(one["id"])) is not None and h.since_ms]
        return {**_wait(CHANNELS, route.id, max(since, default=0), 0), "channels": told}


def _ranked(route: RouteSettings) -> list[Any]:
    return sorted(route.channels, key=lambda one: (one.rank, one.id))


def _channel(settings: ChannelSettings | None, name: str, rank: int, r: Record, now: Now) -> dict[str, Any]:
    h = now.health.get(name, Health())
    why = (
        "unknown" if settings is None
        else "signature" if not settings.carries(r.signature)
        else {"pause": "paused", "drain": "draining"}.get(h.operator, h.operator) if h.operator != "run"
        else f"breaker_{h.state}" if h.state != "closed"
        else "" if name in now.bound
        else "not_bound"
    )  # fmt: skip
    return {"id": name, "rank": rank, "why": why, "cause": h.cause, "since": iso(h.since_ms) if h.since_ms else None}


def _gate_of(r: Record, gates: dict[str, str]) -> tuple[str, str] | None:
    """Return the strictest gate that holds for a message and is not open, as `lua/claim.lua` finds it."""
    names = [f"category:{CATEGORY_LABELS[r.category]}", f"account:{r.account}"]
    names += [f"gate:{r.gate}"] if r.gate else []
    names += [f"tag:{tag}" for tag in r.tags]
    names += [f"campaign:{r.campaign}"] if r.campaign else []
    held = None
    for name in names:
        if gates.get(name) == "closed":
            return name, "closed"
        if gates.get(name) == "hold":
            held = name, "hold"
    return held


def _wait(why: str, what: str, since_ms: int, until_ms: int) -> dict[str, Any]:
    return {
        "why": why,
        "what": what or None,
        "since": iso(since_ms) if since_ms else None,
        "until": iso(until_ms) if until_ms else None,
        "also": [],
    }
