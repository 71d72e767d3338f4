"""Run the demonstration: start, post, kill a carrier half-way, let it come back, wait, compare, tell.

Owns the sequence and the screen. The exit code is 0 only when nothing was lost, nothing is stuck and every copy is
flagged as one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.client import AsyncClient, NotFound, Retry
from gateway.demo.load import ClientLedger, post
from gateway.demo.report import Report, compare
from gateway.demo.world import Carrier, DemoFailed, World, carriers_of, gateway_process, write_demo_config
from gateway.simulator.behaviour import SimulatorOptions

MAX_TPS = 400  # a channel: three primaries carry 1,200 parts a second, so a backlog builds up and priority shows
POSTS_PER_S = 2000.0
KILL_AT, REVIVE_AT = 0.5, 0.8  # of the messages accepted
VICTIM = "cm-a"
QUIET_S = 30.0
"""No submit and no receipt for so long while messages are open: something is stuck."""
READERS = 16


def run(count: int = 20_000, *, as_json: bool = False) -> int:
    """Run the whole demonstration with `count` messages; return the exit code.

    With `as_json` standard output has the report alone, as JSON; what else is told goes to standard error.
    """
    console = Console(stderr=as_json)
    folder = Path(tempfile.mkdtemp(prefix="smsgw-demo-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_demonstrate(count, folder, console))
    except DemoFailed as exc:
        console.print(str(exc), style="red", markup=False, highlight=False, soft_wrap=True)
        console.print(f"log and data: {folder}")
        if as_json:
            print(json.dumps({"well": False, "detail": str(exc), "folder": str(folder)}))
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        console.print("stopped")
        return 1
    _print(report, console)
    if as_json:
        print(json.dumps({**report.as_json(), "folder": None if report.well else str(folder)}))
    if report.well:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    console.print(f"[red]not as it should be[/red]; log and data: {folder}")
    return 1


async def _demonstrate(count: int, folder: Path, console: Console) -> Report:
    settings, env, key = write_demo_config(folder, max_tps=MAX_TPS)
    behaviour = SimulatorOptions(
        latency_s=0.02,
        receipt_delay_s=1.0,
        failed_rate=0.03,
        failed_states=(("UNDELIV", "001"), ("EXPIRED", "027"), ("REJECTD", "066")),
        by_number=False,
    )
    console.print("starting: embedded store, gateway, six simulated carriers", highlight=False)
    async with carriers_of(settings, behaviour) as carriers:
        world = World(folder / "config", settings, key, env, carriers)
        async with gateway_process(world, folder / "gateway.log"):
            console.print(f"metrics while it runs: {world.admin_url}/metrics, token {world.token}", soft_wrap=True)
            client = ClientLedger()
            async with _Screen(console, count, world, client) as screen:
                kill, revive = asyncio.Event(), asyncio.Event()

                def posted() -> None:
                    screen.update()
                    if client.posted >= count * KILL_AT:
                        kill.set()
                    if client.posted >= count * REVIVE_AT:
                        revive.set()

                await asyncio.gather(
                    post(world.api_url, key, count, POSTS_PER_S, client, posted),
                    _kill_and_revive(world.carrier(VICTIM), kill, revive, screen),
                )
                screen.say(f"all {count} posted: {len(client.accepted)} accepted")
                await _wait_quiet(client, world)
                records = await _read_back(world, client, screen)
    submits = sorted((row for carrier in carriers for row in carrier.smsc.ledger.submits), key=lambda row: row.at)
    victim = next(channel for channel in settings.channels if channel.id == VICTIM)
    return compare(client, submits, records, uncertain_budget=victim.binds * victim.window)


async def _kill_and_revive(carrier: Carrier, kill: asyncio.Event, revive: asyncio.Event, screen: _Screen) -> None:
    await kill.wait()
    await carrier.kill()
    screen.say(f"carrier {carrier.channel} killed: connections reset, port closed; its backup takes over")
    await revive.wait()
    await carrier.revive()
    screen.say(f"carrier {carrier.channel} is back")


def _activity(world: World) -> tuple[int, int, int]:
    """Return (submits, receipts acknowledged, receipts still to be acknowledged) over all carriers."""
    counters = [carrier.smsc.stats() for carrier in world.carriers]
    submits = sum(entry["submits"] for entry in counters)
    settled = sum(entry["settled"] for entry in counters)
    return submits, settled, sum(entry["answered_ok"] for entry in counters) - settled


async def _wait_quiet(client: ClientLedger, world: World) -> None:
    """Wait until every accepted message was submitted and its receipt taken, or nothing moves any more."""
    seen, since = _activity(world), time.monotonic()
    while True:
        await asyncio.sleep(0.1)
        now = _activity(world)
        if now != seen:
            seen, since = now, time.monotonic()
        idle_s = time.monotonic() - since
        if idle_s > QUIET_S or (idle_s > 2 and now[2] <= 0 and _all_submitted(client, world)):
            return


def _all_submitted(client: ClientLedger, world: World) -> bool:
    seen = {row.destination for carrier in world.carriers for row in carrier.smsc.ledger.submits}
    return seen >= client.accepted.keys()


async def _read_back(world: World, client: ClientLedger, screen: _Screen) -> dict[str, Mapping[str, Any] | None]:
    """Ask the gateway for every accepted message; ask again for those not final while any of them still moves."""
    records: dict[str, Mapping[str, Any] | None] = {}
    open_ids = [sent.id for sent in client.accepted.values()]
    deadline = time.monotonic() + QUIET_S
    screen.start_reading(len(open_ids))
    async with AsyncClient(world.api_url, world.key, retry=Retry(deadline_s=20), connections=READERS) as api:
        while open_ids:
            source = iter(open_ids)

            async def reader(source: Any = source) -> None:
                for message_id in source:
                    try:
                        records[message_id] = (await api.get(message_id)).raw
                    except NotFound:
                        records[message_id] = None
                    screen.advance_reading(records[message_id])

            await asyncio.gather(*(reader() for _ in range(READERS)))
            still = [mid for mid in open_ids if _may_change(records[mid])]
            if len(still) < len(open_ids):
                deadline = time.monotonic() + QUIET_S
            if time.monotonic() > deadline:
                break
            open_ids = still
            await asyncio.sleep(0.5 if still else 0)
    return records


def _may_change(record: Mapping[str, Any] | None) -> bool:
    """Tell whether waiting makes sense. What is uncertain waits half a minute (notification) or ten (marketing)."""
    return record is not None and not record["final"] and record["state"] != "uncertain"


class _Screen:
    """Live progress: three bars and the carriers; on a plain output only the milestones are printed."""

    def __init__(self, console: Console, count: int, world: World, client: ClientLedger) -> None:
        self._world = world
        self._client = client
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._accepted = self._progress.add_task("accepted", total=count)
        self._submitted = self._progress.add_task("submitted", total=count)
        self._reported = self._progress.add_task("receipts", total=count)
        self._reading: TaskID | None = None
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=5)
        self._seen_final: set[str] = set()

    async def __aenter__(self) -> _Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.refresh()
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a milestone with the seconds since the start, above the bars."""
        self._console.print(
            f"[dim]{time.monotonic() - self._started:6.1f} s[/dim]  {line}", highlight=False, soft_wrap=True
        )

    def update(self) -> None:
        self._progress.update(self._accepted, completed=self._client.posted)

    def start_reading(self, count: int) -> None:
        self.say("no more traffic; reading every record back and comparing it with the carriers' ledgers")
        self._reading = self._progress.add_task("read back", total=count)

    def advance_reading(self, record: Mapping[str, Any] | None) -> None:
        if self._reading is not None and not _may_change(record):
            self._progress.advance(self._reading)

    def _render(self) -> Group:
        submits, settled, _ = _activity(self._world)
        self._progress.update(self._submitted, completed=submits, total=max(submits, self._client.posted))
        self._progress.update(self._reported, completed=settled, total=max(submits, self._client.posted))
        table = Table("carrier", "state", "sessions", "submits", "receipts", box=None, pad_edge=False)
        for carrier in self._world.carriers:
            counters = carrier.smsc.counters
            state = "[green]up[/green]" if carrier.alive else "[red]killed[/red]"
            table.add_row(
                carrier.channel, state, str(counters.sessions), f"{counters.submits:,}", f"{counters.settled:,}"
            )
        return Group(self._progress, table)


def _print(report: Report, console: Console) -> None:
    """Print the final table."""
    table = Table(title="what became of it", show_header=False, title_justify="left")
    table.add_column(min_width=46)
    table.add_column(justify="right")
    table.add_row("posted over HTTP", f"{report.posted:,}")
    for code, count in sorted(report.refused.items()):
        table.add_row(f"  refused: {code}", f"{count:,}")
    table.add_row("accepted", f"{report.accepted:,}")
    table.add_row("parts taken by carriers", f"{report.parts:,}")
    table.add_section()
    table.add_row("[green]delivered[/green]", f"{report.states['delivered']:,}")
    for (state, reason), count in report.failed.most_common():
        table.add_row(f"  {state}: {reason}", f"{count:,}")
    if report.uncertain:
        table.add_row("  uncertain: its answer died with the carrier", f"{report.uncertain:,}")
    for state, count in report.unfinished_states.most_common():
        table.add_row(f"  [yellow]not finished: {state}[/yellow]", f"{count:,}")
    table.add_section()
    table.add_row(_good_if(not report.lost, "lost"), f"{report.lost:,}")
    table.add_row(_good_if(not report.unflagged_copies, "copies nobody owned up to"), f"{report.unflagged_copies:,}")
    table.add_row("copies flagged possible_duplicate", f"{report.copies - report.unflagged_copies:,}")
    if report.unasked:
        table.add_row("[red]submits nobody asked for[/red]", f"{report.unasked:,}")
    console.print(table)
    latency = Table("post to submit_sm", "messages", "p50", "p99", "worst", title_justify="left")
    for category, found in report.latency.items():
        latency.add_row(category, f"{found.count:,}", _ms(found.p50_s), _ms(found.p99_s), _ms(found.worst_s))
    console.print(latency)


def _good_if(good: bool, words: str) -> str:
    return f"[green]{words}[/green]" if good else f"[red]{words}[/red]"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"
