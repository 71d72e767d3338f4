"""`smsgw routes`: which messages take which route, and how its channels are.

Owns how it is shown. Refuses to route: the admin listener answers (`/admin/v1/routes`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, only, tell
from gateway.commands.ids import route_ids


def routes(
    route: Annotated[str, typer.Argument(metavar="[ROUTE]", help="Only this one.", autocompletion=route_ids)] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the routes in their order: what they match, their channels by rank, and which of these take messages now."""
    found = ask_admin(config, "GET", "/admin/v1/routes")
    found["routes"] = only(found["routes"], "id", route, "route")
    tell(found, as_json, [line for one in found["routes"] for line in _lines(one)])


def _lines(route: dict[str, Any]) -> list[str]:
    match = " ".join(f"{name}={value}" for name, value in route["match"].items()) or "everything"
    lines = [f"{route['id']}: {match}, by {route['order']}"]
    for c in route["channels"]:
        why = "takes messages"
        if not c["takes"]:
            why = c["operator"] if c["operator"] != "run" else f"breaker {c['breaker']}" if c["bound"] else "not bound"
        lines.append(f"  rank {c['rank']}  {c['id']} (weight {c['weight']}): {why}")
    return lines
