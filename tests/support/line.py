"""A whole line without HTTP: real store, real dispatcher and recorder, simulated carriers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from gateway.dispatch.dispatcher import Dispatcher
from gateway.dlr.reasons import FailureReasons, FailureTable, load_table
from gateway.dlr.receipt import submit_key
from gateway.dlr.recorder import Recorder
from gateway.metrics import Metrics
from gateway.model import Category, Secret
from gateway.policy.optout import load_optout_words
from gateway.policy.send_window import SendWindows
from gateway.routing.router import Router
from gateway.routing.table import RouteTable
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc
from gateway.store.store import Store
from tests.support.gateway import free_port
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def smsc(**options: Any) -> Smsc:
    """Return a carrier that answers at once and sends receipts soon, unless told otherwise."""
    # A port that is still its own when it listens again after it was away.
    values: dict[str, Any] = {"port": free_port(), "receipt_delay_s": 0.01, "latency_s": 0.0, "by_number": False}
    values.update(options)
    return Smsc(SimulatorOptions(**values))


def channel_to(carrier: Smsc, name: str, **changes: Any) -> ChannelSettings:
    """Return the settings of a channel to a started carrier."""
    return replace(
        ChannelSettings(
            id=name,
            host="127.0.0.1",
            port=carrier.port,
            system_id="acme",
            password=Secret("secret"),
            window=50,
            response_timer_s=5.0,
        ),
        **changes,
    )


def line_settings(
    channels: list[ChannelSettings],
    *,
    shards: int = 1,
    categories: dict[Category, dict[str, Any]] | None = None,
    ranks: tuple[int, ...] = (),
) -> Settings:
    """One route `r` over the channels, the first of rank 0, the next of rank 1 and so on, unless `ranks` says else.

    A channel that was lost gets its traffic back as soon as it is bound again: no test waits half a minute for that.
    """
    base = Settings(config_dir=Path("config"))
    rules = {c: replace(s, **(categories or {}).get(c, {})) for c, s in base.categories.items()}
    route = RouteSettings(
        "r",
        RouteMatch(country="CN"),
        tuple(RankedChannel(c.id, ranks[i] if ranks else i) for i, c in enumerate(channels)),
    )
    return replace(
        base,
        store=replace(base.store, shards=shards),
        dispatch=replace(base.dispatch, return_after_s=0.0),
        channels=tuple(channels),
        routes=(route,),
        categories=rules,
    )


@cache
def _failure_table() -> FailureTable:
    return load_table(Path("config/failure_codes.csv"))


class Worker:
    """One dispatch worker inside the test's own process."""

    def __init__(self, settings: Settings, store: Store, *, router: Router | None = None) -> None:
        self.store = store
        self.metrics = Metrics("dispatch", store.incarnation, store.incarnation)
        self.lost = False
        reasons = FailureReasons(_failure_table(), settings.channels)
        self.recorder = Recorder(settings, store, self.metrics, reasons=reasons)
        self.dispatcher = Dispatcher(
            settings,
            store,
            self.metrics,
            on_inbound=self.recorder.receive,
            on_parked=self.recorder.apply_parked,
            submit_key=submit_key,
            on_lost=self._on_lost,
            router=router,
        )
        self._recording: asyncio.Task[None] | None = None

    def _on_lost(self) -> None:
        self.lost = True

    async def start(self, *, bound: bool = True) -> None:
        self._recording = asyncio.create_task(self.recorder.run())
        await self.dispatcher.start()
        if bound:
            await until(lambda: all(c.up for c in self.dispatcher.channels.values() if c.slots))

    def use(self, settings: Settings) -> None:
        """Take other settings into use as a reload does."""
        self.store.configure(settings)
        words = load_optout_words(settings.optout_words_file)
        self.recorder.use(settings, FailureReasons(_failure_table(), settings.channels), words)
        router = Router(RouteTable(settings.routes, settings.channels))
        self.dispatcher.use(settings, router, SendWindows())

    async def stop(self, *, drain_s: float = 2.0) -> None:
        await self.dispatcher.drain(drain_s)
        await self.dispatcher.stop()
        self.recorder.stop()
        if self._recording is not None:
            await self._recording


@contextlib.asynccontextmanager
async def worker(
    settings: Settings, valkey: ValkeyServer, name: str = "worker01", *, drain_s: float = 2.0, **kwargs: Any
) -> AsyncIterator[Worker]:
    """Run one worker on its own store client; at the end it waits `drain_s` for what is in flight."""
    store = await Store.open(settings, valkey.url, incarnation=name)
    w = Worker(settings, store)
    try:
        await w.start(**kwargs)
        yield w
    finally:
        await w.stop(drain_s=drain_s)
        await store.close()


async def states(store: Store, sids: list[bytes]) -> dict[str, int]:
    """Count the messages by state."""
    counted: dict[str, int] = {}
    for sid in sids:
        record = await store.get(sid)
        assert record is not None, "an accepted message has no record"
        counted[record.state] = counted.get(record.state, 0) + 1
    return counted
