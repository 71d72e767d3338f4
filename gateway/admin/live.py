"""The figures of the console, read by one sampler for everybody who looks: overview, channels, problems.

Owns the rhythm. Every five seconds this machine's counters give the history a point. While somebody looks (a stream, or
a question within the last seconds) everything is read anew: counters, channels and readiness every two seconds, queues,
webhooks and gates every four, statistics, configuration and replies every ten; what costs much is read less often.
Without anybody looking all of it is read twice a minute, so that a problem's beginning is known. Refuses to know HTTP
and streams; stands beside the endpoints, in the admin worker, for as long as it lives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from gateway import statistics
from gateway.admin.channels_view import channels_view
from gateway.admin.facts import Delivery, Facts, Queue
from gateway.admin.figures import NAMES, STEP_S, Reading
from gateway.admin.health import Reasons
from gateway.admin.overview_v1 import overview
from gateway.admin.problems import problems
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.errors import RequestError, StoreUnavailable
from gateway.metrics import MetricsHub
from gateway.model import route_name
from gateway.settings import Settings
from gateway.store.changes import Changes
from gateway.store.inbox import InboundStore
from gateway.store.outbox import Outbox
from gateway.store.statistics import Statistics
from gateway.store.store import Store

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
SOON_S: Final = 4.0
CALM_S: Final = 10.0
UNWATCHED_S: Final = 30.0
ASKED_S: Final = 10.0
"""So long after a question somebody counts as looking."""
READ_S: Final = 3.0
SHARE: Final = 50
"""What took t seconds to read is not read again for SHARE * t."""

_SOON: Final = ("queues", "webhooks", "gates")

ConfigLook = Callable[[], Awaitable[dict[str, Any]]]
"""Says which configuration is in force, who follows it, and what became of the last change."""
Heard = Callable[[dict[str, Any], dict[str, Any]], None]
"""Takes overview and channels after each look."""


class Live:
    """One machine's sampler. `use` other settings; ask `overview` and `channels`; `run` is its life."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        hub: MetricsHub,
        reasons: Reasons,
        config: ConfigLook,
        *,
        machine: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._hub = hub
        self._reasons = reasons
        self._config = config
        self._machine = machine
        self._clock = clock
        self._changes = Changes(store)
        self._inbound = InboundStore(store)
        self._statistics = Statistics(store)
        self._facts = Facts(settings, channels_known=False)
        self._one_at_a_time = asyncio.Lock()
        self._wake = asyncio.Event()
        self._due: dict[str, float] = {}
        self._looked_at = self._asked_at = float("-inf")
        self._outdated = False  # something was changed while a look was under way
        self._since: dict[str, int] = {}
        self._first = True
        self._seen: tuple[dict[str, Any], dict[str, Any]] | None = None
        self.on_look: Heard = lambda overview, channels: None
        self.watched: Callable[[], bool] = lambda: False
        """Whether a stream is open."""
        self.looks = 0
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Take other settings into use, from the next look on."""
        self._facts.settings = settings
        self._webhooks = WebhookRoutes(settings, Outbox(self._store))
        self._with_webhook = [a.id for a in settings.accounts if a.webhook is not None]
        self._due.clear()
        self._seen = None

    def look_soon(self) -> None:
        """Look at once: somebody begins to look, or changed something."""
        self._outdated = True
        self._look_anew()
        self._wake.set()

    def _look_anew(self) -> None:
        for name in _SOON:
            self._due.pop(name, None)
        self._looked_at = float("-inf")

    async def run(self) -> None:
        """Look and remember until cancelled."""
        while True:
            now = self._clock()
            self._wake.clear()  # before the turn: whoever wakes us during it has us look once more
            try:
                await self._turn(now)
            except Exception:  # the boundary of this task: without it the console would stand still
                log.exception("the console's figures cannot be read")
            pause_s = LOOK_S if self._is_watched(now) else STEP_S
            try:
                async with asyncio.timeout(max(0.05, pause_s - (self._clock() - now))):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _turn(self, now: float) -> None:
        watched = self._is_watched(now)
        if watched or now - self._looked_at >= UNWATCHED_S:
            found = await self._look()
            if watched:
                self.on_look(*found)
        else:
            async with self._one_at_a_time:
                await self._read_series()
                await self._tier("waiting", 0.0, self._read_waiting())
                self._take()

    def _is_watched(self, now: float) -> bool:
        return self.watched() or now - self._asked_at < ASKED_S

    async def overview(self) -> dict[str, Any]:
        """Return the overview, two seconds old at most."""
        return (await self.both())[0]

    async def channels(self) -> dict[str, Any]:
        """Return the channels, two seconds old at most."""
        return (await self.both())[1]

    async def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return overview and channels of one look, two seconds old at most."""
        now = self._clock()
        self._asked_at = now
        if self._seen is not None and now - self._looked_at < LOOK_S:
            return self._seen
        return await self._look()

    # --- reading

    async def _look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read what is due, and say what it means."""
        async with self._one_at_a_time:
            now = self._clock()
            if self._seen is not None and now - self._looked_at < LOOK_S / 2:
                return self._seen  # somebody else has just looked
            self._outdated = False
            await self._read_series()
            await asyncio.gather(
                self._tier("waiting", 0.0, self._read_waiting()),
                self._tier("channels", 0.0, self._read_channels()),
                self._tier("readiness", 0.0, self._read_reasons()),
                self._tier("queues", SOON_S, self._read_queues()),
                self._tier("webhooks", SOON_S, self._read_webhooks()),
                self._tier("gates", SOON_S, self._read_gates()),
                self._tier("statistics", CALM_S, self._read_delivery()),
                self._tier("config", CALM_S, self._read_config()),
                self._tier("inbound", CALM_S, self._read_review()),
            )
            self._take()
            self._looked_at = now
            if self._outdated:
                self._look_anew()  # what was changed meanwhile may have been read before
            self.looks += 1
            self._seen = (self._overview(), channels_view(self._facts))
            return self._seen

    async def _tier(self, name: str, every_s: float, read: Coroutine[Any, Any, None]) -> None:
        """Read one part, where it is due; what cannot be read stays as it was, and is said to be stale."""
        began = self._clock()
        if began < self._due.get(name, 0.0):
            read.close()
            return
        self._due[name] = began + every_s  # so soon again where it fails, however long it took: the store may be back
        try:
            async with asyncio.timeout(READ_S):
                await read
            if every_s:
                self._due[name] = began + max(every_s, SHARE * (self._clock() - began))
            self._facts.stale.discard(name)
        except (StoreUnavailable, TimeoutError, RequestError):
            self._facts.stale.add(name)
        except Exception:
            self._facts.stale.add(name)
            log.exception("the console's figures: %s cannot be read", name)

    async def _read_series(self) -> None:
        self._facts.series = await asyncio.to_thread(self._hub.read, NAMES)

    def _take(self) -> None:
        """Take the counters that were read into the figures."""
        facts, at_ms = self._facts, time.time_ns() // 1_000_000
        facts.figures.take(Reading.of(self._clock(), at_ms, facts.series, facts.queues.messages))

    async def _read_waiting(self) -> None:
        self._facts.queues.messages = await self._store.waiting()

    async def _read_channels(self) -> None:
        facts = self._facts
        facts.health = await self._store.health()
        facts.bound = await self._store.channels_bound()
        facts.sessions = await self._changes.sessions()
        facts.channels_known = True

    async def _read_reasons(self) -> None:
        self._facts.reasons = await self._reasons()

    async def _read_queues(self) -> None:
        found: dict[tuple[str, int, int], tuple[int, float]] = {}
        for route, rank, category, depth, age_s in await self._store.depths():
            place = (route_name(route), rank, category)  # the lanes of a route are shown as one
            others, oldest_s = found.get(place, (0, 0.0))
            found[place] = (others + depth, max(oldest_s, age_s))
        rows = [Queue(*place, *value) for place, value in found.items() if value[0]]
        rows.sort(key=lambda q: (q.category, -q.oldest_s, q.route, q.rank))
        self._facts.queues.rows, self._facts.queues.timed = rows, await self._store.timed()

    async def _read_webhooks(self) -> None:
        self._facts.webhooks = await self._webhooks.entries(self._with_webhook) if self._with_webhook else []

    async def _read_gates(self) -> None:
        gates = []
        for label, entry in sorted((await self._store.gates()).items()):
            kind, _, name = label.partition(":")
            gates.append({"kind": kind, "name": name, **entry})
        self._facts.gates = gates

    async def _read_delivery(self) -> None:
        now_s = time.time()
        # Statistics are kept by hours: half an hour at least, an hour and a half at most.
        from_s = now_s // 3600 * 3600 - (3600 if now_s % 3600 < 1800 else 0)
        asked = {"from": datetime.fromtimestamp(from_s, UTC).isoformat(), "by": "category,channel,route"}
        query = statistics.parse(asked, now_s=now_s)
        report = await statistics.collect(query, self._statistics)
        rows = (await asyncio.to_thread(report.answer))["rows"]
        self._facts.delivery = Delivery(int(from_s * 1000), int(now_s * 1000), rows)

    async def _read_config(self) -> None:
        self._facts.config = await self._config()

    async def _read_review(self) -> None:
        self._facts.review = await self._inbound.waiting_for_review()

    # --- saying

    def _overview(self) -> dict[str, Any]:
        facts = self._facts
        assert facts.figures.now is not None
        found = problems(facts)
        # Since when it is so, as far as this process has seen: of what was so when it began, nobody knows.
        new_ms = 0 if self._first else facts.figures.now.at_ms
        since = {p.id: p.began(self._since.get(p.id), new_ms) for p in found}
        self._since, self._first = since, False
        return overview(facts, [p.view(since[p.id] or None) for p in found], self._machine)
