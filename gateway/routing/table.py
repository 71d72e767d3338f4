"""The compiled routes: each with its ranks of channels, its lanes, and seen from a channel, what it serves.

Where channels of a route list the signatures they may carry, the route is cut into lanes: a lane is a route of its own
for those signatures that the same channels carry, so a queue holds only what each of its channels may send, and the
choice among them is still made late. Owns the shape that intake, dispatch and checks share; finding the route of a
message is `router`'s. Refuses to know which channel is up. Pure; takes settings that were checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from gateway.model import LANE_MARK, route_name
from gateway.settings.values import ChannelSettings, RankedChannel, RouteMatch, RouteSettings
from gateway.signature import ANY


@dataclass(frozen=True, slots=True)
class Route:
    """One rule, or one lane of it, and its channels by rank. Compared and hashed by id, which is unique."""

    id: str
    match: RouteMatch
    channels: tuple[RankedChannel, ...]  # by rank, then as in the file
    ranks: tuple[int, ...]  # ascending
    alphabet: str  # for `text.plan`: what data_coding 0 means on its channels
    reference_bits: int  # for `text.plan`
    order: str = "weight"  # how channels of one rank share: weight | cost | quality

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Route) and other.id == self.id

    @property
    def name(self) -> str:
        """The configured id, also of a lane."""
        return route_name(self.id)

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


@dataclass(slots=True)
class _Lanes:
    """One route's lanes by signature; `other` is for those that no channel names, `unsigned` for texts without."""

    named: dict[str, Route | None] = field(default_factory=dict)
    other: Route | None = None
    unsigned: Route | None = None


class RouteTable:
    """All routes of one configuration, in file order."""

    def __init__(self, routes: Iterable[RouteSettings], channels: Iterable[ChannelSettings] = ()) -> None:
        known = {channel.id: channel for channel in channels}
        self.routes: dict[str, Route] = {route.id: _compile(route, known) for route in routes}
        """The configured routes, as they are matched."""
        self.lanes: dict[str, Route] = {}
        """What there are queues for: the lanes of a route that is cut into them, every other route itself."""
        self._cut: dict[str, _Lanes] = {}
        for route in self.routes.values():
            names = {
                ranked.id: frozenset(entry.name for entry in known[ranked.id].signatures)
                for ranked in route.channels
                if ranked.id in known and known[ranked.id].signatures
            }
            if names:
                self._cut[route.id] = _cut(route, names, self.lanes)
            else:
                self.lanes[route.id] = route
        serves: dict[str, list[Serves]] = {name: [] for name in known}
        for route in self.lanes.values():
            for ranked in route.channels:
                serves.setdefault(ranked.id, []).append(Serves(route.id, ranked.rank, ranked.weight))
        self.by_channel: dict[str, tuple[Serves, ...]] = {
            name: tuple(sorted(served, key=lambda one: one.rank)) for name, served in serves.items()
        }
        """For each channel what it serves, the routes it is primary for first; () for an unused channel."""

    @property
    def by_signature(self) -> bool:
        """Whether any route is cut into lanes; without one `lane` need not be asked."""
        return bool(self._cut)

    def is_cut(self, route: Route) -> bool:
        """Tell whether the signature decides who may carry a message of this configured route."""
        return route.id in self._cut

    def lane(self, route: Route, signature: str) -> Route | None:
        """Return the lane of a configured route for a signature ('': none in the text), None: no channel carries it."""
        lanes = self._cut.get(route.id)
        if lanes is None:
            return route
        if not signature:
            return lanes.unsigned
        return lanes.named.get(signature, lanes.other)

    def get(self, route: str) -> Route | None:
        """Return a route or lane by the id its queues have, None when it left the configuration."""
        return self.lanes.get(route)

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
        order=route.order,
    )


def _cut(route: Route, names: dict[str, frozenset[str]], lanes: dict[str, Route]) -> _Lanes:
    """Cut a route into lanes, which are added to `lanes`; `names` has the list of each channel that has one."""
    cut = _Lanes()
    signatures = sorted(frozenset().union(*names.values()) - {ANY})
    groups: dict[tuple[str, ...], list[str]] = {}
    for signature in (*signatures, ANY, ""):
        carriers = tuple(
            sorted(
                ranked.id
                for ranked in route.channels
                if ranked.id not in names or (signature and names[ranked.id] & {signature, ANY})
            )
        )
        groups.setdefault(carriers, []).append(signature)
    for carriers, group in sorted(groups.items()):
        lane = _lane(route, carriers, group, lanes) if carriers else None
        if lane is not None:
            lanes[lane.id] = lane
        for signature in group:
            if signature == ANY:
                cut.other = lane
            elif signature:
                cut.named[signature] = lane
            else:
                cut.unsigned = lane
    return cut


def _lane(route: Route, carriers: tuple[str, ...], group: list[str], taken: dict[str, Route]) -> Route:
    """Return the lane of a route for a group of signatures and the channels that carry all of them.

    Its id stands for both: when a registration changes, the lane's name does, and what waits under the old name is
    asked for its way anew (`dispatch.rerouter`) instead of going to a channel that may not carry it any more.
    """
    told = "\0".join((*carriers, "", *group)).encode()
    number = crc32(told)
    while (lane := f"{route.id}{LANE_MARK}{number:08x}") in taken:
        number = crc32(told, number)
    channels = tuple(ranked for ranked in route.channels if ranked.id in carriers)
    # Messages enter at rank 0, so the first channels that are left are the primary.
    ranks = {rank: place for place, rank in enumerate(sorted({ranked.rank for ranked in channels}))}
    return Route(
        id=lane,
        match=route.match,
        channels=tuple(RankedChannel(ranked.id, ranks[ranked.rank], ranked.weight) for ranked in channels),
        ranks=tuple(ranks.values()),
        alphabet=route.alphabet,
        reference_bits=route.reference_bits,
        order=route.order,
    )
