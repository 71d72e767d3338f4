"""Rates, waits and shares out of two readings of this machine's counters: pure arithmetic for overview and channels.

Owns which counters make which figure and how far back each looks. Readings are kept in two rings: a small one every
five seconds (rates, the history of charts), a whole one every minute (answers by status, receipts, trouble), so that a
quarter of an hour of 100 channels is a few megabytes. Refuses to read anything itself: `live` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.metrics import DELAY_S, LATENCY_S, Series
from gateway.model import CATEGORY_LABELS

STEP_S: Final = 5.0
HISTORY_S: Final = 900.0
COARSE_S: Final = 60.0
RATE_S: Final = 10.0
"""Rates are means over the last so many seconds (workers publish their counters once a second)."""
WAIT_S: Final = 60.0
ERRORS_S: Final = 300.0
ENTRIES: Final = int(HISTORY_S / STEP_S)

_ACCEPTED: Final = frozenset({"queued", "scheduled", "deferred"})
_FAILED: Final = frozenset({"undeliverable", "rejected", "expired", "failed", "unknown", "blocked", "cancelled"})
FLOWS: Final = ("accepted", "submitted", "delivered", "failed")
COLUMNS: Final = (
    "at_ms",
    *(f"{category}.{flow}" for category in CATEGORY_LABELS for flow in FLOWS),
    "wait_p50_s",
    "wait_p99_s",
    "waiting",
)
TROUBLES: Final = (
    "channel_alarms_total", "unknown_failure_codes_total", "worker_restarts_total", "receipts_impossible_total",
    "optout_alarms_total",
)  # fmt: skip
"""Counters of trouble whose growth within a quarter of an hour is looked at."""
GAUGES: Final = (
    "channel_window_used", "channel_tps_limit", "channel_left_out", "worker_up", "worker_ready",
    "store_intake", "store_memory_bytes", "disk_bytes", "event_loop_lag_seconds",
)  # fmt: skip
NAMES: Final = frozenset(
    {
        "messages_total", "accept_to_submit_seconds", "submits_total", "receipt_delay_seconds", *TROUBLES, *GAUGES,
    }
)  # fmt: skip
"""The families that are read at all."""
OK: Final = "0x00000000"


@dataclass(slots=True)
class Detail:
    """What only whole readings keep."""

    statuses: dict[str, dict[str, float]]  # channel → command_status → answers
    receipts: dict[str, list[int]]  # channel → delays by bucket
    troubles: dict[tuple[str, tuple[str, ...]], float]


@dataclass(slots=True)
class Reading:
    """The counters at one moment."""

    at: float  # monotonic s
    at_ms: int  # epoch ms
    flow: list[float]  # category by category, each by FLOWS
    wait: list[int]  # verification: time to the first submit, by bucket
    submits: dict[str, float]  # channel → answers
    waiting: int = 0  # stored messages that wait
    detail: Detail | None = None

    @classmethod
    def of(cls, at: float, at_ms: int, series: Series, waiting: int = 0) -> Reading:
        flow = [0.0] * (len(CATEGORY_LABELS) * len(FLOWS))
        place = {label: i * len(FLOWS) for i, label in enumerate(CATEGORY_LABELS)}
        statuses: dict[str, dict[str, float]] = {}
        troubles: dict[tuple[str, tuple[str, ...]], float] = {}
        for (name, labels), n in series.counters.items():
            if name == "messages_total":
                category, _, state, _ = labels
                if category in place:
                    at_flow = 0 if state in _ACCEPTED else 2 if state == "delivered" else 3 if state in _FAILED else -1
                    if at_flow >= 0:
                        flow[place[category] + at_flow] += n
            elif name == "submits_total":
                statuses.setdefault(labels[0], {})[labels[1]] = n
            elif name in TROUBLES:
                troubles[name, labels] = n
        wait = [0] * (len(LATENCY_S) + 1)
        receipts: dict[str, list[int]] = {}
        for (name, labels), counts in series.hists.items():
            if name == "receipt_delay_seconds":
                receipts[labels[0]] = counts
            elif name == "accept_to_submit_seconds" and labels[0] in place:
                flow[place[labels[0]] + 1] += sum(counts)
                if labels[0] == CATEGORY_LABELS[0]:
                    wait = counts
        submits = {channel: sum(by.values()) for channel, by in statuses.items()}
        return cls(at, at_ms, flow, wait, submits, waiting, Detail(statuses, receipts, troubles))

    def small(self) -> Reading:
        """Return it without what only whole readings keep."""
        return Reading(self.at, self.at_ms, self.flow, self.wait, self.submits, self.waiting)


@dataclass(slots=True)
class Wait:
    """How long verification waited before it was handed to a carrier; None: none was."""

    n: int
    p50_s: float | None
    p99_s: float | None


@dataclass(slots=True)
class Figures:
    """The rings, and what is worked out of them. `take` a reading; at most one in STEP_S stays."""

    fine: deque[Reading] = field(default_factory=lambda: deque(maxlen=ENTRIES + 1))
    coarse: deque[Reading] = field(default_factory=lambda: deque(maxlen=int(HISTORY_S / COARSE_S) + 1))
    points: deque[list[float | int | None]] = field(default_factory=lambda: deque(maxlen=ENTRIES))
    now: Reading | None = None

    def take(self, reading: Reading) -> bool:
        """Take a reading in; returns whether the history has a new point."""
        self.now = reading
        if not self.coarse or reading.at - self.coarse[-1].at >= COARSE_S:
            self.coarse.append(reading)
        if self.fine and reading.at - self.fine[-1].at < STEP_S * 0.9:
            return False
        self.fine.append(reading.small())
        if len(self.fine) > 1:
            wait = self.wait()
            flows = self.flows(STEP_S)[1]
            self.points.append([reading.at_ms, *(round(x, 2) for x in flows), wait.p50_s, wait.p99_s, reading.waiting])
        return True

    def flows(self, over_s: float = RATE_S) -> tuple[float, list[float]]:
        """Return over how many seconds, and what happened a second, in the order of `Reading.flow`."""
        now, before = self._pair(self.fine, over_s)
        seconds = now.at - before.at
        return seconds, [_rate(a, b, seconds) for a, b in zip(now.flow, before.flow, strict=True)]

    def wait(self) -> Wait:
        """Return how long verification waited within the last minute."""
        now, before = self._pair(self.fine, WAIT_S)
        fresh = _fresh(now.wait, before.wait)
        return Wait(sum(fresh), quantile(LATENCY_S, fresh, 0.5), quantile(LATENCY_S, fresh, 0.99))

    def submits_per_s(self) -> dict[str, float]:
        """Return the answers to submit_sm a second, by channel."""
        now, before = self._pair(self.fine, RATE_S)
        seconds = now.at - before.at
        return {c: round(_rate(n, before.submits.get(c, 0.0), seconds), 1) for c, n in now.submits.items()}

    def errors(self, channel: str) -> dict[str, Any]:
        """Return what a channel answered within five minutes: how much, which share was refused, the top statuses."""
        now, before = self._pair(self.coarse, ERRORS_S)
        assert now.detail is not None
        assert before.detail is not None
        old = before.detail.statuses.get(channel, {})
        grown = {s: max(0.0, n - old.get(s, 0.0)) for s, n in now.detail.statuses.get(channel, {}).items()}
        total = sum(grown.values())
        wrong = {s: n for s, n in grown.items() if n > 0 and s != OK}
        top = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:5]
        return {
            "seconds": round(now.at - before.at),
            "submits": int(total),
            "share": round(sum(wrong.values()) / total, 4) if total else None,
            "top": [{"status": s, "n": int(n), "share": round(n / total, 4)} for s, n in top],
        }

    def receipts(self, channel: str) -> dict[str, Any]:
        """Return how long receipts took within a quarter of an hour."""
        now, before = self._pair(self.coarse, HISTORY_S)
        assert now.detail is not None
        assert before.detail is not None
        counts = now.detail.receipts.get(channel, [])
        fresh = _fresh(counts, before.detail.receipts.get(channel, [0] * len(counts)))
        return {
            "seconds": round(now.at - before.at),
            "n": sum(fresh),
            "p50_s": quantile(DELAY_S, fresh, 0.5),
            "p95_s": quantile(DELAY_S, fresh, 0.95),
        }

    def troubles(self) -> tuple[float, dict[tuple[str, tuple[str, ...]], int]]:
        """Return over how many seconds, and how much each counter of trouble grew in them."""
        now, before = self._pair(self.coarse, HISTORY_S)
        assert now.detail is not None
        assert before.detail is not None
        old = before.detail.troubles
        grown = {key: int(n - old.get(key, 0.0)) for key, n in now.detail.troubles.items()}
        return now.at - before.at, {key: n for key, n in grown.items() if n > 0}

    def _pair(self, ring: Iterable[Reading], over_s: float) -> tuple[Reading, Reading]:
        """Return the latest reading and the youngest that is old enough; of those that are not, the oldest."""
        now = self.now
        assert now is not None, "nothing was read yet"
        best = None
        for one in ring:
            # A tenth less: a reading is never exactly on time.
            if best is None or now.at - one.at >= over_s * 0.9:
                best = one
        return now, best or now


def quantile(bounds: tuple[float, ...], counts: list[int], share: float) -> float | None:
    """Return what a share of the observations was below, as Prometheus' histogram_quantile has it; None: no one.

    Spread evenly inside a bucket; beyond the last bound it is that bound.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below, low = share * total, 0, 0.0
    for bound, n in zip(bounds, counts, strict=False):
        if n and below + n >= wanted:
            return round(low + (bound - low) * (wanted - below) / n, 4)
        below, low = below + n, bound
    return bounds[-1]


def _rate(now: float, before: float, seconds: float) -> float:
    return max(0.0, now - before) / seconds if seconds > 0 else 0.0


def _fresh(now: list[int], before: list[int]) -> list[int]:
    return [max(0, a - b) for a, b in zip(now, before, strict=True)]
