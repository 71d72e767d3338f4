"""What open consoles cost: CPU time of the admin worker with 100 channels and traffic, without and with streams.

    python loadtests/console_streams.py --channels 100 --streams 20 --seconds 30

Starts a gateway of its own with two simulated carriers, on which all channels are bound, sends single messages at a
steady rate, and reads the process times of the admin worker (user and system, psutil) over each half: nobody looks,
then the streams are open and read. Prints one JSON object; shares are of one core. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

_AUTH = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
SETTLE_S = 12.0
"""After the last look somebody counts as looking for ten seconds more."""


async def measure(channels: int, streams: int, seconds: float, every_s: float) -> dict[str, Any]:
    """Return the figures of one run."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smsgw-bench-")))
        carriers = [await stack.enter_async_context(carrier(receipt_delay_s=0.2)) for _ in range(2)]
        ports = {f"ch-{i:03d}": carriers[i % 2].port for i in range(channels)}
        gateway = AuditedGateway(folder, ports, wait=False)
        share_channels(gateway, list(ports))
        await stack.enter_async_context(gateway)
        await until(lambda: is_ready(gateway), timeout_s=120, every_s=0.5)
        await until(lambda: sum(c.counters.binds for c in carriers) >= channels, timeout_s=60)
        traffic = await stack.enter_async_context(gateway.traffic(clients=2, batch=10, every_s=every_s))
        (admin,) = gateway.workers("admin")
        await asyncio.sleep(SETTLE_S)
        idle, before = await _cpu(admin, seconds, traffic)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        octets = [0] * streams
        readers = [asyncio.create_task(_read(session, gateway.admin_port, octets, i)) for i in range(streams)]
        await until(lambda: all(octets), timeout_s=30)
        began = sum(octets)
        busy, after = await _cpu(admin, seconds, traffic)
        read = sum(octets) - began
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        return {
            "channels": channels,
            "streams": streams,
            "seconds": seconds,
            "messages_per_s": [before, after],
            "admin_without_streams": idle,
            "admin_with_streams": busy,
            "octets_a_stream_and_second": round(read / max(1, streams) / seconds),
        }


async def is_ready(gateway: AuditedGateway) -> bool:
    assert gateway.process is not None
    assert gateway.process.returncode is None, gateway.log()
    return (await gateway.readyz())[0] == 200


def share_channels(gateway: AuditedGateway, channels: list[str]) -> None:
    """Let a route for each prefix of four digits take some of the channels, all of one rank: all of them are used."""
    routes = []
    for i in range(10):
        some = ", ".join(f'{{ id = "{name}", rank = 0 }}' for name in channels[i::10])
        routes.append(
            f'[[route]]\nid = "cn-{i}"\nmatch = {{ country = "CN", prefix = "+861380000{i}" }}\nchannels = [{some}]\n'
        )
    first = ", ".join(f'{{ id = "{name}", rank = 0 }}' for name in channels[:10])
    routes.append(f'[[route]]\nid = "cn"\nmatch = {{ country = "CN" }}\nchannels = [{first}]\n')
    (gateway.config_dir / "routes.toml").write_text("\n".join(routes), encoding="utf-8")


async def _cpu(worker: psutil.Process, seconds: float, traffic: Any) -> tuple[float, float]:
    """Return the share of a core a process used, and the messages a second meanwhile."""
    began, accepted, times = time.monotonic(), traffic.accepted, worker.cpu_times()
    await asyncio.sleep(seconds)
    now, took = worker.cpu_times(), time.monotonic() - began
    used = now.user + now.system - times.user - times.system
    return round(used / took, 4), round((traffic.accepted - accepted) / took, 1)


async def _read(session: aiohttp.ClientSession, port: int, octets: list[int], i: int) -> None:
    async with session.get(f"http://127.0.0.1:{port}/admin/v1/events", headers=_AUTH) as answer:
        async for chunk in answer.content.iter_any():
            octets[i] += len(chunk)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="CPU of the admin worker with and without open consoles.")
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=0.2, help="Pause of each of two clients between posts (s).")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.channels, given.streams, given.seconds, given.every)), indent=1))


if __name__ == "__main__":
    main()
