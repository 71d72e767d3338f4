"""In which window a message leaves: now, at the next opening, or never; from the hours of its country and its campaign.

Owns how `send_hours` and the table of quiet hours add up, and the numbers that intake writes on a message: when it
opens, when it closes, over which time those that waited leave. Intake, dispatch and whoever only asks get the same
answer from the same call. Refuses to know the arithmetic (`windows`), the table's form (`quiet_hours`) and the store.
Pure: `at_ms` is an argument. Answers are kept by (category, country, zone, window), so a message costs one look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.errors import RequestError
from gateway.model import Category
from gateway.policy.quiet_hours import QuietHours, load_quiet_hours
from gateway.policy.windows import DAY_MS, HOUR_MS, Hours, horizon, weekly
from gateway.settings import Settings

_MINUTE_MS: Final = 60_000
_ANY_HOUR: Final = (0, 24 * 60)
_VERIFICATION: Final = int(Category.VERIFICATION)
_MOST_KEPT: Final = 4096
_MOST_SPREAD: Final = 2
"""What waited leaves within the first half of the window: the second is for channels that are full, and retries."""


class SendWindow(NamedTuple):
    """The stretch of time in which a message may leave, in epoch milliseconds."""

    opens_ms: int
    """0: it is open at the time that was asked about."""
    closes_ms: int
    """The first instant at which it may not leave any more; 0: no rule ends it."""


class _Kept(NamedTuple):
    """An answer and the time for which it is the right one."""

    from_ms: int
    until_ms: int
    window: SendWindow | None
    """None: it never opens."""


OPEN: Final = SendWindow(0, 0)
"""No rule says when."""


class SendWindows:
    """The hours of all categories and countries of a configuration."""

    def __init__(self, table: QuietHours | None = None, send_hours: Mapping[Category, tuple[int, int]] | None = None):
        """`send_hours` in minutes after midnight, for countries without a line; the whole day means: no quiet hours."""
        self.hours = (table or QuietHours()).changed(
            {
                category: None if hours == _ANY_HOUR else _every_day(hours)
                for category, hours in (send_hours or {}).items()
            }
        )
        self._kept: dict[tuple[int, str, str, str], _Kept] = {}
        self.ruled = self.hours.categories
        """The categories for which some country has hours. For others only a message's own window counts."""

    def window(
        self,
        at_ms: int,
        category: Category | int,
        country: str,
        zone: str = "",
        local_window: str = "",
        not_after_ms: int = 0,
    ) -> SendWindow:
        """Return the window of a message that is due at `at_ms`.

        `country` as `msisdn.normalise` returns it; `zone` and `local_window` as the application gave them, '' where it
        did not. `not_after_ms` 0: no such time. Verification has no window.

        Raises:
            RequestError: `outside_window`: it does not open in time, or never; `invalid_field` for a zone or window.
        """
        key = (category, country, zone, local_window)
        kept = self._kept.get(key)
        if kept is None or not kept.from_ms <= at_ms < kept.until_ms:
            kept = self._look(at_ms, key)
        window = kept.window
        if window is None:
            raise RequestError("outside_window", _NEVER, field="local_window" if local_window else "to")
        if not_after_ms and window.opens_ms >= not_after_ms:
            raise self._too_late(key, window.opens_ms)
        return window

    def _look(self, at_ms: int, key: tuple[int, str, str, str]) -> _Kept:
        category, country, zone, local_window = key
        hour_ends_ms = (at_ms // HOUR_MS + 1) * HOUR_MS
        if category == _VERIFICATION or (category not in self.ruled and not local_window):
            kept = _Kept(0, hour_ends_ms, OPEN)
        else:
            opening = self.hours.next_open(at_ms, category, country, zone=zone, local_window=local_window)
            if opening is None:
                kept = _Kept(at_ms, hour_ends_ms, None)
            else:
                # What met the horizon has no end that is known; the horizon moves every hour.
                ends = opening.closes_ms < horizon(at_ms)
                closes_ms = opening.closes_ms if ends else 0
                if opening.opens_ms > at_ms:
                    kept = _Kept(at_ms, opening.opens_ms, SendWindow(opening.opens_ms, closes_ms))
                else:
                    kept = _Kept(at_ms, closes_ms or hour_ends_ms, SendWindow(0, closes_ms))
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[key] = kept
        return kept

    def clocks(self, category: Category | int, country: str, zone: str = "", local_window: str = "") -> list[ZoneInfo]:
        """Return the zones whose clocks decide, none where nothing forbids an hour."""
        if category == Category.VERIFICATION:
            return []
        windows = self.hours.windows(Category(category), country, zone, local_window)
        return list(dict.fromkeys(one for _, one in windows))

    def _too_late(self, key: tuple[int, str, str, str], opens_ms: int) -> RequestError:
        opens = datetime.fromtimestamp(opens_ms / 1000, self.clocks(*key)[0]).isoformat(timespec="minutes")
        detail = f"it may leave from {opens}, which is not before not_after"
        return RequestError("outside_window", detail, field="not_after", retry_at_ms=opens_ms)


def spread_ms(window: SendWindow, spread_s: int, not_after_ms: int) -> int:
    """Return over how many milliseconds after its opening messages that wait for it leave; 0: at once.

    At most half of the window, and of the time until `not_after_ms` (0: none). Each message's `ttl_s` counts from the
    moment at which it leaves, so it bounds nothing here.
    """
    most = [spread_s * 1000]
    if window.closes_ms:
        most.append((window.closes_ms - window.opens_ms) // _MOST_SPREAD)
    if not_after_ms:
        most.append((not_after_ms - window.opens_ms) // _MOST_SPREAD)
    return max(0, min(most))


def load_send_windows(settings: Settings) -> SendWindows:
    """Read the tables of a configuration.

    Raises:
        ConfigError: with every line of one of them that is wrong.
    """
    table = load_quiet_hours(settings.quiet_hours_file, settings.time_zones_file)
    return SendWindows(table, send_hours(settings))


def send_hours(settings: Settings) -> dict[Category, tuple[int, int]]:
    """Return what gateway.toml says about hours, by category; a category of which it says nothing is left out."""
    return {c: rules.send_hours for c, rules in settings.categories.items() if rules.send_hours is not None}


_NEVER: Final = (
    "its window and the hours of the recipient's country have no time in common in all of the country's time zones;"
    " name the recipient's in zone"
)


def _every_day(minutes: tuple[int, int]) -> Hours:
    return Hours(weekly(minutes[0] * _MINUTE_MS, min(minutes[1] * _MINUTE_MS, DAY_MS)))
