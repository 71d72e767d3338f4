"""`smsgw stats`: how messages fared, as a table, as JSON or as a CSV file.

Owns what of a report is shown and how. Refuses to know what a number means: the admin listener answers the report
(`GET /admin/v1/stats`), and `gateway.statistics` writes its CSV.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, say, stop

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN: Final = (
    "accepted",
    "submitted",
    "delivered",
    "failed",
    "expired",
    "unknown",
    "cancelled",
    "blocked",
    "td",
    "parts",
)
_MOST_FAILURES: Final = 10


def stats(
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="A date, or a time with its offset. [default: today]")
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="As --from; a date is in it. [default: now]")] = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="With commas between: hour or day, account, category, carrier, route, channel, reason, template, "
            "campaign, variant; or signature (opt-outs and complaints alone).",
        ),
    ] = "",
    zone: Annotated[str, typer.Option(help="Whose days: +08:00, Asia/Shanghai. [default: UTC]")] = "",
    where: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only these, as account=shop,bank; several times.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV to a file.")] = None,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show how messages fared: counts, ratios, latency, cost and the reasons of failures."""
    query = {name: value for name, value in (("from", since), ("to", until), ("by", by), ("zone", zone)) if value}
    for one in where or ():
        name, equals, value = one.partition("=")
        if not equals or name in query:
            stop("--where wants NAME=VALUE, each name once", code=2)
        query[name] = value
    found = ask_admin(config, "GET", "/admin/v1/stats", query=query)
    if csv_file is not None:
        from gateway.statistics import to_csv

        try:
            csv_file.write_text(to_csv(found), encoding="utf-8", newline="")
        except OSError as exc:
            stop(f"{csv_file}: {exc.strerror}", code=2)
        say(f"{len(found['rows'])} rows written to {csv_file}", err=True)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    elif csv_file is None:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=240)  # into a file or pipe: nothing is folded
    console.print(f"{found['from']} to {found['to']} ({found['zone']})", highlight=False)
    console.print(_table(found))
    if failures := found["total"].get("failures", ())[:_MOST_FAILURES]:
        console.print("failed because of", highlight=False)
        for f in failures:
            share = "" if f["share"] is None else f" ({f['share']:.1%})"
            console.print(
                f"  {f['reason'] or 'no reason'}, {f['state']}: {f['n']}{share}", highlight=False, markup=False
            )


def _table(found: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    whole = "accepted" in found["total"]
    counts = _SHOWN if whole else ("td", "complaints")
    table = Table(box=box.SIMPLE, show_footer=bool(found["by"]))
    total = _cells(found["total"], counts)
    for i, name in enumerate(found["by"]):
        table.add_column(name, footer="total" if i == 0 else "")
    names = [*counts, *(("ratio", "p50 s", "p95 s", "cost") if whole else ())]
    for name, footer in zip(names, total, strict=True):
        table.add_column(name, justify="right", footer=footer)
    for row in found["rows"] if found["by"] else [found["total"]]:
        table.add_row(*(Text(row[name]) for name in found["by"]), *_cells(row, counts))
    return table


def _cells(row: dict[str, Any], counts: tuple[str, ...]) -> list[str]:
    cells = [str(row[name]) for name in counts]
    if "accepted" in row:
        ratio, taken = row["delivery_ratio"], row["latency"] or {}
        cells.append("" if ratio is None else f"{ratio:.1%}")
        cells += ["" if taken.get(name) is None else f"{taken[name]:g}" for name in ("p50_s", "p95_s")]
        cells.append(row["cost"])
    return cells
