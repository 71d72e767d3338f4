"""When a message of a category may reach a number: the hours of its country's rule and of its campaign, in local time.

Owns the CSV form of `config/quiet_hours.csv`, which rule holds for whom, and in which zones. Refuses to know the
arithmetic (`windows`), what is done with what has to wait, and the time. Asked once a message at intake and at claim,
so an answer is kept while it holds. Verification has no quiet hours: who asks for a code is awake. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.errors import ConfigError, ConfigProblem, RequestError
from gateway.model import CATEGORY_BY_LABEL, Category
from gateway.policy.time_zones import ANYWHERE, TimeZones, asked_zone, is_place, load_time_zones, zone_named
from gateway.policy.windows import (
    HOUR_MS,
    Hours,
    Opening,
    Spans,
    clock_ms,
    horizon,
    next_open,
    parse_window,
    weekly,
)
from gateway.settings.table_file import read_table

RECIPIENT: Final = "recipient"
_COLUMNS: Final = ("place", "categories", "allowed_from", "allowed_to", "days", "time_zone", "source")
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATE = re.compile(r"([0-9]{4}-)?[0-9]{2}-[0-9]{2}").fullmatch
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """The hours of one place and category."""

    hours: Hours
    zone: ZoneInfo | None
    """Whose clock they are read on; None: the recipient's."""


class _Kept(NamedTuple):
    """An answer and the time for which it is the right one."""

    from_ms: int
    until_ms: int
    opening: Opening | None


class QuietHours:
    """All rules of a configuration."""

    def __init__(
        self, rules: Mapping[tuple[str, Category], Rule] | None = None, zones: TimeZones | None = None
    ) -> None:
        self._rules = dict(rules or {})
        self._zones = zones or TimeZones()
        self._kept: dict[tuple[int, Category | int, str, str, str], _Kept] = {}

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def categories(self) -> frozenset[Category]:
        """The categories that have a rule for some place."""
        return frozenset(category for _, category in self._rules)

    def changed(self, hours: Mapping[Category, Hours | None]) -> QuietHours:
        """Return these rules with other hours for every place without one of its own, by category.

        None takes all rules of a category away: nothing forbids it any hour.
        """
        rules = {
            (place, category): rule
            for (place, category), rule in self._rules.items()
            if hours.get(category, rule) is not None
        }
        for category, given in hours.items():
            if given is not None:
                rules[ANYWHERE, category] = Rule(given, None)
        return QuietHours(rules, self._zones)

    def next_open(
        self,
        now_ms: int,
        category: Category | int,
        place: str,
        *,
        zone: str = "",
        local_window: str = "",
        not_after_ms: int = 0,
    ) -> Opening | None:
        """Return the first stretch from `now_ms` on in which a message may be sent (see `windows.next_open`).

        `place` is the number's country, or a part of it where that is known ('US-TX'); `zone` the recipient's time
        zone where the application knows it; `local_window` the campaign's own hours, which hold besides the rule's and
        for every category. None: never in time. Asked with `not_after_ms` 0, None means that the zones in question have
        no hour in common, and naming the recipient's zone would help.

        Raises:
            RequestError: `invalid_field`, field `zone` or `local_window`.
        """
        # By hour too: a batch for tomorrow and one for now must not push each other's answer out.
        key = (now_ms // HOUR_MS, category, place, zone, local_window)
        kept = self._kept.get(key)
        if kept is None or not kept.from_ms <= now_ms < kept.until_ms:
            kept = self._look(now_ms, key)
        opening = kept.opening
        if opening is None or (not_after_ms and max(now_ms, opening.opens_ms) >= not_after_ms):
            return None
        closes = min(opening.closes_ms, not_after_ms) if not_after_ms else opening.closes_ms
        return Opening(max(now_ms, opening.opens_ms), closes)

    def windows(
        self, category: Category | int, place: str, zone: str = "", local_window: str = ""
    ) -> list[tuple[Hours, ZoneInfo]]:
        """Return every window that must be open for a message, each with its zone; none where nothing forbids it.

        A rule that names its zone (a country's platforms go by one clock) holds there; where the application says that
        the recipient is elsewhere, it holds there too.

        Raises:
            RequestError: `invalid_field`, field `zone` or `local_window`.
        """
        zones = (asked_zone(zone),) if zone else self._zones.of(place)
        found: list[tuple[Hours, ZoneInfo]] = []
        rule = self.rule(category, place)
        if rule is not None:
            own = zones if rule.zone is None else (rule.zone, *(zones if zone else ()))
            found += [(rule.hours, one) for one in dict.fromkeys(own)]
        if local_window:
            try:
                hours = parse_window(local_window)
            except ValueError as exc:
                raise RequestError("invalid_field", f"local_window: {exc}", field="local_window") from None
            found += [(hours, one) for one in zones]
        return found

    def rule(self, category: Category | int, place: str) -> Rule | None:
        """Return the rule for a place: its own, else its country's, else everybody's; None where there is none."""
        for candidate in (place, place[:2], ANYWHERE):
            found = self._rules.get((candidate, category))  # type: ignore[arg-type]  # Category is an int
            if found is not None:
                return found
        return None

    def _look(self, now_ms: int, key: tuple[int, Category | int, str, str, str]) -> _Kept:
        opening = next_open(now_ms, self.windows(*key[1:]))
        # An answer that met the horizon ("never", "open all the time") holds until the horizon moves.
        if opening is None or opening.closes_ms >= horizon(now_ms):
            until = now_ms // HOUR_MS * HOUR_MS + HOUR_MS
        else:
            until = opening.closes_ms
        if len(self._kept) >= _MAX_REMEMBERED:
            self._kept.clear()
        kept = self._kept[key] = _Kept(now_ms, until, opening)
        return kept


def load_quiet_hours(path: Path | None, zones_path: Path | None) -> QuietHours:
    """Read both tables; without the first there are no quiet hours, without the second every number's clock is UTC.

    Raises:
        ConfigError: with every line of one of them that is wrong.
    """
    zones = load_time_zones(zones_path)
    building: dict[tuple[str, Category], _Building] = {}

    def take(cells: list[str]) -> None:
        place, categories, opens, closes, days, zone_name, source = cells
        if not is_place(place):
            raise ValueError("place: a country's two letters, a part of it as US-TX, or * is wanted")
        if not source:
            raise ValueError("source: who says so is wanted")
        zone = _zone(zone_name)
        weekdays, dates = _days(days)
        spans = _spans(opens, closes, single_dates=bool(dates))
        week = weekly(*spans[0], weekdays) if weekdays and spans else ()
        for category in _categories(categories):
            rule = building.setdefault((place, category), _Building(zone))
            if rule.zone != zone:
                raise ValueError("time_zone: another line of this place and category has another")
            rule.add(week, dict.fromkeys(dates, spans))

    if path is not None:
        read_table(path, _COLUMNS, take)
        never = [
            ConfigProblem(path.name, place, f"no weekday has hours for {category.label}: nothing would ever be sent")
            for (place, category), rule in building.items()
            if rule.is_never_open
        ]
        if never:
            raise ConfigError(never)
    return QuietHours({key: rule.built() for key, rule in building.items()}, zones)


class _Building:
    """A rule of which more lines may follow."""

    def __init__(self, zone: ZoneInfo | None) -> None:
        self.zone = zone
        self._week: tuple[Spans, ...] = ((),) * 7
        self._dates: dict[str, Spans] = {}

    def add(self, week: tuple[Spans, ...], dates: Mapping[str, Spans]) -> None:
        """Add a line's weekdays or dates. Raises ValueError where they are taken, and adds nothing."""
        if any(day in self._dates for day in dates):
            raise ValueError("days: a date stands twice for this place and category")
        if week:
            joined = tuple(tuple(sorted(old + new)) for old, new in zip(self._week, week, strict=True))
            if any(left[1] > right[0] for day in joined for left, right in pairwise(day)):
                raise ValueError("days: the hours overlap with another line of this place and category")
            self._week = joined
        self._dates.update(dates)

    @property
    def is_never_open(self) -> bool:
        return not any(self._week)

    def built(self) -> Rule:
        return Rule(Hours(self._week, self._dates), self.zone)


def _zone(name: str) -> ZoneInfo | None:
    if name == RECIPIENT:
        return None
    try:
        return zone_named(name)
    except ValueError as exc:
        raise ValueError(f'time_zone: {exc}, or "{RECIPIENT}"') from None


def _categories(written: str) -> list[Category]:
    labels = written.split()
    if not labels or any(label not in CATEGORY_BY_LABEL for label in labels):
        raise ValueError("categories: marketing, notification or both, parted by a space, are wanted")
    found = [CATEGORY_BY_LABEL[label] for label in dict.fromkeys(labels)]
    if Category.VERIFICATION in found:
        raise ValueError("categories: verification has no quiet hours, because who asks for a code waits for it")
    return found


def _days(written: str) -> tuple[list[int], list[str]]:
    """Return the weekdays (Monday is 0) or the dates that a line is about."""
    if written == "all":
        return list(range(7)), []
    weekdays: list[int] = []
    dates: list[str] = []
    for word in written.split():
        first, _, last = word.partition("-")
        if first in _WEEKDAYS and (last or first) in _WEEKDAYS:
            begin = _WEEKDAYS.index(first)
            count = (_WEEKDAYS.index(last or first) - begin) % 7 + 1
            weekdays += [(begin + step) % 7 for step in range(count)]
        elif _DATE(word) and _is_date(word):
            dates.append(word)
        else:
            weekdays, dates = [], []
            break
    days: list[int] | list[str] = weekdays or dates
    if not days or (weekdays and dates) or len(set(days)) < len(days):
        raise ValueError("days: all, or weekdays as Mon-Fri, or dates as 12-25 or 2027-05-06, each once, are wanted")
    return weekdays, dates


def _is_date(word: str) -> bool:
    try:
        date.fromisoformat(word if len(word) == 10 else f"2028-{word}")  # 2028 has a 29th of February
    except ValueError:
        return False
    return True


def _spans(opens: str, closes: str, *, single_dates: bool) -> Spans:
    """Return a line's hours as one span, which ends before it begins where it goes over midnight; () is closed."""
    if not opens and not closes:
        if not single_dates:
            raise ValueError("allowed_from: only a date can be closed; weekdays without a line are closed anyway")
        return ()
    try:
        begin, end = clock_ms(opens), clock_ms(closes)
        weekly(begin, end)
    except ValueError as exc:
        raise ValueError(f"allowed_from, allowed_to: {exc}") from None
    if single_dates and begin > end:
        raise ValueError("allowed_to: the hours of a date end on it")
    return ((begin, end),)
