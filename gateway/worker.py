"""One worker process' life, whatever its role: signals, the link to the supervisor, metrics on disk, the watched store.

Owns what a supervisor and its workers say to each other, and which configuration a worker follows. Refuses to know what
a role does (`roles`). Stands below the supervisor, which starts `python -m gateway <role>` with an incarnation, a link
(its end means: the supervisor is gone) and, where the role listens, an inherited socket; without these a role runs
alone.
"""

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
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway import journal, logs
from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.metrics import Metrics, SnapshotWriter, snapshot_dir
from gateway.reload import ConfigKeeper, Prepare, Start
from gateway.settings import Settings
from gateway.settings.bundle import Bundle
from gateway.settings.secrets import secrets_of
from gateway.store import durability
from gateway.store.audit import Audit
from gateway.store.embedded import running_pid, socket_path
from gateway.store.revisions import Revisions
from gateway.store.store import Store
from gateway.zeros import begin_at_zero

if TYPE_CHECKING:
    from gateway.reload.publisher import Publisher

log = logging.getLogger(__name__)

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

END_LIMIT_S: Final = 8.0
ORPHAN_DRAIN_S: Final = 5.0
ORPHAN_KILL_S: Final = 12.0
STORE_RETRY_S: Final = 0.25
ASK_STORE_S: Final = 2.0
GC_EVERY: Final = 20_000


def new_incarnation() -> str:
    """Return a name for one life of a worker process: 8 characters, as the records keep it."""
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class Launch:
    """How this process was started: by a supervisor, or alone."""

    incarnation: str
    number: int
    link_fd: int  # -1: alone
    listen_fd: int  # -1: bind our own
    store_url: str

    @classmethod
    def from_environment(cls, settings: Settings) -> Launch:
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
class Worker:
    """What every role has: signals, the link to the supervisor, metrics on disk, the watched store."""

    role: str
    settings: Settings
    launch: Launch
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
    _told: dict[str, str] | None = None  # who hears of what, as this worker said it last
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
                from gateway.reload.publisher import Publisher  # noqa: PLC0415 - for those that propose

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
        begin_at_zero(self.metrics, self.role, settings)
        journal.configure(settings, self.role, str(self.launch.number), self.metrics)
        if settings.consumers != self._told:
            self.beside(self._tell_consumers(settings), name="consumers")

    async def _tell_consumers(self, settings: Settings) -> None:
        """Say in the store who hears of what from now on. Every worker does: nobody's end may leave it unsaid."""
        while self.settings is settings and self._store is not None:
            try:
                await self._store.set_consumers(settings.consumers)
                self._told = settings.consumers
                return
            except StoreUnavailable as exc:
                log.warning("who hears of what is not written yet: %s", exc)
                await asyncio.sleep(STORE_RETRY_S)

    def _store_failed(self, move: str, kind: str) -> None:
        self.metrics.counter("store_errors_total", move=move, kind=kind).n += 1

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
        store.client.on_failure = self._store_failed
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
                state = await Revisions(store).state()
                if self.start is None or self.start.mark.holds(state.number, state.digest):
                    await store.set_consumers(self.settings.consumers)
                    self._told = self.settings.consumers
                # Else what is in force is not ours yet: whoever runs it has said so, and we do once we follow it.
                break
            except StoreUnavailable as exc:
                if not complained:
                    log.warning("waiting for the store: %s", exc)
                complained = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), STORE_RETRY_S)
                    raise StoppedEarly from None
        watch = _StoreWatch(self, store)
        watch.take(await watch.look())
        self._tasks.append(asyncio.create_task(watch.run(), name="store watch"))


class StoppedEarly(Exception):
    """Told to stop before the store was there: nothing to drain."""


_INTAKE: Final = {"open": 0, "verification": 1, "closed": 2}


class _StoreWatch:
    """Asks each `store.check_every_s` whether the store keeps its promise, and tells the store what was found."""

    def __init__(self, worker: Worker, store: Store) -> None:
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
