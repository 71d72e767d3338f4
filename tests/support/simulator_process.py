"""A simulated carrier as a process of its own, for scenarios that freeze one: `smsgw simulate` with a ledger.

`async with SimulatorProcess(folder, latency_s=0.1) as smsc:` listens on `smsc.port`; after `stop` its ledger is there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.check import ReceiptRow, SubmitRow, read_smsc
from tests.support.gateway import free_port
from tests.support.until import until


class SimulatorProcess:
    """The options are those of SimulatorOptions; numbers choose no behaviour, receipts come soon."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.port = free_port()
        self.ledger_path = folder / "smsc.jsonl"
        self._stats_path = folder / "smsc.stats"
        self._options = {"receipt_delay_s": 0.01, **options}
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        words = [w for name, value in self._options.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.simulator.cli", "--listen", f"127.0.0.1:{self.port}", "--no-by-number"),
            *("--stats", str(self._stats_path), "--ledger", str(self.ledger_path), *words),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await until(self._stats_path.exists, timeout_s=20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def counter(self, name: str) -> int:
        """Return one of its counters, a twentieth of a second old at most while it runs."""
        return int(json.loads(self._stats_path.read_text())[name])

    def freeze(self) -> None:
        """SIGSTOP: its kernel still takes octets and connections, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> tuple[list[SubmitRow], list[ReceiptRow]]:
        """SIGTERM, wait for the end, and return what it saw."""
        assert self.process is not None
        self.process.terminate()
        await asyncio.wait_for(self.process.wait(), 20)
        return read_smsc(self.ledger_path)
