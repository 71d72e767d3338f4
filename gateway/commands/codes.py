"""`smsgw codes`: failure codes that nobody knew, and what a code means on a channel.

Asks the admin listener. Refuses to know tables and spellings.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, say

app = typer.Typer(help="Failure codes of receipts: what they mean, and which ones nobody knows.", no_args_is_help=True)

Channel = Annotated[str, typer.Option("--channel", help="As this channel reads it; without: as one of no carrier.")]


@app.command("unknown")
def codes_unknown(
    channel: Annotated[str, typer.Option("--channel", help="Of this channel only.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List codes that came in receipts and stand in no table, the most frequent first."""
    found = ask_admin(config, "GET", "/admin/v1/failure-codes", query={"channel": channel} if channel else {})
    if as_json:
        say(json.dumps(found))
        return
    for one in found["unknown"]:
        say(f"{one['channel']}: {one['code']}, {one['count']} times, last {one['last_seen']}")
    if not found["unknown"]:
        say("no unknown codes")


@app.command("explain")
def codes_explain(
    code: Annotated[str, typer.Argument(help="As in a receipt's err or stat; gsm:27 for a network_error_code.")],
    channel: Channel = "",
    stat: Annotated[str, typer.Option("--stat", help="The receipt's stat, where CODE is its err.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say what a code means and where that stands. Exit 1 where nobody knows it."""
    query = {"code": code, "channel": channel, "stat": stat}
    found = ask_admin(config, "GET", "/admin/v1/failure-codes", query={k: v for k, v in query.items() if v})
    say(json.dumps(found) if as_json else _sentence(found))
    if not found["known"]:
        raise typer.Exit(EXIT_NOT_WELL)


def _sentence(found: dict[str, Any]) -> str:
    if not found["known"]:
        return f"{found['spelling']}: nobody knows it; {found['reason']}, not permanent"
    words = ["permanent" if found["permanent"] else "not permanent"]
    if found["passes_elsewhere"]:
        words.append("another channel may deliver it")
    if found["suppress"]:
        words.append("safe enough to mark the number")
    where = f"{found['found_as']} {found['decided_by']}"
    detail = f"\n  {found['detail']}" if found["detail"] else ""
    source = f" ({found['source']})" if found["source"] else ""
    return f"{found['spelling']}: {found['reason']}, {', '.join(words)}; found as {where}{detail}{source}"
