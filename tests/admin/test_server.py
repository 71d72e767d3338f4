"""The admin listener: who may ask what, health, metrics, and answers that repeat nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin import server as admin_server
from gateway.admin.server import AdminServer
from gateway.errors import StoreUnavailable
from gateway.metrics import GaugeReading, Metrics, MetricsHub
from gateway.model import Secret
from gateway.settings import AccountSettings, AdminSettings, Settings
from gateway.worker import address_of, bind_listener

TOKEN = "a-long-admin-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}


class Peer:
    """An admin server on a free port, and what a test changes about it; its store too, of which gates are asked."""

    client: Any = None
    prefixes: ClassVar[list[str]] = ["gw:{s00}:"]

    def __init__(self, directory: Path) -> None:
        self.reasons: list[str] = []
        self.fault: Exception | None = None
        self.readings = [GaugeReading("queue_depth", ("cn", "0", "marketing"), 7)]
        self.settings = Settings(
            config_dir=directory,
            admin=AdminSettings(port=0, token=Secret(TOKEN)),
            accounts=(AccountSettings(id="shop"),),
        )
        self.hub = MetricsHub(directory / "metrics", own=Metrics("admin", "0", "own"))
        self.base = ""
        self.slow: Any = None
        self.server: AdminServer | None = None

    async def start(self, **admin: Any) -> None:
        self.settings = replace(self.settings, admin=replace(self.settings.admin, **admin))
        self.server = AdminServer(self.settings, self.hub, self, self._why, self._read)
        listener = bind_listener("admin", "127.0.0.1", 0)
        self.base = f"http://{address_of(listener)}"
        await self.server.start(listener)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()

    async def _why(self) -> list[str]:
        return self.reasons if self.slow is None else list(await self.slow())

    async def _read(self) -> list[GaugeReading]:
        return self.readings

    async def gates(self) -> dict[str, dict[str, Any]]:
        if self.fault is not None:
            raise self.fault
        return {}

    async def set_gate(self, kind: str, name: str, state: str) -> dict[str, int]:
        raise AssertionError

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, data: Any = None
    ) -> tuple[int, str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.base + path, headers=headers, data=data) as answer,
        ):
            return answer.status, await answer.text(), answer.headers

    async def raw(self, octets: bytes) -> bytes:
        host, _, port = self.base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(octets)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    made = Peer(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_livez_asks_nobody_and_depends_on_nothing(peer: Peer) -> None:
    peer.reasons = ["store: does not answer"]
    status, text, headers = await peer.ask("GET", "/livez")
    assert (status, text) == (200, '{"live":true}')
    assert headers["Server"] == "smsgw"


async def test_readyz_gives_reasons_to_the_token_only(peer: Peer) -> None:
    assert (await peer.ask("GET", "/readyz"))[:2] == (200, '{"ready":true}')
    peer.reasons = ["store: appendfsync: is everysec"]
    assert (await peer.ask("GET", "/readyz"))[:2] == (503, '{"ready":false}')
    wrong = {"Authorization": "Bearer wrong"}
    assert (await peer.ask("GET", "/readyz", headers=wrong))[:2] == (503, '{"ready":false}')
    status, text, _ = await peer.ask("GET", "/readyz", headers=AUTH)
    assert (status, text) == (503, '{"ready":false,"reasons":["store: appendfsync: is everysec"]}')


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
    ],
)
async def test_the_admin_api_needs_the_token(peer: Peer, headers: dict[str, str]) -> None:
    status, text, answered = await peer.ask("GET", "/admin/v1/gates", headers=headers)
    assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
    assert TOKEN not in text


async def test_without_a_configured_token_nobody_gets_in(tmp_path: Path) -> None:
    peer = Peer(tmp_path)
    await peer.start(token=None)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        assert (await peer.ask("GET", "/admin/v1/gates", headers=headers))[0] == 401
    await peer.stop()


async def test_metrics_are_open_on_loopback_and_closed_elsewhere(tmp_path: Path) -> None:
    peer = Peer(tmp_path)
    await peer.start()
    status, text, headers = await peer.ask("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    samples = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["smsgw_queue_depth"] == 7
    assert samples["smsgw_worker_up"] == 1
    assert (await peer.ask("GET", "/metrics", headers={"Authorization": "Bearer wrong"}))[0] == 401
    await peer.stop()
    outside = Peer(tmp_path)
    await outside.start(host="0.0.0.0")
    assert (await outside.ask("GET", "/metrics"))[0] == 401
    assert (await outside.ask("GET", "/metrics", headers=AUTH))[0] == 200
    await outside.stop()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/admin/v1/%F0%9F%92%A9", 404, "not_found"),
        ("POST", "/admin/v1/gates", 405, "method_not_allowed"),
        ("DELETE", "/metrics", 405, "method_not_allowed"),
    ],
)
async def test_unknown_paths_and_methods_are_problems(
    peer: Peer, method: str, path: str, status: int, code: str
) -> None:
    got, text, headers = await peer.ask(method, path, headers=AUTH)
    assert got == status
    assert headers["Content-Type"].startswith("application/problem+json")
    assert f'"code":"{code}"' in text
    assert "nothing" not in text


@pytest.mark.parametrize(
    "octets",
    [
        b"NONSENSE canary\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nbad header canary\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\ncanary\x00: 1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: canary\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_that_repeats_nothing(peer: Peer, octets: bytes) -> None:
    answer = await peer.raw(octets)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"problem+json" in answer
    assert b"canary" not in answer
    assert b"aiohttp" not in answer


async def test_a_fault_of_ours_is_500_and_says_nothing(peer: Peer) -> None:
    peer.fault = RuntimeError("number 8613800138000")
    status, text, _ = await peer.ask("GET", "/admin/v1/gates", headers=AUTH)
    assert (status, "8613800138000" in text) == (500, False)


async def test_a_store_that_is_down_is_503_with_its_outcome(peer: Peer) -> None:
    peer.fault = StoreUnavailable("the store did not answer in time")
    status, text, headers = await peer.ask("GET", "/admin/v1/gates", headers=AUTH)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert '"outcome":"unknown"' in text


async def test_a_silent_connection_is_closed(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "REQUEST_LIMIT_S", 0.05)
    assert await peer.raw(b"GET /livez HTTP/1.1\r\nHost:") == b""
    assert (await peer.ask("GET", "/livez"))[0] == 200


async def test_connections_are_limited(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 2)
    host, _, port = peer.base.removeprefix("http://").partition(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    for _, writer in held:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader, _ in held:
        assert b"200" in await reader.readuntil(b"\r\n")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert await _ended(reader)
    writer.close()
    for _, one in held:
        one.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


async def test_another_server_takes_over_while_a_request_runs(peer: Peer) -> None:
    """As at a reload: what runs ends where it began, what comes is answered by the new one, the port stays open."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> list[str]:
        began.set()
        await go_on.wait()
        return ["the old one"]

    peer.slow = slow
    assert peer.server is not None
    other = replace(peer.settings, admin=replace(peer.settings.admin, token=Secret("another-long-token")))
    successor = AdminServer(other, peer.hub, peer, peer._why, peer._read)
    new = {"Authorization": "Bearer another-long-token"}
    async with aiohttp.ClientSession(peer.base) as idle, aiohttp.ClientSession(peer.base) as busy:
        async with idle.get("/admin/v1/gates", headers=AUTH) as answer:
            assert answer.status == 200
        running = asyncio.create_task(busy.get("/readyz", headers=AUTH))
        await began.wait()
        await successor.prepared()
        peer.server.hand_over(successor)
        peer.slow = None
        for headers, status in ((new, 200), (AUTH, 401)):
            async with idle.get("/admin/v1/gates", headers=headers) as answer:
                assert answer.status == status
        go_on.set()
        async with await running as answer:
            assert (answer.status, await answer.json()) == (503, {"ready": False, "reasons": ["the old one"]})
        async with busy.get("/admin/v1/gates", headers=new) as answer:
            assert answer.status == 200
