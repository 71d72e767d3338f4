"""Everything that overview, channels and problems are made of, as it was read last: plain values, no reading.

Owns the form. `live` fills it in parts (some are read every two seconds, some every half minute); what could not be
read lately stays as it was and is named in `stale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.admin.channel_state import STARTING, State, state_of
from gateway.admin.figures import Figures
from gateway.metrics import Series
from gateway.settings import ChannelSettings, Settings
from gateway.store.changes import Sessions
from gateway.store.moves import Health

ENDS: Final = ("delivered", "failed", "expired", "unknown")
"""How the statistics say that a message ended."""


def ended(row: Mapping[str, Any]) -> int:
    """Return how many messages of a row of the statistics have ended."""
    return sum(int(row[name]) for name in ENDS)


def ratio(row: Mapping[str, Any]) -> float | None:
    """Return which share of those that ended was delivered, None where none has."""
    n = ended(row)
    return round(row["delivered"] / n, 4) if n > 0 else None


@dataclass(slots=True)
class Delivery:
    """What the statistics of all machines say of the last hour or so."""

    from_ms: int = 0
    to_ms: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    """As `gateway.statistics` answers them, by category, channel and route."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits on one route and rank in one category (0 verification …), over all shards and accounts."""

    route: str
    rank: int
    category: int
    depth: int
    oldest_s: float


@dataclass(slots=True)
class Queues:
    """What waits."""

    rows: list[Queue] = field(default_factory=list)
    messages: int = 0  # stored and not final, not claimed and not submitted
    timed: int = 0  # scheduled, deferred, to be retried, uncertain


@dataclass(slots=True)
class Facts:
    """What is known now."""

    settings: Settings
    figures: Figures = field(default_factory=Figures)
    series: Series = field(default_factory=lambda: Series({}, {}, {}))
    health: dict[str, Health] = field(default_factory=dict)
    sessions: dict[str, Sessions] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    queues: Queues = field(default_factory=Queues)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    delivery: Delivery = field(default_factory=Delivery)
    config: dict[str, Any] = field(default_factory=dict)
    review: int = 0
    stale: set[str] = field(default_factory=set)
    channels_known: bool = True
    """Whether what workers say of channels was ever read: until then none is said to be down."""

    def states(self) -> dict[str, State]:
        """Return what each configured channel is like."""
        if not self.channels_known:
            return {c.id: State(STARTING, None, None) for c in self.settings.channels}
        return {
            c.id: state_of(
                c,
                self.health.get(c.id, Health()),
                bound=c.id in self.bound,
                sessions=self.sessions.get(c.id, Sessions()),
            )
            for c in self.settings.channels
        }

    def workers(self) -> list[dict[str, Any]]:
        """Return this machine's living workers by role: how many are up, and how many of them ready."""
        found: dict[str, list[int]] = {}
        for (name, labels), value in self.series.gauges.items():
            if name in ("worker_up", "worker_ready") and labels[0] != "supervisor":
                found.setdefault(labels[0], [0, 0])[name == "worker_ready"] += int(value > 0)
        return [{"role": role, "up": up, "ready": ready} for role, (up, ready) in sorted(found.items())]

    def tps_limit(self, channel: ChannelSettings) -> float:
        """Return the rate in force on this machine, in parts a second, 0 for none; a worker that began says 0 first."""
        return round(self.gauge("channel_tps_limit", channel.id) or float(channel.max_tps), 1)

    def gauge(self, name: str, *labels: str) -> float | None:
        """Return one gauge of this machine, None where nobody set it."""
        return self.series.gauges.get((name, labels))
