"""`smsgw webhooks`: how each account's deliveries go; replay, enable, disable, retry-dead, test.

Owns how it is shown. Refuses to know what is done: the admin listener answers (`/admin/v1/webhooks`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, say

webhooks_app = typer.Typer(help="Webhooks: how deliveries go; replay, enable, disable, test.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An account that has a webhook.")]
_PLACE = "/admin/v1/webhooks"


@webhooks_app.command("list")
def list_(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every account's endpoint: its state, what waits, what is retried, dead letters."""
    found = ask_admin(config, "GET", _PLACE)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    for entry in found["webhooks"]:
        say(_line(entry))
    if not found["webhooks"]:
        say("no account has a webhook (accounts.toml)")


@webhooks_app.command("enable")
def enable(account: Account, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let an account's deliveries go on; what waited comes first."""
    _act(config, as_json, {"account": account, "action": "enable"})


@webhooks_app.command("disable")
def disable(account: Account, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Stop an account's deliveries; events wait in line, and the oldest are dropped when it is full."""
    _act(config, as_json, {"account": account, "action": "disable"})


@webhooks_app.command("retry-dead")
def retry_dead(account: Account, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Put dead letters back in line."""
    _act(config, as_json, {"account": account, "action": "retry-dead"})


@webhooks_app.command("replay")
def replay(
    account: Account,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="RFC 3339 with offset. [default: all records]")
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="RFC 3339 with offset. [default: now]")] = "",
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Repeat for several. [default: all it hears of]")
    ] = None,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Send the events of an account's records once more, with the ids they had, as far back as records are kept."""
    given: dict[str, Any] = {"from": since, "to": until, "types": types}
    body = {name: value for name, value in given.items() if value}
    _act(config, as_json, {"account": account, "action": "replay", **body})


@webhooks_app.command("test")
def try_out(account: Account, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Make one signed call (webhook.test) and say what became of it. Exit 1 when it was not taken."""
    found = ask_admin(config, "POST", _PLACE, body={"account": account, "action": "test"})
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
    else:
        status = f" (status {found['status']})" if found["status"] else ""
        say(f"{account}: {found['result']}{status} in {found['seconds']} s")
    if found["result"] != "delivered":
        raise typer.Exit(EXIT_NOT_WELL)


def _act(config: Path, as_json: bool, body: dict[str, Any]) -> None:
    found = ask_admin(config, "POST", _PLACE, body=body)
    say(json.dumps(found, ensure_ascii=False) if as_json else _line(found))
    if not as_json and "revived" in found:
        say(f"{found['revived']} dead letters are back in line")


def _line(entry: dict[str, Any]) -> str:
    state = entry["state"] + (f" by {entry['disabled_by']}" if entry["disabled_by"] else "")
    parts = [f"{entry['account']} ({entry['host']}): {state}", f"{entry['backlog']} events to deliver"]
    if entry["oldest_age_s"]:
        parts.append(f"the oldest in line {entry['oldest_age_s']} s old")
    if entry["retrying"]:
        parts.append(f"{entry['retrying']} to be retried, next at {entry['next_retry_at']}")
    if entry["dead"]:
        reasons = ", ".join(f"{why} {n}" for why, n in sorted(entry["dead_reasons"].items()))
        parts.append(f"{entry['dead']} dead letters ({reasons})")
    if entry["dropped"]:
        parts.append(f"{entry['dropped']} dropped")
    if entry["last_failure"]:
        parts.append(f"last failure {entry['last_failure']} at {entry['last_failure_at']}")
    if entry["last_success_at"]:
        parts.append(f"last success at {entry['last_success_at']}")
    if entry["replay"]:
        done = "done" if entry["replay"]["done"] else "running"
        parts.append(f"replay {done}, {entry['replay']['events']} events")
    return "; ".join(parts)
