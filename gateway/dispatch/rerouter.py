"""Finds queues that no channel serves any more and sends their messages where the routes of today lead.

A route, a rank or a lane can leave the configuration while messages wait for it; nobody would ever claim them. A lane
does whenever a registration of its signatures changes. One elected worker asks the router anew for each, and the text
for its signature. Decides nothing itself: the router says the route, the store moves the message.
"""

from __future__ import annotations

import logging

from gateway.errors import RequestError
from gateway.model import route_name
from gateway.routing.msisdn import normalise
from gateway.routing.router import Router
from gateway.routing.table import RouteTable
from gateway.signature import signature_of
from gateway.store.records import Record
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_MOST = 100


class Rerouter:
    """The watch over stray queues of one worker; only the elected worker of a shard acts."""

    def __init__(self, store: Store, table: RouteTable, router: Router) -> None:
        self._store = store
        self._table = table
        self._served = {(route.id, rank) for route in table.lanes.values() for rank in route.ranks}
        self._router = router

    async def look(self, shard: int) -> int:
        """Move what waits in stray queues of a shard; returns how many messages were moved or ended."""
        total = 0
        for ring in sorted(await self._store.rings(shard), key=_category):  # a code must not wait for a campaign's move
            route, rank, category = ring.rsplit(":", 2)
            if (route, int(rank)) in self._served:
                continue
            moved = ended = 0
            while True:
                account, strays = await self._store.strays(shard, ring, _MOST)
                if not strays:
                    break
                routes = [(sid, self._route(record, int(category)) if record else "") for sid, record in strays]
                now_moved, now_ended = await self._store.reroute(shard, ring, account, routes)
                moved += now_moved
                ended += now_ended
            if moved or ended:
                logger.warning(
                    "route %s rank %s is gone: %d messages moved, %d without a route",
                    route_name(route),
                    rank,
                    moved,
                    ended,
                )
            total += moved + ended
        return total

    def _route(self, record: Record, category: int) -> str:
        try:
            number = normalise(f"+{record.msisdn}", "")
            decision = self._router.route(record.msisdn, number.country, category, record.account, record.sender)
        except RequestError:
            return ""
        lane = self._table.lane(decision.route, signature_of(record.text)) if decision is not None else None
        return lane.id if lane is not None else ""


def _category(ring: str) -> str:
    return ring.rsplit(":", 1)[1]
