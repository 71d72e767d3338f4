"""Number segments of one country: which carrier a block of numbers belongs to, and whether it takes messages.

Owns the longest-prefix search. Refuses to know files (see `loader`), routes, and ported numbers: a prefix
tells only the first carrier. Stands in intake between the normalised number and the route. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_MAX_REMEMBERED = 65_536


class Segment(NamedTuple):
    """One block. `carrier` '' means nobody's; `kind` is normal, mvno, data, iot, satellite, unassigned, …"""

    prefix: str  # national digits
    carrier: str
    kind: str
    sms_capable: bool


class NumberSegments:
    """The segments under one calling code."""

    def __init__(self, calling_code: str, segments: Iterable[Segment]) -> None:
        """`segments` have national prefixes, each once.

        Raises:
            ValueError: a prefix is not digits, or stands twice.
        """
        self.calling_code = calling_code
        self.segments = tuple(segments)
        by_length: dict[int, dict[str, Segment]] = {}
        for segment in self.segments:
            prefix = segment.prefix
            if not (prefix.isascii() and prefix.isdigit()):
                raise ValueError("a prefix is not digits")
            block = by_length.setdefault(len(calling_code) + len(prefix), {})
            if calling_code + prefix in block:
                raise ValueError(f"prefix {prefix} stands twice")
            block[calling_code + prefix] = segment
        self._by_length = sorted(by_length.items(), reverse=True)
        self._longest = self._by_length[0][0] if self._by_length else 0
        self._remembered: dict[str, Segment | None] = {}

    @property
    def carriers(self) -> frozenset[str]:
        """Every carrier named, for checking routes against."""
        return frozenset(segment.carrier for segment in self.segments if segment.carrier)

    def lookup(self, msisdn: str) -> Segment | None:
        """Return the segment with the longest prefix of `msisdn` (E.164 digits), None where there is none."""
        head = msisdn[: self._longest]  # all numbers of one head share the answer
        try:
            return self._remembered[head]
        except KeyError:
            return self._search(head)

    def _search(self, head: str) -> Segment | None:
        found = None
        for length, block in self._by_length:
            found = block.get(head[:length])
            if found is not None:
                break
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[head] = found
        return found
