"""The supervisor of one machine: starts embedded store and workers, restarts the dead, stops all in order.

Owns processes, the listening sockets (bound once and handed down, so that no restart refuses a connection),
each worker's incarnation and the order of the end. Refuses to know what a worker does. Stands above `worker`: a
worker learns by its link (a socket pair) that it shall drain, and that its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from gateway import journal, logs, worker
from gateway.console.setup_token import read_token
from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.metrics import Metrics, SnapshotWriter, snapshot_dir
from gateway.reload import begin, resume
from gateway.reload.machine import ENV_STARTED, MachineFile
from gateway.settings import Settings, load_local
from gateway.settings.secrets import secrets_of
from gateway.store.changes import Changes
from gateway.store.embedded import EmbeddedServer
from gateway.store.outbox import Outbox
from gateway.store.revisions import Revisions
from gateway.store.store import Store

log = logging.getLogger(__name__)

BACKOFF_S: Final = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
READY_FAILURES: Final = 2
"""What is left of a worker's failures once it is ready: one that then dies each time is not started without a pause."""
STEADY_AFTER_S: Final = 30.0
LISTEN_BACKLOG: Final = 1024
FOLLOW_S: Final = 1.0
"""How often the supervisor looks whether its workers run another revision."""

# The end, in seconds from SIGTERM: all of it within 35 s, whatever hangs.
NOTICE_S: Final = 0.3  # not ready, new posts refused, before a listener closes: load balancers look elsewhere
API_GRACE_S: Final = 12.0  # running requests: the handler's own limit is 10 s
DISPATCH_UNTIL_S: Final = 27.0
EVENTS_GRACE_S: Final = 3.0
ADMIN_GRACE_S: Final = 2.0


def run(config_dir: Path, say: Callable[[str], None] = print) -> int:
    """Run the gateway on this machine until SIGTERM or SIGINT; returns the exit code (0 after a clean stop).

    `say` is given what an operator should know at the start.

    Raises:
        ConfigError: the configuration, the data directory or an address cannot be used.
        StoreUnavailable: the embedded store refuses to start; the message says what to do.
    """
    from gateway.check import require_admin_token  # noqa: PLC0415 - brings the tables' code, for the start only

    with _only_supervisor(Path(load_local(config_dir).store.data_dir)):
        start = begin(config_dir, ask=worker.revision_in_force)
        require_admin_token(start.settings)
        journal.configure(start.settings, "supervisor")
        logs.protect(secrets_of(start.settings))
        for warning in (*start.settings.warnings, *start.warnings):
            say(f"warning: {warning}")
        # What opens the console is for the eyes of who started us, and for no log.
        show = say if sys.stderr.isatty() else None
        return asyncio.run(Supervisor(start.settings, config_dir, start.started, show).run())


@dataclass(slots=True)
class _Slot:
    """One worker's place: which process fills it now."""

    role: str
    number: int
    process: asyncio.subprocess.Process | None = None
    incarnation: str = ""
    link: socket.socket | None = None
    keeper: asyncio.Task[None] | None = None
    ready: bool = False
    failures: int = 0

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"


@dataclass(slots=True)
class _Listeners:
    """The sockets workers inherit, by role."""

    by_role: dict[str, socket.socket] = field(default_factory=dict)

    def close(self) -> None:
        for listener in self.by_role.values():
            listener.close()


class Supervisor:
    """One machine's processes. `run` is the whole life; nothing else is called from outside but `stop`."""

    def __init__(
        self,
        settings: Settings,
        config_dir: Path,
        started: Path | None = None,
        show: Callable[[str], None] | None = None,
    ) -> None:
        """`started` is the folder of the files at the start (`reload.begin`), for the workers.

        `show` is given what opens the console, once, where somebody watches at a terminal.
        """
        self._show = show
        self._settings = settings
        self._config_dir = config_dir
        self._started = started
        self._memory = MachineFile(Path(settings.store.data_dir), config_dir)
        self._reload_asked = False
        self._had_terminal = _has_terminal()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopping = False
        self._listeners = _Listeners()
        self._embedded: EmbeddedServer | None = None
        self._store: Store | None = None
        self._url = settings.store.url
        self._reaping: set[asyncio.Task[None]] = set()
        self._metrics = Metrics("supervisor", "0", f"supervisor-{secrets.token_hex(4)}")
        self._slots = [
            *(_Slot("dispatch", n) for n in range(settings.dispatch.workers)),
            _Slot("admin", 0),
            *(_Slot("api", n) for n in range(settings.api.workers)),
            *(_Slot("events", n) for n in range(settings.webhooks.workers if settings.consumers else 0)),
        ]
        for slot in self._slots:
            self._metrics.counter("worker_restarts_total", role=slot.role)  # 0 is said before the first one

    async def run(self) -> int:
        """Start everything, wait for a signal, stop everything in order."""
        self._take_signals()
        data_dir = Path(self._settings.store.data_dir)
        writer = asyncio.create_task(SnapshotWriter(self._metrics, snapshot_dir(data_dir)).run())
        follower = asyncio.create_task(self._follow_config(), name="configuration")
        try:
            # 1. The addresses: a port in use stops us before anything was started.
            self._bind()
            # 2. The store's process; a directory in use stops us here.
            await self._begin_store()
            # 3. The workers, each kept alive by a task of its own. They start while the store loads: until
            # it answers, `/livez` does and a post gets its 503.
            for slot in self._slots:
                slot.keeper = asyncio.create_task(self._keep(slot), name=slot.name)
            # 4. The store answers, and its layout fits the configuration.
            await self._unless_stopped(self._check_store())
            # 5. Until told to stop.
            await self._stop.wait()
        finally:
            # 6. The end, in the order of the path.
            follower.cancel()
            await self._drain()
            writer.cancel()
            await asyncio.gather(writer, follower, return_exceptions=True)
        log.info("stopped")
        return 0

    def stop(self) -> None:
        """Begin the drain; a second call ends it at once."""
        if self._stop.is_set():
            log.warning("told to stop again: not waiting any longer")
            self._hurry.set()
        self._stop.set()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self.stop)
        loop.add_signal_handler(signal.SIGUSR1, logs.reopen)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _hung_up(self) -> None:
        """Reload the configuration; but where a terminal closed, which sends the same signal, stop in order."""
        if self._had_terminal and not _has_terminal():
            self.stop()
            return
        self._reload_asked = True
        self._pass_on_reload()

    def _pass_on_reload(self) -> None:
        """Tell the admin worker, which proposes this machine's files; one that is not ready hears of it when it is."""
        for slot in self._slots:
            if slot.role == "admin" and slot.ready and self._reload_asked:
                self._reload_asked = False
                self._tell(slot, worker.RELOAD)

    # --- start

    def _bind(self) -> None:
        for role, host, port in (
            ("api", self._settings.api.host, self._settings.api.port),
            ("admin", self._settings.admin.host, self._settings.admin.port),
        ):
            listener = worker.bind_listener(role, host, port, LISTEN_BACKLOG)
            self._listeners.by_role[role] = listener
            log.info("%s listens on %s", role, worker.address_of(listener))

    async def _begin_store(self) -> None:
        if not self._url:
            restarts = self._metrics.counter("store_restarts_total")

            def count() -> None:
                restarts.n += 1

            self._embedded = EmbeddedServer(self._settings.store, on_restart=count)
            await self._embedded.begin()
            self._url = self._embedded.url

    async def _check_store(self) -> None:
        if self._embedded is not None:
            await self._embedded.until_ready()
        # A store by URL may still be on its way; workers wait for it, and so does the first reap.
        with contextlib.suppress(StoreUnavailable):
            # Who hears of what, before anything happens: also that an account without a webhook hears nothing any more.
            store = await self._opened_store()
            state, runs = await Revisions(store).state(), self._memory.read().running
            if runs is None or runs.holds(state.number, state.digest):
                await store.set_consumers(self._settings.consumers)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`, but not longer than until we are told to stop; what it raises is raised."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif (exc := task.exception()) is not None:
            raise exc

    async def _opened_store(self) -> Store:
        if self._store is None:
            self._store = await Store.open(self._settings, self._url, incarnation=worker.new_incarnation())
        return self._store

    # --- the configuration

    async def _follow_config(self) -> None:
        """See by the machine's memory which revision its workers run; a first webhook brings events workers with it."""
        if self._started is None:
            return
        memory = self._memory
        stamp, runs = memory.stamp(), memory.read().running
        while True:
            await asyncio.sleep(FOLLOW_S)
            if memory.stamp() == stamp:
                continue
            stamp = memory.stamp()
            try:
                now = (await asyncio.to_thread(memory.read)).running
                if now is None or (runs is not None and now == runs):
                    continue
                start = await asyncio.to_thread(resume, self._config_dir, self._started)
                self._take_settings(start.settings)
            except ConfigError as exc:
                log.warning("configuration: %s", exc)
                continue
            except Exception as error:  # the boundary of this task: without it no later change would be seen
                log.error("configuration: %s", type(error).__name__, exc_info=error)
                continue
            runs = now

    def _take_settings(self, settings: Settings) -> None:
        self._settings = settings
        logs.protect(secrets_of(settings))
        journal.configure(settings, "supervisor")
        if self._store is not None:
            self._store.configure(settings)
        if settings.consumers and not any(slot.role == "events" for slot in self._slots) and not self._stopping:
            for slot in [_Slot("events", n) for n in range(settings.webhooks.workers)]:
                self._slots.append(slot)
                slot.keeper = asyncio.create_task(self._keep(slot), name=slot.name)

    # --- workers

    async def _keep(self, slot: _Slot) -> None:
        """Fill one slot for ever: start, wait for its end, take back what it held, start again."""
        while not self._stopping:
            started = time.monotonic()
            code = await self._live_through(slot)
            if self._stopping:
                return
            self._metrics.counter("worker_restarts_total", role=slot.role).n += 1
            log.error("worker %s ended (%s); starting it again", slot.name, code)
            self._beside(self._note_restart(slot.name, slot.role, slot.incarnation, code), f"note {slot.incarnation}")
            if slot.role in ("dispatch", "events"):
                self._beside(self._reap(slot.role, slot.incarnation), f"reap {slot.incarnation}")
            slot.failures = 0 if time.monotonic() - started > STEADY_AFTER_S else slot.failures
            await self._pause(BACKOFF_S[min(slot.failures, len(BACKOFF_S) - 1)])
            slot.failures += 1

    async def _live_through(self, slot: _Slot) -> str:
        """Start one process and wait for its end; returns how it ended, for people."""
        try:
            await self._spawn(slot)
        except OSError as exc:  # no process, memory or descriptor left: the next try may find one
            return f"not started: {exc.strerror}"
        assert slot.process is not None
        code = await slot.process.wait()
        self._close_link(slot)
        slot.ready = False
        return f"code {code}"

    async def _spawn(self, slot: _Slot) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        slot.incarnation = worker.new_incarnation()
        listener = self._listeners.by_role.get(slot.role)
        fds = [theirs.fileno(), *([listener.fileno()] if listener else [])]
        env = {
            **os.environ,
            worker.ENV_INCARNATION: slot.incarnation,
            worker.ENV_NUMBER: str(slot.number),
            worker.ENV_LINK_FD: str(theirs.fileno()),
            worker.ENV_LISTEN_FD: str(listener.fileno()) if listener else "",
            worker.ENV_STORE_URL: self._url,
            **({ENV_STARTED: str(self._started.absolute())} if self._started is not None else {}),
        }
        command = (sys.executable, "-m", "gateway", slot.role, "--config", str(self._config_dir))
        try:
            slot.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                env=env,
                pass_fds=fds,
                process_group=0,  # Ctrl-C in a terminal is for us: we stop the workers in order
            )
        finally:
            theirs.close()
        slot.link = ours
        asyncio.get_running_loop().add_reader(ours, self._heard, slot)

    def _heard(self, slot: _Slot) -> None:
        """Read a worker's link: it says when it is ready; its end comes with the process' end."""
        assert slot.link is not None
        try:
            word = slot.link.recv(64)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if not word:
            asyncio.get_running_loop().remove_reader(slot.link)
        elif worker.READY in word and not slot.ready:
            slot.ready, slot.failures = True, min(slot.failures, READY_FAILURES)
            log.info("worker %s is ready", slot.name)
            self._pass_on_reload()
            if slot.role == "admin":
                self._show_console()
            if all(s.ready for s in self._slots):
                log.info("ready: http://%s", worker.address_of(self._listeners.by_role["api"]))

    def _show_console(self) -> None:
        """Show where the console is, and the token that makes its first user where there is none yet."""
        show, self._show = self._show, None
        if show is None or not self._settings.console.enabled:
            return
        show(f"console: http://{worker.address_of(self._listeners.by_role['admin'])}/console/")
        if token := read_token(Path(self._settings.store.data_dir)):
            show(f"console: nobody can sign in yet; set-up token: {token}")

    def _close_link(self, slot: _Slot) -> None:
        if slot.link is not None:
            asyncio.get_running_loop().remove_reader(slot.link)
            slot.link.close()
            slot.link = None

    def _beside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def _note_restart(self, name: str, role: str, incarnation: str, code: str) -> None:
        """Tell the operators' list of changes that a worker had to be started again; the log has it in any case."""
        with contextlib.suppress(StoreUnavailable):
            store = await self._opened_store()
            await Changes(store).note(
                "worker_restarted", name, incarnation, role=role, why=code, machine=socket.gethostname()
            )

    async def _reap(self, role: str, incarnation: str) -> None:
        """Take back what a dead worker held, now and not when its lease ends; until the store answers."""
        for pause_s in (*BACKOFF_S[1:], *(BACKOFF_S[-1:] * 1000)):
            try:
                store = await self._opened_store()
                if role == "events":  # the accounts it served are free at once
                    await Outbox(store).leave(incarnation)
                    return
                taken = await store.reap(incarnation)
            except StoreUnavailable as exc:
                log.warning("the store cannot take back the claims of a dead worker yet: %s", exc)
                await asyncio.sleep(pause_s)
            else:
                log.info("claims of a dead worker taken back", extra={"fields": dict(taken)})
                return

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause_s)

    # --- the end

    async def _drain(self) -> None:
        """Stop in the order of the path, each step with a limit, so that all of it ends within 35 s."""
        self._stopping = True
        began = time.monotonic()
        log.info("draining")
        # 1. Not ready; new posts get 503 `draining`; running requests go on.
        for slot in self._slots:
            self._tell(slot, worker.DRAIN)
        if any(s.process is not None for s in self._slots):
            await self._wait_hurry(NOTICE_S)
        # 2. No more intake. Our copy of the listener goes first: the workers' close is then the last one, and
        # nobody waits in a queue that no process takes from.
        self._listeners.close()
        await self._end("api", API_GRACE_S)
        # 3. Dispatch: stop claiming, wait for the window's answers, record them, unbind, release the rest.
        await self._end("dispatch", max(1.0, DISPATCH_UNTIL_S - (time.monotonic() - began)))
        # 4. Events: what the last receipts led to is told, or stays in line.
        await self._end("events", EVENTS_GRACE_S)
        # 5. Admin last: readiness and metrics are watched during the drain.
        await self._end("admin", ADMIN_GRACE_S)
        # 6. The store, when nobody writes any more.
        for task in list(self._reaping):
            task.cancel()
        await asyncio.gather(*self._reaping, return_exceptions=True)
        if self._store is not None:
            await self._store.close()
        if self._embedded is not None:
            await self._embedded.stop()

    async def _end(self, role: str, grace_s: float) -> None:
        """SIGTERM a role's workers; SIGKILL what is left after the grace, and take back what it held."""
        slots = [s for s in self._slots if s.role == role and s.keeper is not None]
        for slot in slots:
            _signal(slot, signal.SIGTERM)
        keepers = {s.keeper for s in slots if s.keeper is not None}
        if not keepers:
            return
        ended = asyncio.create_task(_all_of(keepers))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([ended, hurry], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        waiting = {keeper for keeper in keepers if not keeper.done()}
        for slot in slots:
            if slot.keeper in waiting:
                log.warning("worker %s did not end in time: killed", slot.name)
                _signal(slot, signal.SIGKILL)
        await ended
        for slot in slots:
            killed = slot.process is not None and slot.process.returncode not in (0, None)
            if killed and self._store is not None:
                with contextlib.suppress(StoreUnavailable):
                    if role == "dispatch":
                        await self._store.reap(slot.incarnation)
                    elif role == "events":
                        await Outbox(self._store).leave(slot.incarnation)

    def _tell(self, slot: _Slot, word: bytes) -> None:
        if slot.link is not None:
            with contextlib.suppress(OSError):
                slot.link.send(word)

    async def _wait_hurry(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), pause_s)


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal; one that was closed is none any more (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _all_of(tasks: Iterable[asyncio.Task[None]]) -> bool:
    await asyncio.gather(*tasks, return_exceptions=True)
    return True


def _signal(slot: _Slot, sign: signal.Signals) -> None:
    if slot.process is not None and slot.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            slot.process.send_signal(sign)


@contextlib.contextmanager
def _only_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the right to supervise this data directory (two would hand out the same store and metrics).

    Raises:
        ConfigError: somebody else holds it, or the directory cannot be made.
    """
    handle: IO[bytes] | None = None
    try:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (data_dir / "run").mkdir(mode=0o700, exist_ok=True)
            handle = (data_dir / "run" / "supervisor.lock").open("ab")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            reason = f"another gateway runs on {data_dir}"
            raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from exc
        except OSError as exc:
            reason = f"{data_dir} cannot be used: {exc.strerror}"
            raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from exc
        yield
    finally:
        if handle is not None:
            handle.close()
