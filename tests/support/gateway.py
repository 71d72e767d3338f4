"""A whole gateway in its own processes, for tests: `smsgw run` on a configuration of its own and free ports.

`async with GatewayProcess(tmp_path, {"cm-a": port}) as gateway:` starts it and waits until it is ready;
`post`, `get`, `readyz` and `metrics` talk to it; everything it started is ended with the block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from gateway.apikey import new_key
from tests.support.until import until

ADMIN_TOKEN = "an-admin-token-of-tests"


FREE_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """Return a port nobody listens on now, and that nobody was given before: what is given is not taken at once.

    It lies below the range from which the kernel gives connections their ports (32768 on, ip(7)): one of those could
    take it until it is listened on, or while a gateway that is started again has let go of it.
    """
    while True:
        port = FREE_PORTS[secrets.randbelow(len(FREE_PORTS))]
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_given: set[int] = set()


class GatewayProcess:
    """One `smsgw run`. `channels` maps ids to SMSC ports; `channel`, `category` and `store` are extra TOML lines."""

    def __init__(
        self,
        directory: Path,
        channels: dict[str, int],
        *,
        channel: str = "",
        categories: str = "",
        store: str = "",
        dispatch_workers: int = 1,
        api_workers: int = 1,
        data_dir: Path | None = None,
    ) -> None:
        self.directory = directory
        self.config_dir = directory / "config"
        self.data_dir = data_dir or directory / "var"
        self.api_port, self.admin_port = free_port(), free_port()
        self.key, key_hash = new_key()
        self.process: asyncio.subprocess.Process | None = None
        self.session: aiohttp.ClientSession | None = None
        self.log_path = directory / "gateway.log"
        self._write_config(channels, channel, categories, store, dispatch_workers, api_workers, key_hash)

    def _write_config(
        self,
        channels: dict[str, int],
        channel: str,
        categories: str,
        store: str,
        dispatch_workers: int,
        api_workers: int,
        key_hash: str,
    ) -> None:
        self.config_dir.mkdir(parents=True, exist_ok=True)
        (self.config_dir / "gateway.toml").write_text(
            f'[store]\ndata_dir = "{self.data_dir}"\n{store}\n'
            f'[api]\nlisten = "127.0.0.1:{self.api_port}"\nworkers = {api_workers}\n'
            f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"\ntoken = "${{env:SMSGW_ADMIN_TOKEN}}"\n'
            # A channel that was lost gets its traffic back at once: no test waits half a minute for that.
            f"[dispatch]\nworkers = {dispatch_workers}\nreturn_after_s = 0.0\n"
            f"[categories.notification]\nper_number = []\n{categories}\n"
        )
        (self.config_dir / "channels.toml").write_text(
            "".join(
                f'[[channel]]\nid = "{name}"\nhost = "127.0.0.1"\nport = {port}\nsystem_id = "esme"\n'
                f'password = "${{env:SMSC_PASSWORD}}"\n{channel}\n'
                for name, port in channels.items()
            )
        )
        ranked = ", ".join(f'{{ id = "{name}", rank = {rank} }}' for rank, name in enumerate(channels))
        (self.config_dir / "routes.toml").write_text(
            f'[[route]]\nid = "cn"\nmatch = {{ country = "CN" }}\nchannels = [{ranked}]\n'
        )
        (self.config_dir / "accounts.toml").write_text(
            f'[[account]]\nid = "shop"\nkey_hashes = ["{key_hash}"]\nsenders = ["106900001"]\n'
        )

    # --- life

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        try:
            await self.start()
        except BaseException:
            await self._clean_up()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._clean_up()

    async def start(self, *, ready: bool = True, **env: str) -> None:
        """Start it (again); with `ready`, wait until /readyz says so."""
        with self.log_path.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "run", "--config", str(self.config_dir)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN,
                    "SMSC_PASSWORD": "secret",
                    "SMSGW_LOG_FORMAT": "console",
                    **env,
                },
            )
        if ready:
            await until(self._ready_or_dead, timeout_s=60)
            assert self.process.returncode is None, self.log()

    async def _ready_or_dead(self) -> bool:
        assert self.process is not None
        return self.process.returncode is not None or (await self.readyz())[0] == 200

    async def terminate(self) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 40)

    def kill_everything(self) -> None:
        """Kill -9 every process of this gateway, the store included."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    async def _clean_up(self) -> None:
        family = self.processes()
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 10)
        for process in {*family, *self.processes()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            await self.process.wait()
        if self.session is not None:
            await self.session.close()

    # --- looking at it

    def processes(self) -> list[psutil.Process]:
        """Return the supervisor and everything below it that lives now, the supervisor first."""
        if self.process is None or self.process.returncode is not None:
            return []
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self, role: str) -> list[psutil.Process]:
        """Return the living workers of a role."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                line = process.cmdline()
                if "gateway" in line and line[line.index("gateway") + 1] == role:
                    found.append(process)
        return found

    def store_process(self) -> psutil.Process:
        """Return the embedded store's process."""
        return next(p for p in self.processes() if "valkey" in p.name())

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # --- talking to it

    async def post(self, body: dict[str, Any], path: str = "/v1/messages") -> tuple[int, dict[str, Any]]:
        assert self.session is not None
        async with self.session.post(
            f"http://127.0.0.1:{self.api_port}{path}", json=body, headers={"Authorization": f"Bearer {self.key}"}
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        assert self.session is not None
        async with self.session.get(
            f"http://127.0.0.1:{self.api_port}{path}", headers={"Authorization": f"Bearer {self.key}"}
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def admin(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        assert self.session is not None
        async with self.session.request(
            method,
            f"http://127.0.0.1:{self.admin_port}{path}",
            json=body,
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        ) as answer:
            text = await answer.text()
            return answer.status, await answer.json(content_type=None) if text.startswith("{") else text

    async def readyz(self) -> tuple[int, list[str]]:
        """Return the status (0: nobody answers) and the reasons."""
        try:
            status, body = await self.admin("GET", "/readyz")
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return 0, []
        return status, body["reasons"]

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels (0 when there is none)."""
        _, text = await self.admin("GET", "/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and all(sample.labels.get(k) == v for k, v in labels.items())
        )
