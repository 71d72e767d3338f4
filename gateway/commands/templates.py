"""`smsgw templates`: what is in force, what one makes of params, new versions, and taking one out of use.

Owns how it is shown. Refuses to know what a template is: the admin listener answers (`/admin/v1/templates`).
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_USE, AsJson, ConfigDir, ask_admin, say, stop

templates_app = typer.Typer(
    help="Templates: texts with typed params, by version, registered with carriers.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(metavar="ID", help="A template's id.")]
Version = Annotated[int, typer.Option(help="One version. [default: the latest in use]", min=0, show_default=False)]
_PLACE = "/admin/v1/templates"


def _place(template: str, verb: str = "") -> str:
    return f"{_PLACE}/{quote(template, safe='')}{verb}"


@templates_app.command("list")
def list_(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every version: category, whose it is, and whether it is in use."""
    found = ask_admin(config, "GET", _PLACE)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    for one in found["templates"]:
        who = ", ".join(one["accounts"]) or "all accounts"
        use = "" if one["in_use"] else ", retired"
        about = f": {one['about']}" if one["about"] else ""
        say(f"{one['id']} version {one['version']}: {one['category']}, {who}, {one['source']}{use}{about}")
    if not found["templates"]:
        say("no templates: templates.toml has none, and none were put")


@templates_app.command("show")
def show(template: Id, version: Version = 0, config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show one version in full."""
    query = {"version": str(version)} if version else None
    found = ask_admin(config, "GET", _place(template), query=query)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    numbers = ", ".join(f"{v['version']}{'' if v['in_use'] else ' (retired)'}" for v in found["versions"])
    say(f"{found['id']} version {found['version']} of {numbers}; {found['category']}, {found['source']}")
    say(found["text"])
    for name, param in found["params"].items():
        rules = ", ".join(
            f"{key} {value}" for key, value in param.items() if key != "type" and value not in (False, [])
        )
        say(f"  {name}: {param['type']}{', ' + rules if rules else ''}")
    for entry in found["registration"]:
        whose = ", ".join(entry["channels"]) or entry["carrier"] or "all"
        tlvs = ", ".join(f"{tag} {value}" for tag, value in entry["tlvs"].items())
        say(f"  registered for {whose}: {tlvs or entry['note']}")


@templates_app.command("preview")
def preview(
    template: Id,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A param; once for each. JSON numbers are numbers."),
    ] = None,
    to: Annotated[str, typer.Option(metavar="NUMBER", help="Whose route and prices to show.")] = "",
    account: Annotated[str, typer.Option(help="Whose message it would be.")] = "",
    version: Version = 0,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make the text of some params, and say its parts and its price by route; sends nothing."""
    types = ask_admin(config, "GET", _place(template), query={"version": str(version)})["params"]
    body: dict[str, Any] = {"params": dict(_param(one, types) for one in param or ())}
    body |= {name: value for name, value in (("to", to), ("account", account), ("version", version)) if value}
    found = ask_admin(config, "POST", _place(template, "/preview"), body=body)
    if as_json:
        say(json.dumps(found, ensure_ascii=False))
        return
    say(found["text"])
    parts = f"{found['parts']} part{'s' if found['parts'] > 1 else ''}"
    say(f"version {found['version']}, {found['characters']} characters, {parts}, {found['encoding']}")
    for channel in found.get("channels", ()):
        tlvs = "".join(f", {tag} {value}" for tag, value in channel["tlvs"].items())
        say(f"  {found['route']} rank {channel['rank']}, {channel['id']}: {channel['cost']}{tlvs}")


def _param(written: str, types: dict[str, Any]) -> tuple[str, Any]:
    """Read NAME=VALUE; only where the template wants an integer is it one."""
    name, equals, value = written.partition("=")
    if not equals:
        stop("a param is written as NAME=VALUE", code=EXIT_USE)
    if types.get(name, {}).get("type") == "int" and value.removeprefix("-").isdigit() and len(value) < 20:
        return name, int(value)
    return name, value


@templates_app.command("put")
def put(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="TOML with one or more template tables, or one in JSON."
        ),
    ],
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Keep new versions; messages may use them within a second. The same content again changes nothing.

    Without `version` the next number is given. With one it must be the next.
    """
    answers = []
    for one in _read(file):
        name = one.get("id")
        if not isinstance(name, str) or not name:
            stop(f"{file}: every template needs an id", code=EXIT_USE)
        answers.append(ask_admin(config, "PUT", _place(name), body=one))
    if as_json:
        say(json.dumps(answers))
        return
    for answer in answers:
        say(f"{answer['id']} version {answer['version']}: {'kept' if answer['new'] else 'was there already'}")


def _read(file: Path) -> list[dict[str, Any]]:
    import tomllib

    try:
        text = file.read_text("utf-8")
        tree = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as exc:
        stop(f"{file}: cannot be read ({type(exc).__name__})", code=EXIT_USE)
    found = tree.get("template", [tree]) if isinstance(tree, dict) else tree
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        stop(f"{file}: a [[template]], or one template in JSON, is wanted", code=EXIT_USE)
    return found


@templates_app.command("retire")
def retire(
    template: Id,
    version: Annotated[int, typer.Option(help="Only this version.", min=0, show_default=False)] = 0,
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Take a template out of use, or one version of it. Messages that are queued are still sent."""
    body = {"version": version} if version else {}
    found = ask_admin(config, "POST", _place(template, "/retire"), body=body)
    if as_json:
        say(json.dumps(found))
        return
    n = found["retired"]
    say(f"{template}: {n} version{'s' if n != 1 else ''} retired" if n else f"{template}: was retired already")
