"""Observes and steers: health, metrics, what operators ask and order; the statistics of the store are folded here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.admin.config_v1 import ConfigApi
from gateway.admin.events_v1 import EventStreams
from gateway.admin.gate_sweeper import GateSweeper
from gateway.admin.live import Live
from gateway.admin.readiness import Readiness
from gateway.admin.server import AdminServer
from gateway.admin.steering import endpoints, live_endpoints
from gateway.admin.store_gauges import StoreGauges
from gateway.console.door import Console
from gateway.console.parts import Parts
from gateway.metrics import MetricsHub, snapshot_dir
from gateway.routing.loader import build_router
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.statistics import Folder, Statistics
from gateway.store.templates import TemplateStore
from gateway.templates.load import load_templates
from gateway.templates.registry import OfFile, Templates, compile_all
from gateway.worker import Worker


async def run(worker: Worker) -> None:
    """Run until told to stop."""
    settings = worker.settings
    async with worker.running():
        # 1. The listener first: while the store loads, `/livez` answers and `/readyz` says why not.
        store = await worker.store()
        hub = MetricsHub(snapshot_dir(worker.data_dir), own=worker.metrics)
        readiness = Readiness(store, hub, draining=lambda: worker.draining, supervised=worker.launch.supervised)
        router = build_router(settings)
        templates = Templates(load_templates(settings), TemplateStore(store), worker.metrics, hold_s=0.0)
        audit = Audit(store)
        worker.keeper(store)
        assert worker.publisher is not None  # an admin worker proposes its machine's files
        config = ConfigApi(worker.publisher)
        live = Live(settings, store, hub, readiness.reasons, config.look, machine=worker.publisher.keeper.machine)
        streams = EventStreams(live)
        shown = live_endpoints(live, streams, store, audit)

        parts = Parts.over(store, audit, worker.data_dir)

        def desk(now: Settings, routes: Router) -> AdminServer:
            more = [*endpoints(now, store, routes, templates, audit, config, worker.metrics), *shown]
            gauges = StoreGauges(now, store)
            door = Console(now.console, parts) if now.console.enabled else None
            return AdminServer(now, hub, store, readiness.reasons, gauges.read, routes, more, audit, door, live)

        async def prepare(new: Settings) -> Callable[[], None]:
            routes, of_file = await asyncio.to_thread(_read, new, router)
            successor = desk(new, routes)
            await successor.prepared()

            def swap() -> None:
                store.configure(new)
                templates.use(of_file)
                live.use(new)
                streams.end("reload")
                server.hand_over(successor)

            return swap

        server = desk(settings, router)
        await server.start(worker.listener(settings.admin.host, settings.admin.port))
        try:
            # 2. The store.
            await worker.connect(store)
            # Before we are ready: whoever shows the token on a terminal waits for that.
            if settings.console.enabled and not await parts.token.at_start():
                worker.beside(parts.token.later(), name="console: set-up token")
            worker.beside(Folder(Statistics(store), worker.metrics).run(), name="statistics")
            worker.beside(GateSweeper(store, audit, worker.metrics).run(), name="gates")
            worker.beside(live.run(), name="console figures")
            worker.follow_config(store, prepare)
            worker.ready()
            # 3. Until told to stop; it is the last of the workers to go.
            await worker.told_to_stop()
        finally:
            streams.end("stopping")
            await parts.sessions.close()
            await server.stop()


def _read(settings: Settings, before: Router) -> tuple[Router, OfFile]:
    return build_router(settings, before), compile_all(load_templates(settings))
