"""gateway.policy.quiet_hours: whose rule holds on which clock, campaign windows, kept answers, and wrong tables."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, RequestError
from gateway.model import Category
from gateway.policy.quiet_hours import QuietHours, load_quiet_hours
from gateway.policy.time_zones import zone_named
from gateway.policy.windows import DAY_MS, HOUR_MS, Opening, horizon, next_open
from gateway.settings.packaged import packaged_config_dir

SHIPPED = packaged_config_dir() / "quiet_hours.csv"
ZONES = packaged_config_dir() / "time_zones.csv"
QUIET = load_quiet_hours(SHIPPED, ZONES)
HEAD = "place,categories,allowed_from,allowed_to,days,time_zone,source\n"
AT_TEN_IN_DENVER = {"zone": "America/Denver", "local_window": "10:00-12:00"}
SHANGHAI = zone_named("Asia/Shanghai")
MARKETING, NOTIFICATION, VERIFICATION = Category.MARKETING, Category.NOTIFICATION, Category.VERIFICATION


def ms(written: str) -> int:
    return int(datetime.fromisoformat(written).timestamp() * 1000)


def shown(opening: Opening | None) -> tuple[str, str] | None:
    if opening is None:
        return None
    opens, closes = (datetime.fromtimestamp(at / 1000, UTC).strftime("%d %H:%M") for at in opening)
    return opens, closes


@pytest.mark.parametrize(
    ("place", "asked", "now", "opening"),
    [
        ("CN", {}, "2026-11-22T23:00+08:00", ("23 00:00", "23 12:00")),  # 08-20 in Shanghai
        ("CN", {"local_window": "10:00-12:00"}, "2026-11-22T23:00+08:00", ("23 02:00", "23 04:00")),
        ("CN", {"local_window": "06:00-09:00"}, "2026-11-22T23:00+08:00", ("23 00:00", "23 01:00")),
        ("CN", {"local_window": "21:00-23:00"}, "2026-11-22T23:00+08:00", None),  # never in the rule's hours
        ("CN", {"zone": "Europe/London"}, "2026-11-22T23:00+08:00", ("23 08:00", "23 12:00")),  # abroad: both clocks
        ("GB", {}, "2026-11-22T20:00+00:00", ("23 08:00", "23 20:00")),
        ("FR", {}, "2026-11-21T20:00+01:00", ("23 07:00", "23 19:00")),  # over a Sunday
        ("FR", {}, "2026-12-24T20:00+01:00", ("26 07:00", "26 19:00")),  # over Christmas
        ("FR", {}, "2027-05-05T20:00+02:00", ("07 06:00", "07 18:00")),  # over Ascension Day
        ("IN", {}, "2026-11-22T09:00+05:30", ("22 04:30", "22 15:30")),
        ("US", {}, "2026-11-22T08:00-05:00", ("22 18:00", "23 02:00")),  # from 08:00 in Honolulu to 21:00 in New York
        ("US", {"zone": "America/New_York"}, "2026-11-22T08:00-05:00", ("22 13:00", "23 02:00")),
        ("US", {"local_window": "10:00-12:00"}, "2026-11-22T08:00-05:00", None),  # no such hour in all of them
        ("US", AT_TEN_IN_DENVER, "2026-11-22T08:00-05:00", ("22 17:00", "22 19:00")),
        ("US-TX", {}, "2026-11-22T08:00-06:00", ("22 19:00", "23 03:00")),  # Sunday, from noon in El Paso
        ("US-RI", {}, "2026-11-22T08:00-05:00", ("22 15:00", "22 22:00")),
        ("US-CA", {}, "2026-11-22T08:00-05:00", ("22 18:00", "23 02:00")),  # no line of its own
        ("RU", {}, "2026-11-22T12:00+00:00", ("23 06:00", "23 08:00")),  # from Kaliningrad to Kamchatka
        ("DE", {}, "2026-11-22T03:00+00:00", ("22 07:00", "22 19:00")),  # everybody's line
        ("", {}, "2026-11-22T03:00+00:00", ("22 08:00", "22 20:00")),
    ],
)  # fmt: skip
def test_the_shipped_rules(place: str, asked: dict[str, str], now: str, opening: tuple[str, str] | None) -> None:
    assert shown(QUIET.next_open(ms(now), MARKETING, place, **asked)) == opening


@pytest.mark.parametrize("place", ["CN", "US", "US-TX", "FR", "RU", ""])
def test_verification_and_notifications_have_no_quiet_hours(place: str) -> None:
    now = ms("2026-11-22T23:00+08:00")
    for category in (VERIFICATION, NOTIFICATION):
        assert QUIET.rule(category, place) is None
        assert QUIET.next_open(now, category, place) == Opening(now, horizon(now))


def test_a_campaigns_window_holds_for_every_category() -> None:
    now = ms("2026-11-22T23:00+08:00")
    for category in Category:
        assert shown(QUIET.next_open(now, category, "CN", local_window="10:00-11:00")) == ("23 02:00", "23 03:00")


def test_not_after() -> None:
    now, opens = ms("2026-11-22T23:00+08:00"), ms("2026-11-23T08:00+08:00")
    assert QUIET.next_open(now, MARKETING, "CN", not_after_ms=opens) is None
    assert QUIET.next_open(now, MARKETING, "CN", not_after_ms=opens + 5) == Opening(opens, opens + 5)
    assert QUIET.next_open(opens + 5, MARKETING, "CN", not_after_ms=opens + 5) is None
    assert QUIET.next_open(now, VERIFICATION, "CN", not_after_ms=now + 1) == Opening(now, now + 1)


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"zone": "Mars/Base"}, "zone"), ({"local_window": "10-12"}, "local_window"), ({"zone": "EST"}, "zone")],
)
def test_what_an_application_gets_wrong_is_named(asked: dict[str, str], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        QUIET.next_open(0, VERIFICATION, "CN", **asked)
    assert (caught.value.code, caught.value.field) == ("invalid_field", field)


_Asked = tuple[Category, str, str, str]
_asked = st.tuples(
    st.sampled_from([MARKETING, NOTIFICATION]),
    st.sampled_from(["CN", "US", "FR", "US-RI"]),
    st.sampled_from(["", "Europe/London", "Australia/Lord_Howe"]),
    st.sampled_from(["", "10:00-12:00", "22:00-03:00"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-6 * HOUR_MS, DAY_MS), _asked), min_size=2, max_size=12))
def test_a_kept_answer_is_the_one_that_looking_again_gives(
    steps: list[tuple[int, _Asked]],
) -> None:
    """Also where the clock goes back, as that of another machine may, and over London's change in March."""
    quiet = load_quiet_hours(SHIPPED, ZONES)
    now = ms("2027-03-26T12:00+00:00")
    for step, (category, place, zone, window) in steps:
        now += step
        found = quiet.next_open(now, category, place, zone=zone, local_window=window)
        assert found == next_open(now, quiet.windows(category, place, zone, window))


def test_what_is_kept_is_bounded() -> None:
    quiet = QuietHours()
    for n in range(4200):
        lasts, begins = divmod(n, 1440)
        ends = (begins + 1 + lasts) % 1440
        window = f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"
        quiet.next_open(0, VERIFICATION, "", local_window=window)
    assert quiet._kept
    assert len(quiet._kept) <= 4096


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("China,marketing,08:00,20:00,all,recipient,me", "line 2: place: "),
        ("CN,spam,08:00,20:00,all,recipient,me", "line 2: categories: "),
        ("CN,,08:00,20:00,all,recipient,me", "line 2: categories: "),
        (
            "CN,marketing verification,08:00,20:00,all,recipient,me",
            "line 2: categories: verification has no quiet hours",
        ),
        ("CN,marketing,8:00,20:00,all,recipient,me", "line 2: allowed_from, allowed_to: a time"),
        ("CN,marketing,08:00,,all,recipient,me", "line 2: allowed_from, allowed_to: a time"),
        ("CN,marketing,08:00,08:00,all,recipient,me", "line 2: allowed_from, allowed_to: a window ends when it begins"),
        ("CN,marketing,,,Sun,recipient,me", "line 2: allowed_from: only a date can be closed"),
        ("CN,marketing,08:00,20:00,,recipient,me", "line 2: days: "),
        ("CN,marketing,08:00,20:00,Mon-Noday,recipient,me", "line 2: days: "),
        ("CN,marketing,08:00,20:00,Mon-Wed Tue,recipient,me", "line 2: days: "),
        ("CN,marketing,08:00,20:00,Mon 12-25,recipient,me", "line 2: days: "),
        ("CN,marketing,08:00,20:00,02-30,recipient,me", "line 2: days: "),
        ("CN,marketing,08:00,20:00,2027-02-29,recipient,me", "line 2: days: "),
        ("CN,marketing,22:00,02:00,12-25,recipient,me", "line 2: allowed_to: the hours of a date end on it"),
        ("CN,marketing,08:00,20:00,all,Beijing,me", "line 2: time_zone: "),
        ("CN,marketing,08:00,20:00,all,recipient,", "line 2: source: "),
        ("CN,marketing,08:00,20:00,all,recipient", "line 2: 7 columns are wanted"),
        ("CN,marketing,,,12-25,recipient,me", "quiet_hours.csv: CN: no weekday has hours for marketing"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "quiet_hours.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_quiet_hours(path, ZONES)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ("CN,marketing,19:00,21:00,Sat-Mon,recipient,me", "line 3: days: the hours overlap"),
        ("CN,notification marketing,20:00,21:00,all,UTC,me", "line 3: time_zone: another line"),
        (
            "CN,marketing,,,12-25,recipient,me\nCN,marketing,10:00,12:00,12-25,recipient,me",
            "line 4: days: a date stands",
        ),
    ],
)
def test_lines_that_contradict_each_other(tmp_path: Path, second: str, why: str) -> None:
    path = tmp_path / "quiet_hours.csv"
    path.write_text(HEAD + "CN,marketing,08:00,20:00,all,recipient,me\n" + second + "\n")
    with pytest.raises(ConfigError) as caught:
        load_quiet_hours(path, ZONES)
    assert why in str(caught.value)


def test_lines_that_add_up(tmp_path: Path) -> None:
    path = tmp_path / "quiet_hours.csv"
    path.write_text(
        HEAD
        + "CN,marketing notification,08:00,12:00,Mon Wed-Fri,recipient,me\n"
        + "CN,marketing,14:00,24:00,Mon,recipient,me\n"
        + "CN,marketing,22:00,06:00,Sat-Sun,recipient,me\n"
        + "CN,marketing,10:00,11:00,2026-11-26,recipient,me\n"
    )
    quiet = load_quiet_hours(path, ZONES)
    now, spans = ms("2026-11-21T12:00+08:00"), []  # a Saturday
    while len(spans) < 7:
        opening = quiet.next_open(now, MARKETING, "CN")
        assert opening is not None
        spans.append(tuple(datetime.fromtimestamp(at / 1000, SHANGHAI).strftime("%a %H:%M") for at in opening))
        now = opening.closes_ms
    assert spans == [
        ("Sat 22:00", "Sun 06:00"), ("Sun 22:00", "Mon 06:00"), ("Mon 08:00", "Mon 12:00"), ("Mon 14:00", "Tue 00:00"),
        ("Wed 08:00", "Wed 12:00"), ("Thu 10:00", "Thu 11:00"), ("Fri 08:00", "Fri 12:00"),
    ]  # fmt: skip
    assert quiet.rule(NOTIFICATION, "CN") is not None


def test_without_tables_nothing_waits() -> None:
    quiet = load_quiet_hours(None, None)
    assert len(quiet) == 0
    assert quiet.next_open(7, MARKETING, "CN") == Opening(7, horizon(7))
    assert shown(quiet.next_open(0, MARKETING, "CN", local_window="10:00-12:00")) == ("01 10:00", "01 12:00")
