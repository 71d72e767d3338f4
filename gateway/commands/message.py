"""`smsgw message`: one message with everything that happened to it; cancel it, or send it again.

Owns how it is shown. Refuses to know states: the admin listener answers (`/admin/v1/messages`). Numbers are masked and
texts left out unless `--full` asks for them, which the audit remembers.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands.common import (
    DEFAULT_CONFIG,
    EXIT_NOT_WELL,
    AsJson,
    ConfigDir,
    ask_admin,
    plain,
    read_stdin,
    tell,
)
from gateway.commands.ids import account_ids

message_app = typer.Typer(help="One message: its record and timeline; find, cancel, resend.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As the 202 gave it.")]
Full = Annotated[bool, typer.Option("--full", help="Show the whole number and the text; the audit notes it.")]
_PLACE = "/admin/v1/messages"


@message_app.command("show")
def show(message: Id, full: Full = False, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show a message: its state and why, every attempt, part and receipt."""
    found = ask_admin(config, "GET", f"{_PLACE}/{quote(message, safe='')}", query={"full": "1"} if full else {})
    tell(found, as_json, _lines(found))


@message_app.command("find")
def find(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="E.164 with '+', or national with --country; - reads it from stdin.")
    ],
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    account: Annotated[str, typer.Option(help="Of this account only.", autocompletion=account_ids)] = "",
    ref: Annotated[str, typer.Option(help="The one with this ref; wants --account.")] = "",
    full: Full = False,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the latest messages to a number, the newest first. Exit 1 when there is none."""
    given = {"to": read_stdin(number), "country": country, "account": account, "ref": ref}
    body: dict[str, Any] = {name: value for name, value in given.items() if value}
    found = ask_admin(config, "POST", f"{_PLACE}/find", body=body | ({"full": True} if full else {}))
    lines = [line for one in found["messages"] for line in _lines(one)]
    tell(found, as_json, lines or ["no message to this number is kept"])
    if not found["messages"]:
        raise typer.Exit(EXIT_NOT_WELL)


@message_app.command("cancel")
def cancel(message: Id, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Cancel a message that is not claimed for sending yet."""
    _act(message, "cancel", config, as_json)


@message_app.command("resend")
def resend(message: Id, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Send at once what waits for its next attempt, or is uncertain (then its recipient may get it twice)."""
    _act(message, "resend", config, as_json)


def _act(message: str, action: str, config: Any, as_json: bool) -> None:
    found = ask_admin(config, "POST", f"{_PLACE}/{quote(message, safe='')}", body={"action": action})
    tell(found, as_json, [f"{found['id']}: {found['result']}, now {found['state']}"])


def _lines(m: dict[str, Any]) -> list[str]:
    why = f", {m['reason']['code']}" if m["reason"] else ""
    lines = [
        f"{m['id']}  {m['state']}{why}",
        f"  {m['category']} of {m['account']} to {m['to']} by {m['route']} rank {m['rank']}, {m['parts']} parts"
        f" ({m['parts_accepted']} accepted, {m['parts_delivered']} delivered)",
    ]
    extra = {n: m[n] for n in ("sender", "ref", "campaign", "variant", "template", "gate", "signature") if m[n]}
    if m["tags"]:
        extra["tags"] = ",".join(m["tags"])
    if extra:
        lines.append("  " + " ".join(f"{name}={value}" for name, value in extra.items()))
    for event in m["timeline"]:
        rest = ", ".join(_said(name, value) for name, value in event.items() if name not in ("at", "what") and value)
        lines.append(f"  {event['at']}  {event['what']:8} {rest}".rstrip())
    lines += [f"  waits: {said}" for said in _waits(m["waiting"])]
    if not m["final"]:
        lines.append(f"  {m['expires_at']}  expires")
    if m.get("text") is not None:
        lines.append(f"  text: {plain(m['text'])}")
    return lines


_WAITS = {
    "gate": "the gate {what} holds it",
    "time": "for the time it is to be sent at",
    "window": "for the hours in which it may be sent",
    "cap": "until its recipient may get another one",
    "retry": "for its next attempt",
    "sending": "a worker has it in hand for {what}",
    "channels": "no channel of route {what} can take it",
    "route": "its route {what} is not configured any more",
    "turn": "for its turn in the queue of {what}",
    "answer": "{what} did not answer: for a late receipt, or what on_uncertain says",
    "receipt": "for the receipt of {what}",
}
_CHANNEL = {"paused": "paused by an operator", "draining": "drained by an operator", "not_bound": "not bound",
            "signature": "does not carry the signature", "unknown": "not configured"}  # fmt: skip


def _waits(waiting: dict[str, Any] | None) -> list[str]:
    """Return what a message waits for, the first to change first, a line each."""
    lines = []
    for one in [waiting, *waiting["also"]] if waiting else []:
        said = _WAITS[one["why"]].format(what=one["what"] or "its channel")
        if one.get("state") == "closed":
            said = f"the gate {one['what']} is closed and will end it"
        said += "".join(f", {word} {one[word]}" for word in ("since", "until") if one[word])
        lines.append(said)
        for channel in one.get("channels", ()):
            why = _CHANNEL.get(channel["why"], channel["why"].replace("_", " "))
            cause = f" ({channel['cause']})" if channel["cause"] else ""
            lines.append(f"  {channel['id']}, rank {channel['rank']}: {why}{cause}")
    return lines


def _said(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "ids " + " ".join(str(one["smsc_id"]) for one in value)
    return str(value) if name in ("outcome", "state", "why", "channel") else f"{name} {value}"
