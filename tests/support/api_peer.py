"""The HTTP API as a client meets it: keeps what it accepts by ref, and misbehaves on request.

A scripted peer for tests of the client and of `smsgw send`; the gateway's own API has its tests elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.until import until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiPeer:
    """Listens on a free port. `faults` are taken one a request, in order, before normal service.

    A fault is an HTTP status, "cut" (close before anything is stored), "lost" (store, then close without an
    answer), "hang" (no answer until the peer ends), "odd" (200 and no JSON), "elsewhere" (a redirect) or "busy" (a 202
    whose every item is refused as overloaded). `retry_after` is what refusals by status ask for.
    """

    def __init__(self, key: str = "k") -> None:
        self.key = key
        self.faults: list[int | str] = []
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}  # (ref, to) → message
        self.posts: Counter[tuple[str, str]] = Counter()
        self.keys: list[str] = []
        self.told: dict[tuple[str, str], dict[str, Any]] = {}  # (message id, event_id) → feedback
        self.refuse: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda message: None
        self.retry_after = "0"
        self.looked_up: list[str] = []
        self.bodies: list[int] = []  # sizes
        self.now = self.most = 0  # calls under way, and the most at once
        self.hold: asyncio.Event | None = None  # set: requests wait for it
        self.url = ""
        self._end = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/v1/messages", self._one)
        app.router.add_post("/v1/messages/batch", self._batch)
        app.router.add_get("/v1/messages/{id}", self._get)
        app.router.add_post("/v1/messages/{id}/feedback", self._feedback)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        await self._runner.cleanup()

    async def close_idle(self) -> None:
        """Close every connection that waits for a request, as a gateway does after its idle time."""
        server = self._runner.server
        assert server is not None
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.close()
        await until(lambda: not server.connections)

    async def _one(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, lambda body: self._accept(body, request.headers))

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        def accept(body: dict[str, Any]) -> dict[str, Any]:
            results = [self._accept(message, request.headers, i) for i, message in enumerate(body["messages"])]
            return {"results": results}

        return await self._serve(request, accept)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.looked_up.append(request.match_info["id"])
        for message in self.stored.values():
            if message["id"] == request.match_info["id"]:
                return web.json_response({"id": message["id"], "state": "delivered", "reason": {"code": "ok"}})
        return _problem(404, "not_found")

    async def _feedback(self, request: web.Request) -> web.StreamResponse:
        def accept(body: dict[str, Any]) -> dict[str, Any]:
            event = (request.match_info["id"], body["event_id"])
            repeated = event in self.told
            self.told.setdefault(event, body)
            return {"id": event[0], "event_id": event[1], "outcome": body["outcome"], "repeated": repeated}

        return await self._serve(request, accept, status=200)

    async def _serve(
        self, request: web.Request, accept: Callable[[dict[str, Any]], dict[str, Any]], *, status: int = 202
    ) -> web.StreamResponse:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._served(request, accept, status)
        finally:
            self.now -= 1

    async def _served(
        self, request: web.Request, accept: Callable[[dict[str, Any]], dict[str, Any]], status: int
    ) -> web.StreamResponse:
        self.bodies.append(len(await request.read()))
        body = await request.json()
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        if self.hold is not None:
            await self.hold.wait()
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return _problem(401, "unauthorized")
        fault = self.faults.pop(0) if self.faults else None
        scripted = await self._scripted(fault, body)
        if scripted is not None:
            return scripted
        if fault != "cut":
            answer = accept(body)
        if fault in ("cut", "lost"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if "error" in answer:
            return web.json_response(answer["error"], status=422)
        return web.json_response(answer, status=status)

    async def _scripted(self, fault: int | str | None, body: dict[str, Any]) -> web.StreamResponse | None:
        if isinstance(fault, int):
            return _problem(fault, "overloaded" if fault == 503 else "made_up", retry_after=self.retry_after)
        if fault == "busy":
            error = {"code": "overloaded", "status": 503, "outcome": "not_stored", "detail": "later"}
            return web.json_response({"results": [{"error": error} for _ in body["messages"]]}, status=202)
        if fault == "hang":
            await self._end.wait()
        if fault == "elsewhere":
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})
        return web.Response(text="<html>") if fault == "odd" else None

    def _accept(self, message: dict[str, Any], headers: Any, number: int = 0) -> dict[str, Any]:
        error = self.refuse(message)
        if error is not None:
            return {"error": {"status": 422, "outcome": "not_stored", "detail": "no", **error}}
        key = (message.get("ref") or f"{headers['Idempotency-Key']}/{number}", message["to"])
        self.posts[key] += 1
        replayed = key in self.stored
        kept = self.stored.setdefault(key, {**message, "id": f"id-{len(self.stored)}"})
        return {"id": kept["id"], "state": "queued", "parts": 1, "route": "r", "replayed": replayed}


def _problem(status: int, code: str, retry_after: str | None = None) -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after else {}
    document = {"status": status, "code": code, "detail": "scripted", "outcome": "not_stored"}
    return web.json_response(document, status=status, headers=headers, content_type="application/problem+json")
