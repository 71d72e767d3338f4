"""Where a long look goes on: a place that an answer gave, with a mark by which it is known again.

Owns the mark: a keyed hash of the place, of what it belongs to and of the hour. Without it whoever asks could begin in
the middle, where nothing is noted of a beginning. Refuses to know what a place means. The key is the audit's, the same
on every machine.
"""

from __future__ import annotations

import hmac
import time
from typing import Final

from gateway.store.audit import Audit

_HOUR_S: Final = 3600
_MARK_CHARS: Final = 32
_US: Final = "\x1f"


async def give(audit: Audit, place: str, *belongs: str) -> str:
    """Return a place as an answer says it; it counts for an hour at least, for what it belongs to."""
    await audit.prepare()
    return f"{place}~{_mark(audit, place, belongs, int(time.time()) // _HOUR_S)}"


async def take(audit: Audit, given: str, *belongs: str) -> str | None:
    """Return the place that an answer gave, None where none of ours gave it, for this, within the last hour or two."""
    await audit.prepare()
    place, _, mark = given.rpartition("~")
    hour, sent = int(time.time()) // _HOUR_S, mark.encode("utf-8", "surrogateescape")
    found = [hmac.compare_digest(sent, _mark(audit, place, belongs, at).encode()) for at in (hour, hour - 1)]
    return place if any(found) else None


def _mark(audit: Audit, place: str, belongs: tuple[str, ...], hour: int) -> str:
    return audit.keyed(_US.join(("place", place, *belongs, str(hour))))[:_MARK_CHARS]
