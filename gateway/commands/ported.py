"""`smsgw ported`: tables of ported numbers, and what receipts taught.

Owns how it is shown. Refuses to know tables (`gateway.ported`) and the store: `forget` asks the admin listener.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, say, stop

ported_app = typer.Typer(help="Ported numbers: whose they are now, whatever their prefix says.", no_args_is_help=True)


@ported_app.command("import")
def ported_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="Columns: number, carrier.")
    ],
    country: Annotated[
        str, typer.Option(metavar="CC", help="Whose national numbers these are. Without it all must be E.164.")
    ] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Replace the table of ported numbers of one country by a CSV file; running workers take it within seconds.

    Carriers are named as in number_segments; one that is not there refuses the file. Of several rows with one number
    the last counts. Bad rows are left out, counted, and the first 20 named by their lines (exit 1).
    """
    from gateway.ported import import_table
    from gateway.settings import load_without_secrets

    settings = load_without_secrets(config)
    size = max(1, file.stat().st_size)

    def progress(rows: int, offset: int) -> None:
        if not as_json:
            say(f"{rows} rows read ({100 * offset // size} %)", err=True)

    try:
        report, plain = import_table(settings, file, country, progress)
    except OSError as exc:
        stop(f"the import could not go on: {exc.strerror or type(exc).__name__}; the table is as it was")
    if as_json:
        say(json.dumps(plain))
    else:
        for line, reason in report.bad:
            say(f"line {line}: {reason}", err=True)
        if report.bad_rows > len(report.bad):
            say(f"… and {report.bad_rows - len(report.bad)} more bad rows", err=True)
        say(
            f"{report.country}: {report.numbers} numbers in the table; {report.rows} rows read, "
            f"{report.duplicates} replaced by later ones, {report.bad_rows} bad; {report.path}"
        )
    if report.bad_rows:
        raise typer.Exit(EXIT_NOT_WELL)


@ported_app.command("info")
def ported_info(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say which tables of ported numbers are there. Exit 1 when one cannot be used."""
    from gateway.ported import info
    from gateway.settings import load_without_secrets

    found = info(load_without_secrets(config))
    if as_json:
        say(json.dumps(found))
    else:
        for table in found["tables"]:
            by = ", ".join(f"{name} {count}" for name, count in table["carriers"].items())
            say(
                f"{table['country']}: {table['numbers']} numbers ({by}), imported {table['imported_at']}; "
                f"{table['file']}"
            )
        if not found["tables"]:
            say("no table of ported numbers is in use")
        for problem in found["problems"]:
            say(problem, err=True)
    if found["problems"]:
        raise typer.Exit(EXIT_NOT_WELL)


@ported_app.command("lookup")
def ported_lookup(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="E.164 with '+', or national with --country.")],
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say which carrier a number is routed for, and what says so: learned, imported or segment."""
    from gateway.errors import RequestError
    from gateway.ported import lookup
    from gateway.settings import load_without_secrets

    try:
        found = asyncio.run(lookup(load_without_secrets(config, store=True), number, country.upper()))
    except RequestError as exc:
        stop(exc.detail, code=2)
    if as_json:
        say(json.dumps(found))
        return
    learned = found["learned"]
    known = "the store does not answer, so it is not known"
    if learned is not None:
        known = learned["carrier"] or (f"not {', not '.join(learned['not'])}" if learned["not"] else "nothing")
    say(f"carrier: {found['carrier'] or 'none'} ({found['origin']})")
    say(f"learned: {known}")
    say(f"imported: {found['imported'] or 'nothing'}")
    say(f"segment: {found['segment'] or 'nobody'}")


@ported_app.command("forget")
def ported_forget(
    number: Annotated[str, typer.Argument(metavar="[NUMBER]", help="E.164 with '+', or national with --country.")] = "",
    all_learned: Annotated[
        bool, typer.Option("--all-learned", help="Forget what receipts taught of every number.")
    ] = False,
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Forget what receipts taught about a number; running workers follow within seconds. Imported tables stay."""
    if bool(number) == all_learned:
        stop("a number is wanted, or --all-learned", code=2)
    body = {"all_learned": True} if all_learned else {"number": number, "country": country}
    found = ask_admin(config, "POST", "/admin/v1/ported/forget", body=body)
    if as_json:
        say(json.dumps(found))
        return
    n = found["forgotten"]
    say("nothing had been learned" if not n else f"{n} learned fact{'s' if n > 1 else ''} forgotten")
    if found["imported"]:
        say(f"the imported table has it with {found['imported']}; only another import changes that")
