"""A dispatch worker: owns the channels' sessions and puts claimer, settler, lease and timers together.

Knows the order of start and stop. Receipts and inbound messages go to a callback that the app wires to the recorder;
the recorder's lookups of early receipts come back the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from gateway.dispatch.claimer import Claimer, Registered
from gateway.dispatch.health import HealthKeeper
from gateway.dispatch.lease import LeaseKeeper
from gateway.dispatch.outcome import Outcome, Row
from gateway.dispatch.quality import QualityKeeper
from gateway.dispatch.redelivery import Redeliverer
from gateway.dispatch.reopener import Reopener
from gateway.dispatch.rerouter import Rerouter
from gateway.dispatch.session_news import SessionNews
from gateway.dispatch.settler import OnParked, Settler, SubmitKey
from gateway.dispatch.sources import SourceTable
from gateway.dispatch.steadiness import Steadiness
from gateway.dispatch.timers import Timers
from gateway.errors import StoreUnavailable
from gateway.metrics import Cell, Metrics
from gateway.model import CATEGORY_LABELS, STATE_LABELS, route_name
from gateway.policy.send_window import SendWindows
from gateway.routing.router import Router
from gateway.routing.table import RouteTable
from gateway.settings import ChannelSettings, Settings
from gateway.smpp.channel import Channel, Inbound
from gateway.store.store import Store

logger = logging.getLogger(__name__)

_COMPARE_S = 10.0
_FAULT_FIRST_S, _FAULT_MOST_S = 5.0, 60.0
_AUTH_FIRST_S, _AUTH_MOST_S = 60.0, 900.0
"""How long a channel stays closed after a fault of its own; after one that may lock the account."""
_WARN_EVERY_S = 60.0
RECEIPTS_S = 30.0
"""How long a channel that left the configuration stays bound for the receipts of what it sent last."""
_LEFT_S = 3600.0
"""How long receipts of such a channel that came before their message was known are still looked at."""
_RENEWED_S = 5.0
"""How long the next session waits for the one before to be bound anew."""


class Dispatcher:
    """One worker's dispatch: `start`, then `drain` and `stop`, or `stop` alone when it must be quick.

    `on_inbound` takes received deliver_sm PDUs (answer them through `Channel.acknowledge`), `on_parked` early receipts
    whose message is known now, `submit_key` spells an SMSC's id as the store keeps it. `on_lost` is called when another
    worker took this one for dead: the process must end and begin anew. `router` finds the way for messages whose route
    left the configuration; without it they wait. `registered` gives the TLVs of messages made of templates,
    `windows` says when what missed its window may leave.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        metrics: Metrics,
        *,
        on_inbound: Callable[[list[Inbound]], None],
        on_parked: OnParked,
        submit_key: SubmitKey,
        on_lost: Callable[[], None],
        router: Router | None = None,
        registered: Registered | None = None,
        windows: SendWindows | None = None,
        in_step: Callable[[], bool] = lambda: True,
        debug: bool = False,
    ) -> None:
        """`in_step` tells whether the settings of this worker are those in force everywhere."""
        self._store = store
        self._metrics = metrics
        self.in_step = in_step
        self._lanes_known: set[tuple[str, int]] = set()
        self._on_lost = on_lost
        table = RouteTable(settings.routes, settings.channels)
        self._settler = Settler(
            settings,
            store,
            metrics,
            table,
            submit_key=submit_key,
            on_parked=on_parked,
            available=self._available,
            on_fault=self._fault,
            leave_out=self._leave_out,
        )
        self._quality = QualityKeeper(settings, store, metrics, table, on_change=self._shares_changed)
        self._redeliverer = Redeliverer(
            settings,
            store,
            metrics,
            table,
            ratings=lambda: self._quality.ratings,
            available=self._available,
            wake=self._progress,
        )
        self._settler.redeliver_after_ms = self._redeliverer.after_ms if self._redeliverer.on else None
        self._health = HealthKeeper(
            store,
            metrics,
            [c.id for c in settings.channels],
            answers=self._settler.answers,
            faults=lambda: self._settler.connection_faults,
            row_of=self._settler.row_of,
            on_change=self._health_changed,
        )
        self._closed_until: dict[str, float] = {}  # channels that told us of their own fault
        self._fault_waits: dict[str, float] = {}
        self._warned: dict[tuple[str, int], float] = {}
        self._lease = LeaseKeeper(
            store,
            channels_up=lambda: [c.id for c in self.channels.values() if c.up],
            on_lost=self._lease_lost,
            each_beat=self._each_beat,
            on_reaped=self._count_reaped,
        )
        self._news = SessionNews(store, metrics, self._all_channels, lambda: self._lease.leases)
        self._on_inbound = on_inbound
        self._debug = debug
        self.channels: dict[str, Channel] = {c.id: self._make_channel(c) for c in settings.channels}
        self._leaving: dict[str, Channel] = {}
        """Those that left the configuration and still wait for answers."""
        self._left: dict[str, float] = {}
        """Those that left it lately, and when: receipts that came early are looked at for a while."""
        self._steadiness = Steadiness(settings.dispatch.return_after_s)
        self._sources = SourceTable(table, settings.categories, settings.channels)
        self._claimer = Claimer(
            settings,
            store,
            metrics,
            self.channels,
            self._sources,
            self._settler,
            self._lease,
            health=self._health,
            available=self._available,
            unsteady=self._unsteady,
            registered=registered,
        )
        self._timers = Timers(
            settings, store, metrics, *self._watches(settings, table, router, windows), on_parked=on_parked
        )
        store.on_finals = self._count_finals
        self._final_cells: dict[tuple[int, str, str, str], Cell] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._settling: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._orphans: set[tuple[int, str]] = set()
        self._compared_at = time.monotonic()
        self._draining = False

    def _make_channel(self, settings: ChannelSettings) -> Channel:
        return Channel(
            settings,
            self._metrics,
            on_answer=self._settler.answered,
            on_inbound=self._on_inbound,
            on_progress=self._progress,
            on_change=self._channel_changed,
            guard=self._lease.valid,
            debug=self._debug,
        )

    def _watches(
        self, settings: Settings, table: RouteTable, router: Router | None, windows: SendWindows | None
    ) -> tuple[Rerouter | None, Reopener]:
        rerouter = None
        if router is not None:
            rerouter = Rerouter(self._store, table, router, known=self._lanes_known, in_step=self.in_step)
        return rerouter, Reopener(settings, self._store, self._metrics, windows or SendWindows())

    # --- other settings

    def use(self, settings: Settings, router: Router, windows: SendWindows) -> None:
        """Take other settings into use, in one step between two turns of the loop; the store has them already.

        A channel that is still there keeps its sessions, unless what they are bound with changed: then they are bound
        anew, one after the other. One that left sends nothing more, waits for its answers and unbinds; its backlog
        goes where today's routes lead.
        """
        table = RouteTable(settings.routes, settings.channels)
        wanted = {c.id: c for c in settings.channels}
        # New dicts: whoever goes through the old ones at this moment ends with them.
        channels, gone = {}, [c for c in self.channels.values() if c.id not in wanted]
        for name, one in wanted.items():
            channel = self.channels.get(name) or self._leaving.pop(name, None)
            if channel is None:
                channel = self._make_channel(one)
            else:
                if channel.use(one):  # bound with something else, it need not wait for what was wrong before
                    self._closed_until.pop(name, None)
                    self._fault_waits.pop(name, None)
                for slot in [slot for slot in channel.slots if slot > one.binds]:
                    self._close_slot(channel, slot)
            channels[name] = channel
        self.channels = channels
        now = time.monotonic()
        self._left = {name: at for name, at in self._left.items() if name not in wanted and now - at < _LEFT_S}
        self._left |= {channel.id: now for channel in gone}
        self._settler.use(settings, table)
        self._quality.use(settings, table)
        self._redeliverer.use(settings, table)
        self._settler.redeliver_after_ms = self._redeliverer.after_ms if self._redeliverer.on else None
        self._health.use(wanted)
        self._steadiness.return_after_s = settings.dispatch.return_after_s
        self._sources = SourceTable(table, settings.categories, settings.channels)
        self._sources.share_by(self._quality.shares)
        self._claimer.use(settings, self.channels, self._sources)
        self._timers.use(settings, *self._watches(settings, table, router, windows), left=self._left)
        for channel in gone:
            self._leaving[channel.id] = channel
            self._ends.add(self._beside(self._leave(channel), name=f"leave-{channel.id}"))
        for channel in self.channels.values():
            if channel.stale and channel.id not in self._renewing:
                self._renewing[channel.id] = self._beside(self._renew(channel), name=f"renew-{channel.id}")
        self._lease.beat_soon()
        self._claimer.wake()

    async def _leave(self, channel: Channel) -> None:
        """End a channel that left the configuration, unless it comes back meanwhile.

        Nothing is claimed for it any more. It stays bound for a while, so that most of its last receipts still come.
        """
        logger.info("channel %s left the configuration: it sends nothing more, and unbinds in a while", channel.id)
        await asyncio.sleep(RECEIPTS_S)
        if self._leaving.get(channel.id) is not channel:
            return
        await asyncio.gather(*(channel.close_slot(slot) for slot in channel.slots))
        while channel.closing and self._leaving.get(channel.id) is channel:
            await self._changed.wait()  # a slot that was closing before
        if self._leaving.get(channel.id) is not channel:
            return
        del self._leaving[channel.id]
        await channel.stop()
        self._metrics.drop_gauges(channel=channel.id)
        with contextlib.suppress(StoreUnavailable):  # they lapse with our lease
            await self._store.give_slots_back(channel.id, channel.settings.binds)
        logger.info("channel %s, which left the configuration, has ended", channel.id)

    async def _renew(self, channel: Channel) -> None:
        """Bind a channel anew with what it is bound with by now, one session after the other."""
        try:
            while channel.stale and self.channels.get(channel.id) is channel:
                slot = min(channel.stale)
                channel.stale.discard(slot)
                await channel.close_slot(slot)
                self._lease.beat_soon()  # it is opened there
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RENEWED_S):
                        while not channel.bound_on(slot) and self.channels.get(channel.id) is channel:
                            await self._changed.wait()
        finally:
            self._renewing.pop(channel.id, None)

    def _beside(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(self._ends.discard)
        return task

    # --- start and stop

    async def start(self) -> None:
        """1. take the lease, 2. begin to settle, 3. bind, 4. run the timers, 5. begin to claim."""
        await self._lease.begin()
        self._settling = asyncio.create_task(self._settler.run(), name="settle")
        await self._share_slots()
        self._tasks = [
            asyncio.create_task(self._lease.run(), name="lease"),
            asyncio.create_task(self._timers.run(), name="timers"),
            asyncio.create_task(self._store.listen(self._claimer.wake, self._lease.beat_soon), name="wake"),
            asyncio.create_task(self._gauges(), name="gauges"),
            asyncio.create_task(self._health.run(), name="health"),
            asyncio.create_task(self._quality.run(), name="quality"),
            asyncio.create_task(self._redeliverer.run(), name="redelivery"),
            asyncio.create_task(self._news.run(), name="session news"),
        ]
        self._claiming = asyncio.create_task(self._claimer.run(), name="claim")

    async def drain(self, timeout_s: float) -> bool:
        """Claim nothing more and wait until everything sent is answered and settled; False when time ran out."""
        self._draining = True
        self._claimer.stop()
        if self._claiming is not None:
            await self._claiming
        try:
            async with asyncio.timeout(timeout_s):
                await self._settler.idle()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Unbind, settle what came of it, and give lease and bind slots back. Safe after `drain` or alone."""
        self._draining = True
        self._claimer.stop()
        if self._claiming is not None:
            await self._claiming
        for task in [*self._renewing.values(), *self._ends]:
            task.cancel()
        everyone = [*self.channels.values(), *self._leaving.values()]
        await asyncio.gather(*(c.stop(abort=self._lease.lost) for c in everyone))
        await asyncio.gather(*self._closing, return_exceptions=True)
        # What was sent and never answered is uncertain by now; the store hears of it before the lease ends.
        if self._settling is not None:
            self._settler.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await self._settling
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._lease.lost:
            await self._news.leave()
            try:
                await self._store.reap(self._store.incarnation)  # nothing, unless something was left behind
                for c in everyone:
                    await self._store.give_slots_back(c.id, c.settings.binds)
            except StoreUnavailable as exc:
                logger.warning("ending the lease: %s", exc)

    @property
    def claims(self) -> int:
        """Messages claimed and not settled."""
        return len(self._settler.flights)

    # --- what the parts tell

    def _progress(self) -> None:
        self._claimer.wake()

    def _channel_changed(self, channel: str) -> None:
        self._changed.set()
        self._changed.clear()  # who waits has been woken
        self._claimer.wake()
        self._lease.beat_soon()

    def _lease_lost(self) -> None:
        self._claimer.stop()
        for c in self.channels.values():
            for slot in c.slots:
                logger.debug("channel %s: slot %d is cut", c.id, slot)
        self._on_lost()

    def _count_finals(self, category: int, route: str, state: str, reason: str, n: int) -> None:
        """Count final states as the store made them (its on_finals)."""
        # The reason of a receipt is the carrier's own word and would make a series of each misspelling.
        why = reason if reason.islower() else ""
        cell = self._final_cells.get((category, route, state, why))
        if cell is None:
            cell = self._final_cells[category, route, state, why] = self._metrics.counter(
                "messages_total",
                category=CATEGORY_LABELS[category],
                route=route_name(route),
                state=STATE_LABELS[state],
                reason=why,
            )
        cell.n += n

    def _health_changed(self) -> None:
        """A breaker moved or an operator spoke: who takes what is decided anew."""
        self._claimer.wake()
        self._lease.beat_soon()

    def _shares_changed(self) -> None:
        self._sources.share_by(self._quality.shares)
        self._claimer.wake()

    def _fault(self, channel: str, row: Row, status: int) -> None:
        """A channel answered with its own fault (it is closed for a while and bound anew) or with one of ours."""
        self._metrics.counter("channel_alarms_total", channel=channel, outcome=row.outcome.value).n += 1
        now = time.monotonic()
        if now - self._warned.get((channel, status), -_WARN_EVERY_S) >= _WARN_EVERY_S:
            if len(self._warned) > 1000:
                self._warned.clear()
            self._warned[channel, status] = now
            logger.error("channel %s answers 0x%08X (%s): an operator must look", channel, status, row.outcome.value)
        if row.outcome is not Outcome.CHANNEL or now < self._closed_until.get(channel, 0.0):
            return
        first, most = (_AUTH_FIRST_S, _AUTH_MOST_S) if row.auth else (_FAULT_FIRST_S, _FAULT_MOST_S)
        calm = now - self._closed_until.get(channel, -most) > most
        wait_s = first if calm else min(most, max(first, self._fault_waits.get(channel, first) * 2))
        self._fault_waits[channel], self._closed_until[channel] = wait_s, now + wait_s
        if (closed := self.channels.get(channel)) is not None:
            closed.note_alarm(status)
            for slot in closed.slots:
                self._close_slot(closed, slot)
        self._channel_changed(channel)

    def _leave_out(self, channel: str, field: int) -> bool:
        known = self.channels.get(channel) or self._leaving.get(channel)
        return known is not None and known.leave_out(field)

    def _count_reaped(self, incarnation: str, taken: dict[str, int]) -> None:
        self._metrics.counter("dispatch_errors_total", where="reaped").n += 1
        self._claimer.wake()

    def _all_channels(self) -> Collection[Channel]:
        return self.channels.values()  # of the dict as it is now: a reload makes another

    def _bound(self) -> set[str]:
        """Channels with a session, here or in another worker."""
        up = {c.id for c in self.channels.values() if c.up}
        for name, lease in self._lease.leases.items():
            if name != self._store.incarnation:
                up |= lease.channels
        return up

    def _available(self) -> frozenset[str]:
        """Channels that can submit, here or in another worker; one that is just starting counts."""
        up = self._bound() | {c.id for c in self.channels.values() if c.starting and c.slots}
        return frozenset(c for c in up if self._health.open_for_all(c))

    def _unsteady(self) -> frozenset[str]:
        """Those of them that have only just come back."""
        return self._steadiness.unsteady(frozenset(self._bound()), time.monotonic())

    # --- periodic work

    async def _each_beat(self) -> None:
        if not self._draining:
            await self._share_slots()
            await self._free_pinned()
            now = time.monotonic()
            if now - self._compared_at >= _COMPARE_S:
                self._compared_at = now
                await self._compare_claims()

    async def _share_slots(self) -> None:
        """Lease this worker's share of each channel's binds, open what is new and close what is too much."""
        workers = max(1, sum(1 for lease in self._lease.leases.values() if lease.heartbeats))
        for channel in self.channels.values():
            if self.channels.get(channel.id) is not channel:
                continue  # it left the configuration while the store was asked about another
            binds = channel.settings.binds
            wanted = math.ceil(binds / workers)
            if time.monotonic() < self._closed_until.get(channel.id, 0.0):
                continue  # bound anew when its time is over
            if self._health.of(channel.id).operator == "drain" and not channel.in_flight:
                wanted = 0
            for slot in sorted(channel.slots)[wanted:]:
                self._close_slot(channel, slot)
            # A slot stays ours until its session has ended, which may take as long as the answers do.
            held = await self._store.bind_slots(channel.id, binds, wanted, [*channel.slots, *channel.closing])
            if (
                time.monotonic() < self._closed_until.get(channel.id, 0.0)
                or self.channels.get(channel.id) is not channel
            ):
                continue  # closed while the store was asked
            held = [slot for slot in held if slot <= channel.settings.binds]  # lowered meanwhile
            for slot in channel.slots:
                if slot not in held:  # our hold on it lapsed: somebody else may be bound there
                    self._close_slot(channel, slot, abort=True)
            channel.set_slots(held)
        for channel in list(self._leaving.values()):  # nobody else may be bound there yet
            held = [*channel.slots, *channel.closing]
            await self._store.bind_slots(channel.id, channel.settings.binds, len(held), held)

    async def _free_pinned(self) -> None:
        """Let others take what was meant for a channel alone that cannot take it now."""
        available = self._available()
        for shard in range(self._store.shards):
            noted = await self._store.pinned(shard)
            strange = {c for c in noted if c not in self.channels} if self.in_step() else set()
            for channel in {*self.channels, *strange}:
                if channel not in available:
                    await self._store.unpin(shard, channel)

    def _close_slot(self, channel: Channel, slot: int, *, abort: bool = False) -> None:
        self._beside(channel.close_slot(slot, abort=abort), name=f"close-{channel.id}-{slot}")

    async def _compare_claims(self) -> None:
        """Give back claims that the store knows and we do not: a claim whose answer was lost on the way."""
        unknown: set[tuple[int, str]] = set()
        for shard in range(self._store.shards):
            await self._settler.forget_finished(shard)
            for field in await self._store.claim_fields(shard):
                if not self._settler.knows(shard, field):
                    unknown.add((shard, field))
                    if (shard, field) in self._orphans:  # twice in a row: not just settled or claimed
                        await self._store.give_back(shard, field)
        self._orphans = unknown

    async def _gauges(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for channel in self.channels.values():
                channel.update_gauges()
            for name, rate in self._claimer.rates().items():
                self._metrics.gauge("channel_tps_limit", channel=name).n = rate
