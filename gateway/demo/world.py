"""The parts of a demonstration: a configuration folder, simulated carriers in this process, the gateway in its own.

The carriers speak real SMPP over loopback; the gateway is `smsgw run` as an operator would start it, with its embedded
store. Nothing of the gateway is replaced or called from inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from gateway.apikey import new_key
from gateway.errors import GatewayError
from gateway.settings import Settings, load, packaged_config_dir
from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc

TOKEN_VARIABLE = "SMSGW_ADMIN_TOKEN"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 40.0


class DemoFailed(GatewayError):
    """The demonstration could not be set up or did not go on."""


@dataclass(slots=True)
class Carrier:
    """One simulated carrier, behind one channel."""

    channel: str
    smsc: Smsc
    alive: bool = True

    async def kill(self) -> None:
        """Be gone as a machine that lost power: no unbind, open connections reset, new ones refused."""
        await self.smsc.stop_listening()
        self.smsc.drop_sessions()
        self.alive = False

    async def revive(self) -> None:
        """Listen again on the same port; receipts still owed are delivered after the next bind."""
        await self.smsc.start()
        self.alive = True


@dataclass(slots=True)
class World:
    """Where everything is, and the one account's key."""

    config_dir: Path
    settings: Settings
    key: str = field(repr=False)
    env: dict[str, str] = field(repr=False)
    carriers: list[Carrier]

    @property
    def api_url(self) -> str:
        return f"http://{self.settings.api.host}:{self.settings.api.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.settings.admin.host}:{self.settings.admin.port}"

    @property
    def token(self) -> str:
        return self.env[TOKEN_VARIABLE]

    def carrier(self, channel: str) -> Carrier:
        return next(carrier for carrier in self.carriers if carrier.channel == channel)


def free_port() -> int:
    """Return a loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def secret_environment(config_dir: Path, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment with a made-up secret for every one that the folder's files name and nobody set."""
    env = dict(given)
    for name in _variables(config_dir):
        env.setdefault(name, secrets.token_hex(16) if name == TOKEN_VARIABLE else secrets.token_hex(4))
    return env


def _variables(config_dir: Path) -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(config_dir.glob("*.toml")))
    # Commented lines hold examples (a webhook's secret) that need no value.
    live = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {piece.partition("}")[0] for piece in live.split("${env:")[1:]}


def copy_shipped_config(target: Path, key_hash: str) -> None:
    """Write the shipped folder to `target`, its one account with a key."""
    shutil.copytree(packaged_config_dir(), target, dirs_exist_ok=True)
    accounts = target / "accounts.toml"
    text = accounts.read_text(encoding="utf-8")
    accounts.write_text(text.replace("key_hashes = []", f'key_hashes = ["{key_hash}"]', 1), encoding="utf-8")


@contextlib.asynccontextmanager
async def carriers_of(settings: Settings, template: SimulatorOptions) -> AsyncIterator[list[Carrier]]:
    """Run a simulated carrier for every channel of the settings that points to loopback."""
    running: list[Carrier] = []
    try:
        for channel in settings.channels:
            if not channel.host.startswith("127."):
                continue
            options = replace(
                template,
                host=channel.host,
                port=channel.port,
                name=channel.id,
                system_id=channel.system_id,
                password=channel.password.reveal(),
            )
            smsc = Smsc(options)
            try:
                await smsc.start()
            except OSError as exc:
                where = f"{channel.host}:{channel.port}"
                raise DemoFailed(f"{where}, where carrier {channel.id} should listen, is in use") from exc
            running.append(Carrier(channel.id, smsc))
        yield running
    finally:
        await asyncio.gather(*(carrier.smsc.stop(timeout_s=0.5) for carrier in running))


@contextlib.asynccontextmanager
async def gateway_process(world: World, log: Path | None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `smsgw run` until the block ends; ready when entered.

    Raises:
        DemoFailed: it did not become ready.
    """
    command = (sys.executable, "-m", "gateway", "run", "--config", str(world.config_dir))
    stream = log.open("wb") if log else None
    process = await asyncio.create_subprocess_exec(
        *command,
        env=world.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        start_new_session=True,  # Ctrl-C is for us: we stop the gateway in order
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    if stream is not None:
        stream.close()
    try:
        await _wait_ready(world, process, log)
        yield process
    finally:
        await _stop(process)


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when this process is gone, however it went (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


async def _wait_ready(world: World, process: asyncio.subprocess.Process, log: Path | None) -> None:
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    reason = "no answer"
    headers = {"Authorization": f"Bearer {world.token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=2)) as session:
        while asyncio.get_running_loop().time() < deadline:
            if process.returncode is not None:
                raise DemoFailed(f"the gateway ended with code {process.returncode}{_tail(log)}")
            try:
                async with session.get(f"{world.admin_url}/readyz") as response:
                    if response.status == 200:
                        return
                    reason = (await response.text())[:500]
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                reason = type(exc).__name__
            await asyncio.sleep(0.1)
    raise DemoFailed(f"the gateway was not ready within {START_TIMEOUT_S:.0f} s: {reason}{_tail(log)}")


def _tail(log: Path | None) -> str:
    if log is None:
        return ""
    return ":\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


# --- the demonstration's own configuration: every hour is a sending hour, ports are free ones, limits are quick

_NETWORKS = {"cm": "china-mobile", "cu": "china-unicom", "ct": "china-telecom"}

_GATEWAY_TOML = """
[store]
data_dir = "{data_dir}"
[api]
listen = "127.0.0.1:{api_port}"
[admin]
listen = "127.0.0.1:{admin_port}"
token = "${{env:SMSGW_ADMIN_TOKEN}}"
[categories.verification]
per_number = []
[categories.notification]
on_uncertain = "resend"
[categories.marketing]
send_hours = "00:00-24:00"
"""

_CHANNEL_TOML = """
[[channel]]
id = "{id}"
host = "127.0.0.1"
port = {port}
system_id = "{id}"
password = "${{env:{variable}}}"
binds = 2
window = 100
max_tps = {max_tps}
"""

_ROUTE_TOML = """
[[route]]
id = "{carrier}"
match = {{ country = "CN", carrier = "{carrier}" }}
channels = [{{ id = "{network}-a", rank = 0 }}, {{ id = "{network}-b", rank = 1 }}]
"""

_ACCOUNT_TOML = """
[[account]]
id = "demo"
key_hashes = ["{key_hash}"]
senders = ["106900001"]
signature = "【Demo】"
default_country = "CN"
"""


def write_demo_config(folder: Path, *, max_tps: int) -> tuple[Settings, dict[str, str], str]:
    """Write the demonstration's configuration; return (settings, environment with its secrets, API key)."""
    key, key_hash = new_key()
    config_dir = folder / "config"
    config_dir.mkdir(mode=0o700)
    channels = [(f"{network}-{rank}", free_port()) for network in _NETWORKS for rank in "ab"]
    files = {
        "gateway": _GATEWAY_TOML.format(data_dir=folder / "data", api_port=free_port(), admin_port=free_port()),
        "channels": "".join(
            _CHANNEL_TOML.format(
                id=name, port=port, max_tps=max_tps, variable=name.replace("-", "_").upper() + "_PASSWORD"
            )
            for name, port in channels
        ),
        "routes": "".join(
            _ROUTE_TOML.format(carrier=carrier, network=network) for network, carrier in _NETWORKS.items()
        ),
        "accounts": _ACCOUNT_TOML.format(key_hash=key_hash),
    }
    for name, text in files.items():
        (config_dir / f"{name}.toml").write_text(text, encoding="utf-8")
    env = secret_environment(config_dir)
    return load(config_dir, env), env, key
