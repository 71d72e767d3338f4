"""What all operators' commands share: their options, the question to the admin listener, and how a command ends badly.

Owns exit codes and where a token comes from. Refuses to know any topic. Stands below the files of this package.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.client.admin import AdminError

EXIT_NOT_WELL, EXIT_USE, EXIT_CONFIG, EXIT_STOPPED = 1, 2, 3, 4


def _folder(context: typer.Context, value: Path) -> Path:
    """Refuse a folder that is not there before any command looks for its files."""
    if not context.resilient_parsing and not value.is_dir():
        hint = "--config DIR names the folder of gateway.toml; `smsgw config init DIR` writes one"
        stop(f"{value}: there is no such folder ({hint})", code=EXIT_CONFIG)
    return value


ConfigDir = Annotated[
    Path, typer.Option("--config", "-c", metavar="DIR", help="Folder of the TOML files.", callback=_folder)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
DEFAULT_CONFIG = Path("config")


def ask_admin(config: Path, method: str, path: str, **what: Any) -> Any:
    """Return what the admin listener of this configuration answers; `what` as for `client.admin.ask`.

    Raises:
        ConfigError: the configuration cannot be read.
        GatewayError: it refuses, or does not answer.
    """
    from gateway.client.admin import AdminError, ask

    base, token = find_admin(config)
    try:
        return asyncio.run(ask(base, token, method, path, **what))
    except AdminError as exc:
        raise with_advice(exc, config) from None


def with_advice(error: AdminError, config: Path) -> AdminError:
    """Return the error with what to do about it, where the listener does not answer or refuses the token."""
    from gateway.client.admin import AdminError

    if error.status == 0:
        hint = f". Is `smsgw run` up, and does it listen there? (admin.listen in {config / 'gateway.toml'})"
    elif error.status == 401:
        hint = ": the running gateway has another than this command (SMSGW_ADMIN_TOKEN; admin.token)"
    else:
        return error
    return AdminError(f"{error}{hint}", status=error.status, code=error.code, field=error.field)


def find_admin(config: Path) -> tuple[str, str]:
    """Return the address and the token of this configuration's admin listener, for `client.admin.ask`.

    Raises:
        ConfigError: the configuration cannot be read.
    """
    from gateway.settings import load_admin

    admin = load_admin(config)
    if admin.token is None:
        stop("no admin token is configured (admin.token in gateway.toml, SMSGW_ADMIN_TOKEN)", code=EXIT_CONFIG)
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    return f"http://{host}:{admin.port}", admin.token.reveal()


def tell(found: Any, as_json: bool, lines: Iterable[str]) -> None:
    """Print an answer: as JSON for programs, else its lines."""
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    else:
        for line in lines:
            say(plain(line))


def only(entries: list[dict[str, Any]], name: str, wanted: str, what: str) -> list[dict[str, Any]]:
    """Return the entry that is wanted, all where nothing is; ends the command where there is none."""
    if not wanted:
        return entries
    found = [entry for entry in entries if entry[name] == wanted]
    if not found:
        known = ", ".join(entry[name] for entry in entries) or "none"
        stop(f"no {what} {wanted!r} is configured (there are: {known})")
    return found


def read_stdin(word: str) -> str:
    """Return `word`, or a line of stdin for `-`: a command line can be read by every process of the machine."""
    return sys.stdin.readline().strip() if word == "-" else word


# Control characters move the cursor, colour or forge what stands on a terminal (CSI is one of them); those that turn
# the direction of writing hide it. They come in texts, senders, refs and carriers' codes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """Return a text of others as it may stand in a line on a terminal: what is no character to be seen is escaped."""
    return _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def say(text: str, *, err: bool = False) -> None:
    """Print lines for people or JSON (where the escapes of `plain` mean the same); tabs stay as they are."""
    lines = ("\t".join(plain(cell) for cell in line.split("\t")) for line in text.split("\n"))
    typer.echo("\n".join(lines), err=err)


def stop(reason: str, code: int = EXIT_STOPPED) -> NoReturn:
    """End the command with a reason on stderr."""
    say(f"smsgw: {reason}", err=True)
    raise SystemExit(code)
