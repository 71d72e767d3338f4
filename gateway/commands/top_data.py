"""What `smsgw top` shows, worked out of two readings of the admin listener: rates are differences between them.

Owns which counters make which figure. Pure: reads nothing and draws nothing (`top`, `top_frame`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from gateway.model import CATEGORY_LABELS
from gateway.smpp.trouble import spelt

_ACCEPTED: Final = frozenset({"queued", "scheduled", "deferred"})
_FAILED: Final = frozenset({"undeliverable", "rejected", "expired", "failed", "unknown", "blocked", "cancelled"})
_OK: Final = "0x00000000"
_ALARMS: Final = {
    "channel_alarms_total": "answers that mean a fault",
    "breaker_opened_total": "breaker opened",
    "optout_alarms_total": "unusually many opt-outs",
    "worker_restarts_total": "worker restarted",
    "store_errors_total": "store call failed",
    "receipts_impossible_total": "delivered where nobody is",
}
LAST_ALARMS: Final = 5

Labels = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Sample:
    """One reading: when (monotonic s), every series of /metrics, and the answers of the admin API by path."""

    at: float
    series: dict[str, dict[Labels, float]]
    answers: Mapping[str, Any]

    @classmethod
    def of(cls, at: float, metrics: str, answers: Mapping[str, Any]) -> Sample:
        """Read a text of /metrics; names lose their prefix."""
        series: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                name = sample.name.removeprefix("smsgw_")
                series.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
        return cls(at, series, answers)

    def total(self, name: str, *, where: Callable[[dict[str, str]], bool] | None = None, **labels: str) -> float:
        """Return the sum of a metric's series that have these labels."""
        wanted = set(labels.items())
        return sum(
            value
            for key, value in self.series.get(name, {}).items()
            if wanted <= key and (where is None or where(dict(key)))
        )


@dataclass(slots=True)
class Rates:
    """Messages a second of one category."""

    category: str
    accepted: float
    submitted: float
    delivered: float
    failed: float


@dataclass(slots=True)
class Channel:
    """One channel as it is now; rates and shares over the time between the readings, None: nothing to tell from."""

    id: str
    state: str
    cause: str
    sessions: int
    binds: int
    window_used: int
    window: int
    per_s: float
    limit_per_s: float  # in force; 0: none
    max_tps: int
    errors: float | None
    receipt_delay_s: float | None


@dataclass(slots=True)
class View:
    """All that a frame shows."""

    rates: list[Rates] = field(default_factory=list)
    verification_p99_s: float | None = None
    waiting: int = 0
    channels: list[Channel] = field(default_factory=list)
    queues: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Over which the rates were taken; 0: since the gateway's start, as nothing was read before."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def view_of(now: Sample, before: Sample | None) -> View:
    """Work out what a frame shows."""
    seconds = now.at - before.at if before is not None else 0.0

    def grown(name: str, **kw: Any) -> float:
        """Return how much a counter grew; all of it where a restart set it back."""
        value = now.total(name, **kw)
        old = before.total(name, **kw) if before is not None else value
        return value - old if value >= old else value

    def per_s(name: str, **kw: Any) -> float:
        return grown(name, **kw) / seconds if seconds > 0 else 0.0

    rates = [
        Rates(
            label,
            per_s("messages_total", category=label, where=lambda x: x["state"] in _ACCEPTED),
            per_s("accept_to_submit_seconds_count", category=label),
            per_s("messages_total", category=label, state="delivered"),
            per_s("messages_total", category=label, where=lambda x: x["state"] in _FAILED),
        )
        for label in CATEGORY_LABELS
    ]
    return View(
        rates=rates,
        verification_p99_s=_quantile(now, before, "accept_to_submit_seconds", 0.99, category="verification"),
        waiting=int(now.answers["queues"]["waiting"]),
        channels=[_channel(c, now, before, grown, per_s) for c in now.answers["channels"]["channels"]],
        queues=now.answers["queues"]["queues"],
        webhooks=now.answers["webhooks"]["webhooks"],
        gates=now.answers["gates"]["gates"],
        alarms=alarms_of(now, before),
        seconds=seconds,
    )


def _channel(
    c: dict[str, Any],
    now: Sample,
    before: Sample | None,
    grown: Callable[..., float],
    per_s: Callable[..., float],
) -> Channel:
    name = c["id"]
    submits = grown("submits_total", channel=name)
    wrong = grown("submits_total", channel=name, where=lambda x: x["status"] != _OK)
    sessions = int(now.total("channel_sessions", channel=name, state="bound"))
    state = c["operator"] if c["operator"] != "run" else "up" if c["bound"] else "down"
    if state == "up" and c["breaker"] != "closed":
        state = f"breaker {c['breaker']}"
    return Channel(
        id=name,
        state=state,
        cause=c["cause"] or _why(c),
        sessions=sessions,
        binds=c["binds"],
        window_used=int(now.total("channel_window_used", channel=name)),
        window=c["window"] * max(1, sessions or c["binds"]),
        per_s=per_s("submits_total", channel=name),
        limit_per_s=now.total("channel_tps_limit", channel=name),
        max_tps=c["max_tps"],
        errors=wrong / submits if submits else None,
        receipt_delay_s=_quantile(now, before, "receipt_delay_seconds", 0.5, channel=name),
    )


def _why(c: dict[str, Any]) -> str:
    """Return in words what is wrong with sessions that should be there; '' where nothing is, or nobody says."""
    trouble = c.get("trouble")
    return spelt(trouble["kind"], trouble["detail"]) if trouble else ""


def _quantile(now: Sample, before: Sample | None, name: str, share: float, **labels: str) -> float | None:
    """Return the upper bound of the bucket in which a share of what was observed lies; None: nothing was."""

    def buckets(sample: Sample | None) -> dict[float, float]:
        found: dict[float, float] = {}
        for key, value in (sample.series.get(f"{name}_bucket", {}) if sample is not None else {}).items():
            read = dict(key)
            if labels.items() <= read.items():
                bound = float(read["le"])
                found[bound] = found.get(bound, 0.0) + value
        return found

    counts, old = buckets(now), buckets(before)
    if not counts:
        return None
    fresh = {bound: n - old.get(bound, 0.0) for bound, n in counts.items()}
    if min(fresh.values()) < 0:
        fresh = counts  # a restart set them back
    total = fresh[max(fresh)]
    if total <= 0:
        return None
    largest = max((b for b in fresh if b != float("inf")), default=0.0)
    return min(next(b for b in sorted(fresh) if fresh[b] >= share * total), largest)


def alarms_of(now: Sample, before: Sample | None) -> list[str]:
    """Return the counters of trouble that grew between the readings, in words."""
    found = []
    for name, words in _ALARMS.items():
        for key, value in now.series.get(name, {}).items():
            old = before.series.get(name, {}).get(key, 0.0) if before is not None else 0.0
            if value > old:
                where = " ".join(v for _, v in sorted(key))
                found.append(f"{words}: {where} (+{value - old:.0f})")
    return found


def keep_last(kept: list[str], fresh: Iterable[str], at: str) -> list[str]:
    """Return the last alarms, the newest first."""
    return [*(f"{at} {one}" for one in fresh), *kept][:LAST_ALARMS]
