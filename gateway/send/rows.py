"""CSV lines → messages: which columns exist, what a cell means, and the `ref` that keeps a row single.

Pure. A row that cannot become a message is answered with a problem and never stops the rows after it.

The `ref` of a row without one is a hash over its content, the run's name and how often the same content stood
before it in the file. It does not depend on the line: rows may be added, removed or mended between two runs,
and what was accepted already is found again.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.client.model import Message
from gateway.errors import GatewayError

TEXT_COLUMNS = frozenset(
    {"to", "category", "text", "sender", "ref", "send_at", "not_after", "contact", "gate", "ext", "meta"}
    | {"template", "local_window", "zone"}
)
COLUMNS = TEXT_COLUMNS | {"template_version", "ttl_s", "tags", "test", "consent"}
PREFIXES = ("origin.", "params.")
MAX_CELL_CHARACTERS = 32_768
"""Far above any message: a quote that never closes is noticed after this much, not at the end of the file."""
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0", ""})


class BadFile(GatewayError):
    """The file as a whole cannot be read as messages."""


@dataclass(slots=True)
class Row:
    """One line of the file: a message with its ref, or the reason why it is none."""

    line: int
    to: str
    ref: str
    message: Message | None
    problem: str = ""
    field: str = ""


def read_rows(lines: Iterable[str], *, defaults: Mapping[str, str] | None = None, run: str = "") -> Iterator[Row]:
    """Yield the rows below the header line, in order.

    `lines` may hold lone surrogates where the file was not UTF-8 (errors="surrogateescape"); such a row is
    bad. `defaults` fill cells that are empty or missing. `run` makes other refs of the same content.

    Raises:
        BadFile: no header, or a column that is not known.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(lines, strict=True)
    header = _header(reader)
    seen: Counter[str] = Counter()
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            where = f"line {line}" if reader.line_num <= line else f"lines {line} to {reader.line_num}"
            yield _bad(line, {}, f"{where} not readable as CSV: {exc}", "", f"line-{line}")
            continue
        if not cells:
            continue  # an empty line
        row = dict(defaults or {})
        row.update({name: cell for name, cell in zip(header, cells, strict=False) if cell != ""})
        ref = _content_ref(row, run, seen)
        if len(cells) != len(header):
            yield _bad(line, row, f"{len(cells)} cells, but the header has {len(header)}", "", ref)
        else:
            yield _row(line, row, ref)


def _header(reader: Any) -> list[str]:
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise BadFile("the file is empty; its first line must name the columns") from None
    except csv.Error as exc:
        raise BadFile(f"the first line is not readable as CSV: {exc}") from exc
    if "to" not in header:
        raise BadFile('the first line must name the columns, one of them "to"')
    unknown = [name for name in header if name not in COLUMNS and not name.startswith(PREFIXES)]
    if unknown:
        known = ", ".join(sorted(COLUMNS))
        raise BadFile(f"unknown column {unknown[0]!r}; known are {known}, origin.* and params.*")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise BadFile(f"column {twice[0]!r} stands twice")
    return header


def _content_ref(row: Mapping[str, str], run: str, seen: Counter[str]) -> str:
    digest = hashlib.blake2b(digest_size=12, key=b"smsgw send", person=b"row ref")
    for part in (run, *(f"{name}\0{row[name]}" for name in sorted(row))):
        digest.update(part.encode(errors="surrogateescape") + b"\1")
    ref = digest.hexdigest()
    seen[ref] += 1
    return ref if seen[ref] == 1 else f"{ref}-{seen[ref]}"


def _row(line: int, row: dict[str, str], ref: str) -> Row:
    try:
        for name, cell in row.items():
            _check_utf8(name, cell)
        message = _message(row, row.get("ref") or ref)
    except _BadCell as exc:
        return _bad(line, row, str(exc), exc.field, ref)
    return Row(line, message.to, message.ref or ref, message)


def _bad(line: int, row: Mapping[str, str], problem: str, field: str, ref: str) -> Row:
    return Row(line, row.get("to", ""), ref, None, problem, field)


class _BadCell(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def _check_utf8(name: str, cell: str) -> None:
    if not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell):
        raise _BadCell(name, "not UTF-8 text; save the file as UTF-8")


def _message(row: dict[str, str], ref: str) -> Message:
    to = row.get("to", "").strip()
    if not to:
        raise _BadCell("to", "empty")
    nested: dict[str, dict[str, str]] = {}
    for name, cell in row.items():
        table, dot, key = name.partition(".")
        if dot:
            nested.setdefault(table, {})[key] = cell
    return Message(
        to=to,
        category=row.get("category"),
        text=row.get("text"),
        sender=row.get("sender"),
        ref=ref,
        ttl_s=_whole_number("ttl_s", row),
        send_at=row.get("send_at"),
        not_after=row.get("not_after"),
        tags=[tag.strip() for tag in row["tags"].split(";") if tag.strip()] if "tags" in row else None,
        origin=_origin(nested.get("origin")),
        contact=row.get("contact"),
        gate=row.get("gate"),
        ext=row.get("ext"),
        meta=row.get("meta"),
        test=_yes_or_no("test", row),
        template=row.get("template"),
        template_version=_whole_number("template_version", row),
        params=nested.get("params"),
        zone=row.get("zone"),
        local_window=row.get("local_window"),
        consent=_yes_or_no("consent", row),
    )


def _origin(cells: dict[str, str] | None) -> dict[str, Any] | None:
    if cells is None or "ordinal" not in cells:
        return cells
    return {**cells, "ordinal": _whole_number("ordinal", cells)}


def _whole_number(name: str, row: Mapping[str, str]) -> int | None:
    cell = row.get(name, "").strip()
    if not cell:
        return None
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 12):
        raise _BadCell(name, "a whole number is wanted")
    return int(cell)


def _yes_or_no(name: str, row: Mapping[str, str]) -> bool | None:
    cell = row.get(name, "").strip().lower()
    if cell not in _YES | _NO:
        raise _BadCell(name, "true or false is wanted")
    return True if cell in _YES else None
