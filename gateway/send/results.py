"""The result file of a bulk run: one line a row, and at the same time the journal a resumed run starts from.

Append-only CSV. Lines are written when the gateway has answered and flushed to disk before the next batch is
taken from memory; a line cut by a crash is removed at the next start. A row that was accepted but not yet
written here is posted again under the same `ref`, and the gateway answers with the first message.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import GatewayError

ACCEPTED, REPLAYED, REFUSED, BAD_ROW = "accepted", "replayed", "refused", "bad_row"


class NotAResultFile(GatewayError):
    """The file in the result file's place is something else; it is left alone."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row."""

    line: int
    to: str
    ref: str
    status: str  # accepted | replayed | refused | bad_row
    id: str = ""
    state: str = ""
    parts: int | str = ""
    code: str = ""
    field: str = ""
    detail: str = ""


HEADER = [entry.name for entry in fields(Result)]
_REF, _TO, _STATUS = HEADER.index("ref"), HEADER.index("to"), HEADER.index("status")


class ResultFile:
    """A context manager around one result file; `take` tells which rows are settled already."""

    def __init__(self, path: Path, *, retry_refused: bool = False) -> None:
        self.path = path
        self.resumed = 0
        self._retry_refused = retry_refused
        self._done: Counter[tuple[str, str]] = Counter()
        self._stream: io.TextIOWrapper | None = None

    def __enter__(self) -> Self:
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        fresh = not self.path.exists() or not self.path.stat().st_size
        self._stream = self.path.open("a", encoding="utf-8", newline="")
        if fresh:
            self._write([HEADER])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def take(self, ref: str, to: str) -> bool:
        """Return True when an earlier run settled a row of this ref and number (each one counts once)."""
        key = (ref, to)
        if self._done[key] <= 0:
            del self._done[key]
            return False
        self._done[key] -= 1
        return True

    def append(self, results: Iterable[Result]) -> None:
        """Write lines and bring them to disk."""
        self._write([_clean(result) for result in results])

    def _write(self, rows: list[list[str]]) -> None:
        assert self._stream is not None, "used outside its `with`"
        csv.writer(self._stream, lineterminator="\n").writerows(rows)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _read(self) -> None:
        """Count what is settled, after cutting off a last line that a crash left incomplete."""
        with self.path.open("r+b") as raw:
            data = raw.read()
            complete = data.rfind(b"\n") + 1
            if complete < len(data):
                raw.truncate(complete)
        reader = csv.reader(io.StringIO(data[:complete].decode(errors="replace"), newline=""))
        if next(reader, HEADER) != HEADER:
            raise NotAResultFile(f"{self.path} is not a result file of `smsgw send`")
        last: dict[tuple[str, str, str], str] = {}
        for row in reader:
            if len(row) == len(HEADER):
                last[(row[_REF], row[_TO], row[0])] = row[_STATUS]
        settled = {ACCEPTED, REPLAYED} if self._retry_refused else {ACCEPTED, REPLAYED, REFUSED, BAD_ROW}
        self._done = Counter((ref, to) for (ref, to, _), status in last.items() if status in settled)
        self.resumed = sum(self._done.values())


def _clean(result: Result) -> list[str]:
    """Return the cells without line breaks, so that a line of the file is always a row."""
    cells = ("" if cell is None else str(cell) for cell in astuple(result))
    return [" ".join(cell.encode(errors="replace").decode().splitlines()) for cell in cells]
