"""Sends: sessions to the carriers, claims, results, receipts, timers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.dispatch.dispatcher import Dispatcher
from gateway.dlr.deliveries import Deliveries
from gateway.dlr.ported import Follower, Teacher
from gateway.dlr.reasons import FailureReasons, load_reasons
from gateway.dlr.receipt import submit_key
from gateway.dlr.recorder import Recorder
from gateway.policy.optout import OptoutWords, load_optout_words
from gateway.policy.policy import load_policy
from gateway.policy.send_window import SendWindows
from gateway.routing.loader import build_codes, build_router
from gateway.routing.ported_codes import PortedCodes
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.templates import TemplateStore
from gateway.templates.load import load_templates
from gateway.templates.registry import OfFile, Templates, compile_all
from gateway.worker import Worker

DRAIN_S: Final = 20.0
"""The longest wait for answers at the end, whatever the response timers: 35 s must hold all of it."""
RECORD_LAST_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Tables:
    """What is read from files, each time the settings change."""

    router: Router
    codes: PortedCodes
    reasons: FailureReasons
    words: OptoutWords
    windows: SendWindows
    templates: OfFile

    @classmethod
    def read(cls, settings: Settings, before: Router | None = None) -> _Tables:
        return cls(
            build_router(settings, before),
            build_codes(settings),
            load_reasons(settings.failure_codes_file, settings.channels),
            load_optout_words(settings.optout_words_file),
            load_policy(settings).windows,
            compile_all(load_templates(settings)),
        )


async def run(worker: Worker) -> None:
    """Run until told to stop."""
    settings = worker.settings
    async with worker.running():
        # 1. The store: a worker without it has nothing to send.
        store = await worker.store()
        await worker.connect(store)
        tables = _Tables.read(settings)
        # 2. The recorder before the sessions: a receipt may be the first thing that comes.
        teacher = Teacher(settings, tables.codes, store, worker.metrics)
        recorder = Recorder(settings, store, worker.metrics, teacher, tables.reasons)
        store.on_outcome = recorder.notes.outcome
        store.on_delivery = Deliveries(worker.metrics).count
        worker.beside(recorder.notes.run(), name="receipt notes")
        recording = asyncio.create_task(recorder.run(), name="receipts")
        # 3. Sessions and claims.
        follower = Follower(settings, tables.router, store, worker.metrics)
        await follower.refresh()
        worker.beside(follower.run(), name="ported numbers")
        templates = Templates((), TemplateStore(store))
        templates.use(tables.templates)
        await templates.refresh()
        worker.beside(templates.run(), name="templates")
        dispatcher = Dispatcher(
            settings,
            store,
            worker.metrics,
            on_inbound=recorder.receive,
            on_parked=recorder.apply_parked,
            submit_key=submit_key,
            on_lost=worker.lost,
            router=tables.router,
            registered=templates.tlvs,
            windows=tables.windows,
            in_step=lambda: worker.keeper(store).in_step,
            debug=logging.getLogger("gateway.smpp").isEnabledFor(logging.DEBUG),
        )
        await dispatcher.start()

        async def prepare(new: Settings) -> Callable[[], None]:
            fresh = await asyncio.to_thread(_Tables.read, new, tables.router)

            def swap() -> None:
                store.configure(new)
                teacher.use(new, fresh.codes)
                recorder.use(new, fresh.reasons, fresh.words)
                templates.use(fresh.templates)
                follower.use(new, fresh.router)
                dispatcher.use(new, fresh.router, fresh.windows)

            return swap

        worker.follow_config(store, prepare)
        worker.ready()
        # 4. Until told to stop: no more claims, answers awaited and recorded, unbind, the rest released.
        await worker.told_to_stop()
        longest_s = max((c.response_timer_s for c in worker.settings.channels), default=0.0)
        await dispatcher.drain(worker.drain_limit_s(min(longest_s, DRAIN_S)))
        await dispatcher.stop()
        # 5. What came in before the unbind is recorded too.
        recorder.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(recording, RECORD_LAST_S)
