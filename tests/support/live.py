"""The console's figures over a real store without the processes around it: sampler, streams and an admin listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.admin.events_v1 import EventStreams
from gateway.admin.live import Live
from gateway.admin.server import AdminServer
from gateway.admin.steering import live_endpoints
from gateway.metrics import GaugeReading, Metrics, MetricsHub
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.store import Store
from gateway.worker import address_of, bind_listener


@dataclass
class Desk:
    """A listener with the figures behind it; what it cannot have here (readiness, configuration) is set by hand."""

    live: Live
    streams: EventStreams
    metrics: Metrics
    server: AdminServer
    address: str
    reasons: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}", headers=_AUTH) as a:
            return a.status, orjson.loads(await a.read())

    async def put(self, path: str, body: Any) -> tuple[int, Any]:
        url = f"http://{self.address}{path}"
        async with aiohttp.ClientSession() as session, session.put(url, json=body, headers=_AUTH) as a:
            return a.status, orjson.loads(await a.read())


_AUTH = {"Authorization": "Bearer the-token-of-tests"}


@contextlib.asynccontextmanager
async def desk(settings: Settings, store: Store, folder: Path, *, most: int = 64) -> AsyncIterator[Desk]:
    """Serve for a block; the token is `the-token-of-tests`, as `settings.admin` must say."""
    reasons: list[str] = []
    config: dict[str, Any] = {}

    async def said() -> list[str]:
        return reasons

    async def configured() -> dict[str, Any]:
        return config

    async def readings() -> list[GaugeReading]:
        return []

    metrics = Metrics("dispatch", "0", "of-the-desk")
    hub = MetricsHub(folder, own=metrics)
    live = Live(settings, store, hub, said, configured, machine="test")
    streams = EventStreams(live, most=most)
    audit = Audit(store)
    more = live_endpoints(live, streams, store, audit)
    server = AdminServer(settings, hub, store, said, readings, None, more, audit, None, live)
    listener = bind_listener("admin", "127.0.0.1", 0)
    await server.start(listener)
    running = asyncio.create_task(live.run())
    try:
        yield Desk(live, streams, metrics, server, address_of(listener), reasons, config)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        streams.end("stopping")
        await server.stop()


@dataclass
class Events:
    """One reader of a stream; `seen` has (name, id, data) of each event, `raw` the octets."""

    seen: list[tuple[str, str, Any]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    ended: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def named(self, name: str) -> list[Any]:
        return [data for one, _, data in self.seen if one == name]

    @property
    def last(self) -> Any:
        """The data of the latest overview."""
        found = self.named("overview")
        return found[-1] if found else None


@contextlib.asynccontextmanager
async def reading(
    address: str, topics: str = "overview,channels", *, headers: dict[str, str] | None = None
) -> AsyncIterator[Events]:
    """Read a stream for a block, as a browser does."""
    events = Events()
    url = f"http://{address}/admin/v1/events?topics={topics}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        async with session.get(url, headers=headers or _AUTH) as answer:
            events.status, events.headers = answer.status, dict(answer.headers)
            task = asyncio.create_task(_read(answer, events))
            try:
                yield events
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def _read(answer: aiohttp.ClientResponse, events: Events) -> None:
    rest = b""
    try:
        async for chunk in answer.content.iter_any():
            events.raw += chunk
            *whole, rest = (rest + chunk).split(b"\n\n")
            for block in whole:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
                if b"event" in fields:
                    data = orjson.loads(fields[b"data"])
                    events.seen.append((fields[b"event"].decode(), fields.get(b"id", b"").decode(), data))
    except (aiohttp.ClientError, ConnectionError):
        pass
    events.ended = True
