"""A running API on a real store: settings with two accounts, a server on a free port, a client with a key."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.api.server import ApiServer
from gateway.apikey import key_hash
from gateway.intake import Intake
from gateway.metrics import Metrics
from gateway.model import Category, Secret
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    ApiSettings,
    CategorySettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
)
from gateway.store.limits import AccountLimiter
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer

KEY = "sg_live_shop_0123456789012345678901234567890123456789012"
OTHER_KEY = "sg_live_bank_0123456789012345678901234567890123456789012"
LIMITED_KEY = "sg_live_slow_0123456789012345678901234567890123456789012"
SEGMENTS = Path(__file__).parents[2] / "config" / "number_segments" / "cn.csv"


def api_settings(**api: Any) -> Settings:
    """Settings of the tests: no per-number limits, accounts shop, bank and slow."""
    uncapped = {
        Category.VERIFICATION: CategorySettings(ttl_s=300, on_uncertain="resend", max_attempts=3),
        Category.NOTIFICATION: CategorySettings(ttl_s=86_400, on_uncertain="resend", max_attempts=3),
        Category.MARKETING: CategorySettings(ttl_s=172_800, on_uncertain="hold", max_attempts=3),
    }
    channel = ChannelSettings("a", "127.0.0.1", 2775, "esme", Secret("pw"))
    return Settings(
        config_dir=Path("config"),
        api=replace(ApiSettings(), **api),
        categories=uncapped,
        channels=(channel,),
        routes=(
            RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0),)),
            RouteSettings("gb", RouteMatch(prefix="44"), (RankedChannel("a", 0),)),
        ),
        accounts=(
            AccountSettings("shop", (key_hash(KEY),), senders=("106900001", "Acme")),
            AccountSettings("bank", (key_hash(OTHER_KEY),), frozenset({Category.VERIFICATION}), signature="【Bank】"),
            AccountSettings("slow", (key_hash(LIMITED_KEY),), max_per_s=5, daily_quota=100),
        ),
        number_segments_files={"CN": SEGMENTS},
    )


@dataclass
class Api:
    """One running server and what stands behind it."""

    server: ApiServer
    settings: Settings
    store: Store
    intake: Intake
    metrics: Metrics
    port: int
    session: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str
    ) -> tuple[int, Any, Any]:
        """Send one request; return status, decoded body, headers."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            body = body if isinstance(body, bytes) else orjson.dumps(body)
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=body, headers=sent) as answer:
            raw = await answer.read()
            is_json = "json" in answer.content_type
            return answer.status, orjson.loads(raw) if is_json else raw, answer.headers

    async def post(self, body: Any, **headers: Any) -> tuple[int, Any, Any]:
        return await self.call("POST", "/v1/messages", body, **headers)

    async def batch(self, messages: list[Any], **rest: Any) -> tuple[int, Any, Any]:
        headers = {k: rest.pop(k) for k in list(rest) if k in ("key", "Idempotency_Key")}
        return await self.call("POST", "/v1/messages/batch", {"messages": messages, **rest}, **headers)


async def start_api(store: Store, settings: Settings, session: aiohttp.ClientSession) -> Api:
    """Start a server on a free port."""
    metrics = Metrics("api", "0")
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), metrics)
    server = ApiServer(settings, intake, store, metrics)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start(listening)
    return Api(server, settings, store, intake, metrics, listening.getsockname()[1], session)


@pytest.fixture
def api_overrides() -> dict[str, Any]:
    """Values of [api] that a test module changes (shorter timers, smaller limits)."""
    return {}


@pytest.fixture
async def api(valkey: ValkeyServer, api_overrides: dict[str, Any]) -> AsyncIterator[Api]:
    settings = api_settings(**api_overrides)
    store = await Store.open(settings, valkey.url, incarnation="api00001")
    async with aiohttp.ClientSession() as session:
        running = await start_api(store, settings, session)
        yield running
        await running.server.stop()
    await store.close()


def message(i: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a message to a number of its own."""
    return {"to": f"+86138{i:08d}", "category": "notification", "text": "hello", **changes}
