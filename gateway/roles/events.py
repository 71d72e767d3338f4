"""Tells applications: events from the outboxes to the accounts' webhooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.dlr.webhook import Webhooks
from gateway.settings import Settings
from gateway.worker import Worker

DRAIN_S: Final = 1.5
"""How long running calls may take at the end; what was cut off comes again under its id."""


async def run(worker: Worker) -> None:
    """Run until told to stop."""
    settings = worker.settings
    async with worker.running():
        # 1. The store; from now on its scripts write down what accounts want to hear of.
        store = await worker.store()
        await worker.connect(store)
        # 2. Accounts are leased, their events taken and delivered.
        webhooks = Webhooks(
            settings, store, worker.metrics, incarnation=worker.launch.incarnation, number=worker.launch.number
        )
        worker.beside(webhooks.run(), name="webhooks")

        async def prepare(new: Settings) -> Callable[[], None]:
            def swap() -> None:
                store.configure(new)
                webhooks.use(new)

            return swap

        worker.follow_config(store, prepare)
        worker.ready()
        # 3. Until told to stop: nothing more is taken, running calls end, the rest goes back in line.
        await worker.told_to_stop()
        await webhooks.stop(worker.drain_limit_s(DRAIN_S))
