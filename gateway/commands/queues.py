"""`smsgw queues`: what waits, and since when.

Owns how it is shown. Refuses to know the store: the admin listener answers (`/admin/v1/queues`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, stop, tell
from gateway.commands.ids import route_ids


def queues(
    route: Annotated[str, typer.Option(help="Only this route's.", autocompletion=route_ids)] = "",
    top: Annotated[int, typer.Option(min=0, max=1000, help="So many of the deepest accounts of each queue.")] = 3,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the queues by route, rank and category: depth, age of the oldest entry, the deepest accounts."""
    found = ask_admin(config, "GET", "/admin/v1/queues", query={"top": str(top)})
    if route:
        found["queues"] = [q for q in found["queues"] if q["route"] == route]
        known = [] if found["queues"] else [r["id"] for r in ask_admin(config, "GET", "/admin/v1/routes")["routes"]]
        if known and route not in known:
            stop(f"no such route (there are: {', '.join(known)})")
    lines = [f"{found['waiting']} messages wait; {found['scheduled']} for their time, {found['held']} held by gates"]
    for q in found["queues"]:
        lines.append(
            f"{q['route']} rank {q['rank']} {q['category']}: {q['depth']}, the oldest for {q['oldest_age_s']} s"
        )
        lines += [f"    {a['account']}: {a['depth']}, {a['oldest_age_s']} s" for a in q["accounts"]]
    for q in found["pinned"]:
        lines.append(f"for {q['channel']} alone, {q['category']}: {q['depth']}, {q['oldest_age_s']} s")
    tell(found, as_json, lines)
