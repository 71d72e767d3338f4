"""The `smsgw` command: reads the command line, calls one function, turns errors into exit codes.

Owns words, help and exit codes, nothing else. Imports what a command needs inside it: `smsgw key new` does
not load a web server. Exit codes: 0 done · 1 done, but not all well · 2 wrong use · 3 the configuration is
wrong · 4 could not go on.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs (see above)

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import __version__
from gateway.commands.accounts import accounts
from gateway.commands.audit import audit
from gateway.commands.blacklist import blacklist_app
from gateway.commands.channels import channels_app
from gateway.commands.codes import app as codes_app
from gateway.commands.common import DEFAULT_CONFIG, EXIT_CONFIG, AsJson, ConfigDir, say, stop
from gateway.commands.config import config_app
from gateway.commands.console import console_app
from gateway.commands.erase import erase
from gateway.commands.explain import explain
from gateway.commands.gate import gate_app
from gateway.commands.inbound import inbound_app
from gateway.commands.message import message_app
from gateway.commands.ported import ported_app
from gateway.commands.queues import queues
from gateway.commands.routes import routes
from gateway.commands.send import send
from gateway.commands.stats import stats
from gateway.commands.templates import templates_app
from gateway.commands.top import top
from gateway.commands.webhooks import webhooks_app
from gateway.errors import ConfigError, ConfigProblem, GatewayError

app = typer.Typer(
    name="smsgw",
    help="An SMS gateway: HTTP in, a durable priority queue, SMPP out, receipts on record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, keys among them
    context_settings={"help_option_names": ["-h", "--help"]},
)
key_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(key_app, name="key")
app.add_typer(ported_app, name="ported")
app.add_typer(channels_app, name="channels")
app.add_typer(codes_app, name="codes")


def main() -> None:
    """Run the command line; a wrong configuration lists all its problems and exits 3."""
    try:
        app()
    except ConfigError as exc:
        _print_problems(exc.problems)
        raise SystemExit(EXIT_CONFIG) from None
    except GatewayError as exc:
        stop(str(exc))


def _version(wanted: bool) -> None:
    if wanted:
        say(f"smsgw {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


# --- The gateway's processes


@app.command()
def run(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Run the gateway on this machine: the embedded store and all workers, restarted when one dies."""
    from gateway import supervisor

    raise typer.Exit(supervisor.run(config, lambda line: say(line, err=True)))


@app.command()
def api(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Run one api worker alone (HTTP for applications)."""
    _run_worker("api", config)


@app.command()
def dispatch(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Run one dispatch worker alone (sessions to the carriers)."""
    _run_worker("dispatch", config)


@app.command()
def events(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Run one events worker alone (calls to the accounts' webhooks)."""
    _run_worker("events", config)


@app.command()
def admin(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Run the admin worker alone (metrics, health, admin API)."""
    from gateway.check import require_admin_token
    from gateway.settings import load

    require_admin_token(load(config))
    _run_worker("admin", config)


def _run_worker(role: str, config: Path) -> NoReturn:
    from gateway import app as wiring

    raise typer.Exit(wiring.run_worker(role, config))


# --- Configuration and keys


@app.command()
def check(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check the configuration; print every problem with file, key and reason. Exit 3 when there is one."""
    from gateway.check import check as check_config

    report = check_config(config)
    if as_json:
        problems, warnings = ([asdict(p) for p in found] for found in (report.problems, report.warnings))
        sound = not report.problems and report.settings is not None
        revision = report.settings.revision if report.settings is not None else None
        found = {"sound": sound, "revision": revision, "problems": problems, "warnings": warnings}
        say(json.dumps(found, ensure_ascii=False))
        raise typer.Exit(0 if sound else EXIT_CONFIG)
    for warning in report.warnings:
        say(f"warning: {warning}", err=True)
    if report.problems or report.settings is None:
        _print_problems(report.problems)
        raise typer.Exit(EXIT_CONFIG)
    settings = report.settings
    say(
        f"{config}: sound, revision {settings.revision}: {len(settings.channels)} channels, "
        f"{len(settings.routes)} routes, {len(settings.accounts)} accounts"
    )


@config_app.command("init")
def config_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or does not exist yet.")],
    as_json: AsJson = False,
) -> None:
    """Write the shipped configuration to DIR, to be edited there."""
    from gateway.settings import packaged_config_dir

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        stop(f"{directory} exists and is not an empty folder", code=2)
    shutil.copytree(packaged_config_dir(), directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if as_json:
        say(json.dumps({"written": str(directory)}))
        return
    say(f"Written to {directory}. Next: put your channels and accounts in, then `smsgw check -c {directory}`.")


@key_app.command("new")
def key_new(as_json: AsJson = False) -> None:
    """Print a new API key, once, and the line for its account in accounts.toml."""
    from gateway.apikey import new_key

    key, key_hash = new_key()
    if as_json:
        say(json.dumps({"key": key, "key_hash": key_hash}))
        return
    say(f"key (give it to the application; it is not kept here): {key}")
    say(f'key_hashes = ["{key_hash}"]')


# --- The operator's questions and orders, over the admin API


app.command("explain")(explain)
app.command("send")(send)
app.command("accounts")(accounts)
app.command("routes")(routes)
app.command("queues")(queues)
app.command("top")(top)
app.add_typer(message_app, name="message")
app.add_typer(gate_app, name="gate")
app.command("stats")(stats)
app.command("erase")(erase)
app.add_typer(templates_app, name="templates")
app.add_typer(blacklist_app, name="blacklist")
app.add_typer(inbound_app, name="inbound")
app.command("audit")(audit)
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(console_app, name="console")


@app.command()
def demo(
    messages: Annotated[int, typer.Option(min=100, help="How many messages to send.")] = 20_000,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Send nothing: keep the gateway up for your own curl, data under var/."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the gateway at work: embedded store, simulated carriers, a mixed load, one killed half-way."""
    from gateway import demo as demonstration

    raise typer.Exit(demonstration.serve(as_json=as_json) if serve else demonstration.run(messages, as_json=as_json))


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON, add_help_option=False)
def simulate(context: typer.Context) -> None:
    """Run simulated carriers that misbehave on request (`smsgw simulate --help` lists how)."""
    from gateway.simulator.cli import main as simulator

    sys.argv[0] = "smsgw simulate"
    raise typer.Exit(simulator(context.args))


@app.command(context_settings=_PASS_ON, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Run the load test of a checkout (loadtests/bench.py); all options are passed on."""
    script = Path(__file__).resolve().parent.parent / "loadtests" / "bench.py"
    if not script.is_file():
        stop("loadtests/bench.py is not here: the load test runs from a checkout", code=2)
    raise typer.Exit(subprocess.call([sys.executable, str(script), *context.args]))


def _print_problems(problems: Iterable[ConfigProblem]) -> None:
    for problem in problems:
        say(str(problem), err=True)
