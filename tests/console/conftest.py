"""A real admin listener with the console, over a real store: shared by the tests of one file's topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import web

from gateway.admin import server as admin_server
from gateway.admin.steering import endpoints
from gateway.console.door import Console
from gateway.console.parts import Parts
from gateway.model import Secret
from gateway.routing.loader import build_router
from gateway.settings import AdminSettings, ConsoleSettings, OperatorSettings, Settings
from gateway.store.audit import Audit, Entry
from gateway.store.console_users import User
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates.registry import Templates
from tests.support.admin import admin_listener
from tests.support.door import PASSWORD, Browser, quick
from tests.support.valkey import ValkeyServer

PLAIN, LI = "the-plain-token", "token-of-an-operator"
BEARER = {"Authorization": f"Bearer {PLAIN}"}


@dataclass
class World:
    """One listener, its parts and its store."""

    base: str
    parts: Parts
    store: Store
    valkey: ValkeyServer
    stack: AsyncExitStack
    app: web.Application
    users: dict[str, User] = field(default_factory=dict)

    async def browser(self, name: str = "", address: str = "") -> Browser:
        """Return a browser; signed in where a user is named, who is made with that role where there is none."""
        made = await self.stack.enter_async_context(Browser(self.base, address))
        if name:
            await self.user(name)
            status, said = await made.sign_in(name)
            assert status == 200, said
        return made

    async def user(self, name: str, role: str = "") -> User:
        """Return a user; the first of a name is made with the role of that name, else as an operator."""
        if name not in self.users:
            role = role or (name if name in ("viewer", "operator", "admin") else "operator")
            user = User(name, role, await self.parts.passwords.hash(PASSWORD), created_ms=1, changed_ms=1)
            assert (await self.parts.users.add(user)).word == "ok"
            self.users[name] = user
        return self.users[name]

    async def token(self, method: str, path: str, body: Any = None, token: str = PLAIN) -> tuple[int, Any]:
        """Ask with a token, as the command line does."""
        plain = await self.browser()
        return await plain.ask(method, path, body, drop=("Origin", "Sec-Fetch-Site"), Authorization=f"Bearer {token}")

    async def entries(self, action: str = "") -> list[Entry]:
        found = await Audit(self.store).read(1000)
        return [entry for entry in found if not action or entry.action == action]

    def move_sessions(self, which: int, seconds: float) -> None:
        """Put one time (2 begun, 3 used, 4 password checked) of all sessions so long into the past."""
        self.parts.sessions.forget()
        with self.valkey.sync() as client:
            sessions = client.hgetall("gw:{console}:sessions")
            for id_, raw in sessions.items():
                fields = raw.split(b"\x1f")
                fields[which] = str(int(fields[which]) - int(seconds * 1000)).encode()
                client.hset("gw:{console}:sessions", id_, b"\x1f".join(fields))

    def move_tries(self, seconds: float) -> None:
        """Put the last tries to sign in so long into the past."""
        with self.valkey.sync() as client:
            for key in client.keys("gw:{console}:tries:*"):
                client.hincrby(key, "last", -int(seconds * 1000))

    def raw(self) -> redis.Redis:
        return self.valkey.sync()


Open = Callable[..., Any]


@pytest.fixture
async def opened(
    store: Store, valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Open]:
    """Return a function that serves with console settings, and endpoints, of a test's own."""
    made: list[web.Application] = []

    class Noted(web.AppRunner):
        def __init__(self, app: web.Application, **options: Any) -> None:
            made.append(app)
            super().__init__(app, **options)

    monkeypatch.setattr(admin_server.web, "AppRunner", Noted)
    async with AsyncExitStack() as stack:

        async def serve(more: Iterable[web.RouteDef] = (), **console: Any) -> World:
            operators = (OperatorSettings("li", Secret(LI), "operator"),)
            settings = replace(
                Settings(tmp_path),
                admin=AdminSettings(token=Secret(PLAIN), operators=operators),
                console=ConsoleSettings(**console),
            )
            audit = Audit(store)
            parts = Parts.over(store, audit, tmp_path, quick())
            stack.push_async_callback(parts.sessions.close)
            router, templates = build_router(settings), Templates([], TemplateStore(store), hold_s=0.0)
            served = endpoints(settings, store, router, templates, audit, _NoConfig())  # type: ignore[arg-type]
            door = Console(settings.console, parts)
            address = await stack.enter_async_context(
                admin_listener(settings, store, tmp_path, router, [*served, *more], door)
            )
            return World(f"http://{address}", parts, store, valkey, stack, made[-1])

        yield serve


@pytest.fixture
async def world(opened: Open) -> World:
    found: World = await opened()
    return found


class _NoConfig:
    """The configuration's endpoints want a publisher, whose tests are tests/reload's."""

    @staticmethod
    def routes() -> list[Any]:
        return []
