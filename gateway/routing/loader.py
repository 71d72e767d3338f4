"""From files and settings to a router: reads the number segment tables, compiles the routes.

Owns the CSV form of `config/number_segments/*.csv`. Refuses to know how a message is routed. Stands at
start-up and reload, off the path.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import ConfigError, ConfigProblem
from gateway.routing.learned import Learned
from gateway.routing.msisdn import calling_code
from gateway.routing.number_segments import NumberSegments, Segment
from gateway.routing.ported_codes import PortedCodes, load_codes
from gateway.routing.ported_table import PortedTables, ported_folder
from gateway.routing.router import PORTED, Router
from gateway.routing.table import RouteTable
from gateway.settings.values import Settings

_COLUMNS = ["prefix", "carrier", "kind", "sms_capable", "note"]
_PREFIX = re.compile(r"[0-9]{1,12}").fullmatch
_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}").fullmatch
_MAX_FILE_BYTES = 16 << 20


def load_segments(path: Path, country: str | None = None) -> NumberSegments:
    """Read one country's number segments; `country` defaults to the file's name (`cn.csv` → CN).

    The file is UTF-8 CSV: lines from '#' are comments, then a line with the column names, then a line a
    segment: national prefix, carrier (may be empty), kind, sms_capable (yes or no), note.

    Raises:
        ConfigError: with every line that is wrong.
    """
    country = (country or path.stem).upper()
    code = calling_code(country)
    if not code:
        raise ConfigError([ConfigProblem(path.name, "", f"no calling code known for country {country}")])
    problems: list[ConfigProblem] = []
    segments: dict[str, Segment] = {}
    for number, row in _rows(path):
        try:
            segment = _segment(row)
            if segment.prefix in segments:
                raise ValueError(f"prefix {segment.prefix} stands twice")
        except ValueError as exc:
            problems.append(ConfigProblem(path.name, f"line {number}", str(exc)))
            continue
        segments[segment.prefix] = segment
    if not segments and not problems:
        problems.append(ConfigProblem(path.name, "", "no number segment in this file"))
    if problems:
        raise ConfigError(problems)
    return NumberSegments(code, segments.values())


def load_all_segments(files: dict[str, Path]) -> dict[str, NumberSegments]:
    """Read the tables of all countries (ISO 3166 → file).

    Raises:
        ConfigError: with the problems of all files.
    """
    problems: list[ConfigProblem] = []
    tables: dict[str, NumberSegments] = {}
    for country, path in files.items():
        try:
            tables[country.upper()] = load_segments(path, country)
        except ConfigError as exc:
            problems += exc.problems
    if problems:
        raise ConfigError(problems)
    return tables


def build_router(settings: Settings, before: Router | None = None) -> Router:
    """Compile the routes of a configuration, read the number segments it names, map the tables of ported numbers.

    A table of ported numbers that cannot be used is no reason to stop: `router.imported` holds what is wrong with it,
    and the segments decide. What the router `before` this one knows of ported numbers goes on being used.

    Raises:
        ConfigError: a number segment table cannot be used, or a route names a carrier that none of them has.
    """
    tables = load_all_segments(settings.number_segments_files)
    problems = _unknown_carriers(settings, tables)
    if problems:
        raise ConfigError(problems)
    ttl_s, most = settings.ported.learned_ttl_s, settings.ported.learned_most
    learned = before.learned if before is not None else None
    if learned is None or (learned.ttl_s, learned.most) != (ttl_s, most):
        learned = Learned(ttl_s, most)
    imported = before.imported if before is not None else PortedTables(ported_folder(settings.store.data_dir))
    return Router(RouteTable(settings.routes, settings.channels), tables, imported, learned)


def build_codes(settings: Settings) -> PortedCodes:
    """Read the receipt codes that say "ported".

    Raises:
        ConfigError: a line is wrong, or names a carrier that no number segment has.
    """
    tables = load_all_segments(settings.number_segments_files)
    carriers = frozenset(name for table in tables.values() for name in table.carriers)
    return load_codes(settings.ported_codes_file, carriers)


def _unknown_carriers(settings: Settings, tables: dict[str, NumberSegments]) -> list[ConfigProblem]:
    problems = []
    for route in settings.routes:
        carrier, country = route.match.carrier, route.match.country
        searched = tables.values() if country is None else [tables[country]] if country in tables else []
        if carrier not in (None, PORTED) and not any(carrier in table.carriers for table in searched):
            key = f"route[{route.id}].match.carrier"
            reason = f"no number segment of {country or 'any country'} belongs to {carrier}"
            problems.append(ConfigProblem("routes.toml", key, reason))
    return problems


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the data lines."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError([ConfigProblem(path.name, "", f"larger than {_MAX_FILE_BYTES} bytes")])
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(path.name, "", "not UTF-8")]) from None
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror or type(exc).__name__}"
        raise ConfigError([ConfigProblem(path.name, "", reason)]) from exc
    header_seen = False
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if header_seen:
            yield number, cells
        elif cells == _COLUMNS:
            header_seen = True
        else:
            reason = f"the first line must be {','.join(_COLUMNS)}"
            raise ConfigError([ConfigProblem(path.name, f"line {number}", reason)])


def _segment(row: list[str]) -> Segment:
    if len(row) != len(_COLUMNS):
        raise ValueError(f"{len(_COLUMNS)} columns are wanted")
    prefix, carrier, kind, capable, _note = row
    if not _PREFIX(prefix):
        raise ValueError("prefix: 1 to 12 digits are wanted")
    if carrier and not _WORD(carrier):
        raise ValueError("carrier: lower-case letters, digits and hyphens are wanted, or nothing")
    if not _WORD(kind):
        raise ValueError("kind: a lower-case word is wanted")
    if capable not in ("yes", "no"):
        raise ValueError("sms_capable: yes or no is wanted")
    return Segment(prefix, carrier, kind, capable == "yes")
