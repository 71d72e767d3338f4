"""What the shell completes: ids of channels, routes and accounts as the configuration folder has them.

Reads the TOML files as they are, without checking them and without any network; where one cannot be read there is
nothing to complete. Refuses to know what an id means.
"""

# ruff: noqa: PLC0415 - completion must be quick

from __future__ import annotations

from pathlib import Path

import typer

from gateway.commands.common import DEFAULT_CONFIG
from gateway.model import CATEGORY_LABELS


def channel_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the channels' ids that begin so."""
    return _ids(context, "channel", incomplete)


def route_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the routes' ids that begin so."""
    return _ids(context, "route", incomplete)


def account_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the accounts' ids that begin so."""
    return _ids(context, "account", incomplete)


def categories(incomplete: str) -> list[str]:
    """Return the categories that begin so."""
    return [label for label in CATEGORY_LABELS if label.startswith(incomplete)]


def _ids(context: typer.Context, kind: str, incomplete: str) -> list[str]:
    import tomllib

    folder = Path(context.params.get("config") or DEFAULT_CONFIG)
    try:
        entries = tomllib.loads((folder / f"{kind}s.toml").read_text(encoding="utf-8")).get(kind, [])
        ids = [entry["id"] for entry in entries if isinstance(entry.get("id"), str)]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return []
    return [one for one in ids if one.startswith(incomplete)]
