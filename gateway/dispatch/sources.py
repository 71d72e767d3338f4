"""Which queues a channel may take from now: the late choice of the carrier, decided from who is available.

Pure: given the routes and the set of channels that can submit, the answer follows. A channel of rank k serves its own
rank; an earlier rank when nobody there is available (or its head waited longer than the category's overflow time); and
a later rank when nobody there or behind it is.
"""

from __future__ import annotations

from gateway.model import Category
from gateway.routing.table import Route, RouteTable
from gateway.settings import CategorySettings
from gateway.store.moves import ClaimSource

_AT_ONCE = (0, 0, 0)


class SourceTable:
    """The claim sources of every channel, worked out anew only when availability changes."""

    def __init__(self, table: RouteTable, categories: dict[Category, CategorySettings]) -> None:
        self._table = table
        overflow = [categories[c].overflow_after_ms for c in Category]
        self._overflow = (overflow[0] or -1, overflow[1] or -1, overflow[2] or -1)
        self._available: frozenset[str] | None = None
        self._known: dict[str, list[ClaimSource]] = {}

    def of(self, channel: str, available: frozenset[str]) -> list[ClaimSource]:
        """Return where `channel` may take from while `available` channels can submit (itself among them)."""
        if available != self._available:
            self._available = available
            self._known = {}
        sources = self._known.get(channel)
        if sources is None:
            sources = self._known[channel] = [
                source
                for serves in self._table.serving(channel)
                for source in self._of_route(self._table.routes[serves.route], serves.rank, available)
            ]
        return sources

    def _of_route(self, route: Route, own: int, available: frozenset[str]) -> list[ClaimSource]:
        ranks_up = {ranked.rank for ranked in route.channels if ranked.id in available}
        found = []
        for rank in route.ranks:
            if rank == own:
                found.append(ClaimSource(route.id, rank, _AT_ONCE))
            elif rank < own:
                between = any(rank <= up < own for up in ranks_up)
                wait = self._overflow if between else _AT_ONCE
                if wait != (-1, -1, -1):
                    found.append(ClaimSource(route.id, rank, wait))
            elif not any(up > own for up in ranks_up):
                # Nobody at this later rank or behind it, and nobody between who would be nearer.
                found.append(ClaimSource(route.id, rank, _AT_ONCE))
        return found
