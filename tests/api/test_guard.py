"""Slow and many connections, with shortened timers; stopping; a store that fails or hangs."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.api.conftest import Api, message
from tests.api.raw import Raw, post_head
from tests.support.until import until
from tests.support.valkey import ValkeyServer

BODY = orjson.dumps(message(1))
POST = post_head(b"Content-Length: %d" % len(BODY)) + BODY


@pytest.fixture
def api_overrides() -> dict[str, Any]:
    return {
        "header_timeout_s": 0.4,
        "body_timeout_s": 0.5,
        "idle_timeout_s": 0.8,
        "handler_timeout_s": 1.0,
        "max_connections": 40,
        "max_connections_per_ip": 30,
    }


@pytest.fixture
async def drip() -> AsyncIterator[set[asyncio.Task[None]]]:
    """Tasks that send slowly; ended with the test."""
    tasks: set[asyncio.Task[None]] = set()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def send_slowly(raw: Raw, data: bytes) -> asyncio.Task[None]:
    """Send an octet at once, the others one after the other: a stall of the machine is no silence from the start."""
    raw.send(data[:1])

    async def drips() -> None:
        for i in range(1, len(data)):
            await asyncio.sleep(0.02)
            raw.send(data[i : i + 1])

    return asyncio.create_task(drips())


def closed_for(api: Api) -> dict[str, float]:
    cells = api.metrics.snapshot()["cells"]
    return {labels[0]: n for name, labels, n in cells if name == "http_connections_closed_total"}


async def test_a_silent_connection_is_closed(api: Api) -> None:
    started = time.monotonic()
    async with Raw(api.port) as raw:
        assert await raw.rest() == b""
    assert 0.3 < time.monotonic() - started < 2
    assert closed_for(api) == {"header_timeout": 1}


async def test_a_slow_header_gets_408(api: Api, drip: set[asyncio.Task[None]]) -> None:
    async with Raw(api.port) as raw:
        drip.add(send_slowly(raw, POST))
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
        assert await raw.rest() == b""


async def test_blank_lines_do_not_keep_a_connection(api: Api, drip: set[asyncio.Task[None]]) -> None:
    async with Raw(api.port) as raw:
        drip.add(send_slowly(raw, b"\r\n" * 500))
        assert b" 408 " in await raw.rest()


async def test_a_slow_body_gets_408(api: Api, drip: set[asyncio.Task[None]]) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Content-Length: 60000"))
        drip.add(send_slowly(raw, b" " * 60000))
        answer = await raw.answer()
        assert (answer.status, answer.problem["outcome"]) == (408, "not_stored")
        assert await raw.rest() == b""
    assert closed_for(api) == {"body_timeout": 1}


async def test_a_body_that_never_comes(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Content-Length: 10"))
        assert (await raw.answer()).status == 408
        assert await raw.rest() == b""


async def test_an_idle_connection_is_closed_later(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(POST)
        assert (await raw.answer()).status == 202
        started = time.monotonic()
        assert await raw.rest() == b""
        assert time.monotonic() - started > 0.6  # idle, not header


async def test_a_second_request_may_not_be_slow_either(api: Api, drip: set[asyncio.Task[None]]) -> None:
    async with Raw(api.port) as raw:
        raw.send(POST)
        assert (await raw.answer()).status == 202
        drip.add(send_slowly(raw, POST))
        assert (await raw.answer()).status == 408


async def test_an_endless_header_gets_431(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for i in range(3):
            raw.send(b"X-%d: %b\r\n" % (i, b"a" * 7000))
            await raw.writer.drain()
            await asyncio.sleep(0.02)
        assert b" 431 " in (await raw.rest())[:20]


async def test_others_are_served_while_many_are_slow(api: Api) -> None:
    slow = [Raw(api.port) for _ in range(25)]
    for raw in slow:
        await raw.__aenter__()
        raw.send(b"POST ")
    assert [(await api.post(message(i)))[0] for i in range(20)] == [202] * 20
    await asyncio.gather(*(raw.rest() for raw in slow))
    await until(lambda: closed_for(api).get("header_timeout") == 25)
    for raw in slow:
        raw.writer.close()


async def test_connections_of_one_address_are_limited(api: Api) -> None:
    held = [Raw(api.port) for _ in range(30)]
    for raw in held:
        await raw.__aenter__()
        raw.send(POST)
        assert (await raw.answer()).status == 202
    async with Raw(api.port) as raw:
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"]) == (503, "too_many_connections")
        assert b"Retry-After: 1\r\n" in answer.head
        assert await raw.rest() == b""
    for raw in held:
        raw.writer.close()
    await until(lambda: api.metrics.gauge("http_connections").n == 0)
    assert (await api.post(message(1)))[0] == 202


async def test_draining_refuses_new_requests_and_ends_running_ones(api: Api, valkey_server: ValkeyServer) -> None:
    async with Raw(api.port) as running, Raw(api.port) as waiting:
        waiting.send(POST)
        assert (await waiting.answer()).status == 202
        valkey_server.signal(signal.SIGSTOP)
        try:
            running.send(POST)
            await until(lambda: api.server._running)
            draining = asyncio.create_task(api.server.drain(5))
            await until(lambda: api.server._draining)
            waiting.send(POST)
            answer = await waiting.answer()
            assert (answer.status, answer.problem["code"]) == (503, "draining")
            assert answer.problem["outcome"] == "not_stored"
            assert b"Retry-After" in answer.head
            assert not draining.done()
        finally:
            valkey_server.signal(signal.SIGCONT)
        assert (await running.answer()).status == 202
        await draining
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", api.port)


async def test_a_hanging_store_is_answered_with_unknown(api: Api, valkey_server: ValkeyServer) -> None:
    valkey_server.signal(signal.SIGSTOP)
    try:
        status, problem, headers = await api.post(message(1, ref="a"))
    finally:
        valkey_server.signal(signal.SIGCONT)
    assert (status, problem["code"], problem["outcome"]) == (503, "store_unavailable", "unknown")
    assert "Retry-After" in headers

    async def stored() -> bool:
        return (await api.post(message(1, ref="a")))[0] == 202

    await until(stored)
    _, found, _ = await api.call("GET", "/v1/messages?to=13800000001")
    assert len(found["messages"]) == 1


async def test_a_store_that_is_not_ready_stores_nothing(api: Api) -> None:
    api.store.set_problems(["appendfsync is everysec"])
    status, problem, _ = await api.post(message(1))
    assert (status, problem["code"], problem["outcome"]) == (503, "store_unavailable", "not_stored")
    assert "appendfsync" not in str(problem)
    status, problem, _ = await api.batch([message(1), message(2)])
    assert (status, problem["outcome"]) == (503, "not_stored")
    status, body, _ = await api.batch([message(1), 5])
    assert (status, body["accepted"]) == (202, 0)


async def test_a_fault_of_ours_is_answered_in_the_same_shape(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(sid: bytes) -> None:
        raise ValueError("+8613800138000")

    monkeypatch.setattr(api.store, "get", broken)
    status, problem, _ = await api.call("GET", "/v1/messages/01936d2e-0000-7000-8000-000000000000")
    assert (status, problem["code"], problem["outcome"]) == (500, "internal", "unknown")
    assert "ValueError" in caplog.text
    assert "13800138000" not in caplog.text + str(problem)
