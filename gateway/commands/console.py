"""`smsgw console …`: the users of the console, by whoever has the admin token; the way in when nobody can sign in.

Owns how they are shown and how a password is asked for: at the terminal without an echo, or as a line of stdin, never
in the command line, which every process of the machine can read. The admin listener does the rest (`/console/api`).
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from gateway.commands.common import (
    DEFAULT_CONFIG,
    EXIT_USE,
    AsJson,
    ConfigDir,
    ask_admin,
    find_admin,
    stop,
    tell,
)

_USERS: Final = "/console/api/users"
console_app = typer.Typer(help="The users of the console (the gateway in a browser).", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]
Role = Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.")]


@console_app.command("users")
def users(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the users: role, whether they may sign in, authenticator, last sign-in, open sessions."""
    found = ask_admin(config, "GET", _USERS)
    rows = [_row(user) for user in found["users"]]
    head = f"{'name':<32}  {'role':<8}  {'state':<8}  {'code':<4}  {'last sign-in':<24}  sessions"
    tell(found, as_json, [head, *rows] if rows else ["there is no user: `smsgw console setup-token`, or `add`"])


def _row(user: dict[str, Any]) -> str:
    state, code = "enabled" if user["enabled"] else "disabled", "yes" if user["totp"] else "no"
    last = user["last_at"] or "never"
    return f"{user['name']:<32}  {user['role']:<8}  {state:<8}  {code:<4}  {last:<24}  {user['sessions']}"


@console_app.command("add")
def add(name: Name, role: Role = "operator", config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Add a user; the password is asked for, or read from stdin."""
    body = {"name": name, "role": role, "password": _password(name)}
    found = ask_admin(config, "POST", _USERS, body=body)
    tell(found, as_json, [f"{found['name']} may sign in, as {found['role']}"])


@console_app.command("passwd")
def passwd(name: Name, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Give a user a new password, asked for or read from stdin; all their sessions end."""
    _change(name, {"password": _password(name)}, "the password is changed", config, as_json=as_json)


@console_app.command("role")
def role(
    name: Name,
    wanted: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Give a user another role; all their sessions end."""
    _change(name, {"role": wanted}, f"is {wanted} now", config, as_json=as_json)


@console_app.command("disable")
def disable(name: Name, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let a user in no more, and end their sessions, until `enable`."""
    _change(name, {"enabled": False}, "is disabled", config, as_json=as_json)


@console_app.command("enable")
def enable(name: Name, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let a disabled user in again."""
    _change(name, {"enabled": True}, "is enabled", config, as_json=as_json)


@console_app.command("unlock")
def unlock(
    name: Name,
    address: Annotated[
        str, typer.Option("--address", help="Also let this client address try again.", metavar="ADDRESS")
    ] = "",
    no_code: Annotated[bool, typer.Option("--no-code", help="Also take a lost authenticator off.")] = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Let a user who failed too often try again at once."""
    body: dict[str, Any] = {"unlock": True}
    if address:
        body["address"] = address
    if no_code:
        body["totp"] = False
    _change(name, body, "may try again", config, as_json=as_json)


@console_app.command("remove")
def remove(name: Name, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Remove a user and end their sessions."""
    found = ask_admin(config, "DELETE", f"{_USERS}/{quote(name, safe='')}")
    tell(found, as_json, [f"{name} is removed; sessions ended: {found['sessions_ended']}"])


@console_app.command("setup-token")
def setup_token(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Make a new token for the first user, while there is none. It counts once, for 24 hours."""
    base, _ = find_admin(config)
    found = ask_admin(config, "POST", "/console/api/setup-token")
    found["url"] = f"{base}/console/"
    tell(found, as_json, [f"console: {found['url']}", f"set-up token (until {found['valid_until']}): {found['token']}"])


def _change(name: str, body: dict[str, Any], said: str, config: ConfigDir, *, as_json: bool) -> None:
    found = ask_admin(config, "PUT", f"{_USERS}/{quote(name, safe='')}", body=body)
    tell(found, as_json, [f"{name} {said}; sessions ended: {found['sessions_ended']}"])


def _password(name: str) -> str:
    """Return a password from the terminal, asked for twice, or the line that stdin has."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            stop("no password came on stdin", code=EXIT_USE)
        return line
    password = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("The same again: ") != password:
        stop("the two are not the same; nothing was changed", code=EXIT_USE)
    return password
