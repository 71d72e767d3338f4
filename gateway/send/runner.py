"""Post a file's rows in batches, a few at a time, and write down what became of each.

Stands outside the gateway, on the HTTP client. Nothing is dropped: a row is accepted, refused with the
gateway's reason, or still open when the run stops, and the next run takes up the open ones. Waiting rows keep
their `ref`, so however often a batch is repeated no message is doubled.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from gateway.client import Accepted, ApiError, AsyncClient, Refused, Retry, Unauthorized, Unreachable
from gateway.errors import GatewayError
from gateway.send.results import ACCEPTED, BAD_ROW, REFUSED, REPLAYED, Result, ResultFile
from gateway.send.rows import Row, read_rows

_SPLIT_STATUS = frozenset({400, 413, 422})
"""One row, or the size, spoils the whole call: it is halved until the row is found."""


class SendStopped(GatewayError):
    """The run cannot go on; what is open stays open for the next run of the same command."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a file is sent. `defaults` fill empty cells; another `run` sends the same content on purpose."""

    url: str
    key: str = field(repr=False)
    batch: int = 500
    parallel: int = 4
    patience_s: float = 300.0  # without a single settled row
    defaults: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    retry_refused: bool = False


@dataclass(slots=True)
class SendReport:
    """What became of the rows, this run and earlier ones."""

    rows: int = 0
    earlier: int = 0
    accepted: int = 0
    replayed: int = 0
    refused: int = 0
    bad_rows: int = 0

    @property
    def clean(self) -> bool:
        return not (self.refused or self.bad_rows)


async def send_file(path: Path, result_path: Path, options: SendOptions, console: Console | None = None) -> SendReport:
    """Send every row of `path` that `result_path` does not list yet; return what became of them.

    Raises:
        BadFile: the CSV has no usable header.
        NotAResultFile: `result_path` is another file; it is not touched.
        SendStopped: key refused, or no answer for `patience_s`.
    """
    progress = _progress(console)
    lines = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    with lines, ResultFile(result_path, retry_refused=options.retry_refused) as results, progress:
        rows = read_rows(lines, defaults=options.defaults, run=options.run)
        task = progress.add_task("sending", total=_count_lines(path), refused=0)
        async with AsyncClient(
            options.url, options.key, retry=Retry(deadline_s=10.0), connections=options.parallel
        ) as client:
            run = _Run(client, options, results, progress, task)
            await run.send(rows)
        progress.update(task, total=run.report.rows, completed=run.report.rows)
        return run.report


def _progress(console: Console | None) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[refused]} refused"),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )


def _count_lines(path: Path) -> int:
    """Return about how many rows the file has: a text with line breaks counts for several."""
    with path.open("rb") as stream:
        return max(0, sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b"")) - 1)


class _Run:
    """One run: takes rows, keeps at most `parallel` batches in flight, records answers."""

    def __init__(
        self, client: AsyncClient, options: SendOptions, results: ResultFile, progress: Progress, task: TaskID
    ) -> None:
        self.report = SendReport()
        self._client = client
        self._options = options
        self._results = results
        self._progress = progress
        self._task = task
        self._settled_at = time.monotonic()

    async def send(self, rows: Iterator[Row]) -> None:
        batches = self._batches(rows)
        in_flight: set[asyncio.Task[None]] = set()
        try:
            for batch in batches:
                in_flight.add(asyncio.create_task(self._send_batch(batch)))
                if len(in_flight) >= self._options.parallel:
                    in_flight = await _settle_one(in_flight)
            while in_flight:
                in_flight = await _settle_one(in_flight)
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    def _batches(self, rows: Iterator[Row]) -> Iterator[list[Row]]:
        """Yield the rows still to be posted; settle on the way what is bad or was settled earlier."""
        batch: list[Row] = []
        for row in rows:
            self.report.rows += 1
            if self._results.take(row.ref, row.to):
                self.report.earlier += 1
                self._progress.advance(self._task)
            elif row.message is None:
                self._record([Result(row.line, row.to, row.ref, BAD_ROW, "", "", "", BAD_ROW, row.field, row.problem)])
            else:
                batch.append(row)
            if len(batch) >= self._options.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _send_batch(self, batch: list[Row]) -> None:
        """Post a batch, its rejected-for-now rows again after a pause, until every row is settled."""
        waiting = deque([batch])
        while waiting:
            rows = waiting.popleft()
            try:
                posted = [row.message for row in rows if row.message is not None]
                # What is refused for now is taken up again below, with the patience of a run and not of a call.
                answers = await self._client.send_batch(posted, retry_items=False)
            except ApiError as exc:
                waiting.extend(await self._after_refused_call(rows, exc))
                continue
            except Unreachable as exc:
                await self._pause(1.0, str(exc))
                waiting.append(rows)
                continue
            later = self._settle(rows, answers)
            if later:
                await self._pause(max(0.2, *(wait_s for _, wait_s in later)), "the gateway is busy")
                waiting.append([row for row, _ in later])

    async def _after_refused_call(self, rows: list[Row], exc: ApiError) -> list[list[Row]]:
        """Return what to post next after the call as a whole was refused."""
        if isinstance(exc, Unauthorized):
            raise SendStopped(f"the gateway refused the key: {exc}") from exc
        if exc.status in _SPLIT_STATUS:
            if len(rows) > 1:
                middle = len(rows) // 2
                return [rows[:middle], rows[middle:]]
            self._record([_refusal(rows[0], exc.refused)])
            return []
        if exc.status < 500 and exc.status != 429:
            raise SendStopped(f"the gateway refused the call: {exc}") from exc
        await self._pause(exc.refused.retry_after_s or 1.0, str(exc))
        return [rows]

    def _settle(self, rows: list[Row], answers: list[Accepted | Refused]) -> list[tuple[Row, float]]:
        """Record the answers; return the rows to post again, each with the seconds to wait."""
        settled: list[Result] = []
        later: list[tuple[Row, float]] = []
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, Accepted):
                status = REPLAYED if answer.replayed else ACCEPTED
                settled.append(Result(row.line, row.to, row.ref, status, answer.id, answer.state, answer.parts))
            elif answer.retryable:
                later.append((row, answer.retry_after_s or 1.0))
            else:
                settled.append(_refusal(row, answer))
        self._record(settled)
        return later

    def _record(self, settled: list[Result]) -> None:
        if not settled:
            return
        self._results.append(settled)
        self._settled_at = time.monotonic()
        for result in settled:
            if result.status == ACCEPTED:
                self.report.accepted += 1
            elif result.status == REPLAYED:
                self.report.replayed += 1
            elif result.status == REFUSED:
                self.report.refused += 1
            else:
                self.report.bad_rows += 1
        refused = self.report.refused + self.report.bad_rows
        self._progress.update(self._task, advance=len(settled), refused=refused)

    async def _pause(self, wait_s: float, why: str) -> None:
        waited_s = time.monotonic() - self._settled_at
        if waited_s + wait_s > self._options.patience_s:
            raise SendStopped(f"no row was settled for {waited_s:.0f} s ({why}); run the same command to go on")
        await asyncio.sleep(wait_s)


async def _settle_one(in_flight: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    done, pending = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()  # raises what stopped it
    return pending


def _refusal(row: Row, refused: Refused) -> Result:
    code, where = refused.code, refused.field or ""
    return Result(row.line, row.to, row.ref, REFUSED, code=code, field=where, detail=refused.detail)
