"""Counters that stand at 0 before anything happened, so that Prometheus sees the first event.

Owns the list of those that alerts ask `increase()` of: from no series at all to 1 is no increase there, and the first
receipt that was made up would go unnoticed. Refuses to count. Called once when a worker starts; a channel or an account
that a reload adds begins with its first event.
"""

from __future__ import annotations

from typing import Final

from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, STATE_LABELS, State
from gateway.settings import Settings

_SENT: Final = "0x00000000"
_CHANNEL_COUNTERS: Final = (
    "unknown_failure_codes_total",
    "receipts_impossible_total",
    "late_results_total",
    "inbound_total",
)


def begin_at_zero(metrics: Metrics, role: str, settings: Settings) -> None:
    """Make the series of a worker of `role` that must be there from the start."""
    if role == "api":
        for account in settings.accounts:
            metrics.counter("account_messages_total", account=account.id, result="accepted")
    elif role == "events":
        for account_id in settings.consumers:
            for result in ("delivered", "dead"):
                metrics.counter("webhook_deliveries_total", account=account_id, result=result)
    elif role == "dispatch":
        _channels(metrics, settings)


def _channels(metrics: Metrics, settings: Settings) -> None:
    for channel in settings.channels:
        for name in _CHANNEL_COUNTERS:
            metrics.counter(name, channel=channel.id)
        metrics.counter("submits_total", channel=channel.id, status=_SENT)
        metrics.counter("inbound_read_total", channel=channel.id, what="stop")
        for outcome in ("channel", "bug"):
            metrics.counter("channel_alarms_total", channel=channel.id, outcome=outcome)
        for cause in ("channel", "block"):
            metrics.counter("optout_alarms_total", channel=channel.id, cause=cause)
        for state in (State.DELIVERED, State.UNDELIVERABLE, State.REJECTED, State.EXPIRED, State.UNKNOWN):
            metrics.counter("receipts_total", channel=channel.id, state=STATE_LABELS[state])
            for category in channel.categories:
                metrics.counter(
                    "deliveries_total",
                    channel=channel.id,
                    category=CATEGORY_LABELS[category],
                    state=STATE_LABELS[state],
                )
