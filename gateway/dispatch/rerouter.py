"""Finds queues that no channel serves any more and sends their messages where the routes of today lead.

A route, a rank or a lane can leave the configuration while messages wait for it; nobody would ever claim them. A lane
does whenever a registration of its signatures changes. One elected worker asks the router anew for each, and the text
for its signature. Decides nothing itself: the router says the route, the store moves the message. What this worker has
never heard of may be newer than its settings, so it is left alone for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

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
UNKNOWN_FOR_S = 2.0
"""How long a queue stays that no settings of this worker ever had: it may be the last to hear of a route."""


class Rerouter:
    """The watch over stray queues of one worker; only the elected worker of a shard acts."""

    def __init__(
        self,
        store: Store,
        table: RouteTable,
        router: Router,
        *,
        known: set[tuple[str, int]] | None = None,
        in_step: Callable[[], bool] = lambda: True,
    ) -> None:
        """`known` gathers the lanes and ranks that this worker has ever served, over all its settings.

        `in_step` tells whether these settings are those in force: a worker that is behind must not judge by its own.
        """
        self._store = store
        self._table = table
        self._served = {(route.id, rank) for route in table.lanes.values() for rank in route.ranks}
        self._known = known if known is not None else set()
        self._known |= self._served
        self._in_step = in_step
        self._strange_since: dict[str, float] = {}  # rings that we never knew
        self._router = router

    async def look(self, shard: int) -> int:
        """Move what waits in stray queues of a shard; returns how many messages were moved or ended."""
        total = 0
        for ring in sorted(await self._store.rings(shard), key=_category):  # a code must not wait for a campaign's move
            route, rank, category = ring.rsplit(":", 2)
            if (route, int(rank)) in self._served or not self._may_judge(shard, ring, (route, int(rank))):
                continue
            moved = ended = 0
            while self._in_step():
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

    def _may_judge(self, shard: int, ring: str, lane: tuple[str, int]) -> bool:
        if not self._in_step():
            self._strange_since.clear()
            return False
        if lane in self._known:
            return True
        now = time.monotonic()
        return now - self._strange_since.setdefault(f"{shard} {ring}", now) >= UNKNOWN_FOR_S

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
