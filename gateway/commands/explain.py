"""`smsgw explain`: what would become of a message now.

Owns how it is shown. Refuses to decide anything: the admin listener answers (`/admin/v1/explain`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, read_stdin, say
from gateway.commands.ids import account_ids, categories


def explain(
    to: Annotated[
        str,
        typer.Option(metavar="NUMBER", help="The recipient, as applications write it; -: read from stdin."),
    ],
    account: Annotated[str, typer.Option(help="Whose message it would be.", autocompletion=account_ids)],
    category: Annotated[
        str, typer.Option(help="verification, notification or marketing.", autocompletion=categories)
    ] = "notification",
    sender: Annotated[str, typer.Option(help="Its sender id; the account's first one when left out.")] = "",
    signature: Annotated[
        str, typer.Option(help="Its signature, as in 【Acme】; the account's first one if left out.")
    ] = "",
    text: Annotated[str, typer.Option(help="Or its text: its signature is read, and the rules on texts asked.")] = "",
    tag: Annotated[str, typer.Option(help="One of its tags, where limits go by tag.")] = "",
    zone: Annotated[str, typer.Option(help="The recipient's time zone, where the application knows it.")] = "",
    local_window: Annotated[str, typer.Option(help="The campaign's own hours, as 10:00-12:00.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say what would become of a message now: number, carrier, route, channels, and what would refuse or hold it."""
    optional = {"sender": sender, "signature": signature, "text": text}
    optional |= {"tag": tag, "zone": zone, "local_window": local_window}
    query = {"to": read_stdin(to), "category": category, "account": account, **{k: v for k, v in optional.items() if v}}
    found = ask_admin(config, "GET", "/admin/v1/explain", query=query)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    if "number" in found:
        say(f"number    {found['number']['e164']} ({found['number']['country'] or 'no country'})")
    if "carrier" in found:
        say(f"carrier   {found['carrier']['name'] or 'not known'} (from: {found['carrier']['known_from']})")
    if found.get("signature"):
        say(f"signature {found['signature']['name']} (from: {found['signature']['known_from']})")
    if "route" in found:
        say(f"route     {found['route']}")
    for channel in found.get("channels", ()):
        mark = "takes it" if channel["takes_it"] else channel["why"]
        if channel["source_addr"]:
            mark += f" (source_addr {channel['source_addr']})"
        if 0 < channel.get("share", 1.0) < 1:
            mark += f", {channel['share']:.0%} of its rank"
        say(f"  rank {channel['rank']}  {channel['id']}: {mark}")
    if "quality" in found:
        say(f"shares    by quality: {found['quality']['why']}")
    _tell_rules(found)


def _tell_rules(found: dict[str, Any]) -> None:
    if found.get("window"):
        window = found["window"]
        when = f"open until {window['closes_at']}" if window["open"] else f"opens {window['opens_at']}"
        say(f"window    {when} (by {', '.join(window['clocks'])})")
    for cap in found.get("caps", ()):
        say(f"cap       {cap['key']}: {cap['sent']} of {cap['limit']} in {cap['window_s']} s")
    if "scopes" in found:
        say(f"lists     {', '.join(found['scopes'])}")
    for rule in found["rules"]:
        say(f"{rule['effect']:9} {rule['rule']}: {rule['why']}")
    say(f"verdict   {found['verdict']}")
