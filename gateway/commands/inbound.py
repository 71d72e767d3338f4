"""`smsgw inbound`: what handsets wrote, and the replies that a person has to read.

Owns how it is shown. Refuses to know what a reply means: the admin listener answers (`/admin/v1/inbound`). Numbers are
masked and texts left out unless asked for; that they were read stands in the audit.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Final

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, plain, say

inbound_app = typer.Typer(help="Messages from handsets.", no_args_is_help=True)
_PLACE: Final = "/admin/v1/inbound"

Full = Annotated[bool, typer.Option("--full", help="Show texts and whole numbers; the audit notes it.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]


@inbound_app.command("list")
def list_(
    account: Annotated[str | None, typer.Option(help="Only this account's; '' those that belong to none.")] = None,
    number: Annotated[str, typer.Option(help="Only of this number (E.164); - reads it from stdin.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    before: Annotated[str, typer.Option(metavar="ID", help="Go on after this one.")] = "",
    full: Full = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show messages, the newest first."""
    if number:
        raw = sys.stdin.readline().strip() if number == "-" else number
        found = ask_admin(config, "POST", f"{_PLACE}/search", body={"number": raw, "full": full})
    else:
        query = {"limit": str(limit), "months": "6", "full": "1" if full else "0"}
        query |= {"before": before} if before else {}
        query |= {"account": account} if account is not None else {}
        found = ask_admin(config, "GET", _PLACE, query=query)
    _show(found, as_json)


@inbound_app.command("review")
def review(full: Full = False, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show the replies that may be opt-outs and want a person's eye."""
    query = {"review": "1", "limit": "1000", "full": "1" if full else "0"}
    _show(ask_admin(config, "GET", _PLACE, query=query), as_json)


@inbound_app.command("dismiss")
def dismiss(message: Id, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say that a reply was no opt-out."""
    _decide(message, "dismiss", config, as_json)


@inbound_app.command("opt-out")
def opt_out(message: Id, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say that a reply was an opt-out: its number goes on the blacklist as it would have by itself."""
    _decide(message, "opt_out", config, as_json)


def _decide(message: str, decision: str, config: Any, as_json: bool) -> None:
    found = ask_admin(config, "POST", f"{_PLACE}/reviewed", body={"id": message, "decision": decision})
    if as_json:
        say(json.dumps(found))
    else:
        say(f"on the blacklist of {found['scope']}" if "scope" in found else "dismissed")


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    for one in found["messages"]:
        said = one.get("text", f"{one.get('chars', 0)} characters")
        marks = " ".join(mark for mark in (one["opt"], one["keyword"], "partial" if one.get("partial") else "") if mark)
        who = one["account"] or "nobody's"
        head = f"{one['id']} {one['received_at']} {one['from']} → {one['to']} ({who}{', ' + marks if marks else ''})"
        say(plain(f"{head}: {said!r}" if "text" in one else f"{head}: {said}"))
    if found["to_review"]:
        say(f"{found['to_review']} to be read: smsgw inbound review --full", err=True)
