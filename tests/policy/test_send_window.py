"""gateway.policy.send_window: send_hours beside the table, openings, closings, spreading; the clock is an argument."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, RequestError
from gateway.model import Category
from gateway.policy.policy import load_policy
from gateway.policy.send_window import OPEN, SendWindow, SendWindows, load_send_windows, spread_ms
from gateway.policy.windows import DAY_MS, HOUR_MS, next_open
from gateway.settings import Settings, packaged_config_dir

V, N, M = Category.VERIFICATION, Category.NOTIFICATION, Category.MARKETING
TABLES = {
    "quiet_hours_file": packaged_config_dir() / "quiet_hours.csv",
    "time_zones_file": packaged_config_dir() / "time_zones.csv",
}
SHIPPED = Settings(config_dir=Path("config"), **TABLES)


def ms(written: str) -> int:
    return int(datetime.fromisoformat(written).timestamp() * 1000)


def with_hours(hours: tuple[int, int] | None, category: Category = M) -> SendWindows:
    rules = dict(SHIPPED.categories)
    rules[category] = replace(rules[category], send_hours=hours)
    return load_send_windows(replace(SHIPPED, categories=rules))


def test_what_comes_at_night_waits_for_the_morning() -> None:
    windows = load_send_windows(SHIPPED)
    evening, opens = ms("2026-11-22T23:00+08:00"), ms("2026-11-23T08:00+08:00")
    closes = ms("2026-11-23T20:00+08:00")
    assert windows.window(evening, M, "CN") == SendWindow(opens, closes)
    assert windows.window(opens, M, "CN") == SendWindow(0, closes)
    assert windows.window(closes - 1, M, "CN") == SendWindow(0, closes)
    assert windows.window(closes, M, "CN") == SendWindow(opens + DAY_MS, closes + DAY_MS)


def test_the_campaigns_window_is_in_the_recipients_time() -> None:
    windows = load_send_windows(SHIPPED)
    evening = ms("2026-11-22T23:00+08:00")
    tokyo = windows.window(evening, N, "CN", "Asia/Tokyo", "10:00-12:00")
    assert tokyo == SendWindow(ms("2026-11-23T10:00+09:00"), ms("2026-11-23T12:00+09:00"))
    assert windows.window(ms("2026-11-23T01:30+00:00"), N, "CN", "Asia/Tokyo", "10:00-12:00").opens_ms == 0


@pytest.mark.parametrize("country", ["CN", "US", "DE", ""])
@pytest.mark.parametrize("window", ["", "10:00-12:00"])
def test_verification_has_no_window(country: str, window: str) -> None:
    windows = load_send_windows(SHIPPED)
    for hour in range(24):
        assert windows.window(ms("2026-11-22T00:30+08:00") + hour * HOUR_MS, V, country, "", window) == OPEN


def test_send_hours_hold_where_the_table_has_no_line() -> None:
    at_nine = ms("2026-11-22T09:00+01:00")
    assert with_hours((600, 660)).window(at_nine, M, "DE").opens_ms == ms("2026-11-22T10:00+01:00")
    assert with_hours((600, 660)).window(ms("2026-11-22T09:00+08:00"), M, "CN").opens_ms == 0
    # Nothing said: the table's own line for everybody.
    assert with_hours(None).window(ms("2026-11-22T07:00+01:00"), M, "DE").opens_ms == ms("2026-11-22T08:00+01:00")


def test_the_whole_day_switches_the_table_off() -> None:
    off = with_hours((0, 1440))
    assert M not in off.ruled
    for country in ("CN", "FR", "DE"):
        assert off.window(ms("2026-11-22T23:00+08:00"), M, country) == OPEN
    # A campaign's own window holds still.
    assert off.window(ms("2026-11-22T23:00+08:00"), M, "CN", "", "10:00-12:00").opens_ms


def test_a_category_of_which_nothing_is_said_has_no_hours() -> None:
    assert load_send_windows(SHIPPED).ruled == {M}
    assert with_hours((480, 1200), N).ruled == {M, N}


def test_a_window_that_is_always_open_has_no_end() -> None:
    windows = load_send_windows(SHIPPED)
    assert windows.window(ms("2026-11-22T23:00+08:00"), N, "CN", "", "00:00-24:00") == OPEN


def test_what_opens_too_late_names_the_opening() -> None:
    windows = load_send_windows(SHIPPED)
    evening, opens = ms("2026-11-22T23:00+08:00"), ms("2026-11-23T08:00+08:00")
    with pytest.raises(RequestError) as refused:
        windows.window(evening, M, "CN", not_after_ms=opens)
    error = refused.value
    assert (error.code, error.field, error.retry_at_ms) == ("outside_window", "not_after", opens)
    assert "2026-11-23T08:00+08:00" in error.detail
    assert windows.window(evening, M, "CN", not_after_ms=opens + 1).opens_ms == opens
    # Where it is open, that it is past is the store's to say.
    assert windows.window(opens, M, "CN", not_after_ms=opens - 1).opens_ms == 0


def test_hours_that_have_nothing_in_common() -> None:
    windows = load_send_windows(SHIPPED)
    for country, window in (("CN", "21:00-23:00"), ("US", "10:00-12:00")):
        with pytest.raises(RequestError) as refused:
            windows.window(ms("2026-11-22T23:00+08:00"), M, country, "", window)
        assert (refused.value.code, refused.value.field) == ("outside_window", "local_window")
    assert windows.window(ms("2026-11-22T23:00+08:00"), M, "US", "America/Denver", "10:00-12:00").opens_ms


_asked = st.tuples(
    st.sampled_from([M, N, V]), st.sampled_from(["CN", "US", "FR", "GB", ""]),
    st.sampled_from(["", "Europe/London", "Asia/Shanghai"]), st.sampled_from(["", "10:00-12:00", "22:00-03:00"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-6 * HOUR_MS, 2 * DAY_MS), _asked), min_size=1, max_size=10))
def test_whoever_asks_when_gets_the_same(steps: list[tuple[int, tuple[Category, str, str, str]]]) -> None:
    """What is kept never shows: the clock goes back, batches for later come between, summer time begins."""
    windows = load_send_windows(SHIPPED)
    now = ms("2027-03-26T12:00+00:00")
    for step, (category, country, zone, local_window) in steps:
        now += step
        try:
            found = windows.window(now, category, country, zone, local_window)
        except RequestError:
            assert next_open(now, windows.hours.windows(category, country, zone, local_window)) is None
            continue
        fresh = load_send_windows(SHIPPED).window(now, category, country, zone, local_window)
        assert (found.opens_ms, found.closes_ms) == (fresh.opens_ms, fresh.closes_ms)
        opens = found.opens_ms or now
        assert opens >= now
        if category == V:
            assert found == OPEN
        else:
            # It is open at the opening, and at the end of what was promised it is not.
            assert windows.window(opens, category, country, zone, local_window).opens_ms == 0
            if found.closes_ms:
                assert opens < found.closes_ms
                assert windows.window(found.closes_ms, category, country, zone, local_window).opens_ms != 0


def test_the_spread_stays_in_the_first_half_of_the_window() -> None:
    day = SendWindow(1_000, 1_000 + DAY_MS)
    assert spread_ms(day, 1800, 0) == 1_800_000
    assert spread_ms(day, 0, 0) == 0
    assert spread_ms(SendWindow(1_000, 61_000), 1800, 0) == 30_000
    assert spread_ms(day, 1800, 21_000) == 10_000
    assert spread_ms(SendWindow(1_000, 0), 1800, 0) == 1_800_000


def test_every_wrong_line_of_every_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "quiet_hours.csv").write_text("place\n")
    (tmp_path / "content_words.csv").write_text("id,word,action,categories,accounts\nA,xx,refuse,all,all\n")
    wrong = replace(
        SHIPPED,
        quiet_hours_file=tmp_path / "quiet_hours.csv",
        content_words_file=tmp_path / "content_words.csv",
    )
    with pytest.raises(ConfigError) as refused:
        load_policy(wrong)
    assert [problem.file for problem in refused.value.problems] == ["quiet_hours.csv", "content_words.csv"]
