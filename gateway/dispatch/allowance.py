"""A worker's share of a channel's rate: parts drawn from the bucket in the store, spent soon or lost.

A draw lapses on the worker's own monotonic clock, so that a frozen worker cannot send a burst when it thaws. Knows
nothing of messages.
"""

from __future__ import annotations

import math
import time

from gateway.store.store import Store

HORIZON_S = 0.04
"""How far ahead a draw reaches. A code that comes after a draw waits behind at most this much of the rate."""
LAPSE_S = 0.05
BURST_MS = 50
"""What the bucket lets an idle channel send at once. Together with the time a draw may be old, a tenth of a second of
the rate: over any second the carrier sees at most 1.1 times what it allows."""


class Allowance:
    """Parts of one channel that this worker may send now; unlimited where no rate is configured or in force."""

    def __init__(self, channel: str, rate_per_s: int) -> None:
        self.channel = channel
        self.rate_per_s = rate_per_s
        self.in_force = float(rate_per_s)
        """The rate all workers keep to now: below the configured one while the carrier says that it is too much."""
        self._parts = 0
        self._lapses_at = 0.0
        self._next_at = 0.0
        self._reported = (0, 0)
        self._unreported = (0, 0)

    def use(self, rate_per_s: int) -> None:
        """Take another configured rate into use; what was drawn at the old one is not sent."""
        if rate_per_s != self.rate_per_s:
            self.rate_per_s, self.in_force = rate_per_s, float(rate_per_s)
            self._parts, self._next_at = min(self._parts, 0), 0.0

    @property
    def limited(self) -> bool:
        """Whether parts must be drawn: a rate is in force, or the carrier has just said that it was too much."""
        return self.in_force > 0 or self._unreported[1] > 0

    def heard(self, accepted: int, throttled: int) -> None:
        """Take in how many parts the carrier has accepted and throttled so far, in all."""
        self._unreported = (accepted - self._reported[0], throttled - self._reported[1])
        if self._unreported[1] and self._parts > 0:
            self._parts = 0  # what was drawn at the old rate is not sent

    def parts(self, now: float) -> int:
        """Return how many parts may be sent now."""
        if not self.limited:
            return 1_000_000
        return self._parts if now < self._lapses_at else 0

    def spend(self, parts: int) -> None:
        """Count parts as sent. A long message may take more than was drawn; the debt comes off the next draws."""
        if self.limited:
            self._parts -= parts

    def wait_s(self, now: float) -> float:
        """Return how long to wait until a draw can give something."""
        return max(0.0, self._next_at - now)

    async def draw(self, store: Store, most: int, now: float) -> None:
        """Draw up to `most` parts for the next few tens of milliseconds, if the last draw is used up."""
        if not self.limited or self.parts(now) > 0 or now < self._next_at:
            return
        debt = -self._parts if self._parts < 0 else 0
        rate = self.in_force or 1.0
        wanted = min(most, max(1, math.ceil(rate * HORIZON_S))) + debt
        accepted, throttled = self._unreported
        self._reported = (self._reported[0] + accepted, self._reported[1] + throttled)
        self._unreported = (0, 0)
        granted, wait_us, self.in_force = await store.draw_parts(
            self.channel, self.rate_per_s, wanted, burst_ms=BURST_MS, accepted=accepted, throttled=throttled
        )
        drawn_at = time.monotonic()
        self._parts = granted - debt
        # Counted from before the call: the bucket's time, not ours after a delay.
        self._lapses_at = now + LAPSE_S
        # While nothing could be drawn the bucket says when it can; two parts or 5 ms later a draw is worth its call.
        pause_s = max(wait_us / 1e6, min(0.005, 2 / self.in_force)) if self.in_force and granted < wanted else 0.0
        self._next_at = drawn_at + pause_s
