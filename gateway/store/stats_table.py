"""An account's statistics of one day as a small table: labels, measures, and numbers by hour; and as octets.

Pure. Owns the form in which folded statistics are kept. Refuses to know keys and what a measure means. A counter of
the store is a label (carrier, route, template, campaign, variant, category, channel), a measure (outcome, reason) and
a number; labels and measures stand once in a table and are named by their places, so that a day of an account takes
a few kilobytes and is read in a fraction of a millisecond.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct, error
from typing import Final

from gateway.model import route_name

GS, RS, US = "\x1d", "\x1e", "\x1f"
LABELS: Final = ("carrier", "route", "template", "campaign", "variant", "category", "channel")
"""What a label says, in this order, with US between."""
HOURLY_DAYS: Final = 90
DAILY_DAYS: Final = 400
"""For how many days tables by hours and tables by days are kept."""
_FORM: Final = 1
_LEVEL: Final = 6
_HEAD = Struct("<IIII")  # form, octets of text, words of hours and columns, cells

Counts = Mapping[str, Mapping[str, int]]
"""label → measure → number."""


Column = tuple[int, list[int], list[int]]
"""The place of a measure, and in step the places of labels and their numbers, none of them 0."""


@dataclass(slots=True)
class Table:
    """Numbers of one account. `slots`: hour (epoch hours; of a whole day its first) → columns.

    By columns, because most questions add up a measure over all labels, and `sum` does that.
    """

    labels: list[str] = field(default_factory=list)
    measures: list[str] = field(default_factory=list)
    slots: dict[int, list[Column]] = field(default_factory=dict)

    def add(self, hour: int, counts: Counts) -> None:
        """Add numbers to an hour; what comes to 0 goes."""
        label_at = {label: i for i, label in enumerate(self.labels)}
        measure_at = {measure: i for i, measure in enumerate(self.measures)}
        columns = {at: dict(zip(places, numbers, strict=True)) for at, places, numbers in self.slots.get(hour, ())}
        for label, cells in counts.items():
            place = label_at.setdefault(label, len(label_at))
            for measure, n in cells.items():
                column = columns.setdefault(measure_at.setdefault(measure, len(measure_at)), {})
                column[place] = column.get(place, 0) + n
        self.labels, self.measures = list(label_at), list(measure_at)
        found = [(at, {place: n for place, n in column.items() if n}) for at, column in columns.items()]
        self.slots[hour] = [(at, list(column), list(column.values())) for at, column in found if column]


def pack(table: Table) -> bytes:
    """Return a table as it is kept: sizes, labels and measures (UTF-8), hours and columns, places, numbers; deflated.

    Numbers as machine words: a month of many accounts is read at once, and JSON takes four times as long.
    """
    text = f"{RS.join(table.labels)}{GS}{RS.join(table.measures)}".encode()
    shape, places, numbers = array("I", [len(table.slots)]), array("I"), array("q")
    for hour, columns in table.slots.items():
        shape.extend((hour, len(columns)))
        for at, some, many in columns:
            shape.extend((at, len(some)))
            places.extend(some)
            numbers.extend(many)
    head = _HEAD.pack(_FORM, len(text), len(shape), len(places))
    return zlib.compress(b"".join((head, text, _octets(shape), _octets(places), _octets(numbers))), _LEVEL)


def unpack(kept: bytes) -> Table:
    """Return the table that `pack` wrote. Raises ValueError when it is none."""
    try:
        raw = zlib.decompress(kept)
        form, n_text, n_shape, n_cells = _HEAD.unpack_from(raw)
    except (zlib.error, error) as exc:
        raise ValueError("not a table of statistics") from exc
    a = _HEAD.size + n_text
    b = a + 4 * n_shape
    c = b + 4 * n_cells
    if form != _FORM or len(raw) != c + 8 * n_cells:
        raise ValueError("not a table of statistics, or one of another form")
    labels, _, measures = raw[_HEAD.size : a].decode().partition(GS)
    shape = _words("I", raw[a:b])
    places, numbers = _words("I", raw[b:c]), _words("q", raw[c:])
    table = Table(labels.split(RS) if labels else [], measures.split(RS) if measures else [])
    at, cell = 1, 0
    for _ in range(shape[0]):
        hour, n_columns = shape[at], shape[at + 1]
        at += 2
        columns = table.slots[hour] = []
        for i in range(at, at + 2 * n_columns, 2):
            end = cell + shape[i + 1]
            columns.append((shape[i], places[cell:end], numbers[cell:end]))
            cell = end
        at += 2 * n_columns
    return table


def _octets(words: array[int]) -> bytes:
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _words(kind: str, raw: bytes) -> list[int]:
    words: array[int] = array(kind)
    words.frombytes(raw)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tolist()


WHOLE, PATH, CONTENT, MERGED = "whole", "path", "content", "merged"
"""Kinds of tables of a day. Whole: an account's, with all labels. Path: without template, campaign and variant.
Content: without carrier, route and channel. Merged: as path, of all accounts together. Few questions need the whole."""
_LEFT_OUT: Final = {PATH: {2, 3, 4}, CONTENT: {0, 1, 6}}


def narrowed(counts: Counts, kind: str) -> dict[str, dict[str, int]]:
    """Return the numbers as a table of path or content has them: what it leaves out is ''."""
    found: dict[str, dict[str, int]] = {}
    left_out = _LEFT_OUT[kind]
    for label, numbers in counts.items():
        shown = US.join(["" if i in left_out else value for i, value in enumerate(label.split(US))])
        cells = found.setdefault(shown, {})
        for measure, n in numbers.items():
            cells[measure] = cells.get(measure, 0) + n
    return found


class Counted:
    """The counters of one hour as the store's scripts keep them, sorted by account. The lanes of a route are one."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, dict[str, int]]] = {}
        self.unreadable = 0
        self._fronts: dict[bytes, dict[str, int]] = {}
        self._seen: set[bytes] = set()

    def add(self, name: bytes, number: bytes) -> None:
        """Take one counter; a second time (a scan may give it twice) it is not counted again."""
        if name in self._seen:
            return
        self._seen.add(name)
        try:
            front, outcome, reason = name.rsplit(b"\x1f", 2)
            cells = self._fronts.get(front)
            if cells is None:
                cells = self._fronts[front] = self._cells(front.decode())
            measure = f"{outcome.decode()}{US}{reason.decode()}"
            cells[measure] = cells.get(measure, 0) + int(number)
        except ValueError:
            self.unreadable += 1

    def _cells(self, front: str) -> dict[str, int]:
        account, carrier, route, *rest = front.split(US)
        if len(rest) != len(LABELS) - 2:
            raise ValueError("not a counter")
        label = US.join((carrier, route_name(route), *rest))
        return self.accounts.setdefault(account, {}).setdefault(label, {})
