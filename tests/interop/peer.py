"""The SMSC of `smsc.js` as a test sees it: started on a free port, told what to do, its ledger read.

`async with Peer(tmp_path) as peer:` runs it; what the library could not read fails the test at the block's end. The
rows are the library's reading of our octets, so nothing here knows SMPP. `peer.ledger.rows()` is in the words of
`loadtests/check.py`, so that `AuditedGateway.audit([peer])` compares it with the other ledgers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".peers"
WANTED = HERE / "peers.txt"
START_S, ANSWER_S = 20.0, 10.0

Row = dict[str, Any]


def installed() -> bool:
    """Tell whether `make peers` has put there what is wanted now."""
    stamp = INSTALLED / "installed"
    return stamp.exists() and stamp.read_text() == WANTED.read_text()


class Ledger:
    """The rows the SMSC has written so far, in its order."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._at = 0
        self._rows: list[Row] = []

    def all(self, *kinds: str, **fields: Any) -> list[Row]:
        """Return the rows of these kinds (none: all) that have these values."""
        with self._path.open("rb") as stream:
            stream.seek(self._at)
            whole, newline, _ = stream.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        self._rows += [json.loads(line) for line in whole.splitlines()]
        return [
            row
            for row in self._rows
            if (not kinds or row["kind"] in kinds) and all(row.get(name) == value for name, value in fields.items())
        ]

    def submits(self, **fields: Any) -> list[Row]:
        """Return the messages with their answers: `status` is None where there was none."""
        answers = {row["n"]: row for row in self.all("answer")}
        unanswered = {"status": None, "smsc_id": ""}
        return [
            row | {name: answers.get(row["n"], unanswered)[name] for name in unanswered}
            for row in self.all("submit", **fields)
        ]

    def rows(self) -> Iterator[Row]:
        """Yield messages and receipts, each time one was sent, as the checker reads them."""
        yield from self.submits()
        acks: dict[tuple[int, int], list[int]] = {}
        for row in self.all("ack"):
            acks.setdefault((row["n"], row["session"]), []).append(row["status"])
        for row in self.all("receipt"):
            own = acks.get((row["n"], row["session"]))
            yield row | {"ack": own.pop(0) if own else None}


class Peer:
    """One SMSC in its own process. `options` are those of smsc.js: `password="other"`, `default="LATIN1"`."""

    def __init__(self, directory: Path, **options: str | Path) -> None:
        self.port = 0
        self.ledger = Ledger(directory / "peer.jsonl")
        self._options = {"ledger": directory / "peer.jsonl", **options}
        self._errors = directory / "peer.err"
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[Row] | None = None
        self._answers: dict[int, asyncio.Future[Row]] = {}
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        flags = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in self._options.items())
        with self._errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *("node", str(HERE / "smsc.js"), *flags),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                # In UTC no clock is put back while a relative time is added to it.
                env={**os.environ, "NODE_PATH": str(INSTALLED / "node_modules"), "TZ": "UTC"},
            )
        self._listening = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        try:
            self.port = (await asyncio.wait_for(self._listening, START_S))["port"]
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        status = await self._end()
        if kind is None:
            assert status == 0, self._errors.read_text()
            assert not self.ledger.all("decode_error")

    async def _end(self) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        try:
            return await asyncio.wait_for(self._process.wait(), ANSWER_S)
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._listening is not None
        while line := await self._process.stdout.readline():
            row = json.loads(line)
            waiting = self._answers.pop(row["id"]) if "id" in row else self._listening
            waiting.set_result(row)
        gone = AssertionError(f"the SMSC ended: {self._errors.read_text()}")
        for waiting in (self._listening, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(gone)

    # --- control

    async def _order(self, do: str, **fields: Any) -> Row:
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._ids)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": do, **fields}).encode() + b"\n")
        return await asyncio.wait_for(answer, ANSWER_S)

    async def rules(self, **rules: Any) -> None:
        """Treat what comes from now on by these rules (USUAL in smsc.js), all others as usual."""
        await self._order("rules", rules=rules)

    async def release(self) -> int:
        """Give the held answers, the last first; returns how many."""
        return int((await self._order("release"))["count"])

    async def send(self, command: str, *kinds: str, **pdu: Any) -> int:
        """Send a PDU on every session of these kinds (none: all); returns on how many."""
        return int((await self._order("send", command=command, pdu=pdu, **_chosen(kinds)))["count"])

    async def unbind(self, *kinds: str) -> int:
        """Unbind every session of these kinds (none: all); returns how many."""
        return int((await self._order("unbind", **_chosen(kinds)))["count"])

    # --- what it saw

    def binds(self, **fields: Any) -> list[Row]:
        """Return the binds that were granted."""
        return self.ledger.all("bind", status=0, **fields)

    def replies(self, request: str) -> Counter[tuple[str, int]]:
        """Count the answers to what it sent, by their command and status."""
        return Counter((row["command"], row["status"]) for row in self.ledger.all("reply", request=request))

    def commands(self, command: str) -> int:
        """Return how often the gateway sent a command other than submit_sm."""
        return len(self.ledger.all("pdu", command=command))


def _chosen(kinds: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {"kinds": kinds} if kinds else {}


def texts(rows: Iterable[Row]) -> dict[str, str]:
    """Put the parts of every number's message together as a handset does: by number, one reference, no part missing."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault("+" + row["to"], []).append(row)
    for to, parts in found.items():
        parts.sort(key=lambda row: row["part"])
        assert [row["part"] for row in parts] == list(range(1, parts[0]["parts"] + 1)), to
        assert len({(row["joined_by"], row["reference"], row["parts"]) for row in parts}) == 1, to
    return {to: "".join(row["text"] for row in parts) for to, parts in found.items()}
