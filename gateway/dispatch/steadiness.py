"""Which channels have just come back, and so do not get their traffic back yet.

A channel whose sessions come and go would move its traffic with each of them; one that lost all of them is trusted
again when it has been up for a while. Pure: sets of channels and a clock that is handed in. Judges nothing else: what a
channel answers is the breaker's, and what an unsteady one may still do (where nobody else can) is `sources`'.
"""

from __future__ import annotations


class Steadiness:
    """What one worker has seen of all channels' sessions, its own and those of others by their leases."""

    def __init__(self, return_after_s: float) -> None:
        self.return_after_s = return_after_s
        self._bound: frozenset[str] = frozenset()
        self._returned_at: dict[str, float] = {}  # channels that were lost once, by when they were bound again
        self._lost: set[str] = set()

    def unsteady(self, bound: frozenset[str], now: float) -> frozenset[str]:
        """Return the channels among `bound` (those with a session anywhere) that came back less than the time ago."""
        if bound != self._bound:
            self._lost |= self._bound - bound
            for channel in self._lost & bound:
                self._returned_at[channel] = now
            self._lost -= bound
            self._bound = bound
        if not self._returned_at:
            return frozenset()
        for channel, at in list(self._returned_at.items()):
            if now - at >= self.return_after_s:
                del self._returned_at[channel]
        return bound & self._returned_at.keys()
