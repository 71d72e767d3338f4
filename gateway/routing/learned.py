"""What receipts taught about ported numbers, as a bounded copy in memory: "not this carrier", or "now with that one".

Owns how facts about one number add up and when they lapse. Refuses to know where they are kept (the store) and how a
carrier is chosen from them (`router`). Pure: time comes in from whoever brings the facts; a lookup is one dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple


class Fact(NamedTuple):
    """One thing a receipt said: the number is not (any more) with `left`, or is with `joined`; '' where not said."""

    left: str
    joined: str


class Knowledge(NamedTuple):
    """All that holds about one number: carriers it is not with, the longest known first; the one it is with, or ''."""

    excluded: tuple[str, ...]
    carrier: str


FORGOTTEN = Fact("", "")
"""What was learned before holds no more, for the number or, as that of ALL_NUMBERS, for every one."""
ALL_NUMBERS = "*"
_FACTS = 1 << 16


class Learned:
    """The numbers learned, the latest `most` of them."""

    def __init__(self, ttl_s: float, most: int) -> None:
        self.ttl_s = ttl_s
        self.most = most
        self.evicted = 0
        self._horizon = 0  # entries up to here have lapsed; moved on by `forget`
        self._facts: list[Fact] = []
        self._place: dict[Fact, int] = {}
        # One integer a fact, time (ms) and kind together: 180 bytes a number instead of 300. A number that is taught
        # again goes to the end, so that the first ones lapse first.
        self._entries: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, rows: Iterable[tuple[str, Fact, int]], now_ms: int) -> None:
        """Take in facts: (E.164 digits, fact, epoch ms at which it was learned). Those known already change nothing."""
        horizon = now_ms - int(self.ttl_s * 1000)
        for msisdn, fact, at_ms in rows:
            if at_ms <= horizon:
                continue
            if fact == FORGOTTEN:
                self._forget_before(msisdn, at_ms)
                continue
            place = self._place_of(fact)
            entry = at_ms * _FACTS + place
            known = self._entries.get(msisdn, ())
            if entry in known:
                continue
            self._entries.pop(msisdn, None)
            kept = [one for one in known if one % _FACTS != place and one // _FACTS > horizon]
            self._entries[msisdn] = tuple(sorted([*kept, entry]))
        self.forget(now_ms)

    def forget(self, now_ms: int) -> None:
        """Drop what has lapsed, and the oldest above the bound."""
        horizon = self._horizon = (now_ms - int(self.ttl_s * 1000)) * _FACTS + _FACTS - 1
        lapsed = list(takewhile(lambda item: item[1][-1] <= horizon, self._entries.items()))
        for msisdn, _ in lapsed:
            del self._entries[msisdn]
        over = len(self._entries) - self.most
        for msisdn in [name for name, _ in zip(self._entries, range(over), strict=False)]:
            del self._entries[msisdn]
            self.evicted += 1

    def _forget_before(self, msisdn: str, at_ms: int) -> None:
        """Drop what was learned up to a time; it may be read again with what came since, which stays."""
        for name in list(self._entries) if msisdn == ALL_NUMBERS else [msisdn] if msisdn in self._entries else []:
            kept = tuple(one for one in self._entries[name] if one // _FACTS > at_ms)
            if kept:
                self._entries[name] = kept
            else:
                del self._entries[name]

    def get(self, msisdn: str) -> Knowledge | None:
        """Return what is known about a number (E.164 digits), None for nearly every one."""
        entry = self._entries.get(msisdn)
        if entry is None or entry[-1] <= self._horizon:
            return None
        return self._add_up(entry)

    def _add_up(self, entry: tuple[int, ...]) -> Knowledge:
        excluded: list[str] = []
        carrier = ""
        for one in entry:  # in the order of time
            if one <= self._horizon:
                continue
            left, joined = self._facts[one % _FACTS]
            if left:
                excluded = [name for name in excluded if name != left] + [left]
                carrier = "" if carrier == left else carrier
            if joined:
                excluded = [name for name in excluded if name != joined]
                carrier = joined
        return Knowledge(tuple(excluded), carrier)

    def _place_of(self, fact: Fact) -> int:
        place = self._place.get(fact)
        if place is None:
            place = self._place[fact] = len(self._facts)
            self._facts.append(fact)
        return place
