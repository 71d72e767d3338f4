"""gateway.policy.windows: the next opening, against a clock on the wall, over midnights and changes of the clock."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.policy.windows import (
    ALL_DAY,
    DAY_MS,
    HORIZON_MS,
    HOUR_MS,
    Hours,
    Opening,
    clock_ms,
    horizon,
    next_open,
    parse_window,
    spread,
    weekly,
)

MINUTE_MS = 60_000
SHANGHAI, LONDON = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/London")
NEW_YORK, LORD_HOWE = ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
ZONES = (SHANGHAI, LONDON, NEW_YORK, LORD_HOWE)

CHANGES = [
    datetime.fromisoformat(change)
    for change in (
        "2027-03-28T01:00:00+00:00",  # London, an hour forward
        "2027-10-31T01:00:00+00:00",  # and back
        "2027-03-14T07:00:00+00:00",  # New York
        "2027-11-07T06:00:00+00:00",
        "2027-04-03T15:00:00+00:00",  # Lord Howe, half an hour back
        "2027-10-02T15:30:00+00:00",  # and forward
        "1988-04-16T18:00:00+00:00",  # Shanghai, when it had summer time
        "1988-09-10T17:00:00+00:00",
    )
]


def ms(written: str) -> int:
    return int(datetime.fromisoformat(written).timestamp() * 1000)


def shown(opening: Opening | None, zone: ZoneInfo = UTC) -> tuple[str, str] | None:  # type: ignore[assignment]
    if opening is None:
        return None
    opens, closes = (datetime.fromtimestamp(at / 1000, zone).isoformat(timespec="minutes") for at in opening)
    return opens, closes


def is_open(at_ms: int, hours: Hours, zone: ZoneInfo) -> bool:
    """What a person would say who looks at a calendar and at a clock on the wall."""
    there = datetime.fromtimestamp(at_ms / 1000, zone)
    past = (there.hour * 60 + there.minute) * MINUTE_MS + there.second * 1000
    spans = hours.dates.get(there.strftime("%Y-%m-%d"), hours.dates.get(there.strftime("%m-%d")))
    if spans is None:
        spans = hours.week[there.weekday()]
    return any(begin <= past < end for begin, end in spans)


@pytest.mark.parametrize("change", CHANGES)
def test_the_changes_are_where_the_tests_think(change: datetime) -> None:
    around = (change.timestamp() - 1, change.timestamp())
    assert any(len({datetime.fromtimestamp(at, zone).utcoffset() for at in around}) == 2 for zone in ZONES)


_near_a_change = st.builds(
    lambda change, minutes: int(change.timestamp() * 1000) + minutes * MINUTE_MS,
    st.sampled_from(CHANGES),
    st.integers(-3 * 1440, 2 * 1440),
)
_clock = st.integers(0, 95).map(lambda quarter: quarter * 15 * MINUTE_MS)
_weekdays = st.sets(st.integers(0, 6), min_size=1).map(sorted)


@st.composite
def _hours(draw: st.DrawFn) -> Hours:
    begin, end = draw(_clock), draw(_clock)
    week = weekly(begin, end, draw(_weekdays)) if begin != end else (ALL_DAY,) * 7
    dates = draw(st.dictionaries(st.sampled_from(["03-28", "2027-11-07", "10-03"]), st.sampled_from([(), ALL_DAY])))
    return Hours(week, dates)


@settings(max_examples=150, deadline=None)
@given(_near_a_change, st.lists(st.tuples(_hours(), st.sampled_from(ZONES)), min_size=1, max_size=2))
@example(ms("2027-03-27T12:00:00+00:00"), [(parse_window("01:00-02:00"), LONDON)])
@example(ms("2027-11-06T12:00:00+00:00"), [(parse_window("01:00-01:30"), NEW_YORK)])
@example(ms("2027-10-02T12:00:00+00:00"), [(parse_window("22:00-02:15"), LORD_HOWE)])
def test_an_opening_is_what_the_wall_clocks_say(now: int, windows: list[tuple[Hours, ZoneInfo]]) -> None:
    def allowed(at_ms: int) -> bool:
        return all(is_open(at_ms, hours, zone) for hours, zone in windows)

    found = next_open(now, windows)
    end = horizon(now)
    if found is None:
        assert not any(allowed(at) for at in range(now, end, 15 * MINUTE_MS))
        return
    assert now <= found.opens_ms < found.closes_ms <= end
    step = max(MINUTE_MS, found.width_ms // 200 // MINUTE_MS * MINUTE_MS)
    assert all(allowed(at) for at in range(found.opens_ms, found.closes_ms, step))
    assert allowed(found.closes_ms - 1)
    assert found.closes_ms == end or not allowed(found.closes_ms)
    step = max(MINUTE_MS, (found.opens_ms - now) // 400 // MINUTE_MS * MINUTE_MS)
    assert not any(allowed(at) for at in range(now, found.opens_ms, step))
    assert found.opens_ms == now or not allowed(found.opens_ms - 1)


@settings(max_examples=100, deadline=None)
@given(_near_a_change, _hours(), st.sampled_from(ZONES), st.integers(0, 2 * DAY_MS))
def test_asking_again_later_never_contradicts(now: int, hours: Hours, zone: ZoneInfo, later: int) -> None:
    found = next_open(now, [(hours, zone)])
    if found is None:
        return
    again = next_open(now + later, [(hours, zone)])
    if now + later < found.closes_ms < horizon(now):
        assert again == Opening(max(found.opens_ms, now + later), found.closes_ms)
    elif again is not None:
        assert again.opens_ms >= min(found.closes_ms, now + later)


@pytest.mark.parametrize(
    ("window", "zone", "now", "opening"),
    [
        # 23:00 in China: the next morning; at noon: now, until the evening
        ("08:00-20:00", SHANGHAI, "2026-11-22T23:00+08:00", ("2026-11-23T08:00+08:00", "2026-11-23T20:00+08:00")),
        ("08:00-20:00", SHANGHAI, "2026-11-22T12:00+08:00", ("2026-11-22T12:00+08:00", "2026-11-22T20:00+08:00")),
        ("08:00-20:00", SHANGHAI, "2026-11-22T20:00+08:00", ("2026-11-23T08:00+08:00", "2026-11-23T20:00+08:00")),
        # over midnight, asked on both sides of it
        ("22:00-02:00", SHANGHAI, "2026-11-22T21:00+08:00", ("2026-11-22T22:00+08:00", "2026-11-23T02:00+08:00")),
        ("22:00-02:00", SHANGHAI, "2026-11-23T01:00+08:00", ("2026-11-23T01:00+08:00", "2026-11-23T02:00+08:00")),
        ("20:00-00:00", SHANGHAI, "2026-11-22T19:00+08:00", ("2026-11-22T20:00+08:00", "2026-11-23T00:00+08:00")),
        # London on the night the clock goes forward from 01:00 to 02:00: half of the window is left, or nothing
        ("01:30-03:00", LONDON, "2027-03-28T00:00+00:00", ("2027-03-28T02:00+01:00", "2027-03-28T03:00+01:00")),
        ("01:00-02:00", LONDON, "2027-03-28T00:00+00:00", ("2027-03-29T01:00+01:00", "2027-03-29T02:00+01:00")),
        ("08:00-20:00", LONDON, "2027-03-27T21:00+00:00", ("2027-03-28T08:00+01:00", "2027-03-28T20:00+01:00")),
        # and back from 02:00 to 01:00: an hour that reads the same twice counts twice
        ("01:00-02:00", LONDON, "2027-10-31T00:00+01:00", ("2027-10-31T01:00+01:00", "2027-10-31T02:00+00:00")),
        ("01:00-01:30", LONDON, "2027-10-31T01:30+01:00", ("2027-10-31T01:00+00:00", "2027-10-31T01:30+00:00")),
        # New York, the same
        ("02:00-03:00", NEW_YORK, "2027-03-14T00:00-05:00", ("2027-03-15T02:00-04:00", "2027-03-15T03:00-04:00")),
        ("23:00-04:00", NEW_YORK, "2027-11-06T23:00-04:00", ("2027-11-06T23:00-04:00", "2027-11-07T04:00-05:00")),
        # Lord Howe changes by half an hour: 02:00 is 01:30 again, and 02:00 is 02:30
        ("01:30-02:00", LORD_HOWE, "2027-04-04T01:00+11:00", ("2027-04-04T01:30+11:00", "2027-04-04T02:00+10:30")),
        ("02:00-03:00", LORD_HOWE, "2027-10-03T01:00+10:30", ("2027-10-03T02:30+11:00", "2027-10-03T03:00+11:00")),
    ],
)
def test_openings(window: str, zone: ZoneInfo, now: str, opening: tuple[str, str]) -> None:
    assert shown(next_open(ms(now), [(parse_window(window), zone)]), zone) == opening


def test_all_zones_must_be_open_together() -> None:
    window = parse_window("08:00-21:00")
    now = ms("2026-11-22T12:00+00:00")
    both = next_open(now, [(window, NEW_YORK), (window, ZoneInfo("Pacific/Honolulu"))])
    assert shown(both) == ("2026-11-22T18:00+00:00", "2026-11-23T02:00+00:00")
    narrow = parse_window("10:00-12:00")
    assert next_open(now, [(narrow, NEW_YORK), (narrow, ZoneInfo("Pacific/Honolulu"))]) is None


def test_weekdays_and_dates() -> None:
    hours = Hours(weekly(clock_ms("08:00"), clock_ms("20:00"), range(6)), {"12-25": (), "2027-01-03": ALL_DAY})
    found = next_open(ms("2026-12-24T20:00+00:00"), [(hours, LONDON)])
    assert shown(found) == ("2026-12-26T08:00+00:00", "2026-12-26T20:00+00:00")  # closed on the 25th
    found = next_open(ms("2026-12-26T20:00+00:00"), [(hours, LONDON)])
    assert shown(found) == ("2026-12-28T08:00+00:00", "2026-12-28T20:00+00:00")  # over a Sunday
    found = next_open(ms("2027-01-02T20:00+00:00"), [(hours, LONDON)])
    assert shown(found) == ("2027-01-03T00:00+00:00", "2027-01-04T00:00+00:00")  # a Sunday of its own
    friday_night = Hours(weekly(clock_ms("22:00"), clock_ms("02:00"), [4]))
    found = next_open(ms("2026-11-22T12:00+00:00"), [(friday_night, LONDON)])
    assert shown(found) == ("2026-11-27T22:00+00:00", "2026-11-28T02:00+00:00")
    sunday_night = Hours(weekly(clock_ms("22:00"), clock_ms("02:00"), [6]))
    assert sunday_night.week[0] == ((0, clock_ms("02:00")),)


def test_without_a_window_it_is_open_as_far_as_anybody_looks() -> None:
    now = ms("2026-11-22T12:34+00:00")
    assert next_open(now, []) == Opening(now, horizon(now))
    assert HORIZON_MS - HOUR_MS <= horizon(now) - now <= HORIZON_MS
    always = next_open(now, [(parse_window("00:00-24:00"), NEW_YORK)])
    assert always == Opening(now, horizon(now))


def test_not_after_shortens_an_opening_or_leaves_none() -> None:
    now, window = ms("2026-11-22T23:00+08:00"), [(parse_window("08:00-20:00"), SHANGHAI)]
    opens = ms("2026-11-23T08:00+08:00")
    assert next_open(now, window, opens + HOUR_MS) == Opening(opens, opens + HOUR_MS)
    assert next_open(now, window, opens + 1) == Opening(opens, opens + 1)
    assert next_open(now, window, opens) is None
    assert next_open(now, window, now) is None


@given(_near_a_change, _hours(), st.sampled_from(ZONES), st.integers(0, 3 * DAY_MS))
@settings(max_examples=60, deadline=None)
def test_not_after_is_kept(now: int, hours: Hours, zone: ZoneInfo, ahead: int) -> None:
    free, bound = next_open(now, [(hours, zone)]), next_open(now, [(hours, zone)], now + ahead)
    if free is None or free.opens_ms >= now + ahead:
        assert bound is None
    else:
        assert bound == Opening(free.opens_ms, min(free.closes_ms, now + ahead))


@pytest.mark.parametrize(
    "written",
    ["", "10:00", "10-12", "10:00 - 12:00", "24:00-02:00", "10:00-24:30", "25:00-26:00", "10:60-12:00",
     "10:00-10:00", "１0:00-12:00", "10:00-12:00\n"],
)  # fmt: skip
def test_what_is_no_window(written: str) -> None:
    with pytest.raises(ValueError, match=r"is wanted|is written|ends when"):
        parse_window(written)


@given(st.binary(min_size=1, max_size=16), st.integers(0, 2**42), st.integers(-5, 2 * DAY_MS))
def test_spread_stays_inside_and_repeats(key: bytes, opens: int, width: int) -> None:
    at = spread(key, opens, width)
    assert at == spread(key, opens, width)
    assert opens <= at < opens + max(width, 1)
    assert spread(key.hex(), opens, width) == spread(key.hex().encode(), opens, width)


def test_what_waited_leaves_evenly() -> None:
    """10,000 ids of one millisecond over an hour: every minute gets its share, 167, give or take five deviations."""
    leaves = [spread(f"0193a1b2-c3d4-7000-8000-{n:012x}", 1000, HOUR_MS) for n in range(10_000)]
    by_minute = Counter((at - 1000) // MINUTE_MS for at in leaves)
    assert len(by_minute) == 60
    assert 167 - 65 < min(by_minute.values()) <= max(by_minute.values()) < 167 + 65
