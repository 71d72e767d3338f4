"""An application's endpoint for webhook tests: a real listener that keeps every call and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web


@dataclass
class Call:
    """One call as it came."""

    headers: dict[str, str]
    raw: bytes
    request: web.BaseRequest
    path: str = "/"

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def ids(self) -> list[str]:
        """The ids of all its events."""
        body = self.body
        return [event["id"] for event in body["events"]] if body["type"] == "batch" else [self.id]


@dataclass
class Sink:
    """`async with Sink() as sink:`; `respond` is what it answers: a status, a response, or a function of the call."""

    respond: Any = 204
    tls: ssl.SSLContext | None = None
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    now: int = 0
    most: int = 0
    _runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """The ids of all events of all calls, in the order in which they came."""
        return [one for call in self.calls for one in call.ids]

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, access_log=None)  # type: ignore[arg-type]
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            call = Call(headers, await request.read(), request, request.path)
            self.calls.append(call)
            answer = self.respond
            if callable(answer):
                answer = answer(call)
                if asyncio.iscoroutine(answer):
                    answer = await answer
            return web.Response(status=answer) if isinstance(answer, int) else answer
        finally:
            self.now -= 1
