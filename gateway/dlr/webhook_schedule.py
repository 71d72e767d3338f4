"""When an event is tried again, and when an endpoint is left alone: two decisions as plain functions of numbers.

Owns the retry schedule of Standard Webhooks (§ Delivery: immediately, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, … until
three days), the reading of Retry-After and the circuit of an endpoint. Refuses to know events, HTTP and clocks: times
and chances come in as arguments. Pure.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000)
LATER_S = (36_000, 50_400)
"""Every further pause is 10 to 14 hours long, by chance, so that what failed together does not come back together."""
GIVE_UP_S = 3 * 86_400
RETRY_AFTER_MOST_S = 3600

OPEN_AFTER = 5
"""Calls in a row that must fail before an endpoint as a whole is left alone."""
OPEN_FIRST_S, OPEN_MOST_S = 5.0, 300.0


def next_delay_s(attempts: int, age_s: float, chance: float) -> float | None:
    """Return how long an event waits that has failed `attempts` times (1: once); None: given up.

    `age_s` is the time since its first attempt; `chance` from [0, 1) spreads the long pauses, and the short ones by a
    tenth.
    """
    if attempts <= len(DELAYS_S):
        delay_s = DELAYS_S[attempts - 1] * (1 + chance / 10)
    else:
        delay_s = LATER_S[0] + (LATER_S[1] - LATER_S[0]) * chance
    return delay_s if age_s + delay_s <= GIVE_UP_S else None


def retry_after_s(header: str, now_s: float) -> float | None:
    """Return the pause that a Retry-After header asks for: seconds or an HTTP date, at most an hour; None: neither."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:10]), RETRY_AFTER_MOST_S))
    try:
        at_s = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, at_s - now_s), float(RETRY_AFTER_MOST_S))


class Circuit:
    """How many calls an endpoint may have at once: all while it answers, one now and then while it does not.

    `closed`: works. `open`: left alone until a time. `half-open`: that time is over, one call finds out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failed = 0  # calls in a row
        self._opened = 0  # times in a row
        self.until = 0.0  # monotonic seconds, as all times here
        self.open = False

    def room(self, now: float) -> int:
        """Return how many calls may run now."""
        if not self.open:
            return self._limit
        return 1 if now >= self.until else 0

    def succeeded(self, now: float) -> None:
        """Note a call that the endpoint took (one that was sent before the circuit opened changes nothing)."""
        if not self.open or now >= self.until:
            self._failed = self._opened = 0
            self.open, self.until = False, 0.0

    def failed(self, now: float, chance: float) -> None:
        """Note a call that failed; one too many in a row opens the circuit, and so does a probe that failed."""
        self._failed += 1
        if now < self.until or (not self.open and self._failed < OPEN_AFTER):
            return  # sent before it opened, or not enough to judge
        pause_s = min(OPEN_FIRST_S * 2**self._opened, OPEN_MOST_S)
        self._opened = min(self._opened + 1, 16)
        self.open, self.until = True, now + pause_s * (1 + chance / 5)

    def pause(self, now: float, pause_s: float) -> None:
        """Leave the endpoint alone for as long as it asked (Retry-After)."""
        self.open, self.until = True, max(self.until, now + pause_s)

    def label(self, now: float) -> str:
        """Return `closed`, `open` or `half-open`."""
        if not self.open:
            return "closed"
        return "half-open" if now >= self.until else "open"
