"""What a session sent and the peer has not answered: by sequence number, in the order sent.

A plain value: takes `now` as an argument, knows no PDU and no session. One a session and direction: submit_sm
of an ESME, deliver_sm of an SMSC. A request that timed out leaves the window, and its slot is free, but is
kept aside for a while so that a late answer still finds what it answers.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from gateway.errors import SmppError

LATE_ENTRIES: Final = 10_000
"""Most timed-out requests remembered a session; the oldest are forgotten first (about 200 B each)."""


class WindowFull(SmppError):
    """Every slot of the window is taken; look at `free` before submitting."""


Entry: TypeAlias = tuple[object, float]
"""One request in the window: what its sender gave along, and when it was sent (the session's clock)."""


class Window:
    """At most `size` unanswered requests."""

    __slots__ = ("_late", "_open", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        # Plain dicts keep insertion order, and all requests of a session share one timer, so the first entry
        # is always the next to time out: no heap, no timer a request.
        self._open: dict[int, Entry] = {}
        self._late: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, sequence_number: int) -> bool:
        return sequence_number in self._open or sequence_number in self._late

    @property
    def free(self) -> int:
        """Slots not taken; never negative, also when `size` was lowered below what is open."""
        return max(0, self.size - len(self._open))

    def add(self, sequence_number: int, context: object, now: float) -> None:
        """Take a slot.

        Raises:
            WindowFull: there is none.
        """
        if len(self._open) >= self.size:
            raise WindowFull(f"all {self.size} slots are taken")
        self._open[sequence_number] = (context, now)

    def pop(self, sequence_number: int) -> Entry | None:
        """Free the slot of an answered request and return it; None when none is open under this number."""
        return self._open.pop(sequence_number, None)

    def pop_late(self, sequence_number: int) -> Entry | None:
        """Return, once, the timed-out request that is answered after all; its slot was freed before."""
        return self._late.pop(sequence_number, None)

    def oldest_sent_at(self) -> float | None:
        """Return when the longest-waiting open request was sent; None when nothing is open."""
        for _, sent_at in self._open.values():
            return sent_at
        return None

    def overdue(self, now: float, timer_s: float) -> list[Entry]:
        """Take out what has waited `timer_s` or longer, oldest first; costs only what it returns."""
        expired = []
        for sequence_number, (_, sent_at) in self._open.items():
            if sent_at + timer_s > now:
                break
            expired.append(sequence_number)
        return [self._set_aside(sequence_number) for sequence_number in expired]

    def _set_aside(self, sequence_number: int) -> Entry:
        entry = self._open.pop(sequence_number)
        if len(self._late) >= LATE_ENTRIES:
            del self._late[next(iter(self._late))]
        self._late[sequence_number] = entry
        return entry

    def forget_late(self, sent_before: float) -> None:
        """Drop timed-out requests sent before a time: an answer to one of them is unknown from then on."""
        forgotten = []
        for sequence_number, (_, sent_at) in self._late.items():
            if sent_at >= sent_before:
                break
            forgotten.append(sequence_number)
        for sequence_number in forgotten:
            del self._late[sequence_number]

    def clear(self) -> list[tuple[int, object]]:
        """Empty the window; return (sequence_number, context) of what was open, in the order sent."""
        rest = [(sequence_number, context) for sequence_number, (context, _) in self._open.items()]
        self._open.clear()
        self._late.clear()
        return rest
