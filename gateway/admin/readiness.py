"""Why this machine must not be sent work now: the drain, the store, workers that are missing.

Owns the list of reasons behind `/readyz`. Refuses to judge the store's settings: the periodic check did, and
`Store.ready` tells. Asks the store once a request, so that a dead one shows at once and not at the next check.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import StoreUnavailable
from gateway.metrics import MetricsHub
from gateway.store.store import Store

ANSWER_S = 1.0


class Readiness:
    """The reasons of one machine. `supervised`: the api and dispatch workers of this machine are expected too."""

    def __init__(self, store: Store, hub: MetricsHub, *, draining: Callable[[], bool], supervised: bool) -> None:
        self._store = store
        self._hub = hub
        self._draining = draining
        self._supervised = supervised

    async def reasons(self) -> list[str]:
        """Return every reason; empty: ready."""
        reasons = ["draining"] if self._draining() else []
        reasons += [f"store: {problem}" for problem in self._store.ready()]
        try:
            await self._store.client.execute("PING", timeout_s=ANSWER_S)
        except StoreUnavailable:
            reasons.append("store: does not answer")
        if self._supervised:
            up = self._hub.ready_workers()
            reasons += [f"no {role} worker is ready" for role in ("api", "dispatch") if role not in up]
        return reasons
