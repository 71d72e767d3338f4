"""The admin listener on a free port, over a real store, without the processes around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from aiohttp.web import RouteDef

from gateway.admin.door import Door
from gateway.admin.server import AdminServer
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.metrics import GaugeReading, MetricsHub
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from gateway.worker import address_of, bind_listener


@contextlib.asynccontextmanager
async def admin_listener(
    settings: Settings,
    store: Store,
    folder: Path,
    router: Router | None = None,
    more: Iterable[RouteDef] = (),
    door: Door | None = None,
) -> AsyncIterator[str]:
    """Serve for a block; gives `host:port`. Always ready, with no gauges of its own; `more` as for `AdminServer`."""

    async def ready() -> list[str]:
        return []

    async def readings() -> list[GaugeReading]:
        return []

    more = list(more)
    if all(route.path != "/admin/v1/webhooks" for route in more):
        more += WebhookRoutes(settings, Outbox(store)).routes()
    server = AdminServer(settings, MetricsHub(folder), store, ready, readings, router, more, Audit(store), door)
    listener = bind_listener("admin", "127.0.0.1", 0)
    await server.start(listener)
    try:
        yield address_of(listener)
    finally:
        await server.stop()
