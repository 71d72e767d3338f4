"""What a channel's receipts look like as a whole: the signs of receipts that somebody made up.

Owns the arithmetic: share delivered, quantiles and spread of the delay, share of receipts within a second. Refuses to
know where the counts come from (`notes`), and to judge: a shop's own handsets do answer within a second. Pure.

Invented receipts come too evenly or too fast, say delivered too often, and say it of numbers that nobody has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DOUBLINGS: Final = 19
"""Delays are counted by `t<n>`: up to 2^n seconds, n from 0 to 18 (three days)."""
_RECEIVED: Final = ("D", "U", "R", "E", "K")


@dataclass(frozen=True, slots=True)
class Signals:
    """The signs of one channel over a window."""

    messages: int
    """That ended by a receipt, or by none within dlr_wait_s."""
    delivered_ratio: float
    delay_p50_s: float
    delay_p90_s: float
    delay_std_s: float
    fast_share: float
    """Of the delivered messages, those within a second of the submit."""


def counted(state: str, reason: str) -> tuple[str, ...]:
    """Return what a final state adds one to; `reason` as statistics have it: `t<n>` where it was delivered."""
    if state not in _RECEIVED:
        return ()
    return (state, reason) if state == "D" and _doubling(reason) is not None else (state,)


def middle_s(reason: str) -> float | None:
    """Return the delay that a `t<n>` stands for, None for any other word."""
    n = _doubling(reason)
    return None if n is None else _middle(n)


def signals(counts: Mapping[str, int]) -> Signals:
    """Return the signs in a window's counts. Delays are known to their doubling, so figures are estimates within it."""
    messages = sum(counts.get(state, 0) for state in _RECEIVED)
    delays = [max(counts.get(f"t{n}", 0), 0) for n in range(DOUBLINGS)]
    known = sum(delays)
    if not known:
        return Signals(messages, counts.get("D", 0) / messages if messages else 0.0, 0.0, 0.0, 0.0, 0.0)
    mean = sum(n * _middle(i) for i, n in enumerate(delays)) / known
    variance = sum(n * (_middle(i) - mean) ** 2 for i, n in enumerate(delays)) / known
    return Signals(
        messages,
        counts.get("D", 0) / messages if messages else 0.0,
        _quantile(delays, known, 0.5),
        _quantile(delays, known, 0.9),
        math.sqrt(variance),
        delays[0] / known,
    )


def _quantile(delays: list[int], known: int, share: float) -> float:
    wanted, below = share * known, 0
    for n, count in enumerate(delays):
        if count and below + count >= wanted:
            low = _low(n)
            return low + (2.0**n - low) * (wanted - below) / count
        below += count
    return 2.0 ** (DOUBLINGS - 1)


def _low(n: int) -> float:
    return 2.0 ** (n - 1) if n else 0.0


def _middle(n: int) -> float:
    return (_low(n) + 2.0**n) / 2


def _doubling(word: str) -> int | None:
    if word[:1] != "t" or not word[1:].isdecimal() or not word.isascii():
        return None
    n = int(word[1:])
    return n if n < DOUBLINGS else None
