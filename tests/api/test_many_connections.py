"""Two thousand silent connections: closed in time, others served meanwhile, their descriptors given back."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Api, message
from tests.support.until import until

SILENT = 2000
NEEDED = 2 * SILENT + 200  # both ends live in this process


@pytest.fixture
def api_overrides() -> dict[str, Any]:
    return {"header_timeout_s": 2.0}


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED:
        pytest.skip(f"needs {NEEDED} file descriptors, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NEEDED), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_two_thousand_silent_connections(api: Api) -> None:
    before = open_descriptors()
    silent: list[socket.socket] = []
    gauge = api.metrics.gauge("http_connections")
    for wanted in range(100, SILENT + 1, 100):
        silent += [socket.create_connection(("127.0.0.1", api.port)) for _ in range(100)]
        await until(lambda wanted=wanted: gauge.n >= wanted)
    assert [(await api.post(message(i)))[0] for i in range(5)] == [202] * 5
    await until(lambda: gauge.n <= 1)
    closed = api.metrics.counter("http_connections_closed_total", cause="header_timeout")
    assert closed.n == SILENT
    for one in silent:
        one.close()
    await until(lambda: open_descriptors() <= before + 5)
