"""`smsgw erase`: remove what the gateway knows of a number, however long the walk through the store takes.

Owns the loop over the endpoint's answers and how they are summed up. Refuses to know what is removed: the admin
listener answers (`POST /admin/v1/erase`). The number goes in a body, so that no log has it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any, Final

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, say

_WORDS: Final = {
    "records": "records with their texts",
    "inbound": "messages from the handset",
    "events": "events waiting for applications",
    "parked": "receipts of unknown messages",
    "unreadable": "PDUs that could not be read",
    "learned": "facts about where it was ported",
    "number": "values kept of the number (caps, latest messages)",
    "blacklisted": "blacklist entries",
}
_FILES: Final = {
    "rewriting": "the append-only file is being rewritten; until that is done it still holds what was removed",
    "running": "a rewrite of the append-only file was under way already: run this again when it is done",
    "not_allowed": "the store does not let its append-only file be rewritten from here: do it there (BGREWRITEAOF)",
}


def erase(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="E.164 with '+', or national with --country; - reads it from stdin.")
    ],
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    cancel: Annotated[
        bool, typer.Option("--cancel", help="End messages that are not final; else they refuse the erasure.")
    ] = False,
    also_blacklist: Annotated[
        bool, typer.Option("--also-blacklist", help="Take it off blacklists too: it may be written to again.")
    ] = False,
    rewrite: Annotated[
        bool, typer.Option(help="Have the store rewrite its append-only file, which remembers what was removed.")
    ] = True,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Remove what the gateway knows of a number. May be run again; exit 1 when something had to be left.

    Blacklist entries stay unless asked for: the wish not to be written to must be remembered. Backups and the
    applications' own copies are not reached from here.
    """
    if number == "-":
        number = sys.stdin.readline().strip()
    body: dict[str, Any] = {
        "number": number, "country": country, "cancel": cancel, "also_blacklist": also_blacklist, "rewrite": rewrite
    }  # fmt: skip
    total: dict[str, int] = {}
    while True:
        found = ask_admin(config, "POST", "/admin/v1/erase", body=body)
        for what, n in found["erased"].items():
            total[what] = total.get(what, 0) + n
        if found["done"]:
            break
        body["next"] = found["next"]
        if found["wait_s"]:
            if not as_json:
                say("waiting until all workers have forgotten where it was ported", err=True)
            time.sleep(found["wait_s"])
    if as_json:
        say(json.dumps({"erased": total, "file": found.get("file", "")}))
    else:
        _show(total, found.get("file", ""))
    if total.get("left"):
        raise typer.Exit(EXIT_NOT_WELL)


def _show(total: dict[str, int], file: str) -> None:
    for what, words in _WORDS.items():
        if n := total.get(what):
            say(f"{n:8} {words}")
    if not any(n for what, n in total.items() if what != "left"):
        say("nothing was known of the number")
    if n := total.get("left"):
        say(f"{n:8} messages are being sent now and were left: run this again in a minute", err=True)
    if file:
        say(_FILES[file], err=True)
