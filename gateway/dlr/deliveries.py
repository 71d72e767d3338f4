"""What became of messages, by channel and category: the counter that delivery ratios are made of.

Owns which ends count: those that a receipt, or its absence, decided. A message that never reached a carrier says
nothing about one. Refuses to know ratios and thresholds (config/prometheus/rules.yml). Called once for each kind of end
in a batch, not for each message. Beside the path.
"""

from __future__ import annotations

from typing import Final

from gateway.metrics import Cell, Metrics
from gateway.model import CATEGORY_LABELS, STATE_LABELS, State

ENDS: Final = (State.DELIVERED, State.UNDELIVERABLE, State.REJECTED, State.EXPIRED, State.UNKNOWN)
CORRECTED: Final = "corrected"
"""A message that had ended otherwise was delivered after all: no second end, so it stands apart from the ratio."""
LATE: Final = "late_correction"


class Deliveries:
    """The counts of one worker (the store's `on_delivery`)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cells: dict[tuple[str, int, str], Cell] = {}

    def count(self, channel: str, category: int, state: str, reason: str, n: int) -> None:
        """Count `n` messages of a channel that ended in `state`, for a `reason` as statistics have it."""
        if not channel or state not in ENDS:
            return
        shown = CORRECTED if reason == LATE else STATE_LABELS[state]
        cell = self._cells.get((channel, category, shown))
        if cell is None:
            cell = self._cells[channel, category, shown] = self._metrics.counter(
                "deliveries_total", channel=channel, category=CATEGORY_LABELS[category], state=shown
            )
        cell.n += n
