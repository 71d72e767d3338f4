"""Serves applications: HTTP in, accepted messages into the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from gateway.api.server import ApiServer
from gateway.dlr.ported import Follower
from gateway.errors import StoreUnavailable
from gateway.intake import Intake
from gateway.policy.policy import Policy, load_policy
from gateway.routing.loader import build_router
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.key_uses import KeyUses
from gateway.store.limits import AccountLimiter
from gateway.store.templates import TemplateStore
from gateway.templates.load import load_templates
from gateway.templates.registry import OfFile, Templates, compile_all
from gateway.worker import Worker

DRAIN_S: Final = 10.0
USES_EVERY_S: Final = 60.0
"""How often the keys that were used are noted: one write a key and minute, whatever the traffic."""


async def run(worker: Worker) -> None:
    """Run until told to stop."""
    settings = worker.settings
    async with worker.running():
        # 1. Intake: routes, number segments, rules, the store (which is not ready yet).
        store = await worker.store()
        router = build_router(settings)
        templates = Templates(load_templates(settings), TemplateStore(store), worker.metrics)
        limiter, policy = AccountLimiter(store), load_policy(settings)
        intake = Intake(settings, router, store, limiter, worker.metrics, templates, policy)
        # 2. The listener before the store answers: until then a post gets its 503, not silence.
        server = ApiServer(settings, intake, store, worker.metrics)
        await server.start(worker.listener(settings.api.host, settings.api.port))
        worker.on_drain = server.refuse_new

        async def prepare(new: Settings) -> Callable[[], None]:
            routes, rules, of_file = await asyncio.to_thread(_read, new, router)
            fresh = Intake(new, routes, store, limiter, worker.metrics, templates, rules)

            def swap() -> None:
                store.configure(new)
                templates.use(of_file)
                follower.use(new, routes)
                server.use(new, fresh)

            return swap

        try:
            # 3. The store, and the watch over its promise.
            await worker.connect(store)
            follower = Follower(settings, router, store, worker.metrics)
            await follower.refresh()
            worker.beside(follower.run(), name="ported numbers")
            await templates.refresh()
            worker.beside(templates.run(), name="templates")
            worker.beside(_note_uses(server, KeyUses(store)), name="uses of keys")
            worker.follow_config(store, prepare)
            worker.ready()
            # 4. Until told to drain: new posts are refused, running ones end.
            await worker.told_to_stop()
            await server.drain(worker.drain_limit_s(DRAIN_S))
        finally:
            # 5. Connections last: each has had its answer.
            await server.stop()


async def _note_uses(server: ApiServer, uses: KeyUses) -> None:
    used: dict[str, dict[str, str]] = {}
    while True:
        for account, found in server.take_used_keys().items():
            used.setdefault(account, {}).update(found)
        pause_s = 1.0  # the first ones soon: whoever tries a new key looks for it at once
        if used:
            with contextlib.suppress(StoreUnavailable):  # else they are noted once it answers
                await uses.note(used)
                used, pause_s = {}, USES_EVERY_S
        await asyncio.sleep(pause_s)


def _read(settings: Settings, before: Router) -> tuple[Router, Policy, OfFile]:
    return build_router(settings, before), load_policy(settings), compile_all(load_templates(settings))
