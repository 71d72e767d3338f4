"""The store as the other layers see it: accept, claim, settle, receipts, timers, leases; each an atomic move in Lua.

Made of parts by concern, a file each. Knows no HTTP and no SMPP. Every call can be repeated without doing its work
twice; what that costs is said in each script.
"""

from __future__ import annotations

from typing import Self

from gateway.settings import Settings
from gateway.store.accepting import Accepting
from gateway.store.channels import Channels
from gateway.store.claims import Claims
from gateway.store.clocks import Clocks
from gateway.store.ported import PortedFacts
from gateway.store.queries import Queries
from gateway.store.receipts import Receipts


class Store(Accepting, Queries, Claims, Receipts, PortedFacts, Clocks, Channels):
    """All moves on the messages of a gateway. One instance a process."""

    @classmethod
    async def open(cls, settings: Settings, url: str, *, incarnation: str = "--------") -> Self:
        """Connect, check the layout in `gw:meta` and return a store that is ready to use.

        Raises:
            StoreUnavailable: no server answers there.
            ConfigError: the data there was written for another number of shards or another layout.
        """
        store = cls(settings, url, incarnation=incarnation)
        try:
            await store.check_layout()
        except BaseException:
            await store.close()
            raise
        store._problems = []
        return store
