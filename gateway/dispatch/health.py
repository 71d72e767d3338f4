"""When a channel is to be left alone: its breaker, fed by its answers, and what operators say; agreed in the store.

The judgement (`Judge`) is plain arithmetic over counts and a clock that is handed in. The keeper reads the settler's
counters twice a second, so that nothing is done per message, tells the store what it judged and takes what all agree
on. Knows no sessions: a channel may be closed here and bound all the same, so that receipts still come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from gateway.dispatch.outcome import Outcome, Row
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.store.moves import Health
from gateway.store.store import Store

logger = logging.getLogger(__name__)

TICK_S = 0.5
WINDOW_S = 30.0
MIN_ANSWERS = 20
BAD_SHARE = 0.5
FAULTS_IN_A_ROW = 5
PROBE_EVERY_S = 1.0
CODES_MAY_PROBE_AFTER_S = 60.0
"""How long probes are notifications and marketing alone; where there are none a code must do."""
_BAD = (Outcome.SAME, Outcome.NEXT, Outcome.CHANNEL, Outcome.BUG)
_RUN = Health()
_STATES = {"closed": 0, "half": 1, "open": 2}
_OPERATOR = {"run": 0, "pause": 1, "drain": 2}


class Judge:
    """Says whether one channel's breaker should open, from counts of good, bad and missing answers."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int, int]] = deque()
        self._faults = 0

    def note(self, good: int, bad: int, faults: int, now: float) -> None:
        """Take the counts of one tick in. Slow answers and refusals of the message itself are neither good nor bad."""
        self._faults = faults if good else self._faults + faults
        if good or bad:
            self._counts.append((now, good, bad))
        while self._counts and self._counts[0][0] < now - WINDOW_S:
            self._counts.popleft()

    def verdict(self) -> str:
        """Return why the breaker should open, '' when it need not."""
        if self._faults >= FAULTS_IN_A_ROW:
            return "no answers"
        good = sum(count[1] for count in self._counts)
        bad = sum(count[2] for count in self._counts)
        if good + bad >= MIN_ANSWERS and bad >= BAD_SHARE * (good + bad):
            return "refusals"
        return ""

    def clear(self) -> None:
        """Begin anew: what was counted has been acted on."""
        self._counts.clear()
        self._faults = 0


class HealthKeeper:
    """The health of every channel as this worker knows it, not older than a second."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        channels: Iterable[str],
        *,
        answers: Callable[[], dict[tuple[str, int], int]],
        faults: Callable[[], dict[str, int]],
        row_of: Callable[[str, int], Row],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._answers = answers
        self._faults = faults
        self._row_of = row_of
        self._on_change = on_change
        self._metrics = metrics
        self._judges: dict[str, Judge] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._seen_faults: dict[str, int] = {}
        self._known: dict[str, Health] = {}
        self._half_since: dict[str, float] = {}
        self._probed_at: dict[str, float] = {}
        self._errors = metrics.counter("dispatch_errors_total", where="health")
        self.use(channels)

    def use(self, channels: Iterable[str]) -> None:
        """Judge these channels from now on; one that was known goes on being judged by what it answered."""
        self._judges = {c: self._judges.get(c) or Judge() for c in channels}
        gauge = self._metrics.gauge
        self._gauges = {
            c: (gauge("channel_breaker", channel=c), gauge("channel_operator", channel=c)) for c in self._judges
        }
        self._opened = {c: self._metrics.counter("breaker_opened_total", channel=c) for c in self._judges}

    def of(self, channel: str) -> Health:
        """Return what is agreed about a channel."""
        return self._known.get(channel, _RUN)

    def open_for_all(self, channel: str) -> bool:
        """Whether every message may go there."""
        h = self.of(channel)
        return h.state == "closed" and h.operator == "run"

    def may_probe(self, channel: str, now: float) -> bool:
        """Whether one message may go through a half-open breaker now."""
        h = self.of(channel)
        return h.state == "half" and h.operator == "run" and now - self._probed_at.get(channel, -1e9) >= PROBE_EVERY_S

    def codes_may_probe(self, channel: str, now: float) -> bool:
        """Whether that one message may be a verification code."""
        return now - self._half_since.get(channel, now) >= CODES_MAY_PROBE_AFTER_S

    def probed(self, channel: str, now: float) -> None:
        """Count a probe as sent."""
        self._probed_at[channel] = now

    async def run(self) -> None:
        """Judge and agree until cancelled."""
        while True:
            try:
                await self.tick(time.monotonic())
            except StoreUnavailable:
                self._errors.n += 1  # what was agreed last holds; what was counted is told at the next tick
            except Exception:
                # The boundary of this task: without it one fault of ours would leave every breaker as it is.
                self._errors.n += 1
                logger.exception("judging the channels failed")
            await asyncio.sleep(TICK_S)

    async def tick(self, now: float) -> None:
        """Judge what came since the last tick, tell the store, and take what is agreed."""
        events = self._events(now)
        before = self._known
        self._known = await self._store.health(events)
        moved = False
        for channel, (breaker, operator) in self._gauges.items():
            old, new = before.get(channel, _RUN), self.of(channel)
            breaker.n, operator.n = _STATES.get(new.state, 0), _OPERATOR.get(new.operator, 0)
            if (old.state, old.operator) != (new.state, new.operator):
                moved = True
                self._judges[channel].clear()
                if new.state == "half":
                    self._half_since[channel] = now
                if new.state == "open":
                    self._opened[channel].n += 1
                logger.warning(
                    "channel %s: breaker %s%s, operator says %s",
                    channel,
                    new.state,
                    f" ({new.cause})" if new.cause else "",
                    new.operator,
                )
        if moved:
            self._on_change()

    def _events(self, now: float) -> list[tuple[str, str, int]]:
        counts = {channel: [0, 0] for channel in self._judges}
        for key, n in self._answers().items():
            channel, status = key
            new = n - self._seen.get(key, 0)
            if not new or channel not in counts:
                continue
            self._seen[key] = n
            outcome = self._row_of(channel, status).outcome if status else Outcome.SENT
            if outcome is Outcome.SENT:
                counts[channel][0] += new
            elif outcome in _BAD:
                counts[channel][1] += new
        events = []
        for channel, judge in self._judges.items():
            good, bad = counts[channel]
            total_faults = self._faults().get(channel, 0)
            # A session lost with a full window is one fault, not one for each message that was in it.
            faults = min(1, total_faults - self._seen_faults.get(channel, 0))
            self._seen_faults[channel] = total_faults
            judge.note(good, bad, faults, now)
            state = self.of(channel).state
            if state == "half":
                if bad or faults:
                    events.append((channel, "open:a probe failed", 0))
                elif good:
                    events.append((channel, "ok", good))
            elif state == "closed" and (cause := judge.verdict()):
                events.append((channel, f"open:{cause}", 0))
        return events
