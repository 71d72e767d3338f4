"""What became of single messages, a record a change: which changes are told, with which fields, and how many a second.

Owns the words of the events and the budget of each second; what is beyond it is counted, not written. Refuses to
know who changed a message and how lines are written (`journal`, `logs`). Stands beside the path: it takes what a batch
did, in one call, and costs nothing where it is off. docs/logging.md lists events and fields.
"""

from __future__ import annotations

import logging
import re
import time
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from gateway import logs
from gateway.metrics import Metrics
from gateway.model import CATEGORY_LABELS, message_id, route_name

AREA: Final = "messages"
NO_LIMIT: Final = 1 << 60
USUAL_SHARE: Final = 0.75
"""Share of a second's budget that is for what goes well: a rush must not hide what fails."""
_CODE = re.compile(r"0x[0-9A-F]{8}|(?!.*[0-9]{6})[!-~]{1,20}")


def chosen(sid: bytes, share: float) -> bool:
    """Tell whether a message is among a share of all (0 to 1): by its id, so that every process says the same."""
    return crc32(sid) < share * 4_294_967_296


class MessageLog:
    """The records of one process. `usual` and `failed` take one change each; `flush` writes what a batch gave."""

    def __init__(self, metrics: Metrics, *, which: str, sample: float, per_s: int) -> None:
        self.all = which == "all" and logs.enabled(AREA, logging.INFO)
        """Whether what goes well is told too."""
        self._sample = sample
        self._per_s = per_s or NO_LIMIT
        self._left = self._per_s
        self._reserve = 0 if not per_s else per_s - int(per_s * USUAL_SHARE)
        self._second = 0.0
        self._rows: list[logs.Row] = []
        self._written = metrics.counter("message_records_total")
        self._suppressed = metrics.counter("log_suppressed_total", source=AREA)

    def tells(self, sid: bytes) -> bool:
        """Whether what goes well with a message is told now; ask before each `usual`, which is for that one record."""
        if not self.all or (self._sample < 1.0 and not chosen(sid, self._sample)):
            return False
        if self._left <= self._reserve:
            self._suppressed.n += 1
            return False
        return True

    def usual(self, event: str, sid: bytes, dims: bytes, category: int | None, fields: dict[str, Any]) -> None:
        """Note a change as it should be."""
        self._left -= 1
        self._rows.append((logging.INFO, event, message_id(sid), shared_of(dims, category), fields))

    def failed(self, event: str, sid: bytes, dims: bytes, category: int | None, fields: dict[str, Any]) -> None:
        """Note a change that somebody may have to look at."""
        if self._left <= 0:
            self._suppressed.n += 1
            return
        self._left -= 1
        self._rows.append((logging.WARNING, event, message_id(sid), shared_of(dims, category), fields))

    def flush(self) -> None:
        """Write what was noted, and begin a new budget with each second."""
        if self._rows:
            self._written.n += len(self._rows)
            logs.write_rows(AREA, self._rows)
            self._rows = []
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._left = now, self._per_s


@lru_cache(maxsize=4096)
def shared_of(dims: bytes, category: int | None) -> logs.Shared:
    """Return account, route, carrier and category as a record shows them.

    A record's other labels (campaign and the like) are an application's own words: they stay unsaid.
    """
    account, carrier, route = dims.decode().split("\x1f", 3)[:3]
    fields = {
        "account": account,
        "category": CATEGORY_LABELS[category] if category is not None else "",
        "route": route_name(route),
        "carrier": carrier,
    }
    return logs.Shared({name: value for name, value in fields.items() if value})


@lru_cache(maxsize=4096)
def shown_code(code: str) -> str:
    """Return a carrier's code as a log may show it: one that is no code may be anything, a number too."""
    return code if _CODE.fullmatch(code) else "****"
