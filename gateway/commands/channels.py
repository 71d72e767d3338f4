"""`smsgw channels`: how the channels are; pause, drain, resume.

Owns how it is shown. Refuses to know sessions: the admin listener answers (`/admin/v1/channels`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.commands.common import DEFAULT_CONFIG, AsJson, ConfigDir, ask_admin, say
from gateway.commands.ids import channel_ids

channels_app = typer.Typer(help="Channels: how they are; pause, drain, resume.", no_args_is_help=True)

Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel's id.", autocompletion=channel_ids)]


@channels_app.command("list")
def channels_list(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every channel: bound or why not and since when, its breaker, and what an operator said."""
    found = ask_admin(config, "GET", "/admin/v1/channels")
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    if "channels" in found.get("stale", ()):
        say("the store does not answer: so it was when it last did")
    for c in found["channels"]:
        cause = f" ({c['cause']})" if c["cause"] else ""
        without = f", sent without {' and '.join(c['left_out'])}" if c["left_out"] else ""
        bound = "bound" if c["bound"] else "not bound"
        say(f"{c['id']}: {bound}{_sessions(c)}, breaker {c['breaker']}{cause}, {c['operator']}{without}")


def _sessions(c: dict[str, Any]) -> str:
    """Return how many sessions there are, where some are missing, and why; '' for a gateway that does not say."""
    from gateway.smpp.trouble import spelt  # noqa: PLC0415 - a command imports what it needs when it runs

    sessions, trouble = c.get("sessions"), c.get("trouble")
    missing = f" {sessions}/{c['binds']}" if sessions is not None and 0 < sessions < c["binds"] else ""
    if not trouble:
        return missing
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(trouble["since_ms"] / 1000))
    return f"{missing} ({spelt(trouble['kind'], trouble['detail'])}, since {since})"


def _channel_action(channel: str, action: str, config: Path, as_json: bool) -> None:
    found = ask_admin(config, "PUT", "/admin/v1/channels", body={"id": channel, "action": action})
    say(json.dumps(found, ensure_ascii=False) if as_json else f"{found['id']}: {found['operator']}")


@channels_app.command("pause")
def channels_pause(channel: Channel, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Send nothing more by a channel; its sessions stay for receipts, its backlog goes to the next rank."""
    _channel_action(channel, "pause", config, as_json)


@channels_app.command("drain")
def channels_drain(channel: Channel, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """As pause, and unbind when nothing is in flight."""
    _channel_action(channel, "drain", config, as_json)


@channels_app.command("resume")
def channels_resume(channel: Channel, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let a paused or drained channel work again."""
    _channel_action(channel, "resume", config, as_json)
