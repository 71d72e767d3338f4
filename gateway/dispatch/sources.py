"""Which queues a channel may take from now, and how it shares them: the late choice of the carrier.

Pure: given the routes, the set of channels that can submit and the shares in force, the answer follows. A channel of
rank k serves its own rank; an earlier rank when nobody there is available (or its head waited longer than the
category's overflow time); and a later rank when nobody there or behind it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.dispatch.shares import Key, Shared
from gateway.model import Category
from gateway.routing.table import Route, RouteTable
from gateway.settings import CategorySettings, ChannelSettings
from gateway.store.moves import ClaimSource

_AT_ONCE = (0, 0, 0)
_WHOLE = 1000
"""What shares by quality are parts of, as the claim takes them."""


class SourceTable:
    """The claim sources of every channel, worked out anew only when availability or shares change."""

    def __init__(
        self,
        table: RouteTable,
        categories: dict[Category, CategorySettings],
        channels: Iterable[ChannelSettings] = (),
    ) -> None:
        """`channels` for their prices, where a route is ordered by cost."""
        self._table = table
        self._prices = {channel.id: channel.price for channel in channels}
        self._shares: Mapping[Key, Shared] = {}
        overflow = [categories[c].overflow_after_ms for c in Category]
        self._overflow = (overflow[0] or -1, overflow[1] or -1, overflow[2] or -1)
        self._available: tuple[frozenset[str], frozenset[str]] | None = None
        self._known: dict[str, list[ClaimSource]] = {}

    def of(self, channel: str, available: frozenset[str], unsteady: frozenset[str] = frozenset()) -> list[ClaimSource]:
        """Return where `channel` may take from while `available` channels can submit (itself among them).

        Of these the `unsteady` ones have only just come back: on a route that has a steady one they count as away.
        """
        if (available, unsteady) != self._available:
            self._available = (available, unsteady)
            self._known = {}
        sources = self._known.get(channel)
        if sources is None:
            sources = self._known[channel] = [
                source
                for serves in self._table.serving(channel)
                for source in self._of_route(channel, self._table.lanes[serves.route], serves.rank, available, unsteady)
            ]
        return sources

    def share_by(self, shares: Mapping[Key, Shared]) -> None:
        """Take other shares into force (see `shares`)."""
        self._shares = shares
        self._known = {}

    def _of_route(
        self, channel: str, route: Route, own: int, available: frozenset[str], unsteady: frozenset[str]
    ) -> list[ClaimSource]:
        if unsteady and any(ranked.id in available and ranked.id not in unsteady for ranked in route.channels):
            if channel in unsteady:
                return []
            available = available - unsteady
        ranks_up = {ranked.rank for ranked in route.channels if ranked.id in available}
        share = self._share(channel, route, own, available)
        found = []
        for rank in route.ranks:
            if rank == own:
                found.append(ClaimSource(route.id, rank, _AT_ONCE, share))
            elif rank < own:
                between = any(rank <= up < own for up in ranks_up)
                wait = self._overflow if between else _AT_ONCE
                if wait != (-1, -1, -1):
                    found.append(ClaimSource(route.id, rank, wait, "" if between else share))
            elif not any(up > own for up in ranks_up):
                # Nobody at this later rank or behind it, and nobody between who would be nearer.
                found.append(ClaimSource(route.id, rank, _AT_ONCE, share))
        return found

    def _share(self, channel: str, route: Route, rank: int, available: frozenset[str]) -> str:
        """Return how a channel shares with the others of its rank that are up (see `lua/claim.lua`), '' when alone."""
        peers = [ranked for ranked in route.at_rank(rank) if ranked.id in available]
        if len(peers) < 2:
            return ""
        weights = {ranked.id: ranked.weight for ranked in peers}
        if route.order == "cost":
            prices = sorted({self._prices.get(name, 0.0) for name in weights})
            return f"{prices.index(self._prices.get(channel, 0.0))} {_thrice(weights[channel])}"
        if route.order != "quality":
            return f"0 {_thrice(weights[channel])}"
        own = round(_WHOLE * weights[channel] / sum(weights.values()))
        plain = [self._part(channel, (route.id, rank, int(c), ""), own) for c in Category]
        words = [f"0 {' '.join(str(part) for part in plain)}"]
        carriers = {key[3] for key in self._shares if key[:2] == (route.id, rank) and key[3]}
        for carrier in sorted(carriers):
            parts = [self._part(channel, (route.id, rank, int(c), carrier), plain[c]) for c in Category]
            words.append(f"{carrier}={','.join(str(part) for part in parts)}")
        return " ".join(words)

    def _part(self, channel: str, key: Key, otherwise: int) -> int:
        shared = self._shares.get(key)
        if shared is None or channel not in shared.shares:
            return otherwise
        return max(1, round(_WHOLE * shared.shares[channel]))


def _thrice(weight: int) -> str:
    return " ".join([str(weight)] * len(Category))
