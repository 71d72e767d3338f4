"""A dispatch worker as a process of its own, for scenarios that stop or kill one: `python -m` this with its arguments.

    python -m tests.support.dispatch_process STORE_URL NAME LEASE_S PORT [max_tps=40 window=20 ...]

One channel `a` on route `r`, with what the test changes. Ends with status 3 when it was taken for dead.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

from gateway.dispatch import lease
from gateway.model import Secret
from gateway.settings import ChannelSettings
from gateway.store import moves
from gateway.store.store import Store
from tests.support.line import Worker, line_settings

LOST = 3


def arguments_of(url: str, name: str, lease_s: float, port: int, **changes: Any) -> list[str]:
    """Return the command line of one such process."""
    values = [f"{key}={value}" for key, value in changes.items()]
    return [sys.executable, "-m", "tests.support.dispatch_process", url, name, str(lease_s), str(port), *values]


async def _run(url: str, name: str, lease_s: float, port: int, changes: dict[str, int]) -> None:
    moves.LEASE_MS = int(lease_s * 1000)
    lease._LEASE_S, lease.HEARTBEAT_S = lease_s, lease_s / 10  # type: ignore[misc]
    channel = ChannelSettings(
        id="a",
        host="127.0.0.1",
        port=port,
        system_id="acme",
        password=Secret("secret"),
        window=50,
        response_timer_s=5.0,
    )
    settings = line_settings([replace(channel, **changes)])
    worker = Worker(settings, await Store.open(settings, url, incarnation=name))
    worker._on_lost = lambda: os._exit(LOST)  # type: ignore[method-assign]
    worker.dispatcher._on_lost = worker._on_lost
    await worker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, url, name, lease_s, port, *rest = sys.argv
    asyncio.run(_run(url, name, float(lease_s), int(port), {k: int(v) for k, v in (x.split("=") for x in rest)}))
