"""`smsgw simulate`: one or more simulated SMSCs in a process, until SIGTERM or Ctrl-C; counters are printed
at the end.

Owns the command's options, the stats and ledger files and the order of start and stop. What an SMSC does
stands in `behaviour`. `gateway/cli.py` calls `run_simulate`; `python -m gateway.simulator.cli` is the same
without the rest of the gateway, for the bench.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import uvloop

from gateway.simulator.behaviour import ID_FORMATS, SimulatorOptions
from gateway.simulator.ledger import Tally
from gateway.simulator.smsc import Smsc

STATS_EVERY_S = 0.05
TALLY_CAPACITY = 4_000_000
NOT_OPTIONS = {"host", "port", "name", "failed_states", "keep_ledger"}
"""Fields of SimulatorOptions that follow from other options, or have no form on a command line."""


def run_simulate(
    listeners: Sequence[SimulatorOptions],
    *,
    stats: Path | None = None,
    ledger: Path | None = None,
    tally: Path | None = None,
    tally_capacity: int = TALLY_CAPACITY,
    say: Callable[[str], None] = print,
) -> int:
    """Run one SMSC a listener until SIGTERM or SIGINT; return the exit code.

    `stats`: a JSON file, replaced every STATS_EVERY_S, with the counters of all listeners added up. `ledger`:
    JSON lines written at the end (FILE.1, FILE.2, … from the second listener on). `tally`: stem of two binary
    files that count and time submits by number, written at the end (see `Tally`).
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(listeners, stats, ledger, tally, tally_capacity, say))


async def _run(
    listeners: Sequence[SimulatorOptions],
    stats: Path | None,
    ledger: Path | None,
    tally: Path | None,
    tally_capacity: int,
    say: Callable[[str], None],
) -> int:
    counts = Tally(tally_capacity) if tally is not None else None
    smscs = [Smsc(replace(options, keep_ledger=ledger is not None), tally=counts) for options in listeners]
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stopped.set)
    try:
        for smsc in smscs:
            await smsc.start()
            say(f"{smsc.options.name}: SMSC on {smsc.options.host}:{smsc.port}")
    except OSError as exc:
        say(f"cannot listen: {exc}")
        return 1
    # Messages are many, alike and short-lived; without this the collector walks all that wait for their
    # receipt.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    reporting = asyncio.create_task(_report(smscs, stats)) if stats is not None else None
    await stopped.wait()
    if reporting is not None:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting
    await asyncio.gather(*(smsc.stop() for smsc in smscs))
    if stats is not None:
        _write_stats(smscs, stats)
    if ledger is not None:
        for i, smsc in enumerate(smscs):
            smsc.ledger.write(ledger if i == 0 else Path(f"{ledger}.{i}"))
    if tally is not None and counts is not None:
        counts.write(tally)
    for smsc in smscs:
        say(f"{smsc.options.name}: {_summary(smsc)}")
    return 0


async def _report(smscs: Sequence[Smsc], path: Path) -> None:
    while True:
        _write_stats(smscs, path)
        await asyncio.sleep(STATS_EVERY_S)


def _write_stats(smscs: Sequence[Smsc], path: Path) -> None:
    """Replace the stats file; a reader sees the old one or the new one."""
    each = [smsc.stats() for smsc in smscs]
    total: dict[str, Any] = {key: sum(stats[key] for stats in each) for key in each[0]}
    total["at"] = each[0]["at"]
    if len(smscs) > 1:
        total["by_name"] = {smsc.options.name: stats for smsc, stats in zip(smscs, each, strict=True)}
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps(total))
    scratch.replace(path)


def _summary(smsc: Smsc) -> str:
    shown = {key: value for key, value in smsc.stats().items() if value and key not in ("at", "sessions")}
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or "nothing happened"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def _codes(text: str) -> tuple[int, ...]:
    return tuple(int(code, 0) for code in text.split(","))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every field of SimulatorOptions as an option: `latency_s` is `--latency-s`, `by_number`
    `--no-by-number`.
    """
    special = {*NOT_OPTIONS, "error_codes", "id_format", "password", "receipt_pdu"}
    defaults = SimulatorOptions()
    group = parser.add_argument_group("behaviour")
    for option in fields(SimulatorOptions):
        if option.name in special:
            continue
        default = getattr(defaults, option.name)
        flag = "--" + option.name.replace("_", "-")
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            group.add_argument(flag, type=type(default), default=default)
    group.add_argument("--password", help="none: any credentials are welcome")
    group.add_argument("--error-codes", type=_codes, default=defaults.error_codes, help="such as 0x08,0x14")
    group.add_argument("--receipt-pdu", choices=("deliver_sm", "data_sm"), default=defaults.receipt_pdu)
    group.add_argument("--id-format", choices=ID_FORMATS, default=defaults.id_format)


def options_of(args: argparse.Namespace) -> list[SimulatorOptions]:
    """Return one SimulatorOptions a `--listen`, all behaving alike."""
    names = {f.name for f in fields(SimulatorOptions)} - NOT_OPTIONS
    base = SimulatorOptions(**{name: getattr(args, name) for name in names})
    listeners = []
    for i, (host, port) in enumerate(args.listen or [("127.0.0.1", 2775)]):
        listeners.append(replace(base, host=host, port=port, name=f"smsc-{i + 1}"))
    return listeners


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="A carrier's SMSC that misbehaves on request.")
    parser.add_argument(
        "--listen",
        type=_address,
        action="append",
        metavar="HOST:PORT",
        help="one SMSC each, default 127.0.0.1:2775; another address than loopback has to be named",
    )
    parser.add_argument("--stats", type=Path, help="JSON file with the counters, replaced while it runs")
    parser.add_argument("--ledger", type=Path, help="JSON lines with every short message, written at the end")
    parser.add_argument("--tally", type=Path, help="stem of the two files that count submits by number")
    parser.add_argument("--tally-capacity", type=int, default=TALLY_CAPACITY)
    add_options(parser)
    args = parser.parse_args(argv)
    return run_simulate(
        options_of(args),
        stats=args.stats,
        ledger=args.ledger,
        tally=args.tally,
        tally_capacity=args.tally_capacity,
    )


if __name__ == "__main__":
    sys.exit(main())
