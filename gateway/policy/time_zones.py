"""Where the clock of a number may stand: the time zones of its country, or the one the application named.

Owns the CSV form of `config/time_zones.csv` and the names of zones that may be used. Refuses to know windows and rules.
A mobile number moves with its owner and the metadata at hand says nothing of zones, so a country with several zones
answers with all of them: who sends only while a window is open in each cannot be wrong. The zones' rules are the
machine's own (the tz database of the system, else the package tzdata). Pure but for reading that database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from gateway.errors import ConfigError, ConfigProblem, RequestError
from gateway.settings.table_file import read_table

ANYWHERE: Final = "*"
"""The place of every number whose country is not listed."""
_COLUMNS: Final = ("place", "time_zones", "source")
_PLACE = re.compile(r"\*|[A-Z]{2}(-[A-Z0-9]{1,3})?").fullmatch


class TimeZones:
    """The zones of all places of a configuration."""

    def __init__(self, places: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """`places` by ISO 3166 code: 'CN', for a part of a country 'US-TX', `ANYWHERE` for the rest (UTC by default).

        Raises:
            ValueError: a zone is not known.
        """
        self._places = {place: tuple(zone_named(name) for name in names) for place, names in (places or {}).items()}
        self._anywhere = self._places.get(ANYWHERE) or (zone_named("UTC"),)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, place: str) -> tuple[ZoneInfo, ...]:
        """Return every zone in which a number of `place` may be; at least one."""
        return self._places.get(place) or self._places.get(place[:2]) or self._anywhere


def is_place(written: str) -> bool:
    """Return whether this is a country ('US'), a part of one ('US-TX') or `ANYWHERE`."""
    return _PLACE(written) is not None


@cache  # at most as many as there are zones: a name that is none raises, and is not kept
def zone_named(name: str) -> ZoneInfo:
    """Return a zone by its name in the tz database, as Asia/Shanghai or UTC. Raises ValueError."""
    if name not in _known():
        raise ValueError("a time zone of the tz database is wanted, as Asia/Shanghai")
    return ZoneInfo(name)


def asked_zone(name: str) -> ZoneInfo:
    """Return the zone an application named.

    Raises:
        RequestError: `invalid_field`, field `zone`.
    """
    try:
        return zone_named(name)
    except ValueError:
        raise RequestError("invalid_field", "zone must be a time zone's name, as Asia/Shanghai", field="zone") from None


@cache
def _known() -> frozenset[str]:
    """Return this machine's zones. Names without an area (EST, Factory, localtime) are abbreviations or no place."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def load_time_zones(path: Path | None) -> TimeZones:
    """Read the table.

    Raises:
        ConfigError: with every line that is wrong, or because this machine has no tz database.
    """
    if not _known():
        reason = "this machine has no time zone database: install the package tzdata"
        raise ConfigError([ConfigProblem(path.name if path else "time_zones.csv", "", reason)])
    places: dict[str, tuple[str, ...]] = {}

    def take(cells: list[str]) -> None:
        place, names, source = cells
        if not is_place(place):
            raise ValueError("place: a country's two letters, a part of it as US-TX, or * is wanted")
        if place in places:
            raise ValueError(f"the place {place} stands twice")
        if not names.split():
            raise ValueError("time_zones: at least one zone is wanted")
        for name in names.split():
            try:
                zone_named(name)
            except ValueError as exc:
                raise ValueError(f"time_zones: {exc}") from None
        if not source:
            raise ValueError("source: who says so is wanted")
        places[place] = tuple(names.split())

    if path is not None:
        read_table(path, _COLUMNS, take)
    return TimeZones(places)
