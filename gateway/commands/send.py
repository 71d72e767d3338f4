"""`smsgw send`: a CSV file of messages over the HTTP API, as any application would send it.

Owns the options and where the key comes from. Refuses to know rows, retries and the result file (`gateway.send`).
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.common import EXIT_NOT_WELL, AsJson, say, stop


def send(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="First line: columns.")],
    url: Annotated[str, typer.Option(help="Where the gateway listens.")] = "http://127.0.0.1:8080",
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; else the environment variable SMSGW_API_KEY.")
    ] = None,
    result: Annotated[Path | None, typer.Option(help="Result file. [default: FILE.result.csv]")] = None,
    category: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    text: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    sender: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Messages a call.")] = 500,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Calls at a time.")] = 4,
    patience: Annotated[float, typer.Option(min=0, help="Seconds without progress before giving up.")] = 300.0,
    run_name: Annotated[
        str, typer.Option("--run", help="Another name sends the same rows again; the same name never does.")
    ] = "",
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Try refused rows of earlier runs again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a CSV file of messages; run the same command again to go on where it stopped.

    Columns: to, category, text, sender, ref, ttl_s, send_at, not_after, tags (parted by ;), contact, gate,
    ext, meta, test, origin.campaign and further origin.*. Every row is answered for in the result file. A row
    without a ref gets one from its content, so that no run sends it twice.
    """
    from gateway.send import SendOptions, SendStopped, send_file

    given = {"category": category, "text": text, "sender": sender}
    options = SendOptions(
        url=url,
        key=_api_key(key_file),
        batch=batch,
        parallel=parallel,
        patience_s=patience,
        defaults={name: value for name, value in given.items() if value is not None},
        run=run_name,
        retry_refused=retry_refused,
    )
    result = result or file.with_name(f"{file.name}.result.csv")
    try:
        report = asyncio.run(send_file(file, result, options))
    except SendStopped as exc:
        stop(f"{exc}\nwhat was settled stands in {result}")
    except KeyboardInterrupt:
        stop(f"stopped; run the same command to go on. What was settled stands in {result}")
    summary = (
        f"{report.rows} rows: {report.accepted} accepted, {report.replayed} were known already, "
        f"{report.earlier} settled earlier, {report.refused} refused, {report.bad_rows} not readable; "
        f"see {result}"
    )
    say(json.dumps({**asdict(report), "result": str(result)}) if as_json else summary)
    if not report.clean:
        raise typer.Exit(EXIT_NOT_WELL)


def _api_key(key_file: Path | None) -> str:
    """Take the key from a file or the environment; the command line is open to every process."""
    try:
        key = key_file.read_text().strip() if key_file else os.environ.get("SMSGW_API_KEY", "")
    except OSError as exc:
        stop(f"{key_file}: {exc.strerror}", code=2)
    if not key.isascii() or not key.isprintable() or not key:
        stop("an API key is wanted: --key-file, or the environment variable SMSGW_API_KEY", code=2)
    return key
