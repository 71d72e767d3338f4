"""gateway.policy.time_zones: which clocks a number may have, by the machine's tz database; wrong tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import phonenumbers
import pytest

from gateway.errors import ConfigError, RequestError
from gateway.policy import time_zones
from gateway.policy.time_zones import TimeZones, asked_zone, load_time_zones, zone_named
from gateway.settings.packaged import packaged_config_dir

SHIPPED = packaged_config_dir() / "time_zones.csv"
ZONES = load_time_zones(SHIPPED)
HEAD = "place,time_zones,source\n"


def names(place: str) -> list[str]:
    return [zone.key for zone in ZONES.of(place)]


def test_places() -> None:
    assert names("CN") == ["Asia/Shanghai"]
    assert names("GB") == ["Europe/London"]
    assert {"America/New_York", "America/Los_Angeles", "Pacific/Honolulu"} <= set(names("US"))
    assert names("US-TX") == ["America/Chicago", "America/Denver"]
    assert names("US-CA") == names("US")  # a part nobody listed
    assert names("") == names("ZZ") == ["UTC"]


def test_every_country_of_a_number_has_its_zones() -> None:
    assert all(names(country) != ["UTC"] for country in phonenumbers.SUPPORTED_REGIONS)


@cache
def offsets(zone: str) -> tuple[timedelta | None, ...]:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    return tuple((begin + timedelta(days=days)).astimezone(ZoneInfo(zone)).utcoffset() for days in range(366))


def test_no_clock_of_a_country_is_missing() -> None:
    """Whatever zone of its country a number is in, one of those listed reads the same time."""
    table = next(path for root in TZPATH if (path := Path(root) / "zone.tab").is_file())
    missing = []
    for line in table.read_text().splitlines():
        if line.startswith("#"):
            continue
        country, _, zone = line.split("\t")[:3]
        # Asia/Urumqi: China is one clock by law. Antarctica has no country code of its own
        if country in phonenumbers.SUPPORTED_REGIONS and zone != "Asia/Urumqi":
            listed = {offsets(name) for name in names(country)}
            if offsets(zone) not in listed:
                missing.append(zone)
    assert not missing


@pytest.mark.parametrize(
    "name", ["", "CET", "localtime", "Nowhere/City", "../etc/passwd", "/etc/passwd", "asia/shanghai"]
)
def test_names_that_are_no_zone(name: str) -> None:
    with pytest.raises(ValueError, match="a time zone of the tz database is wanted"):
        zone_named(name)
    with pytest.raises(RequestError) as caught:
        asked_zone(name)
    assert (caught.value.code, caught.value.field) == ("invalid_field", "zone")


def test_names_that_are() -> None:
    assert asked_zone("Asia/Kolkata") is zone_named("Asia/Kolkata")
    assert zone_named("UTC").key == "UTC"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("China,Asia/Shanghai,me", "line 2: place: "),
        ("CN,,me", "line 2: time_zones: at least one"),
        ("CN,Asia/Shanghai Beijing,me", "line 2: time_zones: a time zone"),
        ("CN,Asia/Shanghai,", "line 2: source: "),
        ("CN,Asia/Shanghai", "line 2: 3 columns"),
        ("CN,Asia/Shanghai,me\nCN,Asia/Urumqi,me", "line 3: the place CN stands twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "time_zones.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_time_zones(path)
    assert why in str(caught.value)


def test_without_a_table_and_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load_time_zones(None)) == 0
    assert TimeZones().of("CN") == (zone_named("UTC"),)
    monkeypatch.setattr(time_zones, "_known", frozenset)
    with pytest.raises(ConfigError, match="no time zone database: install the package tzdata"):
        load_time_zones(SHIPPED)
