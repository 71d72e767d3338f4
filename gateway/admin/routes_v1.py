"""`/admin/v1/routes`: which messages take which route, and how the channels of each are now.

    GET → {"routes": [{id, match, order, redeliver_after_s, channels: [{id, rank, weight, price, bound, breaker, cause,
        operator, takes}]}], "segments": [{country, file}]}

`match` has the conditions that are set (country, carrier, category, account, sender, prefix); routes are tried in the
order in which they stand. `takes` is whether a channel could be sent to now. Owns the shape; refuses to route.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.model import Category
from gateway.settings import RankedChannel, RouteSettings, Settings
from gateway.store.moves import Health
from gateway.store.store import Store

_CONDITIONS: Final = ("country", "carrier", "account", "sender", "prefix")


@dataclass
class RoutesApi:
    """What the endpoint works on; `settings` may be replaced."""

    settings: Settings
    store: Store

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/routes", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """List the configured routes with their channels as they are now."""
        del request
        health, bound = await self.store.health(), await self.store.channels_bound()
        segments = sorted(self.settings.number_segments_files.items())
        return json_answer(
            {
                "routes": [self._view(route, health, bound) for route in self.settings.routes],
                "segments": [{"country": country, "file": path.name} for country, path in segments],
            }
        )

    def _view(self, route: RouteSettings, health: dict[str, Health], bound: set[str]) -> dict[str, Any]:
        match: dict[str, str] = {n: v for n in _CONDITIONS if (v := getattr(route.match, n)) is not None}
        if route.match.category is not None:
            match["category"] = Category(route.match.category).label
        ranked = sorted(route.channels, key=lambda c: c.rank)
        return {
            "id": route.id,
            "match": match,
            "order": route.order,
            "redeliver_after_s": {c.label: self.settings.redeliver_after_s(route.id, c) for c in Category},
            "channels": [self._channel(c, health.get(c.id, Health()), c.id in bound) for c in ranked],
        }

    def _channel(self, ranked: RankedChannel, health: Health, bound: bool) -> dict[str, Any]:
        price = next((c.price for c in self.settings.channels if c.id == ranked.id), 0.0)
        return {
            "id": ranked.id,
            "rank": ranked.rank,
            "weight": ranked.weight,
            "price": price,
            "bound": bound,
            "breaker": health.state,
            "cause": health.cause,
            "operator": health.operator,
            "takes": bound and health.state != "open" and health.operator == "run",
        }
