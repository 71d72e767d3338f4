"""From a CSV file of ported numbers to a table: read as a stream, sorted in runs on disk, in bounded memory.

Owns the CSV form (columns number and carrier, others ignored) and the external sort: runs of half a million rows are
sorted in memory and written beside the target, then cut into ranges of numbers that fit into memory again. Of several
rows with one number the last wins. Refuses to know commands and screens: counts and progress go to the caller.
"""

from __future__ import annotations

import csv
import mmap
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gateway.errors import GatewayError, RequestError
from gateway.routing.msisdn import normalise
from gateway.routing.number_segments import NumberSegments
from gateway.routing.ported_table import SUFFIX, TableWriter

RUN_ROWS = 500_000
"""Rows sorted at once; a dictionary of them takes about 60 MB."""
NAMED = 20
"""Bad rows named one by one; the rest is counted."""
PROGRESS_ROWS = 250_000
_MAX_LINE = 4096
_SAMPLE_EVERY = 4096
_RUN_BYTES = 9


class ImportRefused(GatewayError):
    """Nothing was written: the file as a whole cannot be used. Names the line, never a number."""


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    country: str = ""
    path: Path = Path()
    rows: int = 0  # data lines read
    numbers: int = 0  # rows of the table
    duplicates: int = 0  # good rows that a later one replaced
    bad_rows: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)  # (line number, reason) of the first ones


def import_file(
    source: Path,
    folder: Path,
    segments: dict[str, NumberSegments],
    country: str = "",
    *,
    now_ms: int,
    progress: Callable[[int, int], None] = lambda rows, offset: None,
    run_rows: int = RUN_ROWS,
) -> ImportReport:
    """Make the table of one country from a CSV file and put it in the place of the one before.

    Numbers are E.164 (with or without '+'), or national when `country` (ISO 3166) is given; without it the first good
    row's country is the file's. Bad rows are left out and counted. `progress` hears rows read and the place in the file
    (octets) each quarter of a million rows.

    Raises:
        ImportRefused: no such columns, a carrier that the country's number segments do not name, or no good row.
    """
    country = country.upper()
    if country and country not in segments:
        raise ImportRefused(f"there are no number segments for {country}, so no carrier is known there")
    report = ImportReport(country)
    folder.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as stream, tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as scratch:
        runs = _Runs(Path(scratch), run_rows)
        reader = _Reader(stream, segments, report)
        for number, carrier in reader.rows():
            runs.add(number, carrier)
            if report.rows % PROGRESS_ROWS == 0:
                progress(report.rows, stream.tell())
        progress(report.rows, stream.tell())
        if not runs.count:
            raise ImportRefused(f"no usable row among {report.rows}{_first(report)}; nothing was written")
        report.path = folder / f"{report.country.lower()}{SUFFIX}"
        writer = TableWriter(report.path, report.country, reader.carriers)
        try:
            for numbers, carriers in runs.merged():
                writer.add(numbers, carriers)
            report.numbers = writer.finish(now_ms)
        finally:
            writer.close()
    report.duplicates = runs.count - report.numbers
    return report


def _first(report: ImportReport) -> str:
    return f" (line {report.bad[0][0]}: {report.bad[0][1]})" if report.bad else ""


class _Reader:
    """Turns lines into (number, carrier's place)."""

    def __init__(self, stream: BinaryIO, segments: dict[str, NumberSegments], report: ImportReport) -> None:
        self._stream = stream
        self._segments = segments
        self._report = report
        self._places: dict[str, int] = {}
        self._line = 0
        self.carriers: Sequence[str] = ()
        if report.country:
            self._settle(report.country)

    def rows(self) -> Iterator[tuple[int, int]]:
        report = self._report
        number_at, carrier_at, columns = self._header()
        most = max(number_at, carrier_at)
        for line in self._lines():
            if not line.strip():
                continue
            report.rows += 1
            try:
                cells = self._cells(line)
                if len(cells) <= most:
                    raise ValueError(f"{columns} columns are wanted")
                carrier = cells[carrier_at].strip()
                if not carrier:
                    raise ValueError("carrier: missing")
                number = self._number(cells[number_at].strip())
            except ValueError as exc:
                self._bad(str(exc))
                continue
            place = self._places.get(carrier)
            if place is None:
                raise ImportRefused(self._unknown(carrier))
            yield number, place

    def _header(self) -> tuple[int, int, int]:
        for line in self._lines():
            if not line.strip() or line.startswith("#"):
                continue
            names = [cell.strip().lower() for cell in self._cells(line)]
            if "number" in names and "carrier" in names:
                return names.index("number"), names.index("carrier"), len(names)
            break
        raise ImportRefused(f"line {self._line}: the first line must name the columns, number and carrier among them")

    def _lines(self) -> Iterator[str]:
        """Yield the lines as text; one that is no text, or far too long, comes as what no row can be."""
        readline = self._stream.readline
        while raw := readline(_MAX_LINE):
            self._line += 1
            if len(raw) == _MAX_LINE and not raw.endswith(b"\n"):
                while (rest := readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield "too long"
            else:
                text = raw.decode("utf-8", "replace").rstrip("\r\n")
                yield text.removeprefix("\ufeff") if self._line == 1 else text  # a byte order mark

    @staticmethod
    def _cells(line: str) -> list[str]:
        # A quoted cell may not hold a line's end here: neither a number nor a carrier's name does.
        return line.split(",") if '"' not in line else next(csv.reader([line]))

    def _number(self, raw: str) -> int:
        report = self._report
        if not report.country and raw[:1] != "+":
            raw = f"+{raw}"
        try:
            msisdn, country = normalise(raw, report.country)
        except RequestError as exc:
            raise ValueError(f"number: {exc.detail}") from None
        if not report.country:
            self._settle(country)
        elif country != report.country:
            raise ValueError(f"number: of {country or 'no country'}, in a file for {report.country}")
        return int(msisdn)

    def _settle(self, country: str) -> None:
        if country not in self._segments:
            raise ValueError(f"number: there are no number segments for {country or 'it'}")
        self._report.country = country
        self.carriers = sorted(self._segments[country].carriers)
        self._places = {name: place for place, name in enumerate(self.carriers)}

    def _unknown(self, carrier: str) -> str:
        # Quoted only where it looks like a name: columns may have been exchanged, and then it is a number.
        shown = carrier if carrier.replace("-", "").isalpha() and carrier.isascii() and len(carrier) < 33 else "it"
        known = ", ".join(self.carriers)
        return f"line {self._line}: carrier: no number segment of {self._report.country} belongs to {shown} ({known})"

    def _bad(self, reason: str) -> None:
        self._report.bad_rows += 1
        if len(self._report.bad) < NAMED:
            self._report.bad.append((self._line, reason))


class _Runs:
    """Sorted runs on disk: each a file of ascending numbers (8 bytes each), then their carriers (1 byte each)."""

    def __init__(self, folder: Path, run_rows: int) -> None:
        self._folder = folder
        self._run_rows = run_rows
        self._rows: dict[int, int] = {}
        self._files: list[Path] = []
        self.count = 0

    def add(self, number: int, carrier: int) -> None:
        self.count += 1
        self._rows[number] = carrier
        if len(self._rows) >= self._run_rows:
            self._flush()

    def merged(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the columns of all rows in ascending order of numbers, in pieces of about one run."""
        if not self._files:
            yield _columns(self._rows)
            return
        self._flush()
        runs = [_Run(path) for path in self._files]
        # Every 4096th number of every run: between two cuts lie at most one run's rows, and a sample more of each run.
        samples = sorted(number for run in runs for number in run.numbers[::_SAMPLE_EVERY])
        step = max(1, self._run_rows // _SAMPLE_EVERY)
        cuts = [*samples[step::step], 1 << 63]
        starts = [0] * len(runs)
        for cut in cuts:
            rows: dict[int, int] = {}
            for place, run in enumerate(runs):  # a later run's rows stood later in the file: they win
                end = bisect_left(run.numbers, cut, starts[place])
                rows.update(zip(run.numbers[starts[place] : end], run.carriers[starts[place] : end], strict=True))
                starts[place] = end
            if rows:
                yield _columns(rows)

    def _flush(self) -> None:
        if not self._rows:
            return
        path = self._folder / str(len(self._files))
        numbers, carriers = _columns(self._rows)
        path.write_bytes(numbers + carriers)
        self._files.append(path)
        self._rows = {}


class _Run:
    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        rows = len(view) // _RUN_BYTES
        self.numbers = view[: rows * 8].cast("Q")
        self.carriers = view[rows * 8 :]


def _columns(rows: dict[int, int]) -> tuple[bytes, bytes]:
    ordered = sorted(rows)
    return array("Q", ordered).tobytes(), bytes(map(rows.__getitem__, ordered))
