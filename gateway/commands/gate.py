"""`smsgw gate`: pause or stop a campaign at once, across all queues and schedules; how far that is.

Owns the question before a close, the sum over a preview's answers and how progress is shown. Refuses to know queues:
the admin listener answers (`/admin/v1/gates`).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_USE, AsJson, ConfigDir, ask_admin, say, stop, tell
from gateway.commands.ids import account_ids, categories

gate_app = typer.Typer(help="Gates: hold, close or open what many messages share.", no_args_is_help=True)

_PLACE: Final = "/admin/v1/gates"
_WORDS: Final = ("queued", "scheduled", "deferred", "retry", "held")
_UNDER_WAY: Final = ("claimed", "submitted", "uncertain")
_WATCH_S: Final = 1.0

Gate = Annotated[str, typer.Option("--gate", metavar="NAME", help="Messages with this gate.")]
Tag = Annotated[str, typer.Option("--tag", metavar="NAME", help="Messages with this tag.")]
Campaign = Annotated[str, typer.Option("--campaign", metavar="NAME", help="Messages of this campaign (origin).")]
Account = Annotated[
    str, typer.Option("--account", metavar="ID", help="All of an account's.", autocompletion=account_ids)
]
Category = Annotated[
    str, typer.Option("--category", metavar="NAME", help="All of a category's.", autocompletion=categories)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what it would concern, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Do not count what carriers have: that walks all traffic of the last days.")
]


@gate_app.command("list")
def list_(
    watch: Annotated[bool, typer.Option("--watch", help="Again each second, until Ctrl-C.")] = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the gates that are not open: what each holds, has closed and has still to look at."""
    try:
        while True:
            found = ask_admin(config, "GET", _PLACE)
            lines = [_line(g) for g in found["gates"]] or ["all gates are open"]
            if watch and not as_json:
                lines = [time.strftime("%H:%M:%S"), *lines]
            tell(found, as_json, lines)
            sys.stdout.flush()
            if not watch:
                return
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return


@gate_app.command("hold")
def hold(
    gate: Gate = "",
    tag: Tag = "",
    campaign: Campaign = "",
    account: Account = "",
    category: Category = "",
    dry_run: DryRun = False,
    quick: Quick = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Hold messages aside from the next claim on, and say how many wait behind it; `open` lets them go."""
    _set("hold", _which(gate, tag, campaign, account, category), dry_run, quick, True, config, as_json)


@gate_app.command("close")
def close(
    gate: Gate = "",
    tag: Tag = "",
    campaign: Campaign = "",
    account: Account = "",
    category: Category = "",
    dry_run: DryRun = False,
    quick: Quick = False,
    yes: Yes = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """End messages as cancelled, from the next claim on, and all that wait or are scheduled. Shows a count and asks."""
    _set("closed", _which(gate, tag, campaign, account, category), dry_run, quick, yes, config, as_json)


@gate_app.command("open")
def open_(
    gate: Gate = "",
    tag: Tag = "",
    campaign: Campaign = "",
    account: Account = "",
    category: Category = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Open a gate: what it held goes back to its queues; what was closed stays closed."""
    _set("open", _which(gate, tag, campaign, account, category), False, True, True, config, as_json)


def _which(gate: str, tag: str, campaign: str, account: str, category: str) -> dict[str, str]:
    given = {"gate": gate, "tag": tag, "campaign": campaign, "account": account, "category": category}
    chosen = [(kind, name) for kind, name in given.items() if name]
    if len(chosen) != 1:
        stop("one of --gate, --tag, --campaign, --account and --category is wanted", code=EXIT_USE)
    return {"kind": chosen[0][0], "name": chosen[0][1]}


def _set(state: str, which: dict[str, str], dry_run: bool, quick: bool, yes: bool, config: Path, as_json: bool) -> None:
    ask = not yes
    if ask and not dry_run and (as_json or not sys.stdin.isatty()):
        stop("a close ends messages for good: --yes is wanted where nobody can be asked", code=EXIT_USE)
    if dry_run or ask:
        found = _preview(config, which, quick)
        tell(found, as_json, _counted(found))
        if dry_run:
            return
        if not typer.confirm(f"Close {which['kind']} {which['name']}?"):
            stop("nothing was changed", code=1)
    found = ask_admin(config, "PUT", _PLACE, body={**which, "state": state})
    more = f", {found['moved']} moved" if found["moved"] else ""
    if state == "hold":  # it holds already: counting may take a while where millions wait
        found["waiting"] = _preview(config, which, quick=True)["waiting"]
        more += f", {found['waiting']} messages wait behind it"
    still = f", {found['held']} still held" if found["held"] else ""
    tell(found, as_json, [f"{found['kind']} {found['name']}: {found['state']}{more}{still}"])
    if state == "closed" and not as_json:
        say("what waits is being ended in slices: `smsgw gate list --watch` shows how far that is")


def _preview(config: Path, which: dict[str, str], quick: bool) -> dict[str, Any]:
    """Ask until the count is whole, and add the answers up."""
    total: dict[str, Any] = {}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    body: dict[str, Any] = {**which, "under_way": not quick}
    while True:
        found = ask_admin(config, "POST", f"{_PLACE}/preview", body=body)
        for row in found.pop("rows"):
            where = {"category": row["category"], "account": row["account"]}
            known = rows.setdefault((row["category"], row["account"]), where | dict.fromkeys((*_WORDS, *_UNDER_WAY), 0))
            for word in (*_WORDS, *_UNDER_WAY):
                known[word] += row[word]
        if not total:
            total = found
        else:
            for word in ("waiting", *_WORDS, "looked"):
                total[word] += found[word]
            for word in _UNDER_WAY:
                total["under_way"][word] += found["under_way"][word]
        if not found["next"]:
            return {**total, "rows": [rows[key] for key in sorted(rows)], "next": ""}
        body["next"] = found["next"]


def _counted(found: dict[str, Any]) -> list[str]:
    words = ", ".join(f"{found[word]} {word}" for word in _WORDS if found[word])
    lines = [f"{found['kind']} {found['name']}: {found['waiting']} messages wait" + (f" ({words})" if words else "")]
    for row in found["rows"]:
        if said := ", ".join(f"{row[word]} {word}" for word in _WORDS if row[word]):
            lines.append(f"  {row['category']} of {row['account']}: {said}")
    if away := ", ".join(f"{n} {word}" for word, n in found["under_way"].items() if n):
        lines.append(f"under way, which no gate stops: {away}")
    return lines


def _line(g: dict[str, Any]) -> str:
    parts = [f"{g['kind']} {g['name']}: {g['state']}"]
    if g["held"]:
        parts.append(f"{g['held']} held")
    if g["state"] == "closed" or g["closed"]:
        parts.append(f"{g['closed']} closed")
    sweep = g.get("sweep")
    if sweep and not sweep["done"]:
        parts.append(f"{sweep['left']} of {sweep['total']} still to look at")
    elif sweep:
        parts.append(f"swept in {(sweep['ended_ms'] - sweep['started_ms']) / 1000:.1f} s")
    return ", ".join(parts)
