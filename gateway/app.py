"""The wiring of one worker process: which parts a role needs, and in which order they start and stop.

Owns nothing of its own: it builds the parts, hands them to each other and reads as prose. Refuses to decide
anything about a message. Stands below the supervisor, which starts `python -m gateway <role>` with an
incarnation, a link (its end means: the supervisor is gone) and, where the role listens, an inherited socket;
without these a role runs alone.
"""

# ruff: noqa: PLC0415 - a role imports its own parts only: an api worker does not carry the dispatcher's memory

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from gateway import journal, logs
from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.metrics import Metrics, MetricsHub, SnapshotWriter, snapshot_dir
from gateway.reload import ConfigKeeper, Prepare, Start, begin, resume
from gateway.reload.machine import ENV_STARTED
from gateway.settings import Settings
from gateway.settings.bundle import Bundle
from gateway.store import durability
from gateway.store.audit import Audit
from gateway.store.embedded import running_pid, socket_path
from gateway.store.revisions import Revisions
from gateway.store.store import Store
from gateway.zeros import begin_at_zero

if TYPE_CHECKING:
    from gateway.reload.publisher import Publisher

log = logging.getLogger(__name__)

ROLES: Final = ("api", "dispatch", "events", "admin")

# What a supervisor tells its workers by environment.
ENV_INCARNATION: Final = "SMSGW_INCARNATION"
ENV_NUMBER: Final = "SMSGW_WORKER"
ENV_LINK_FD: Final = "SMSGW_LINK_FD"
ENV_LISTEN_FD: Final = "SMSGW_LISTEN_FD"
ENV_STORE_URL: Final = "SMSGW_STORE_URL"

# What passes over the link: worker to supervisor, supervisor to worker.
READY: Final = b"r"
DRAIN: Final = b"d"
RELOAD: Final = b"h"

API_DRAIN_S: Final = 10.0
DISPATCH_DRAIN_S: Final = 20.0
"""The longest wait for answers at the end, whatever the response timers: 35 s must hold all of it."""
RECORD_LAST_S: Final = 3.0
EVENTS_DRAIN_S: Final = 1.5
"""How long running calls to webhooks may take at the end; what was cut off comes again under its id."""
END_LIMIT_S: Final = 8.0
ORPHAN_DRAIN_S: Final = 5.0
ORPHAN_KILL_S: Final = 12.0
STORE_RETRY_S: Final = 0.25
ASK_STORE_S: Final = 2.0
GC_EVERY: Final = 20_000


def new_incarnation() -> str:
    """Return a name for one life of a worker process: 8 characters, as the records keep it."""
    return secrets.token_hex(4)


def run_worker(role: str, config_dir: Path) -> int:
    """Run one worker until SIGTERM, or until its supervisor is gone; returns the exit code.

    Raises:
        ConfigError: the configuration cannot be used, or no store is to be found.
    """
    start = _start(config_dir)
    settings = start.settings
    launch = _Launch.from_environment(settings)
    metrics = Metrics(role, str(launch.number), launch.incarnation)
    begin_at_zero(metrics, role, settings)
    journal.configure(settings, role, str(launch.number), metrics)
    logs.protect(secrets_of(settings))
    for warning in start.warnings:
        log.warning("configuration: %s", warning)
    worker = _Worker(role, settings, launch, metrics, config_dir=config_dir, start=start)
    run = {"api": run_api, "dispatch": run_dispatch, "events": run_events, "admin": run_admin}[role]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(_StoppedEarly):
        runner.run(run(worker))
    journal.close()
    return worker.exit_code


def _start(config_dir: Path) -> Start:
    """Return what a worker starts with: under a supervisor what this machine runs, alone what it decides itself."""
    if started := os.environ.get(ENV_STARTED):
        return resume(config_dir, Path(started))
    return begin(config_dir, ask=revision_in_force)


# --- the four roles, as prose


async def run_api(worker: _Worker) -> None:
    """Serve applications: HTTP in, accepted messages into the store."""
    from gateway.api.server import ApiServer
    from gateway.dlr.ported import Follower
    from gateway.intake import Intake
    from gateway.policy.policy import load_policy
    from gateway.routing.loader import build_router
    from gateway.store.limits import AccountLimiter
    from gateway.store.templates import TemplateStore
    from gateway.templates.load import load_templates
    from gateway.templates.registry import Templates

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
        try:
            # 3. The store, and the watch over its promise.
            await worker.connect(store)
            follower = Follower(settings, router, store, worker.metrics)
            await follower.refresh()
            worker.beside(follower.run(), name="ported numbers")
            await templates.refresh()
            worker.beside(templates.run(), name="templates")
            worker.ready()
            # 4. Until told to drain: new posts are refused, running ones end.
            await worker.told_to_stop()
            await server.drain(worker.drain_limit_s(API_DRAIN_S))
        finally:
            # 5. Connections last: each has had its answer.
            await server.stop()


async def run_dispatch(worker: _Worker) -> None:
    """Send: sessions to the carriers, claims, results, receipts, timers."""
    from gateway.dispatch.dispatcher import Dispatcher
    from gateway.dlr.deliveries import Deliveries
    from gateway.dlr.ported import Follower, Teacher
    from gateway.dlr.reasons import load_reasons
    from gateway.dlr.receipt import submit_key
    from gateway.dlr.recorder import Recorder
    from gateway.policy.policy import load_policy
    from gateway.routing.loader import build_codes, build_router
    from gateway.store.templates import TemplateStore
    from gateway.templates.load import load_templates
    from gateway.templates.registry import Templates

    settings = worker.settings
    async with worker.running():
        # 1. The store: a worker without it has nothing to send.
        store = await worker.store()
        await worker.connect(store)
        # 2. The recorder before the sessions: a receipt may be the first thing that comes.
        teacher = Teacher(settings, build_codes(settings), store, worker.metrics)
        reasons = load_reasons(settings.failure_codes_file, settings.channels)
        recorder = Recorder(settings, store, worker.metrics, teacher, reasons)
        store.on_outcome = recorder.notes.outcome
        store.on_delivery = Deliveries(worker.metrics).count
        worker.beside(recorder.notes.run(), name="receipt notes")
        recording = asyncio.create_task(recorder.run(), name="receipts")
        # 3. Sessions and claims.
        router = build_router(settings)
        follower = Follower(settings, router, store, worker.metrics)
        await follower.refresh()
        worker.beside(follower.run(), name="ported numbers")
        templates = Templates(load_templates(settings), TemplateStore(store))
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
            router=router,
            registered=templates.tlvs,
            windows=load_policy(settings).windows,
            debug=logging.getLogger("gateway.smpp").isEnabledFor(logging.DEBUG),
        )
        await dispatcher.start()
        worker.ready()
        # 4. Until told to stop: no more claims, answers awaited and recorded, unbind, the rest released.
        await worker.told_to_stop()
        longest_s = max((c.response_timer_s for c in settings.channels), default=0.0)
        await dispatcher.drain(worker.drain_limit_s(min(longest_s, DISPATCH_DRAIN_S)))
        await dispatcher.stop()
        # 5. What came in before the unbind is recorded too.
        recorder.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(recording, RECORD_LAST_S)


async def run_events(worker: _Worker) -> None:
    """Tell applications: events from the outboxes to the accounts' webhooks."""
    from gateway.dlr.webhook import Webhooks

    settings = worker.settings
    async with worker.running():
        # 1. The store; from now on its scripts write down what accounts want to hear of.
        store = await worker.store()
        await worker.connect(store)
        await store.set_consumers(settings.consumers)
        # 2. Accounts are leased, their events taken and delivered.
        webhooks = Webhooks(
            settings, store, worker.metrics, incarnation=worker.launch.incarnation, number=worker.launch.number
        )
        worker.beside(webhooks.run(), name="webhooks")
        worker.ready()
        # 3. Until told to stop: nothing more is taken, running calls end, the rest goes back in line.
        await worker.told_to_stop()
        await webhooks.stop(worker.drain_limit_s(EVENTS_DRAIN_S))


async def run_admin(worker: _Worker) -> None:
    """Observe and steer: health, metrics, gates."""
    from gateway.admin.audit_v1 import AuditApi
    from gateway.admin.blacklist_v1 import BlacklistApi
    from gateway.admin.erase_v1 import ErasureApi
    from gateway.admin.inbound_v1 import InboundApi
    from gateway.admin.readiness import Readiness
    from gateway.admin.server import AdminServer
    from gateway.admin.store_gauges import StoreGauges
    from gateway.admin.templates_v1 import TemplatesApi
    from gateway.admin.webhooks_v1 import WebhookRoutes
    from gateway.routing.loader import build_router
    from gateway.store.audit import Audit
    from gateway.store.outbox import Outbox
    from gateway.store.statistics import Folder, Statistics
    from gateway.store.templates import TemplateStore
    from gateway.templates.load import load_templates
    from gateway.templates.registry import Templates

    settings = worker.settings
    async with worker.running():
        # 1. The listener first: while the store loads, `/livez` answers and `/readyz` says why not.
        store = await worker.store()
        hub = MetricsHub(snapshot_dir(worker.data_dir), own=worker.metrics)
        readiness = Readiness(store, hub, draining=lambda: worker.draining, supervised=worker.launch.supervised)
        gauges = StoreGauges(settings, store)
        router = build_router(settings)
        templates = Templates(load_templates(settings), TemplateStore(store), worker.metrics, hold_s=0.0)
        audit = Audit(store)
        more = TemplatesApi(settings, router, templates, TemplateStore(store), audit).routes()
        more += ErasureApi(settings, store, audit).routes()
        more += WebhookRoutes(settings, Outbox(store)).routes()
        more += BlacklistApi(settings, store).routes() + InboundApi(settings, store).routes() + AuditApi(store).routes()
        server = AdminServer(settings, hub, store, readiness.reasons, gauges.read, router, more, audit)
        await server.start(worker.listener(settings.admin.host, settings.admin.port))
        try:
            # 2. The store.
            await worker.connect(store)
            worker.beside(Folder(Statistics(store), worker.metrics).run(), name="statistics")
            worker.follow_config(store, _nothing_to_swap)
            worker.ready()
            # 3. Until told to stop; it is the last of the workers to go.
            await worker.told_to_stop()
        finally:
            await server.stop()


async def _nothing_to_swap(settings: Settings) -> Callable[[], None]:
    del settings
    return lambda: None


# --- one worker's life


@dataclass(frozen=True, slots=True)
class _Launch:
    """How this process was started: by a supervisor, or alone."""

    incarnation: str
    number: int
    link_fd: int  # -1: alone
    listen_fd: int  # -1: bind our own
    store_url: str

    @classmethod
    def from_environment(cls, settings: Settings) -> _Launch:
        link_fd = int(os.environ.get(ENV_LINK_FD) or -1)
        return cls(
            incarnation=os.environ.get(ENV_INCARNATION) or new_incarnation(),
            number=int(os.environ.get(ENV_NUMBER) or 0),
            link_fd=link_fd,
            listen_fd=int(os.environ.get(ENV_LISTEN_FD) or -1),
            store_url=os.environ.get(ENV_STORE_URL) or settings.store.url,
        )

    @property
    def supervised(self) -> bool:
        return self.link_fd >= 0


@dataclass(slots=True)
class _Worker:
    """What every role has: signals, the link to the supervisor, metrics on disk, the watched store."""

    role: str
    settings: Settings
    launch: _Launch
    metrics: Metrics
    on_drain: Callable[[], None] | None = None  # called once, as soon as new work shall be refused
    exit_code: int = 0
    draining: bool = False
    orphaned: bool = False
    config_dir: Path = Path("config")
    start: Start | None = None
    publisher: Publisher | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: ConfigKeeper | None = None
    _prepare: Prepare | None = None
    _link: socket.socket | None = None
    _store: Store | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return Path(self.settings.store.data_dir)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take signals and the link, write metrics each second; at the end undo it, the store last."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self.stop)
        loop.add_signal_handler(signal.SIGUSR1, logs.reopen)
        if self.launch.supervised:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closing terminal, or a reload: the supervisor tells us
            self._link = socket.socket(fileno=self.launch.link_fd)
            self._link.setblocking(False)
            loop.add_reader(self._link.fileno(), self._heard)
        else:
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        writer = SnapshotWriter(self.metrics, snapshot_dir(self.data_dir))
        self._tasks.append(asyncio.create_task(writer.run(), name="metrics"))
        ready = self.metrics.gauge("worker_ready", role=self.role, worker=str(self.launch.number))
        ready.n = 0
        try:
            yield
        finally:
            ready.n = 0
            # Whatever hangs in the rest, this process ends: its place is needed for a new one.
            last_resort = threading.Timer(END_LIMIT_S, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._store is not None:
                await self._store.close()
            log.info("stopped")

    def ready(self) -> None:
        """Tell the supervisor and the metrics that this worker does its work."""
        self.metrics.gauge("worker_ready", role=self.role, worker=str(self.launch.number)).n = 1
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.send(READY)
        log.info("ready")
        # What was built until now lives as long as the process: the collector need not walk it again. Messages
        # are freed by reference counting, so a rare collection is enough (it costs the path 2-3 %).
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_EVERY, 20, 50)

    def stop(self) -> None:
        """End this worker in order."""
        self._begin_drain()
        self._stop.set()

    async def told_to_stop(self) -> None:
        await self._stop.wait()
        log.info("stopping%s", " (the supervisor is gone)" if self.orphaned else "")

    def lost(self) -> None:
        """End at once: another worker took this one for dead, and what it held is theirs now."""
        self.exit_code = 1
        self.stop()

    def beside(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something beside the worker's own work until it ends."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def keeper(self, store: Store) -> ConfigKeeper:
        """Return this worker's part in changes of the configuration, the same at every call; `follow_config` starts it.

        Where this worker may propose changes too (the admin worker, or a role that runs alone), `publisher` is there
        from now on.
        """
        if self._keeper is None:
            assert self.start is not None
            self._keeper = ConfigKeeper(
                Revisions(store),
                self.start,
                self._prepare_with,
                config_dir=self.config_dir,
                role=self.role,
                number=self.launch.number,
                incarnation=self.launch.incarnation,
                metrics=self.metrics,
                on_broken=self.lost,
                on_settings=self._now_runs,
            )
            if self.role == "admin" or not self.launch.supervised:
                from gateway.reload.publisher import Publisher

                self.publisher = Publisher(self._keeper, Audit(store).note, self.start.started)
        return self._keeper

    def follow_config(self, store: Store, prepare: Prepare) -> None:
        """Follow the configuration from now on: `prepare` builds what a new one needs and returns the swap.

        The settings it gets have this machine's own keys already, and their secrets are masked in logs. `settings` is
        the new one only after the swap.
        """
        self._prepare = prepare
        self.beside(self.keeper(store).run(), name="configuration")
        if self.publisher is not None:
            self.beside(self.publisher.run(), name="configuration: publisher")

    async def _prepare_with(self, settings: Settings) -> Callable[[], None]:
        assert self._prepare is not None
        logs.protect(secrets_of(settings))
        return await self._prepare(settings)

    def _now_runs(self, settings: Settings) -> None:
        self.settings = settings
        journal.configure(settings, self.role, str(self.launch.number), self.metrics)

    def drain_limit_s(self, wanted_s: float) -> float:
        """Return how long running work may take; without a supervisor the store may be gone too."""
        if self.exit_code:
            return 0.0
        return min(wanted_s, ORPHAN_DRAIN_S) if self.orphaned else wanted_s

    def _heard(self) -> None:
        assert self._link is not None
        try:
            word = self._link.recv(64)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        loop = asyncio.get_running_loop()
        if not word:
            self.orphaned = True
            loop.remove_reader(self._link.fileno())
            loop.call_later(ORPHAN_KILL_S, os._exit, 1)  # nobody is left who would kill us if we hang
            self.stop()
            return
        if RELOAD in word:
            self.reload()
        if DRAIN in word:
            self._begin_drain()

    def reload(self) -> None:
        """Reload the configuration, for a signal."""
        if self.publisher is None:
            log.warning("told to reload the configuration, which this worker does not do (yet)")
        else:
            self.publisher.ask("SIGHUP")

    def _begin_drain(self) -> None:
        if not self.draining:
            self.draining = True
            if self.on_drain is not None:
                self.on_drain()

    def listener(self, host: str, port: int) -> socket.socket:
        """Return the inherited listening socket, or bind one when this role runs alone."""
        if self.launch.listen_fd >= 0:
            inherited = socket.socket(fileno=self.launch.listen_fd)
            inherited.setblocking(False)
            return inherited
        own = bind_listener(self.role, host, port)
        log.info("listens on %s", address_of(own))
        return own

    async def store(self) -> Store:
        """Return the store, not connected: `ready()` says so until `connect` is done. Closed by `running`.

        Raises:
            ConfigError: there is no store to connect to.
        """
        url = self.launch.store_url or await _embedded_url(self.settings)
        store = Store(self.settings, url, incarnation=self.launch.incarnation)
        store.commit_seconds = _CommitTimes(self.metrics)
        store.watcher = journal.Watcher()
        self._store = store
        return store

    async def connect(self, store: Store) -> None:
        """Wait until the store answers and its layout is ours, and watch its promise from then on.

        Raises:
            ConfigError: its data does not fit the configuration.
        """
        complained = False
        while True:
            try:
                await store.check_layout()
                await store.set_consumers(self.settings.consumers)
                break
            except StoreUnavailable as exc:
                if not complained:
                    log.warning("waiting for the store: %s", exc)
                complained = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), STORE_RETRY_S)
                    raise _StoppedEarly from None
        watch = _StoreWatch(self, store)
        watch.take(await watch.look())
        self._tasks.append(asyncio.create_task(watch.run(), name="store watch"))


class _StoppedEarly(Exception):
    """Told to stop before the store was there: nothing to drain."""


_INTAKE: Final = {"open": 0, "verification": 1, "closed": 2}


class _StoreWatch:
    """Asks each `store.check_every_s` whether the store keeps its promise, and tells the store what was found."""

    def __init__(self, worker: _Worker, store: Store) -> None:
        self._worker = worker
        self._store = store
        self._ready = worker.metrics.gauge("store_ready")
        self._named: set[str] = set()
        self._pressure: tuple[str, ...] = ()
        self._execute = store.client.execute
        self._durability = worker.settings.store.durability
        # The disk is ours to look at where the embedded server writes on it.
        self._disk = None if worker.settings.store.url else worker.data_dir

    async def look(self) -> durability.Health:
        return await durability.inspect(self._execute, self._durability, self._disk)

    async def run(self) -> None:
        every_s = self._worker.settings.store.check_every_s
        await durability.watch(self._execute, self._durability, self.take, self._disk, every_s=every_s)

    def take(self, health: durability.Health) -> None:
        problems = [str(p) for p in health.problems]
        if health.intake == "closed":
            problems += health.pressure
        if health.pressure != self._pressure:
            log.warning("store: intake %s: %s", health.intake, "; ".join(health.pressure) or "room again")
            self._pressure = health.pressure
        if problems != self._store.ready():
            log.log(logging.ERROR if problems else logging.INFO, "store: %s", "; ".join(problems) or "ready")
        self._store.set_problems(problems)
        self._store.set_intake(health.intake)
        self._ready.n = 0 if problems else 1
        if self._worker.role == "admin":
            self._gauges(health)

    def _gauges(self, health: durability.Health) -> None:
        metrics = self._worker.metrics
        metrics.gauge("store_memory_bytes", kind="used").n = health.used_memory_bytes
        metrics.gauge("store_memory_bytes", kind="limit").n = health.max_memory_bytes
        metrics.gauge("store_memory_bytes", kind="aof").n = health.aof_bytes
        metrics.gauge("store_intake").n = _INTAKE[health.intake]
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self._worker.data_dir)
            metrics.gauge("disk_bytes", kind="free").n = disk.free
            metrics.gauge("disk_bytes", kind="total").n = disk.total
        found = {p.setting for p in health.problems}
        for setting in self._named | found:
            metrics.gauge("store_setting_mismatch", setting=setting).n = 1 if setting in found else 0
        self._named |= found


class _CommitTimes:
    """The store's own timing hook: one histogram a move, looked up once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._moves: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {}

    def __call__(self, move: str, size: int, seconds: float) -> None:
        pair = self._moves.get(move)
        if pair is None:
            pair = self._moves[move] = (
                self._metrics.histogram("store_batch_size", move=move).observe,
                self._metrics.histogram("store_commit_seconds", move=move).observe,
            )
        pair[0](size)
        pair[1](seconds)


# --- small things


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield every secret of the configuration, for the logs to mask."""
    if settings.admin.token is not None:
        yield settings.admin.token
    yield from (operator.token for operator in settings.admin.operators)
    yield from (header for _, header in settings.tracing.headers)
    for channel in settings.channels:
        yield channel.password
    for account in settings.accounts:
        if account.webhook is not None:
            yield from account.webhook.secrets
    userinfo = settings.store.url.rpartition("@")[0]
    if password := userinfo.rpartition(":")[2]:
        yield password


def bind_listener(role: str, host: str, port: int, backlog: int = 1024) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        ConfigError: the address is in use or not ours; names the key.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as exc:
        listener.close()
        reason = f"{host}:{port} cannot be used: {exc.strerror}"
        raise ConfigError([ConfigProblem("gateway.toml", f"{role}.listen", reason)]) from exc
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return host:port as a URL writes it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def revision_in_force(local: Settings) -> tuple[int, Bundle] | None:
    """Return the revision in force in the store of these settings, for a machine that starts without a memory.

    None where there is none, where the store is the embedded one (which starts with us), or where no answer comes soon.
    """
    if not local.store.url:
        return None

    async def look() -> tuple[int, Bundle] | None:
        store = Store(local, local.store.url)
        try:
            async with asyncio.timeout(ASK_STORE_S):
                revisions = Revisions(store)
                state = await revisions.state()
                text = await revisions.text(state.number) if state.number else None
                return (state.number, await asyncio.to_thread(Bundle.decode, text)) if text is not None else None
        finally:
            await store.close()

    try:
        return asyncio.run(look())
    except (StoreUnavailable, TimeoutError):
        return None


async def _embedded_url(settings: Settings) -> str:
    """Return the URL of the embedded server that runs on this data directory (a role that runs alone).

    Raises:
        ConfigError: none runs.
    """
    data_dir = Path(settings.store.data_dir)
    path = socket_path(data_dir)
    if not await running_pid(path, data_dir):
        reason = f"empty, and no embedded store runs on {data_dir}: start `smsgw run`, or give a url"
        raise ConfigError([ConfigProblem("gateway.toml", "store.url", reason)])
    return f"unix://{path}"
