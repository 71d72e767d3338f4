"""`smsgw audit`: who changed what; and whether the record of it is whole.

Owns how it is shown. Refuses to know what changes mean: the admin listener answers (`/admin/v1/audit`).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, say

_OWN = frozenset({"at", "at_ms", "shard", "entry", "actor", "action", "object", "before", "after"})


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    actor: Annotated[str, typer.Option(help="Only whose name or address has this in it.")] = "",
    action: Annotated[str, typer.Option(help="Only actions that begin so, as config or blacklist.add.")] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Follow the chain of hashes; exit 1 where it breaks.")
    ] = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, the newest first. Numbers stand masked."""
    query = {"verify": "1"} if verify else {"limit": str(limit), "actor": actor, "action": action}
    found = ask_admin(config, "GET", "/admin/v1/audit", query=query)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    elif verify:
        for one in found["chains"]:
            state = f"BROKEN at entry {one['broken_at']}" if one["broken_at"] else "sound"
            say(f"shard {one['shard']}: {one['entries']} entries, {state}, head {one['head'] or 'none'}")
    else:
        for one in found["entries"]:
            more = " ".join(
                f"{name}={value}" for name, value in one.items() if name not in _OWN and name != "number_hash"
            )
            change = f" [{one['before']}] → [{one['after']}]" if one["before"] or one["after"] else ""
            say(f"{one['at']} {one['actor']} {one['action']} {one['object']}{change} {more}".rstrip())
    if verify and not found["sound"]:
        raise typer.Exit(EXIT_NOT_WELL)
