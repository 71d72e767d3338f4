"""One country's imported table of ported numbers: a file written once, mapped by every worker, searched in place.

Owns the file's form: a header of one page (magic, version, country, rows, carrier names, checksums), the numbers in
ascending order (8 bytes each, the E.164 digits as an integer), then a carrier's place in the names for each (1 byte).
All workers share the one copy in the page cache. Refuses to know where rows come from (`ported_import`) and what is
decided (`router`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigError, ConfigProblem

SUFFIX = ".bin"
HEADER_BYTES = 4096
"""One page, so that the numbers behind it begin on one."""
MAX_CARRIERS = 255
_MAGIC = b"SMSGWPN\n"
_VERSION = 1
# magic, version, a word that reads 1 in our own byte order, country, rows, written at (epoch ms), crc32 of the columns,
# number of names, octets of names; then the names with NUL between them; the last 4 octets are crc32 of all before.
_HEAD = struct.Struct("=8sHH2sQQIHH")
_CRC = struct.Struct("=I")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells one version of a file from the next without reading it."""

    inode: int
    modified_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(status.st_ino, status.st_mtime_ns, status.st_size)


class PortedTable:
    """A mapped table. Lookups need no lock and no system call; it is unmapped when the last reference goes."""

    __slots__ = ("_carriers", "_map", "_numbers", "carriers", "country", "path", "rows", "signature", "written_at_ms")

    def __init__(self, path: Path, country: str) -> None:
        """Map the file and check it whole (about 30 ms for 5 million rows in the page cache).

        Raises:
            ConfigError: it is not such a file, is damaged, or belongs to another country; names what is wrong.
        """
        self.path, self.country = path, country.upper()
        try:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_size < HEADER_BYTES:
                    raise self._refused("too short for its header: not a table, or cut off")
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as exc:
            raise self._refused(f"cannot be read: {exc.strerror or type(exc).__name__}") from exc
        self.signature = Signature.of(status)
        view = memoryview(self._map)
        crc = self._read_header(view)
        end = HEADER_BYTES + 8 * self.rows
        if len(view) != end + self.rows:
            raise self._refused(f"{len(view)} bytes, not the {end + self.rows} of its {self.rows} rows: cut off")
        if _checksum(view[HEADER_BYTES:]) != crc:
            raise self._refused("damaged: the rows do not fit their checksum")
        self._numbers = view[HEADER_BYTES:end].cast("Q")
        self._carriers = view[end:]
        # A search touches a page here and there: reading ahead would only push other pages out.
        with contextlib.suppress(AttributeError, OSError):
            self._map.madvise(mmap.MADV_RANDOM)

    def get(self, msisdn: str) -> str | None:
        """Return the carrier of a number (E.164 digits), None when the table does not have it."""
        number = int(msisdn)
        place = bisect_left(self._numbers, number)
        if place < self.rows and self._numbers[place] == number:
            return self.carriers[self._carriers[place]]
        return None

    def count_by_carrier(self) -> dict[str, int]:
        """Return how many numbers each carrier has; reads the whole column."""
        column = self._carriers.tobytes()
        return {name: column.count(place) for place, name in enumerate(self.carriers)}

    def _read_header(self, view: memoryview) -> int:
        magic, version, order, country, self.rows, self.written_at_ms, crc, names, octets = _HEAD.unpack_from(view)
        if magic != _MAGIC:
            raise self._refused("not a table of ported numbers")
        if order != 1:
            raise self._refused("written on a machine of another byte order; import it here")
        if version != _VERSION:
            raise self._refused(f"has version {version}, this program reads {_VERSION}; import it again")
        if zlib.crc32(view[: HEADER_BYTES - _CRC.size]) != _CRC.unpack_from(view, HEADER_BYTES - _CRC.size)[0]:
            raise self._refused("damaged: the header does not fit its checksum")
        if country.decode("ascii") != self.country:
            raise self._refused(f"holds the numbers of {country.decode('ascii')}, not of {self.country}")
        self.carriers = tuple(bytes(view[_HEAD.size : _HEAD.size + octets]).decode("ascii").split("\0"))
        if len(self.carriers) != names:
            raise self._refused("damaged: the names of the carriers")
        return int(crc)

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError([ConfigProblem(f"ported/{self.path.name}", "", reason)])


class TableWriter:
    """Writes a table: `add` the columns in ascending order of numbers, then `finish`; until then nobody sees it.

    Rows go to a file beside the target, which is flushed to disk and renamed over it: readers keep the old one until
    they look for a new one, and a crash leaves either.
    """

    def __init__(self, path: Path, country: str, carriers: Sequence[str]) -> None:
        """`carriers` are the names that the rows' places mean.

        Raises:
            ValueError: too many names for the header.
        """
        names = "\0".join(carriers).encode("ascii")
        if not carriers or len(carriers) > MAX_CARRIERS or _HEAD.size + len(names) > HEADER_BYTES - _CRC.size:
            raise ValueError("no names of carriers, or too many")
        self._path, self._country, self._count, self._names = path, country.upper(), len(carriers), names
        self._rows, self._crc = 0, 0
        self._temporary = [path.with_name(f".{path.name}.{os.getpid()}.{part}") for part in ("tmp", "col")]
        self._numbers = self._temporary[0].open("wb")
        self._carriers = self._temporary[1].open("w+b")
        self._numbers.write(bytes(HEADER_BYTES))

    def add(self, numbers: memoryview | bytes, carriers: bytes) -> None:
        """Append rows: numbers as 8 bytes each in the machine's order, greater than all before, and their carriers."""
        self._crc = zlib.crc32(numbers, self._crc)
        self._numbers.write(numbers)
        self._carriers.write(carriers)
        self._rows += len(carriers)

    def finish(self, written_at_ms: int) -> int:
        """Put the table in its place, durably; returns its rows."""
        self._carriers.seek(0)
        while chunk := self._carriers.read(_CHUNK):
            self._crc = zlib.crc32(chunk, self._crc)
            self._numbers.write(chunk)
        head = _HEAD.pack(
            *(_MAGIC, _VERSION, 1, self._country.encode("ascii"), self._rows, written_at_ms, self._crc, self._count),
            len(self._names),
        )
        head = (head + self._names).ljust(HEADER_BYTES - _CRC.size, b"\0")
        self._numbers.seek(0)
        self._numbers.write(head + _CRC.pack(zlib.crc32(head)))
        self._numbers.flush()
        os.fsync(self._numbers.fileno())
        self._temporary[0].replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._rows

    def close(self) -> None:
        """Remove what is left of the temporary files."""
        self._numbers.close()
        self._carriers.close()
        for path in self._temporary:
            path.unlink(missing_ok=True)


class PortedTables:
    """The tables of all countries in one folder, and the watch for new ones."""

    def __init__(self, folder: Path | None = None) -> None:
        """Map what `folder` holds (`cn.bin` …); without one there is nothing, now or later."""
        self.folder = folder
        self.tables: dict[str, PortedTable] = {}
        self.refused: dict[str, tuple[Signature | None, ConfigError]] = {}
        """Country → the file that was refused, and why; an older table of it stays in use."""
        self.refresh()

    def __len__(self) -> int:
        return len(self.tables)

    def get(self, country: str, msisdn: str) -> str | None:
        """Return the carrier that a table has for a number (E.164 digits), None when none has it."""
        table = self.tables.get(country)
        return table.get(msisdn) if table is not None else None

    def refresh(self) -> list[str]:
        """Map files that are new or changed since the last call, drop those that were removed; returns their countries.

        A look at the folder and each file's status where nothing changed. A changed file is checked whole before it
        takes the old one's place, so this may take a moment; lookups in other threads go on meanwhile.
        """
        found = dict(_files(self.folder)) if self.folder is not None else {}
        changed = []
        for country, path in found.items():
            try:
                seen = Signature.of(path.stat())
            except OSError:
                continue  # renamed away in between: the next look finds the new one
            if self._known(country) == seen:
                continue
            changed.append(country)
            try:
                self.tables[country] = PortedTable(path, country)
                self.refused.pop(country, None)
            except ConfigError as exc:
                self.refused[country] = (seen, exc)
        for country in set(self.tables) | set(self.refused):
            if country not in found:
                changed.append(country)
                self.tables.pop(country, None)
                self.refused.pop(country, None)
        return changed

    def problems(self) -> list[ConfigProblem]:
        """Return what is wrong with the files that were refused."""
        return [problem for _, exc in self.refused.values() for problem in exc.problems]

    def _known(self, country: str) -> Signature | None:
        if country in self.refused:
            return self.refused[country][0]
        return self.tables[country].signature if country in self.tables else None


def ported_folder(data_dir: Path) -> Path:
    """Return where the tables lie: a file a country, beside the store's data."""
    return data_dir / "ported"


def _files(folder: Path) -> Iterable[tuple[str, Path]]:
    for path in sorted(folder.glob(f"[a-z][a-z]{SUFFIX}")) if folder.is_dir() else ():
        yield path.stem.upper(), path


def _checksum(view: memoryview) -> int:
    crc = 0
    for start in range(0, len(view), _CHUNK):  # in pieces: other threads run in between
        crc = zlib.crc32(view[start : start + _CHUNK], crc)
    return crc
