"""The `smsgw` command: reads the command line, calls one function, turns errors into exit codes.

Owns words, help and exit codes, nothing else. Imports what a command needs inside it: `smsgw key new` does
not load a web server. Exit codes: 0 done · 1 done, but not all well · 2 wrong use · 3 the configuration is
wrong · 4 could not go on.
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs (see above)

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway import __version__
from gateway.commands.audit import audit
from gateway.commands.blacklist import blacklist_app
from gateway.commands.codes import app as codes_app
from gateway.commands.common import DEFAULT_CONFIG, EXIT_CONFIG, EXIT_NOT_WELL, AsJson, ConfigDir, ask_admin, stop
from gateway.commands.erase import erase
from gateway.commands.inbound import inbound_app
from gateway.commands.stats import stats
from gateway.commands.templates import templates_app
from gateway.commands.webhooks import webhooks_app
from gateway.errors import ConfigError, ConfigProblem, GatewayError

app = typer.Typer(
    name="smsgw",
    help="An SMS gateway: HTTP in, a durable priority queue, SMPP out, receipts on record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, keys among them
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="The configuration folder.", no_args_is_help=True)
key_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(key_app, name="key")
ported_app = typer.Typer(help="Ported numbers: whose they are now, whatever their prefix says.", no_args_is_help=True)
app.add_typer(ported_app, name="ported")
channels_app = typer.Typer(help="Channels: how they are; pause, drain, resume.", no_args_is_help=True)
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
        typer.echo(f"smsgw {__version__}")
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

    raise typer.Exit(supervisor.run(config, lambda line: typer.echo(line, err=True)))


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
def check(config: ConfigDir = DEFAULT_CONFIG) -> None:
    """Check the configuration; print every problem with file, key and reason. Exit 3 when there is one."""
    from gateway.check import check as check_config

    report = check_config(config)
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if report.problems or report.settings is None:
        _print_problems(report.problems)
        raise typer.Exit(EXIT_CONFIG)
    settings = report.settings
    typer.echo(
        f"{config}: sound, revision {settings.revision}: {len(settings.channels)} channels, "
        f"{len(settings.routes)} routes, {len(settings.accounts)} accounts"
    )


@config_app.command("init")
def config_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or does not exist yet.")],
) -> None:
    """Write the shipped configuration to DIR, to be edited there."""
    from gateway.settings import packaged_config_dir

    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        stop(f"{directory} exists and is not an empty folder", code=2)
    shutil.copytree(packaged_config_dir(), directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    typer.echo(f"Written to {directory}. Next: put your channels and accounts in, then `smsgw check -c {directory}`.")


@key_app.command("new")
def key_new() -> None:
    """Print a new API key, once, and the line for its account in accounts.toml."""
    from gateway.apikey import new_key

    key, key_hash = new_key()
    typer.echo(f"key (give it to the application; it is not kept here): {key}")
    typer.echo(f'key_hashes = ["{key_hash}"]')


# --- Ported numbers


@ported_app.command("import")
def ported_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="Columns: number, carrier.")
    ],
    country: Annotated[
        str, typer.Option(metavar="CC", help="Whose national numbers these are. Without it all must be E.164.")
    ] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Replace the table of ported numbers of one country by a CSV file; running workers take it within seconds.

    Carriers are named as in number_segments; one that is not there refuses the file. Of several rows with one number
    the last counts. Bad rows are left out, counted, and the first 20 named by their lines (exit 1).
    """
    from gateway.ported import import_table
    from gateway.settings import load_without_secrets

    settings = load_without_secrets(config)
    size = max(1, file.stat().st_size)

    def progress(rows: int, offset: int) -> None:
        if not as_json:
            typer.echo(f"{rows} rows read ({100 * offset // size} %)", err=True)

    try:
        report, plain = import_table(settings, file, country, progress)
    except OSError as exc:
        stop(f"the import could not go on: {exc.strerror or type(exc).__name__}; the table is as it was")
    if as_json:
        typer.echo(json.dumps(plain))
    else:
        for line, reason in report.bad:
            typer.echo(f"line {line}: {reason}", err=True)
        if report.bad_rows > len(report.bad):
            typer.echo(f"… and {report.bad_rows - len(report.bad)} more bad rows", err=True)
        typer.echo(
            f"{report.country}: {report.numbers} numbers in the table; {report.rows} rows read, "
            f"{report.duplicates} replaced by later ones, {report.bad_rows} bad; {report.path}"
        )
    if report.bad_rows:
        raise typer.Exit(EXIT_NOT_WELL)


@ported_app.command("info")
def ported_info(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Say which tables of ported numbers are there. Exit 1 when one cannot be used."""
    from gateway.ported import info
    from gateway.settings import load_without_secrets

    found = info(load_without_secrets(config))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for table in found["tables"]:
            by = ", ".join(f"{name} {count}" for name, count in table["carriers"].items())
            typer.echo(
                f"{table['country']}: {table['numbers']} numbers ({by}), imported {table['imported_at']}; "
                f"{table['file']}"
            )
        if not found["tables"]:
            typer.echo("no table of ported numbers is in use")
        for problem in found["problems"]:
            typer.echo(problem, err=True)
    if found["problems"]:
        raise typer.Exit(EXIT_NOT_WELL)


@ported_app.command("lookup")
def ported_lookup(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="E.164 with '+', or national with --country.")],
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say which carrier a number is routed for, and what says so: learned, imported or segment."""
    from gateway.errors import RequestError
    from gateway.ported import lookup
    from gateway.settings import load_without_secrets

    try:
        found = asyncio.run(lookup(load_without_secrets(config, store=True), number, country.upper()))
    except RequestError as exc:
        stop(exc.detail, code=2)
    if as_json:
        typer.echo(json.dumps(found))
        return
    learned = found["learned"]
    known = "the store does not answer, so it is not known"
    if learned is not None:
        known = learned["carrier"] or (f"not {', not '.join(learned['not'])}" if learned["not"] else "nothing")
    typer.echo(f"carrier: {found['carrier'] or 'none'} ({found['origin']})")
    typer.echo(f"learned: {known}")
    typer.echo(f"imported: {found['imported'] or 'nothing'}")
    typer.echo(f"segment: {found['segment'] or 'nobody'}")


@ported_app.command("forget")
def ported_forget(
    number: Annotated[str, typer.Argument(metavar="[NUMBER]", help="E.164 with '+', or national with --country.")] = "",
    all_learned: Annotated[
        bool, typer.Option("--all-learned", help="Forget what receipts taught of every number.")
    ] = False,
    country: Annotated[str, typer.Option(metavar="CC", help="Whose national number this is.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Forget what receipts taught about a number; running workers follow within seconds. Imported tables stay."""
    if bool(number) == all_learned:
        stop("a number is wanted, or --all-learned", code=2)
    body = {"all_learned": True} if all_learned else {"number": number, "country": country}
    found = ask_admin(config, "POST", "/admin/v1/ported/forget", body=body)
    if as_json:
        typer.echo(json.dumps(found))
        return
    n = found["forgotten"]
    typer.echo("nothing had been learned" if not n else f"{n} learned fact{'s' if n > 1 else ''} forgotten")
    if found["imported"]:
        typer.echo(f"the imported table has it with {found['imported']}; only another import changes that")


# --- Tools around the gateway


# --- The operator's questions and orders, over the admin API


@app.command()
def explain(
    to: Annotated[str, typer.Option(metavar="NUMBER", help="The recipient, as an application would write it.")],
    account: Annotated[str, typer.Option(help="Whose message it would be.")],
    category: Annotated[str, typer.Option(help="verification, notification or marketing.")] = "notification",
    sender: Annotated[str, typer.Option(help="Its sender id; the account's first one when left out.")] = "",
    signature: Annotated[
        str, typer.Option(help="Its signature, as in 【Acme】; the account's first one if left out.")
    ] = "",
    text: Annotated[str, typer.Option(help="Or its text: its signature is read, and the rules on texts asked.")] = "",
    tag: Annotated[str, typer.Option(help="One of its tags, where limits go by tag.")] = "",
    zone: Annotated[str, typer.Option(help="The recipient's time zone, where the application knows it.")] = "",
    local_window: Annotated[str, typer.Option(help="The campaign's own hours, as 10:00-12:00.")] = "",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Say what would become of a message now: number, carrier, route, channels, and what would refuse or hold it."""
    optional = {"sender": sender, "signature": signature, "text": text}
    optional |= {"tag": tag, "zone": zone, "local_window": local_window}
    query = {"to": to, "category": category, "account": account, **{k: v for k, v in optional.items() if v}}
    found = ask_admin(config, "GET", "/admin/v1/explain", query=query)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    if "number" in found:
        typer.echo(f"number    {found['number']['e164']} ({found['number']['country'] or 'no country'})")
    if "carrier" in found:
        typer.echo(f"carrier   {found['carrier']['name'] or 'not known'} (from: {found['carrier']['known_from']})")
    if found.get("signature"):
        typer.echo(f"signature {found['signature']['name']} (from: {found['signature']['known_from']})")
    if "route" in found:
        typer.echo(f"route     {found['route']}")
    for channel in found.get("channels", ()):
        mark = "takes it" if channel["takes_it"] else channel["why"]
        if channel["source_addr"]:
            mark += f" (source_addr {channel['source_addr']})"
        if 0 < channel.get("share", 1.0) < 1:
            mark += f", {channel['share']:.0%} of its rank"
        typer.echo(f"  rank {channel['rank']}  {channel['id']}: {mark}")
    if "quality" in found:
        typer.echo(f"shares    by quality: {found['quality']['why']}")
    _tell_rules(found)


def _tell_rules(found: dict[str, Any]) -> None:
    if found.get("window"):
        window = found["window"]
        when = f"open until {window['closes_at']}" if window["open"] else f"opens {window['opens_at']}"
        typer.echo(f"window    {when} (by {', '.join(window['clocks'])})")
    for cap in found.get("caps", ()):
        typer.echo(f"cap       {cap['key']}: {cap['sent']} of {cap['limit']} in {cap['window_s']} s")
    if "scopes" in found:
        typer.echo(f"lists     {', '.join(found['scopes'])}")
    for rule in found["rules"]:
        typer.echo(f"{rule['effect']:9} {rule['rule']}: {rule['why']}")
    typer.echo(f"verdict   {found['verdict']}")


app.command("stats")(stats)
app.command("erase")(erase)
app.add_typer(templates_app, name="templates")
app.add_typer(blacklist_app, name="blacklist")
app.add_typer(inbound_app, name="inbound")
app.command("audit")(audit)
app.add_typer(webhooks_app, name="webhooks")


@channels_app.command("list")
def channels_list(config: ConfigDir = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every channel: bound or not, its breaker, and what an operator said."""
    found = ask_admin(config, "GET", "/admin/v1/channels")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for c in found["channels"]:
        cause = f" ({c['cause']})" if c["cause"] else ""
        without = f", sent without {' and '.join(c['left_out'])}" if c["left_out"] else ""
        bound = "bound" if c["bound"] else "not bound"
        typer.echo(f"{c['id']}: {bound}, breaker {c['breaker']}{cause}, {c['operator']}{without}")


def _channel_action(channel: str, action: str, config: Path, as_json: bool) -> None:
    found = ask_admin(config, "PUT", "/admin/v1/channels", body={"id": channel, "action": action})
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else f"{found['id']}: {found['operator']}")


Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="A channel's id.")]


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


@app.command()
def send(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="First line: columns.")],
    url: Annotated[str, typer.Option(help="Where the gateway listens.")] = "http://127.0.0.1:8080",
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key; else the environment variable SMSGW_API_KEY.")
    ] = None,
    result: Annotated[Path | None, typer.Option(help="Result file. [default: FILE.result.csv]")] = None,
    category: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    text: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    sender: Annotated[str | None, typer.Option(help="For rows without one.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Messages a call.")] = 500,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Calls at a time.")] = 4,
    patience: Annotated[float, typer.Option(min=0, help="Seconds without progress before giving up.")] = 300.0,
    run_name: Annotated[
        str, typer.Option("--run", help="Another name sends the same rows again; the same name never does.")
    ] = "",
    retry_refused: Annotated[
        bool, typer.Option("--retry-refused", help="Try refused rows of earlier runs again.")
    ] = False,
) -> None:
    """Send a CSV file of messages; run the same command again to go on where it stopped.

    Columns: to, category, text, sender, ref, ttl_s, send_at, not_after, tags (parted by ;), contact, gate,
    ext, meta, test, origin.campaign and further origin.*. Every row is answered for in the result file. A row
    without a ref gets one from its content, so that no run sends it twice.
    """
    from gateway.send import SendOptions, SendStopped, send_file

    given = {"category": category, "text": text, "sender": sender}
    options = SendOptions(
        url=url,
        key=_api_key(key_file),
        batch=batch,
        parallel=parallel,
        patience_s=patience,
        defaults={name: value for name, value in given.items() if value is not None},
        run=run_name,
        retry_refused=retry_refused,
    )
    result = result or file.with_name(f"{file.name}.result.csv")
    try:
        report = asyncio.run(send_file(file, result, options))
    except SendStopped as exc:
        stop(f"{exc}\nwhat was settled stands in {result}")
    except KeyboardInterrupt:
        stop(f"stopped; run the same command to go on. What was settled stands in {result}")
    typer.echo(
        f"{report.rows} rows: {report.accepted} accepted, {report.replayed} were known already, "
        f"{report.earlier} settled earlier, {report.refused} refused, {report.bad_rows} not readable; "
        f"see {result}"
    )
    if not report.clean:
        raise typer.Exit(EXIT_NOT_WELL)


def _api_key(key_file: Path | None) -> str:
    """Take the key from a file or the environment; the command line is open to every process."""
    try:
        key = key_file.read_text().strip() if key_file else os.environ.get("SMSGW_API_KEY", "")
    except OSError as exc:
        stop(f"{key_file}: {exc.strerror}", code=2)
    if not key.isascii() or not key.isprintable() or not key:
        stop("an API key is wanted: --key-file, or the environment variable SMSGW_API_KEY", code=2)
    return key


@app.command()
def demo(
    messages: Annotated[int, typer.Option(min=100, help="How many messages to send.")] = 20_000,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Send nothing: keep the gateway up for your own curl, data under var/."),
    ] = False,
) -> None:
    """Show the gateway at work: embedded store, simulated carriers, a mixed load, one killed half-way."""
    from gateway import demo as demonstration

    raise typer.Exit(demonstration.serve() if serve else demonstration.run(messages))


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
        typer.echo(str(problem), err=True)
