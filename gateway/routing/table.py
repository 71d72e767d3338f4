"""The compiled routes: each with its ranks of channels, and seen from a channel, what it serves.

Owns the shape that intake, dispatch and checks share; finding the route of a message is `router`'s. Refuses
to know which channel is up: dispatch chooses among the ranks late. Pure; takes settings that were checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.settings.values import ChannelSettings, RankedChannel, RouteMatch, RouteSettings


@dataclass(frozen=True, slots=True)
class Route:
    """One rule and its channels by rank. Compared and hashed by id, which is unique."""

    id: str
    match: RouteMatch
    channels: tuple[RankedChannel, ...]  # by rank, then as in the file
    ranks: tuple[int, ...]  # ascending
    alphabet: str  # for `text.plan`: what data_coding 0 means on its channels
    reference_bits: int  # for `text.plan`

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Route) and other.id == self.id

    def at_rank(self, rank: int) -> tuple[RankedChannel, ...]:
        """Return the channels that share `rank`."""
        return tuple(channel for channel in self.channels if channel.rank == rank)

    def rank_of(self, channel: str) -> int | None:
        """Return the rank of a channel, None when it does not serve this route."""
        return next((ranked.rank for ranked in self.channels if ranked.id == channel), None)


class Serves(NamedTuple):
    """One route as a channel sees it."""

    route: str
    rank: int
    weight: int


class RouteTable:
    """All routes of one configuration, in file order."""

    def __init__(self, routes: Iterable[RouteSettings], channels: Iterable[ChannelSettings] = ()) -> None:
        known = {channel.id: channel for channel in channels}
        self.routes: dict[str, Route] = {route.id: _compile(route, known) for route in routes}
        serves: dict[str, list[Serves]] = {name: [] for name in known}
        for route in self.routes.values():
            for ranked in route.channels:
                serves.setdefault(ranked.id, []).append(Serves(route.id, ranked.rank, ranked.weight))
        self.by_channel: dict[str, tuple[Serves, ...]] = {
            name: tuple(sorted(served, key=lambda one: one.rank)) for name, served in serves.items()
        }
        """For each channel what it serves, the routes it is primary for first; () for an unused channel."""

    def get(self, route: str) -> Route | None:
        """Return a route by id, None when it left the configuration."""
        return self.routes.get(route)

    def serving(self, channel: str) -> tuple[Serves, ...]:
        """Return what a channel serves, by rank."""
        return self.by_channel.get(channel, ())


def _compile(route: RouteSettings, known: dict[str, ChannelSettings]) -> Route:
    listed = [known[ranked.id] for ranked in route.channels if ranked.id in known]
    alphabets = {channel.alphabet for channel in listed}
    bits = {channel.reference_bits for channel in listed}
    return Route(
        id=route.id,
        match=route.match,
        channels=tuple(sorted(route.channels, key=lambda ranked: ranked.rank)),
        ranks=tuple(sorted({ranked.rank for ranked in route.channels})),
        # Checked settings agree on both. If not: every alphabet has ASCII, and 16 bits leave less room.
        alphabet=alphabets.pop() if len(alphabets) == 1 else "ascii" if alphabets else "gsm",
        reference_bits=max(bits, default=8),
    )
