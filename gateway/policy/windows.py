"""When windows of local time are open: hours of the week in time zones, and the next instant that is in all of them.

Owns the arithmetic: windows over midnight, days of their own, the clock's changes, and the spreading of what waited.
Refuses to know numbers, countries and rules (see `quiet_hours`), and what time it is: `now_ms` is an argument. Pure.

An instant is inside a window exactly when a clock on the wall there reads a time inside it. So where a clock jumps from
02:00 to 03:00, a window from 02:30 opens at the jump, and one from 02:00 to 03:00 does not open that day; where it
goes back from 02:00 to 01:00, a window from 01:00 to 01:30 is open twice. Nothing is sent at a time whose reading
is forbidden, which is what the rules are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
HORIZON_MS: Final = 15 * DAY_MS
"""How far ahead an opening is looked for: two weeks hold every weekday twice, with room for holidays."""

Spans = tuple[tuple[int, int], ...]
"""Parts of one local day, [from, to) in milliseconds after its midnight, in order and apart."""
ALL_DAY: Final[Spans] = ((0, DAY_MS),)

_WINDOW = re.compile(r"([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})").fullmatch
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])").fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY: Final = date(1970, 1, 1).weekday()


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a week, and of single dates that differ from it."""

    week: tuple[Spans, ...]
    """Seven days, Monday first."""
    dates: Mapping[str, Spans] = field(default_factory=dict)
    """'2027-05-06' or, for every year, '12-25': what holds on that day instead of its weekday's hours; () is closed."""

    def on(self, day: int) -> Spans:
        """Return what is open on a local day, given as the days since 1970-01-01."""
        if self.dates:
            written = date.fromordinal(_EPOCH_ORDINAL + day).isoformat()
            for key in (written, written[5:]):
                if key in self.dates:
                    return self.dates[key]
        return self.week[(_EPOCH_WEEKDAY + day) % 7]


class Opening(NamedTuple):
    """One stretch of time, in epoch milliseconds, throughout which sending is allowed."""

    opens_ms: int
    """Never before the time that was asked about; equal to it where it is open now."""
    closes_ms: int
    """The first instant at which it is closed again; at most `HORIZON_MS` ahead."""

    @property
    def width_ms(self) -> int:
        return self.closes_ms - self.opens_ms


def clock_ms(written: str) -> int:
    """Return "HH:MM", up to 24:00, as milliseconds after midnight. Raises ValueError."""
    if written == "24:00":
        return DAY_MS
    match = _CLOCK(written)
    if not match:
        raise ValueError("a time from 00:00 to 24:00 is wanted")
    return int(match[1]) * HOUR_MS + int(match[2]) * 60_000


def weekly(from_ms: int, to_ms: int, weekdays: Sequence[int] = range(7)) -> tuple[Spans, ...]:
    """Return the week in which a window opens on `weekdays` (Monday is 0).

    A window whose end is before its beginning goes over midnight; its weekday is that on which it begins.

    Raises:
        ValueError: the window is empty.
    """
    if from_ms in (to_ms, DAY_MS):
        raise ValueError("a window ends when it begins; the whole day is 00:00-24:00")
    week: list[list[tuple[int, int]]] = [[] for _ in range(7)]
    for weekday in weekdays:
        if from_ms < to_ms:
            week[weekday].append((from_ms, to_ms))
        else:
            week[weekday].append((from_ms, DAY_MS))
            if to_ms:
                week[(weekday + 1) % 7].append((0, to_ms))
    return tuple(tuple(sorted(spans)) for spans in week)


def parse_window(written: str) -> Hours:
    """Return a campaign's window, as "10:00-12:00", on every day; "22:00-02:00" goes over midnight.

    Raises:
        ValueError: it is not written like that, or empty.
    """
    match = _WINDOW(written)
    if not match:
        raise ValueError("a window is written as 10:00-12:00")
    return Hours(weekly(clock_ms(match[1]), clock_ms(match[2])))


def next_open(now_ms: int, windows: Sequence[tuple[Hours, ZoneInfo]], not_after_ms: int = 0) -> Opening | None:
    """Return the first stretch from `now_ms` on (epoch milliseconds) in which every window is open in its own zone.

    Where it is open now, `opens_ms` is `now_ms`: the wait is 0. It closes at `not_after_ms` at the latest (0: no such
    end). None: it does not open before that, or not in the next two weeks, as where the zones of a wide country have no
    common hour in the window.
    """
    end = horizon(now_ms)
    if not_after_ms:
        end = min(end, not_after_ms)
    found: Opening | None = None
    for start in range(now_ms, end, DAY_MS):
        stop = min(start + DAY_MS, end)
        for opens, closes in _common(windows, start, stop):
            if found is None:
                found = Opening(opens, closes)
            elif opens == found.closes_ms:
                found = Opening(found.opens_ms, closes)
            else:
                return found
        if found is not None and found.closes_ms < stop:
            return found
    return found


def horizon(now_ms: int) -> int:
    """Return the time up to which openings are looked for; it moves once an hour, so that answers can be kept."""
    return now_ms // HOUR_MS * HOUR_MS + HORIZON_MS


def spread(key: str | bytes, opens_ms: int, width_ms: int) -> int:
    """Return when one of the messages that wait for `opens_ms` leaves: evenly over [opens_ms, opens_ms + width_ms).

    `key` is the message's id: the same message has the same time, whoever asks and however often, and none is kept.
    """
    if width_ms <= 0:
        return opens_ms
    digest = blake2b(key.encode() if isinstance(key, str) else key, digest_size=8).digest()
    return opens_ms + (int.from_bytes(digest, "big") * width_ms >> 64)


def _common(windows: Sequence[tuple[Hours, ZoneInfo]], start: int, stop: int) -> list[tuple[int, int]]:
    spans = [(start, stop)]
    for hours, zone in windows:
        spans = _both(spans, list(_open_in(hours, zone, start, stop)))
        if not spans:
            break
    return spans


def _open_in(hours: Hours, zone: ZoneInfo, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of [start, stop), at most a day, in which a clock in `zone` reads a time in `hours`."""
    for begin, end, offset in _pieces(zone, start, stop):
        for day in range((begin + offset) // DAY_MS, (end + offset - 1) // DAY_MS + 1):
            midnight = day * DAY_MS - offset
            for opens, closes in hours.on(day):
                first, last = max(begin, midnight + opens), min(end, midnight + closes)
                if first < last:
                    yield first, last


def _pieces(zone: ZoneInfo, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield [start, stop), at most a day, in pieces with one offset from UTC each. No zone changes twice in a day."""
    before, after = _offset_ms(zone, start), _offset_ms(zone, stop - 1)
    if before == after:
        yield start, stop, before
        return
    low, high = start, stop - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(zone, middle) == before:
            low = middle
        else:
            high = middle
    yield start, high, before
    yield high, stop, after


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).utcoffset()
    return offset // timedelta(milliseconds=1) if offset is not None else 0


def _both(left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what two lists of stretches, each in order and apart, have in common."""
    common: list[tuple[int, int]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first, last = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first < last:
            common.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return common
