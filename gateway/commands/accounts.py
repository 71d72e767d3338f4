"""`smsgw accounts`: what each account may do, what it did today, how its webhook is.

Owns how it is shown. Refuses to know limits: the admin listener answers (`/admin/v1/accounts`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, only, tell
from gateway.commands.ids import account_ids


def accounts(
    account: Annotated[
        str, typer.Argument(metavar="[ACCOUNT]", help="Only this one.", autocompletion=account_ids)
    ] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the accounts: limits, today's usage, number of keys, state of the webhook. No secret is shown."""
    found = ask_admin(config, "GET", "/admin/v1/accounts")
    found["accounts"] = only(found["accounts"], "id", account, "account")
    tell(found, as_json, [_line(a) for a in found["accounts"]] or ["no account is configured (accounts.toml)"])


def _line(a: dict[str, Any]) -> str:
    rate = f"{a['max_per_s']}/s" if a["max_per_s"] else "no rate limit"
    sent = sum(a["today"].values())
    reserved = f" (and {a['quota_reserved']} reserved)" if a["quota_reserved"] else ""
    quota = f"{sent} of {a['daily_quota']} today{reserved}" if a["daily_quota"] else f"{sent} today, no quota"
    hook = a["webhook"]
    webhook = f"webhook {hook['state']}, {hook['backlog']} waiting" if hook else "no webhook"
    keys = f"{a['keys']} key{'s' if a['keys'] != 1 else ''}"
    return f"{a['id']}: {', '.join(a['categories'])}; {rate}, {quota}; {keys}; {webhook}"
