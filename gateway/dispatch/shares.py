"""What each channel of a rank gets of its traffic: by weight, by price, or by how well it delivers.

Pure: configured weights, prices and ratings in, shares out. A share by quality moves slowly (`step`), begins to move
only where the difference is worth it and then goes all the way (hysteresis), and never ends: the least share keeps
measuring a channel that did badly. Refuses to know queues and who is up; `sources` writes shares into claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.dispatch.ratings import Rating, Ratings
from gateway.model import Category
from gateway.routing.table import RouteTable
from gateway.settings import QualitySettings

_PATIENCE_S = (30.0, 300.0, 3600.0)
"""By category, the median receipt delay that costs a channel half of its score."""
_SHARPNESS = 4
"""Shares follow the score to this power: 95 against 80 % delivered becomes two to one."""
_ARRIVED = 0.01
"""A share that is so near its target has arrived."""

Key = tuple[str, int, int, str]
"""Route (or lane), rank, category, carrier ('' for all that have no shares of their own)."""


@dataclass(slots=True)
class Shared:
    """How the channels of one rank share one kind of message now, and why."""

    shares: dict[str, float]
    moving: bool = False
    why: str = ""
    inputs: dict[str, dict[str, float]] = field(default_factory=dict)


def score(rating: Rating, category: int, conversion: float) -> float:
    """Return how well a channel does, 0 to 2: delivery ratio, made less by slow receipts, moved by its conversion.

    `conversion` is the channel's rate of clicks and conversions to that of all channels together, 1.0 where unknown.
    """
    delay = rating.delay_s(0.5)
    patience = _PATIENCE_S[category]
    return rating.ratio * patience / (patience + (delay or 0.0)) * min(2.0, max(0.5, conversion))


def targets(weights: Mapping[str, int], ratings: Mapping[str, Rating], category: int, least: float) -> dict[str, float]:
    """Return the shares that the ratings ask for; they add up to 1 and none is below `least`."""
    rates = {c: (r.clicked + r.converted - r.complained) / r.delivered for c, r in ratings.items() if r.delivered}
    told = sum(r.clicked + r.converted + r.complained for r in ratings.values())
    delivered = sum(r.delivered for r in ratings.values())
    mean = sum(rates[c] * ratings[c].delivered for c in rates) / delivered if delivered else 0.0
    known = told >= 20 and mean > 0  # fewer say nothing
    wanted = {
        c: weights[c] * score(r, category, rates.get(c, mean) / mean if known else 1.0) ** _SHARPNESS
        for c, r in ratings.items()
    }
    total = sum(wanted.values())
    if total <= 0:
        return even(weights)
    least = min(least, 1 / len(wanted))
    raised = {c: max(least, w / total) for c, w in wanted.items()}
    over = sum(raised.values()) - 1  # taken from those that can spare it, in proportion
    spare = sum(w - least for w in raised.values())
    return {c: w - over * (w - least) / spare if spare > 0 else w for c, w in raised.items()}


def even(weights: Mapping[str, int]) -> dict[str, float]:
    """Return the shares that the configured weights ask for."""
    total = sum(weights.values())
    return {channel: weight / total for channel, weight in weights.items()}


def moved(now: Shared, target: Mapping[str, float], rules: QualitySettings) -> Shared:
    """Return the shares after one step towards the target; they stay where the difference is not worth a move."""
    gap = max(abs(target[c] - now.shares[c]) for c in target)
    if not now.moving and gap < rules.threshold:
        return Shared(dict(now.shares), False, f"within {rules.threshold:.0%} of what the ratings ask for")
    if gap <= _ARRIVED:
        return Shared(dict(target), False, "what the ratings ask for")
    step = min(1.0, rules.step / gap)  # all move by the same part of their way, so that they still add up to 1
    shares = {c: now.shares[c] + (target[c] - now.shares[c]) * step for c in target}
    return Shared(shares, True, "moving to what the ratings ask for")


def next_shares(
    table: RouteTable, ratings: Ratings, rules: QualitySettings, before: Mapping[Key, Shared]
) -> dict[Key, Shared]:
    """Return the shares of all routes that are ordered by quality, one step after those of `before`."""
    found: dict[Key, Shared] = {}
    for lane in table.lanes.values():
        if lane.order != "quality":
            continue
        for rank in lane.ranks:
            weights = {c.id: c.weight for c in lane.at_rank(rank)}
            if len(weights) < 2:
                continue
            for category in Category:
                for carrier in ("", *sorted(ratings.carriers(weights, category))):
                    key = (lane.id, rank, int(category), carrier)
                    shared = _next(weights, ratings, rules, before.get(key), key)
                    if shared is not None:
                        found[key] = shared
    return found


def _next(
    weights: dict[str, int], ratings: Ratings, rules: QualitySettings, before: Shared | None, key: Key
) -> Shared | None:
    _, _, category, carrier = key
    if before is None or before.shares.keys() != weights.keys():
        before = Shared(even(weights))
    rated = {c: ratings.of(c, carrier, category) for c in weights}
    few = [c for c, r in rated.items() if r.judged < rules.min_sample]
    if not few:
        after = moved(before, targets(weights, rated, category, rules.least_share), rules)
    elif carrier:
        return None  # too few to tell for this carrier alone: it goes as all do
    else:
        after = moved(before, even(weights), rules)
        after.why = f"fewer than {rules.min_sample} rated messages on {', '.join(sorted(few))}: by weight"
    after.inputs = {c: inputs_of(r) for c, r in rated.items()}
    return after


def inputs_of(rating: Rating) -> dict[str, float]:
    """Return what a rating is made of, for people."""
    delay = rating.delay_s(0.5)
    return {
        "rated": rating.judged,
        "delivered_ratio": round(rating.ratio, 4),
        "receipt_share": round(rating.receipt_share, 4),
        **({"median_delay_s": delay} if delay is not None else {}),
        "clicked": rating.clicked,
        "converted": rating.converted,
        "complained": rating.complained,
    }
