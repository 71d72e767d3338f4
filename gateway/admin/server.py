"""The admin listener: which path is which endpoint, who may ask, and how it starts and stops.

Owns the token's check and the one place where errors become answers. Refuses to know what an endpoint does.
Stands above the endpoint files; `app` builds it and hands it a listening socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.admin import (
    channels_v1,
    explain_v1,
    failure_codes_v1,
    gates_v1,
    health,
    metrics_get,
    openapi_v1,
    ported_v1,
    stats_v1,
)
from gateway.admin.door import Door, is_consoles
from gateway.admin.operators import FULL_IN_BODY, ONLY_LOOKS, Operators, role_for, wants_password
from gateway.admin.overview_v1 import LiveView
from gateway.admin.problem import CONSOLE_HEADERS, SAFE_HEADERS, json_answer, problem, refusal
from gateway.admin.requests import STREAMS, actor_of, is_noted, name_operator, place_client
from gateway.dlr.reasons import load_reasons
from gateway.errors import Backpressure, RequestError, StoreUnavailable
from gateway.logs import redact
from gateway.metrics import MetricsHub
from gateway.policy.policy import load_policy
from gateway.routing.ported_table import PortedTables
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.store.audit import DONE, Audit
from gateway.store.receipt_notes import ReceiptNotes
from gateway.store.statistics import Shards, Statistics

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 256
IDLE_S: Final = 75.0
REQUEST_LIMIT_S: Final = 15.0
_PUBLIC: Final = ("/livez", "/readyz")
_AUDITED: Final = {
    "/admin/v1/gates": ("gate.set", (("kind", "name"), ("state",))),
    "/admin/v1/channels": ("channel.set", (("id",), ("action",))),
    "/admin/v1/webhooks": ("webhook", (("account",), ("action", "from", "to"))),
    "/admin/v1/blacklist": ("blacklist.add", ((), ())),
    "/admin/v1/blacklist/imports": ("blacklist.import_begun", ((), ())),
    "/admin/v1/blacklist/imports/{id}/end": ("blacklist.import", ((), ())),
    "/admin/v1/blacklist/undo": ("blacklist.undo", ((), ())),
    "/admin/v1/erase": ("number.erase", ((), ())),
    "/admin/v1/accounts/{id}/key": ("account.key", ((), ())),
    "/admin/v1/accounts/{id}/test-send": ("account.test_send", ((), ())),
    "/admin/v1/messages/{id}": ("message", ((), ("action",))),
    "/admin/v1/inbound/reviewed": ("inbound.reviewed", (("id",), ("decision",))),
    "/admin/v1/ported/forget": ("ported.forget", ((), ())),
    "/admin/v1/templates/{id}": ("template.put", ((), ())),
    "/admin/v1/templates/{id}/retire": ("template.retire", ((), ())),
    "/admin/v1/config/write": ("config.write", ((), ())),
}
"""Paths that change something: the action, and the fields of the body that say of what, and what is now. Those with
numbers in them note what was done themselves; what is refused for cause is noted here. A path that is not here is noted
by its method and name."""
_LOOKING: Final = ("GET", "HEAD")
_NOT_NOTED: Final = ONLY_LOOKS | {"/admin/v1/blacklist/imports/{id}/rows"}
"""POSTs that change nothing; and the pieces of an import, of which begin and end are noted."""
_BY_PROXY: Final = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via")
_HSTS: Final = "max-age=31536000"
_REFUSED_FOR_CAUSE: Final = frozenset({404, 409})


class Steered(
    gates_v1.GateStore, channels_v1.ChannelStore, explain_v1.ExplainStore, ported_v1.PortedStore, Shards, Protocol
):
    """The parts of the store that an operator asks and steers."""


class AdminServer:
    """Serves one machine's admin listener. Life: `start(sock)`, then `stop()`.

    `more` are endpoints with parts of their own (templates, erasure), which `app` builds. Other settings make another
    server: once it is `prepared`, the one that holds the listener hands over to it.
    """

    def __init__(
        self,
        settings: Settings,
        hub: MetricsHub,
        store: Steered,
        reasons: health.Reasons,
        readings: metrics_get.Readings,
        router: Router | None = None,
        more: Iterable[web.RouteDef] = (),
        audit: Audit | None = None,
        door: Door | None = None,
        live: LiveView | None = None,
    ) -> None:
        self._audit = audit
        self._door = door
        self._live = live
        self._more = [*more, *(door.routes() if door is not None else ())]
        self._operators = Operators(settings.admin)
        self._metrics_public = _is_loopback(settings.admin.host)
        self._hub = hub
        self._store = store
        self._statistics = Statistics(store)
        self._receipt_notes = ReceiptNotes(store)
        self._failures = load_reasons(settings.failure_codes_file, settings.channels)
        self._channels = settings.channels
        self._settings = settings
        self._router = router
        self._policy = load_policy(settings) if router is not None else None
        self._reasons = reasons
        self._readings = readings
        self._accounts = frozenset(account.id for account in settings.accounts)
        self._connections: set[_Connection] = set()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._serving = self
        """Who answers new connections of our listener: this one, or the one it handed over to last."""
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self, sock: socket.socket) -> None:
        """Serve `sock`, which is bound, until `stop`."""
        await self.prepared()
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=sock)

    def hand_over(self, successor: AdminServer) -> None:
        """Let `successor`, which is `prepared`, answer from now on; requests that run end where they began."""
        before, self._serving = self._serving, successor
        runner = before._runner
        assert runner is not None
        assert runner.server is not None
        runner.server.pre_shutdown()  # idle connections are closed at once, the others after their answer
        task = asyncio.create_task(runner.cleanup(), name="an admin server retires")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def prepared(self) -> None:
        """Build the paths and their endpoints; nothing is answered yet."""
        app = web.Application(middlewares=[self._boundary], client_max_size=gates_v1.MAX_BODY_BYTES)
        app.on_response_prepare.append(self._dress)
        app.router.add_get("/livez", health.livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/admin/v1/gates", self._get_gates)
        app.router.add_put("/admin/v1/gates", self._put_gate)
        app.router.add_get("/admin/v1/channels", self._get_channels)
        app.router.add_put("/admin/v1/channels", self._put_channel)
        app.router.add_post("/admin/v1/ported/forget", self._forget_ported)
        app.router.add_get("/admin/v1/stats", self._get_stats)
        app.router.add_get("/admin/v1/failure-codes", self._get_failure_codes)
        app.router.add_get("/admin/v1/openapi.json", openapi_v1.get_openapi)
        app.router.add_routes(self._more)
        if self._router is not None:
            app.router.add_get("/admin/v1/explain", self._get_explain)
            app.router.add_post("/admin/v1/explain", self._post_explain)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=REQUEST_LIMIT_S)
        await self._runner.setup()

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._serving._runner is not None:
            await self._serving._runner.cleanup()
        for connection in list(self._connections):
            connection.force_close()
            if connection.transport is not None:
                connection.transport.abort()

    def _connection(self) -> _Connection:
        runner = self._serving._runner
        assert runner is not None
        assert runner.server is not None
        return _Connection(runner.server, self._connections)

    # --- one request

    @web.middleware
    async def _boundary(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who may ask, and turn every error into an answer that repeats nothing."""
        try:
            async with asyncio.timeout(None if request.path in STREAMS else REQUEST_LIMIT_S):
                return await self._let_in(request, handler)
        except Exception as error:  # the one boundary: every error becomes an answer
            return _answer_to(error)

    async def _let_in(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer who has a token, or a session, and may; or what is open to all."""
        door, sent = self._door, request.headers.get("Authorization")
        if door is not None:
            place_client(request, door.address_of(request))
        operator, visitor = self._operators.find(sent), None
        if operator is None and not self._open_to_all(request):
            visitor = await door.visitor(request) if door is not None and sent is None else None
            if visitor is None:
                return problem(401, "unauthorized", "the admin token is wanted", headers={"WWW-Authenticate": "Bearer"})
            operator = visitor.operator
        if operator is not None:
            name_operator(request, operator)
            resource = request.match_info.route.resource
            path = resource.canonical if resource is not None else request.path
            full = await _asks_for_all(request, path)
            wanted = role_for(request.method, path, full=full)
            if not operator.may(wanted) and not self._open_to_all(request):
                return problem(403, "forbidden", f"this is for operators of the role {wanted}")
            if visitor is not None and not visitor.checked and wants_password(request.method, path, full=full):
                return problem(403, "reauth_required", "give your password again for this")
        if door is None or visitor is None:
            return await self._audited(request, handler)
        with door.watched(request, visitor):
            return await self._audited(request, handler)

    async def _dress(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Put the headers that keep a browser safe on every answer, whichever endpoint made it."""
        ours = is_consoles(request.path)
        for name, value in (CONSOLE_HEADERS if ours else SAFE_HEADERS).items():
            # aiohttp has named itself by now, and our problems have the policy of the API.
            if name not in answer.headers or name == "Server" or (ours and name == "Content-Security-Policy"):
                answer.headers[name] = value
        if self._door is not None and self._door.is_tls(request):
            answer.headers["Strict-Transport-Security"] = _HSTS

    async def _audited(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer; whatever was to change something stands in the audit then, also where it was refused for cause.

        What is not well formed, or not allowed to its operator at all (400, 401, 403, 413, 415, 422), changed nothing
        and is not noted.
        """
        resource = request.match_info.route.resource
        if self._audit is None or request.method in _LOOKING or resource is None or resource.canonical in _NOT_NOTED:
            return await handler(request)
        try:
            answer = await handler(request)
        except RequestError as error:
            if error.status in _REFUSED_FOR_CAUSE and not is_noted(request):
                await self._note(request, resource.canonical, f"refused: {error.status} {error.code}")
            raise
        if answer.status in _REFUSED_FOR_CAUSE and not is_noted(request):
            await self._note(request, resource.canonical, f"refused: {answer.status}")
        elif answer.status < 400 and not is_noted(request):
            await self._note(request, resource.canonical, DONE)
        if self._live is not None and answer.status < 400:
            self._live.look_soon()  # whoever changed something sees it
        return answer

    async def _note(self, request: web.Request, path: str, result: str) -> None:
        """Put what an operator asked for into the audit; endpoints that know more of it do so themselves."""
        assert self._audit is not None
        action, names = _AUDITED.get(path, (f"{request.method} {path.removeprefix('/admin/v1/')}", ((), ())))
        body = orjson.loads(await request.read()) if any(names) else {}
        said, after = (redact(":".join(str(body[name]) for name in group if name in body))[:128] for group in names)
        object_ = said or redact(" ".join(request.match_info.values()))[:128]
        await self._audit.note(actor_of(request), action, object_, after=after, result=result)

    def _open_to_all(self, request: web.Request) -> bool:
        if request.path in _PUBLIC or (self._door is not None and self._door.is_open(request)):
            return True
        sent = request.headers.get("Authorization")
        return sent is None and request.path == "/metrics" and self._metrics_public and _is_of_this_machine(request)

    # --- endpoints

    async def _readyz(self, request: web.Request) -> web.Response:
        authenticated = self._operators.find(request.headers.get("Authorization")) is not None
        return await health.readyz(self._reasons, authenticated=authenticated)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        del request
        return await metrics_get.get_metrics(self._hub, self._readings)

    async def _get_gates(self, request: web.Request) -> web.Response:
        del request
        return await gates_v1.get_gates(self._store)

    async def _put_gate(self, request: web.Request) -> web.Response:
        answer = await gates_v1.put_gate(request, self._store, self._accounts)
        log.info("gate set")
        return answer

    async def _get_explain(self, request: web.Request) -> web.Response:
        assert self._router is not None
        assert self._policy is not None
        return await explain_v1.get_explain(request, self._settings, self._router, self._policy, self._store)

    async def _post_explain(self, request: web.Request) -> web.Response:
        assert self._router is not None
        assert self._policy is not None
        return await explain_v1.post_explain(request, self._settings, self._router, self._policy, self._store)

    async def _forget_ported(self, request: web.Request) -> web.Response:
        imported = self._router.imported if self._router is not None else None
        tables = imported if isinstance(imported, PortedTables) else None
        answer = await ported_v1.forget(request, self._settings, self._store, tables, self._audit)
        log.info("what was learned of ported numbers was forgotten, for one or for all")
        return answer

    async def _get_failure_codes(self, request: web.Request) -> web.Response:
        return await failure_codes_v1.get_failure_codes(
            request, self._receipt_notes, self._failures, self._settings.channels
        )

    async def _get_channels(self, request: web.Request) -> web.Response:
        if self._live is not None:
            return json_answer(await self._live.channels())
        return await channels_v1.get_channels(self._store, self._channels, await self._left_out())

    async def _put_channel(self, request: web.Request) -> web.Response:
        answer = await channels_v1.put_channel(request, self._store, self._channels, await self._left_out())
        log.info("a channel's operator state was set")
        return answer

    async def _get_stats(self, request: web.Request) -> web.Response:
        return await stats_v1.get_stats(request, self._statistics)

    async def _left_out(self) -> list[tuple[str, ...]]:
        return await asyncio.to_thread(self._hub.marks, "channel_left_out")  # reads the workers' files


class _Connection(RequestHandler):
    """One connection: at most MAX_CONNECTIONS, closed when a head does not come, never aiohttp's own page."""

    __slots__ = ("_among", "_limit")

    def __init__(self, server: Any, among: set[_Connection]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # off, as aiohttp's runner spells it
            keepalive_timeout=IDLE_S,
            auto_decompress=False,
        )
        self._among = among
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._among.add(self)
        if len(self._among) > MAX_CONNECTIONS:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            return
        self._limit = asyncio.get_running_loop().call_later(REQUEST_LIMIT_S, self._first_request_due)

    def _first_request_due(self) -> None:
        # aiohttp's server has no read time-out: a connection that never sends a whole head stays for ever.
        if self._request_count == 0 and self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._among.discard(self)
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; what aiohttp refused before our boundary (417) would repeat what was sent."""
        return await super().finish_response(
            request, _answer_to(resp) if isinstance(resp, web.HTTPException) else resp, start_time
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse; its own page would repeat the bad input."""
        del request, exc, message
        self.keep_alive(False)
        return problem(status if status < 500 else 500, "bad_request", "this is no HTTP request")


async def _asks_for_all(request: web.Request, path: str) -> bool:
    """Tell whether a request asks for whole numbers and texts, in its query or in its body.

    A body that cannot be read is its endpoint's to refuse.
    """
    if request.query.get("full") == "1":
        return True
    if request.method != "POST" or path not in FULL_IN_BODY:
        return False
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and bool(body.get("full"))


def _answer_to(error: Exception) -> web.Response:
    match error:
        case RequestError() | Backpressure() | StoreUnavailable():
            answer = refusal(error)
        case TimeoutError():
            answer = problem(503, "timeout", "the answer took too long", headers={"Retry-After": "1"})
        case web.HTTPRequestEntityTooLarge():
            answer = problem(413, "too_large", f"at most {gates_v1.MAX_BODY_BYTES} bytes are accepted")
        case web.HTTPMethodNotAllowed():
            allow = {"Allow": ", ".join(sorted(error.allowed_methods))}
            answer = problem(405, "method_not_allowed", "this path has other methods", headers=allow)
        case web.HTTPException():
            code = "not_found" if error.status == 404 else "bad_request"
            answer = problem(error.status, code, "there is no such thing here")
        case _:  # a fault of ours: the log has its type and place, the answer nothing
            log.error("admin request failed: %s", type(error).__name__, exc_info=error)
            answer = problem(500, "internal_error", "this is our fault; the log says more")
    return answer


def _is_of_this_machine(request: web.Request) -> bool:
    """Tell whether who asks a loopback listener is on this machine, as far as the request says.

    A proxy beside us asks for others, and says so in one of these headers; a page of another name that was made to
    point here (DNS rebinding) asks by that name.
    """
    if any(name in request.headers for name in _BY_PROXY):
        return False
    host = request.headers.get("Host", "").rpartition("@")[2]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return _is_loopback(name.lower())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
