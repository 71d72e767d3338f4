"""`smsgw config`: the configuration in force, its history, and changing it on all machines at once.

Owns how it is shown, and exit codes: 3 where a change was refused (each problem as file, key, reason and who said so),
4 where it was not decided (somebody else is changing it, a machine did not answer), 1 where `diff` finds something. The
admin listener answers (`/admin/v1/config`).
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway.commands.common import (
    DEFAULT_CONFIG,
    EXIT_CONFIG,
    EXIT_NOT_WELL,
    EXIT_STOPPED,
    EXIT_USE,
    AsJson,
    ConfigDir,
    ask_admin,
    say,
    stop,
)

config_app = typer.Typer(help="The configuration: its folder, and what is in force.", no_args_is_help=True)

Note = Annotated[str, typer.Option(help="Why, for the history.")]
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="A revision's number, as in the history.")]
_PLACE = "/admin/v1/config"
BUSY_S, BUSY_AGAIN_S = 15.0, 0.5
_UNDECIDED = frozenset({"busy", "moved", "no_answer", "lapsed"})


def _ask(config: Path, method: str, path: str, *, as_json: bool, **what: Any) -> Any:
    """Ask the admin listener; a refused change ends the command with its problems and its exit code.

    Only one change is decided at a time, and a gateway that starts publishes its files: such a one is waited for.
    """
    from gateway.client.admin import AdminError

    until, waits = time.monotonic() + BUSY_S, False
    while True:
        try:
            return ask_admin(config, method, path, **what)
        except AdminError as exc:
            if exc.code == "busy" and time.monotonic() < until:
                if not waits and not as_json:
                    say("another change is being decided: waiting for it", err=True)
                waits = True
                time.sleep(BUSY_AGAIN_S)
                continue
            if "problems" not in exc.body:
                raise
            _refused(exc.body, as_json)


def _refused(body: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        say(json.dumps(body, ensure_ascii=False))
    else:
        for one in body["problems"]:
            where = f" ({one['machine']}, {one['role']})" if "machine" in one else ""
            words = ": ".join(one[name] for name in ("file", "key", "reason") if one.get(name))
            say(f"{words}{where}", err=True)
        say(f"smsgw: {body['detail']}", err=True)
    raise SystemExit(EXIT_STOPPED if body["code"] in _UNDECIDED else EXIT_CONFIG)


@config_app.command("reload")
def config_reload(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let every machine check the files, and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where the files are not based on the revision in force.")
    ] = False,
    note: Note = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Put this machine's files in force on all machines, or on none. Traffic goes on."""
    body = {"dry_run": dry_run, "force": force, "note": note}
    _tell(_ask(config, "POST", f"{_PLACE}/reload", as_json=as_json, body=body), as_json)


@config_app.command("rollback")
def config_rollback(
    number: Number,
    write: Annotated[bool, typer.Option("--write", help="Write it into this machine's files as well.")] = False,
    note: Note = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Put an old revision in force again on all machines, as a new revision."""
    body = {"revision": number, "note": note}
    found = _ask(config, "POST", f"{_PLACE}/rollback", as_json=as_json, body=body)
    if write:
        found["written"] = _ask(config, "POST", f"{_PLACE}/write", as_json=as_json, body={})["written"]
    _tell(found, as_json)
    if write and not as_json:
        say(_written(found["written"]))


@config_app.command("write")
def config_write(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Write the revision in force into this machine's files; its own keys stay, old files are kept as .bak."""
    found = _ask(config, "POST", f"{_PLACE}/write", as_json=as_json, body={})
    say(json.dumps(found) if as_json else f"revision {found['revision']}: {_written(found['written'])}")


def _written(names: list[str]) -> str:
    return f"written: {', '.join(names)}" if names else "the files said so already"


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    say(found["detail"])
    for what, names in found["changes"].items():
        say(f"  {what}: {', '.join(names)}")
    for warning in found["warnings"]:
        say(f"warning: {warning}", err=True)
    if found["needs_restart"]:
        say(f"takes a restart of this machine: {', '.join(found['needs_restart'])}", err=True)


@config_app.command("status")
def config_status(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what is in force, what each worker runs, and how this machine's files stand to it. Exit 1 if not all do."""
    found = _ask(config, "GET", _PLACE, as_json=as_json)
    well = all(one["in_force"] for one in found["members"] if one["lives"]) and not found["here"]["files_differ"]
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    else:
        say(_line(found) if "at" in found else "no revision was published yet")
        for one in found["members"]:
            state = "" if one["lives"] else f", silent for {one['silent_s']:.0f} s"
            problem = f": {one['problem']}" if one["problem"] else ""
            say(f"  {one['machine']}, {one['role']} {one['number']}: revision {one['revision']}{state}{problem}")
        say(f"files here: {found['here']['standing']}")
        if found["here"]["needs_restart"]:
            say(f"takes a restart of this machine: {', '.join(found['here']['needs_restart'])}")
        last = found["last"]
        if last is not None and last["result"] == "refused" and last["stands"]:
            say(f"last change, {last['at']} by {last['by']}: refused: {last['detail']}")
    if not well:
        raise typer.Exit(EXIT_NOT_WELL)


@config_app.command("history")
def config_history(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the revisions that are kept, the newest first."""
    found = _ask(config, "GET", f"{_PLACE}/history", as_json=as_json)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    for one in found["revisions"]:
        say(_line(one))


def _line(one: dict[str, Any]) -> str:
    note = f": {one['note']}" if one["note"] else ""
    return f"revision {one['revision']}, {one['at']}, by {one['by']} on {one['machine']}, {one['digest'][:12]}{note}"


@config_app.command("show")
def config_show(number: Number, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show a revision's files. A secret that stands in them is masked, references are not."""
    found = _ask(config, "GET", f"{_PLACE}/revisions/{number}", as_json=as_json)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    say(f"# {_line(found)}")
    for name, text in found["files"].items():
        say(f"\n# --- {name}\n{text}".rstrip("\n"))


@config_app.command("diff")
def config_diff(
    revisions: Annotated[
        list[int] | None,
        typer.Argument(metavar="[A [B]]", min=1, help="Revisions. [default: the one in force, this machine's files]"),
    ] = None,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Compare two revisions, or one with this machine's files. Exit 1 where they say different things."""
    given = revisions or []
    if len(given) > 2:
        stop("at most two revisions are compared", code=EXIT_USE)
    query = {name: str(number) for name, number in zip("ab", given, strict=False)}
    found = _ask(config, "GET", f"{_PLACE}/diff", as_json=as_json, query=query)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    else:
        for line in found["lines"]:
            say(line)
        if found["same"] and found["lines"]:
            say("they say the same to every machine: only comments, their order, or this machine's own keys differ")
    if not found["same"]:
        raise typer.Exit(EXIT_NOT_WELL)
