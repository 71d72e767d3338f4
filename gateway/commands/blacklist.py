"""`smsgw blacklist`: numbers that must not be written to: show, change, import and export millions, take back.

Owns the CSV file on this side and the progress of long work: pieces of some thousand rows go over the admin listener,
so that nothing holds a whole list. Refuses to judge rows: the listener does, and what is wrong is named by its line. A
number may be `-`: it is then read from stdin and stays out of the shell's history.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.commands.common import (
    DEFAULT_CONFIG,
    EXIT_NOT_WELL,
    EXIT_STOPPED,
    EXIT_USE,
    AsJson,
    ConfigDir,
    ask_admin,
    find_admin,
    say,
    stop,
)

blacklist_app = typer.Typer(help="Blacklists: numbers that must not be written to.", no_args_is_help=True)

ROWS_A_CALL: Final = 5000
_PLACE: Final = "/admin/v1/blacklist"
_COLUMNS: Final = ("number", "categories", "reason", "since", "source")
_BAD_SHOWN: Final = 20
_MAX_CELL: Final = 64  # longer than any that is good; a piece with longer ones would be refused for its size
_PROGRESS_EVERY: Final = 20 * ROWS_A_CALL

Number = Annotated[str, typer.Argument(metavar="NUMBER", help="E.164 with '+', or national with --country; -: stdin.")]
Scope = Annotated[str, typer.Option(metavar="SCOPE", help="global, an account, or account/sender, account/signature.")]
Country = Annotated[str, typer.Option(metavar="CC", help="Whose national numbers these are.")]
Category = Annotated[
    list[str] | None, typer.Option("--category", help="verification, notification or marketing; several times.")
]


@blacklist_app.command("show")
def show(number: Number, country: Country = "", config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show on which lists a number stands, why and since when."""
    body = {"number": _typed(number), "country": country}
    found = ask_admin(config, "POST", f"{_PLACE}/search", body=body)
    if as_json:
        say(json.dumps(found))
        return
    for one in found["entries"]:
        say(_line(one))
    if not found["entries"]:
        say("on no list")


@blacklist_app.command("add")
def add(
    number: Number,
    scope: Scope = "global",
    reason: Annotated[
        str, typer.Option(help="td, complaint, operator, invalid-number or do-not-disturb.")
    ] = "operator",
    category: Category = None,
    country: Country = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Put a number on a list, for these categories (marketing when none is named) and no others."""
    body: dict[str, Any] = {"number": _typed(number), "country": country, "scope": scope, "reason": reason}
    if category:
        body["categories"] = category
    found = ask_admin(config, "PUT", _PLACE, body=body)
    say(json.dumps(found) if as_json else _line(found))


@blacklist_app.command("remove")
def remove(
    number: Number,
    scope: Scope = "global",
    country: Country = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take a number off a list. Exit 1 when it was not on it."""
    body = {"number": _typed(number), "country": country, "scope": scope}
    found = ask_admin(config, "DELETE", _PLACE, body=body)
    if as_json:
        say(json.dumps(found))
    else:
        for one in found["removed"]:
            say(f"removed: {_line(one)}")
    if not found["removed"]:
        if not as_json:
            say(f"was not on {scope}")
        raise typer.Exit(EXIT_NOT_WELL)


@blacklist_app.command("stats")
def stats(
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days to show.")] = 14,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Count the numbers on all lists by reason, and what came and went by day."""
    found = ask_admin(config, "GET", _PLACE, query={"days": str(days)})
    if as_json:
        say(json.dumps(found))
        return
    for one in found["numbers"]:
        say(f"{one['scope']:24} {one['reason']:16} {one['numbers']:>12}")
    for one in found["days"]:
        say(f"{one['day']} {one['scope']:24} {one['reason']:16} +{one['added']} -{one['removed']}")
    if not found["numbers"]:
        say("no numbers are listed")


@blacklist_app.command("list")
def list_(
    scope: Scope = "global",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show entries of a list, in no order. `export` writes all of them."""
    rows: list[list[str]] = []

    async def gather() -> None:
        async for page in _pages(config, scope):
            rows.extend(page)
            if len(rows) >= limit:
                return

    asyncio.run(gather())
    if as_json:
        say(json.dumps([dict(zip(_COLUMNS, row, strict=True)) for row in rows[:limit]]))
        return
    for row in rows[:limit]:
        say(f"+{row[0]} {row[1]}: {row[2]} since {row[3]} by {row[4] or 'unknown'}")


@blacklist_app.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Written anew; - is stdout.")],
    scope: Scope = "global",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object a line instead of CSV.")] = False,
) -> None:
    """Write a list as CSV: number (digits, without '+'), categories, reason, since, source. It stands in the audit.

    A number may stand there twice where the list grew or shrank meanwhile; none that was there all the time is missing.
    """

    async def write(out: Any) -> int:
        rows = csv.writer(out, lineterminator="\n")
        if not as_json:
            rows.writerow(_COLUMNS)
        n = 0
        async for page in _pages(config, scope):
            if as_json:
                out.writelines(json.dumps(dict(zip(_COLUMNS, row, strict=True))) + "\n" for row in page)
            else:
                rows.writerows(page)
            before, n = n, n + len(page)
            if n // _PROGRESS_EVERY > before // _PROGRESS_EVERY:
                say(f"{n} rows written", err=True)
        return n

    if str(file) == "-":
        asyncio.run(write(sys.stdout))
        return
    new = file.with_name(file.name + ".new")
    try:
        with new.open("w", encoding="utf-8", newline="") as out:
            new.chmod(0o600)
            n = asyncio.run(write(out))
        new.replace(file)
    except OSError as exc:
        stop(f"{file} cannot be written: {exc.strerror or type(exc).__name__}")
    finally:
        new.unlink(missing_ok=True)
    if as_json:
        say(json.dumps({"rows": n, "file": str(file)}))
    else:
        say(f"{n} rows in {file}", err=True)


async def _pages(config: Path, scope: str) -> AsyncIterator[list[list[str]]]:
    from gateway.client.admin import ask

    base, token = find_admin(config)
    query = {"scope": scope}
    while True:
        found = await ask(base, token, "GET", f"{_PLACE}/entries", query=query)
        yield found["entries"]
        if not found["next"]:
            return
        query = {"scope": scope, "cursor": found["next"]}


# --- imports


@blacklist_app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv", exists=True, dir_okay=False, help="number[,categories[,reason]]; # begins a comment."
        ),
    ],
    scope: Scope = "global",
    reason: Annotated[str, typer.Option(help="Where a row names none.")] = "do-not-disturb",
    category: Category = None,
    country: Country = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    import_id: Annotated[str, typer.Option("--id", help="Go on with an import that was interrupted.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Add the numbers of a file to a list. Run again, it changes nothing; `undo` takes it back.

    Bad rows are left out, counted, and the first 20 named by their lines (exit 1). What is on the list already keeps
    its reason where that is the stronger one, and gets the categories that are missing.
    """
    rules: dict[str, Any] = {
        "scope": scope,
        "reason": reason,
        "country": country,
        "dry_run": dry_run,
        "name": file.name.encode("ascii", "replace").decode()[:100],
        "id": import_id,
    }
    if category:
        rules["categories"] = category
    size = max(1, file.stat().st_size)
    totals = asyncio.run(_import(config, file, size, rules, quiet=as_json))
    if as_json:
        say(json.dumps(totals))
    else:
        for one in totals["bad"]:
            say(f"line {one['line']}: {one['reason']}", err=True)
        if totals["bad_rows"] > len(totals["bad"]):
            say(f"… and {totals['bad_rows'] - len(totals['bad'])} more bad rows", err=True)
        said = "would be " if dry_run else ""
        say(
            f"{totals['added']} {said}added, {totals['changed']} {said}changed, {totals['unchanged']} there already, "
            f"{totals['bad_rows']} bad"
        )
        if not dry_run:
            say(f"import {totals['id']}; to take it back: smsgw blacklist undo {totals['id']}")
    if totals["bad_rows"]:
        raise typer.Exit(EXIT_NOT_WELL)


async def _import(config: Path, file: Path, size: int, rules: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    from gateway.client.admin import AdminError, ask

    base, token = find_admin(config)
    import_id = (await ask(base, token, "POST", f"{_PLACE}/imports", body=rules))["id"]
    totals: dict[str, Any] = {"id": import_id, "added": 0, "changed": 0, "unchanged": 0, "bad_rows": 0, "bad": []}
    try:
        for rows, at, bad in _chunks(file):
            body = {"rows": rows}
            done = await ask(base, token, "POST", f"{_PLACE}/imports/{import_id}/rows", body=body)
            before = sum(totals[key] for key in ("added", "changed", "unchanged", "bad_rows"))
            for key in ("added", "changed", "unchanged", "bad_rows"):
                totals[key] += done[key]
            totals["bad_rows"] += len(bad)
            totals["bad"] = sorted([*totals["bad"], *bad, *done["bad"]], key=lambda one: int(one["line"]))[:_BAD_SHOWN]
            now = sum(totals[key] for key in ("added", "changed", "unchanged", "bad_rows"))
            if not quiet and now // _PROGRESS_EVERY > before // _PROGRESS_EVERY:
                say(f"{now} rows ({100 * at // size} %)", err=True)
    except (AdminError, OSError, KeyboardInterrupt, asyncio.CancelledError) as exc:
        say(f"smsgw: the import stopped: {exc or type(exc).__name__}", err=True)
        say(f"go on with the same command and --id {import_id}, or: smsgw blacklist undo {import_id}", err=True)
        raise typer.Exit(EXIT_STOPPED) from None
    ended = {key: totals[key] for key in ("added", "changed", "unchanged", "bad_rows")}
    await ask(base, token, "POST", f"{_PLACE}/imports/{import_id}/end", body=ended)
    return totals


def _chunks(file: Path) -> Iterator[tuple[list[list[Any]], int, list[dict[str, Any]]]]:
    """Yield rows ([line, cell, …]) some thousand at a time, the octets read so far, and lines that are no CSV."""
    rows: list[list[Any]] = []
    bad: list[dict[str, Any]] = []
    at = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            at += len(line)
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not text or text.startswith("#"):
                    continue
                cells = next(csv.reader([text], strict=True))
            except (UnicodeDecodeError, csv.Error):
                bad.append({"line": number, "reason": "not a line of CSV in UTF-8"})
                continue
            if cells[0].strip().lower() == "number":
                continue  # the head, also of files that were put together
            rows.append([number, *(cell[:_MAX_CELL] for cell in cells[:3])])
            if len(rows) == ROWS_A_CALL:
                yield rows, at, bad
                rows, bad = [], []
    if rows or bad:
        yield rows, at, bad


@blacklist_app.command("imports")
def imports(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what was imported, the newest first."""
    found = ask_admin(config, "GET", f"{_PLACE}/imports")
    if as_json:
        say(json.dumps(found))
        return
    for one in found["imports"]:
        state = (
            "taken back" if one.get("undone") else "dry run" if one["dry_run"] else "" if one.get("ended") else "open"
        )
        counts = f"{one.get('added', 0)} added, {one.get('changed', 0)} changed"
        say(f"{one['id']} {one['at']} {one['scope']} {one['reason']}: {counts} {one['name']} {state}".rstrip())


@blacklist_app.command("undo")
def undo(
    import_id: Annotated[str, typer.Argument(metavar="[ID]", help="An import's id.")] = "",
    source: Annotated[str, typer.Option(help="Or a source of --scope, as entries show it: mo.CHANNEL.")] = "",
    scope: Scope = "global",
    since: Annotated[str, typer.Option(metavar="TIME", help="Only what came from then on (ISO 8601).")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="And until then.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take back what an import, or a channel's replies, put on a list; what somebody changed since stays as it is."""
    if bool(import_id) == bool(source):
        stop("an import's id, or --source with --scope, is wanted", code=EXIT_USE)
    body: dict[str, Any] = {"import": import_id} if import_id else {"scope": scope, "source": source}
    if source:
        body |= {name: value for name, value in (("since", since), ("until", until)) if value}
    removed, restored = asyncio.run(_undo(config, body))
    if as_json:
        say(json.dumps({"removed": removed, "restored": restored}))
    else:
        say(f"{removed} removed, {restored} as they were before")


async def _undo(config: Path, body: dict[str, Any]) -> tuple[int, int]:
    from gateway.client.admin import ask

    base, token = find_admin(config)
    removed = restored = 0
    while True:
        found = await ask(base, token, "POST", f"{_PLACE}/undo", body=body)
        removed, restored = removed + found["removed"], restored + found["restored"]
        if not found["next"]:
            return removed, restored
        body = {**body, "next": found["next"]}


def _typed(number: str) -> str:
    return sys.stdin.readline().strip() if number == "-" else number


def _line(one: dict[str, Any]) -> str:
    by = one["source"] or "unknown"
    return f"{one['scope']}: {', '.join(one['categories'])}, {one['reason']} since {one['since']} by {by}"
