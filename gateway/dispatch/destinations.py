"""Answers that are about a group of recipients rather than about one message or the whole channel.

Two statuses mean either: "invalid destination" (0x0B), which some carriers say of every number of a network that the
account may not reach, and "queue full" (0x14), which may be the SMSC's queue or this recipient's. What the answers to
others were in the last moments tells. Pure counts with a clock that is handed in; holds nothing while all goes well.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

PREFIX_DIGITS = 5
"""Country code and the first digits of the network: 86138, 44790."""
WINDOW_S = 60.0
MIN_ANSWERS = 20
REFUSED_SHARE = 0.2
QUEUE_S = 10.0
"""How long a full queue is remembered as that of one recipient."""
_MOST = 1000


@dataclass(slots=True)
class _Prefix:
    """Answers about one prefix since the first refusal, by ten seconds."""

    slots: deque[list[float]] = field(default_factory=deque)  # [second it began, answers, refused]

    def note(self, refused: bool, now: float) -> None:
        if not self.slots or now - self.slots[-1][0] >= WINDOW_S / 6:
            self.slots.append([now, 0, 0])
        while self.slots and now - self.slots[0][0] > WINDOW_S:
            self.slots.popleft()
        if self.slots:
            self.slots[-1][1] += 1
            self.slots[-1][2] += refused

    @property
    def totals(self) -> tuple[float, float]:
        return sum(slot[1] for slot in self.slots), sum(slot[2] for slot in self.slots)


class UnreachedPrefixes:
    """Prefixes of which one channel refuses so many numbers as invalid that it is not the numbers."""

    def __init__(self) -> None:
        self._prefixes: dict[tuple[str, str], _Prefix] = {}

    def note(self, channel: str, msisdn: str, refused: bool, now: float) -> bool:
        """Take an answer; returns whether refusals of this prefix lie with the channel. Counts from a refusal on."""
        key = (channel, msisdn[:PREFIX_DIGITS])
        known = self._prefixes.get(key)
        if known is None:
            if not refused:
                return False
            if len(self._prefixes) >= _MOST:
                self._prefixes.clear()
            known = self._prefixes[key] = _Prefix()
        known.note(refused, now)
        answers, refusals = known.totals
        if not refusals:
            del self._prefixes[key]
            return False
        return answers >= MIN_ANSWERS and refusals > REFUSED_SHARE * answers

    @property
    def watching(self) -> bool:
        """Whether any refusal was seen lately: without one, accepted messages need not be told."""
        return bool(self._prefixes)


class FullQueues:
    """Whether a channel's full queue is that of one recipient."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, str]]] = {}

    def of_one(self, channel: str, msisdn: str, accepted_at: float, now: float) -> int:
        """Take a "queue full" for a number; `accepted_at` is when the channel last accepted any message.

        Returns how often it was said of this number lately when others pass (the channel accepted something, and said
        it of no other number), else 0.
        """
        seen = self._seen.setdefault(channel, deque(maxlen=50))
        seen.append((now, msisdn))
        while seen and now - seen[0][0] > QUEUE_S:
            seen.popleft()
        alone = now - accepted_at <= QUEUE_S and len({number for _, number in seen}) == 1
        return len(seen) if alone else 0
