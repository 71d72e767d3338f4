"""What all operators' commands share: their options, the question to the admin listener, and how a command ends badly.

Owns exit codes and where a token comes from. Refuses to know any topic. Stands below the files of this package.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

EXIT_NOT_WELL, EXIT_USE, EXIT_CONFIG, EXIT_STOPPED = 1, 2, 3, 4

ConfigDir = Annotated[Path, typer.Option("--config", "-c", metavar="DIR", help="Folder of the TOML files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
DEFAULT_CONFIG = Path("config")


def ask_admin(config: Path, method: str, path: str, **what: Any) -> Any:
    """Return what the admin listener of this configuration answers; `what` as for `client.admin.ask`.

    Raises:
        ConfigError: the configuration cannot be read.
        GatewayError: it refuses, or does not answer.
    """
    from gateway.client.admin import ask

    base, token = find_admin(config)
    return asyncio.run(ask(base, token, method, path, **what))


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


def stop(reason: str, code: int = EXIT_STOPPED) -> NoReturn:
    """End the command with a reason on stderr."""
    typer.echo(f"smsgw: {reason}", err=True)
    raise SystemExit(code)
