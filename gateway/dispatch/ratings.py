"""How channels do: delivery ratio, receipt delay and feedback over a sliding window, by channel, carrier and category.

Pure: built from the counts that the store keeps by five minutes of submission (`rate` in `store/lua/_record.lua`).
Only messages old enough to have their receipt are judged by it. Refuses to know what follows from a rating; redelivery
and the shares of channels ask it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

DELAYS = 19
"""Classes of receipt delay: up to 1 s, 2 s, 4 s and so on; the last has no end."""
ENOUGH = 20
"""Receipts below which a channel's delay is not known."""

Row = tuple[int, str, str, int, str, int]
"""Slot (epoch s), channel, carrier, category, what, number."""


@dataclass(slots=True)
class Rating:
    """The counts of one channel, or of one carrier and category on it. Times are seconds."""

    submitted: int = 0
    delivered: int = 0
    failed: int = 0
    own: int = 0
    """Failed for the message's own reason, such as a number that does not exist: no fault of the channel's."""
    clicked: int = 0
    converted: int = 0
    complained: int = 0
    delays: list[int] = field(default_factory=lambda: [0] * DELAYS)

    @property
    def receipts(self) -> int:
        """How many receipts came, of whatever kind."""
        return self.delivered + self.failed + self.own

    @property
    def judged(self) -> int:
        """How many submitted messages say something about the channel."""
        return max(0, self.submitted - self.own)

    @property
    def ratio(self) -> float:
        """Share of them that was delivered; one without a receipt counts as not delivered."""
        return min(1.0, self.delivered / self.judged) if self.judged else 0.0

    @property
    def receipt_share(self) -> float:
        """Share of submitted messages for which a receipt came."""
        return min(1.0, self.receipts / self.submitted) if self.submitted else 0.0

    def delay_s(self, share: float) -> float | None:
        """Return within how many seconds this share of the receipts came (rounded up to a power of two).

        None where too few are known to say.
        """
        total = sum(self.delays)
        if total < ENOUGH:
            return None
        seen = 0
        for n, count in enumerate(self.delays):
            seen += count
            if seen >= share * total:
                return float(2**n)
        return float(2 ** (DELAYS - 1))

    def add(self, what: str, number: int) -> None:
        """Count one field of the store's."""
        if what == "s":
            self.submitted += number
        elif what == "D":
            self.delivered += number
        elif what == "f":
            self.failed += number
        elif what == "o":
            self.own += number
        elif what == "k":
            self.clicked += number
        elif what == "c":
            self.converted += number
        elif what == "x":
            self.complained += number
        elif what[0] == "t":
            self.delays[min(int(what[1:]), DELAYS - 1)] += number


class Ratings:
    """The ratings of all channels at one moment."""

    def __init__(self, rows: Iterable[Row] = (), now_s: float = 0.0) -> None:
        """`rows` of the window. A slot counts once its first messages had the time in which 95 % of receipts come."""
        rows = list(rows)
        self._delays: dict[str, Rating] = {}
        for _, channel, _, _, what, number in rows:
            if what[0] == "t":
                self._delays.setdefault(channel, Rating()).add(what, number)
        patience = {channel: rating.delay_s(0.95) or 0.0 for channel, rating in self._delays.items()}
        self._ratings: dict[tuple[str, str, int], Rating] = {}
        for slot, channel, carrier, category, what, number in rows:
            if what[0] != "t" and slot + patience.get(channel, 0.0) > now_s:
                continue
            for key in {(channel, carrier, category), (channel, "", category), (channel, "", -1)}:
                rating = self._ratings.get(key)
                if rating is None:
                    rating = self._ratings[key] = Rating()
                rating.add(what, number)

    def of(self, channel: str, carrier: str = "", category: int = -1) -> Rating:
        """Return a rating; carrier '' is all carriers, category -1 all categories."""
        return self._ratings.get((channel, carrier, category)) or Rating()

    def carriers(self, channels: Iterable[str], category: int) -> set[str]:
        """Return the carriers to which these channels sent messages of a category ('' is not among them)."""
        wanted = set(channels)
        return {carrier for channel, carrier, c in self._ratings if channel in wanted and c == category and carrier}

    def delay_p95_s(self, channel: str) -> float | None:
        """Return within how many seconds 95 % of a channel's receipts come, None where too few are known."""
        rating = self._delays.get(channel)
        return rating.delay_s(0.95) if rating is not None else None
