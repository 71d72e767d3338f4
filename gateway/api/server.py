"""The HTTP server for applications: which path is which endpoint, who may ask, and how it starts and stops.

Owns the path table and the one place where errors become answers. Refuses to know what an endpoint does.
Stands above everything in `api`; `app` builds it and hands it a listening socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.web import BaseRequest

from gateway.api import (
    auth,
    blacklist_v1,
    docs_get,
    health_get_v1,
    messages_batch_v1,
    messages_check_v1,
    messages_delete_v1,
    messages_feedback_v1,
    messages_find_v1,
    messages_get_v1,
    messages_post_v1,
    openapi_get,
    stats_get_v1,
)
from gateway.api.answer import Answer
from gateway.api.context import Call, Context, Endpoint, QueryStore
from gateway.api.guard import GuardedConnection, GuardedServer
from gateway.api.problem import refuse
from gateway.api.request import BodyReader, query_parameters
from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable
from gateway.intake import Intake
from gateway.metrics import Cell, Metrics
from gateway.precheck import Precheck
from gateway.settings import AccountSettings, Settings
from gateway.store.blacklists import Blacklists
from gateway.store.recipients import Recipients
from gateway.store.statistics import Statistics

BACKLOG: Final = 1024
_DURABILITY: Final = {"strict": "fsync", "replicated": "replicated", "relaxed": "relaxed"}
_ITEM: Final = "/v1/messages/"
_FEEDBACK: Final = "/feedback"
_BLACKLIST: Final = "/v1/blacklist/"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a path: its name in metrics, its function, the query parameters it knows."""

    label: str
    endpoint: Endpoint
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """One path: its methods, and whether anybody may ask."""

    methods: dict[str, Method]
    public: bool = False

    @property
    def allow(self) -> bytes:
        return ", ".join(self.methods).encode()


PLACES: Final[dict[str, Place]] = {
    "/v1/messages": Place(
        {
            "POST": Method("messages_post_v1", messages_post_v1.post_message),
            "GET": Method("messages_find_v1", messages_find_v1.find_messages, messages_find_v1.PARAMETERS),
        }
    ),
    "/v1/messages/batch": Place({"POST": Method("messages_batch_v1", messages_batch_v1.post_batch)}),
    "/v1/messages/check": Place({"POST": Method("messages_check_v1", messages_check_v1.post_check)}),
    "/v1/stats": Place({"GET": Method("stats_get_v1", stats_get_v1.get_stats, stats_get_v1.PARAMETERS)}),
    "/v1/health": Place({"GET": Method("health_get_v1", health_get_v1.get_health)}),
    "/openapi.json": Place({"GET": Method("openapi", openapi_get.get_openapi)}, public=True),
    "/docs": Place({"GET": Method("docs", docs_get.get_docs)}, public=True),
}
ITEM: Final = Place(
    {
        "GET": Method("messages_get_v1", messages_get_v1.get_message),
        "DELETE": Method("messages_delete_v1", messages_delete_v1.delete_message),
    }
)
"""`/v1/messages/{id}`"""
BLACKLIST: Final = Place(
    {
        "GET": Method("blacklist_v1_get", blacklist_v1.get_entry),
        "PUT": Method("blacklist_v1_put", blacklist_v1.put_entry),
        "DELETE": Method("blacklist_v1_delete", blacklist_v1.delete_entry),
    }
)
"""`/v1/blacklist/{number}`"""
FEEDBACK: Final = Place({"POST": Method("messages_feedback_v1", messages_feedback_v1.post_feedback)})
"""`/v1/messages/{id}/feedback`"""

NOBODY: Final = AccountSettings(id="")


class ApiServer:
    """Serves one api worker's share of a listening socket.

    Life: `start(sock)`, then `drain()` (new requests are refused, running ones end), then `stop()`.
    """

    def __init__(self, settings: Settings, intake: Intake, store: QueryStore, metrics: Metrics) -> None:
        self._metrics = metrics
        self._failed = auth.FailedTries(time.monotonic)
        self._store = store
        self._bodies = BodyReader()
        self._draining = False
        self._running = 0
        self._ended = asyncio.Event()  # set when the last request of a draining server has its answer
        self._cells: dict[tuple[str, int], Cell] = {}
        self._keys = auth.KeyRing(())
        self._guard: GuardedServer | None = None
        self._server: asyncio.Server | None = None
        self.use(settings, intake)

    def use(self, settings: Settings, intake: Intake) -> None:
        """Answer from now on by other settings; requests that run end with those they began with."""
        self._settings = settings
        self._keys = auth.KeyRing(settings.accounts, self._keys)
        self._context = Context(
            intake=intake,
            store=self._store,
            bodies=self._bodies,
            durability=_DURABILITY[settings.store.durability],
            accept_seconds=self._metrics.histogram("accept_seconds"),
            statistics=Statistics(self._store),
            blacklists=Blacklists(self._store),
            precheck=Precheck(settings, intake, intake.router, Recipients(self._store)),
        )
        if self._guard is not None:
            self._guard.limits = settings.api

    def take_used_keys(self) -> dict[str, dict[str, str]]:
        """Return which keys were used since the last call, as `auth.KeyRing.take_used` does."""
        return self._keys.take_used()

    # --- life

    async def start(self, sock: socket.socket) -> None:
        """Serve `sock` (bound, and listening or not) until `drain` or `stop`."""
        self._guard = GuardedServer(self.handle, self._settings.api, self._metrics)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._guard, sock=sock, backlog=BACKLOG)
        self._guard.start_sweeping()

    def refuse_new(self) -> None:
        """Refuse every request from now on with 503 `draining`; connections are still accepted."""
        self._draining = True

    async def drain(self, timeout_s: float = 10.0) -> None:
        """Accept no more connections, refuse new requests with 503 `draining`, let running ones end.

        Connections stay open for that refusal: who keeps one learns at once that nothing was stored.
        """
        self.refuse_new()
        if self._server is not None:
            self._server.close()
        if self._running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), timeout_s)

    async def stop(self) -> None:
        """Close every connection; requests still running are cancelled, unspent quota is given back."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        if self._guard is not None:
            await self._guard.stop_sweeping()
            self._guard.pre_shutdown()
            await self._guard.shutdown(1.0)
        await self._context.intake.close()

    # --- one request

    async def handle(self, request: BaseRequest) -> Any:
        """Answer one request, whatever happens in it."""
        path, _, query = request.raw_path.partition("?")
        place = PLACES.get(path)
        name = ""
        if place is None and path.startswith(_ITEM):
            place, name = ITEM, path[len(_ITEM) :]
            if name.endswith(_FEEDBACK):
                place, name = FEEDBACK, name.removesuffix(_FEEDBACK)
        elif place is None and path.startswith(_BLACKLIST):
            place, name = BLACKLIST, path[len(_BLACKLIST) :]
        method = None if place is None else place.methods.get(request.method)
        label = "none" if method is None else method.label
        self._running += 1
        try:
            if place is None or method is None:
                answer = _no_endpoint(place)
            else:
                parameters = query_parameters(query, method.parameters) if query else {}
                account = NOBODY if place.public else self._account(request)
                async with asyncio.timeout(self._time_limit_s(request)):
                    answer = await method.endpoint(self._context, Call(request, account, name, parameters))
        except GatewayError as error:
            answer = refuse(error, close=self._draining)
        except TimeoutError:
            answer = refuse(StoreUnavailable("handler timed out", outcome="unknown"), close=True)
        except Exception as error:
            # The one boundary: a fault of ours must not cost the connection's other requests. Only its type
            # and place are logged, since its message may hold a number or a text.
            _log.error("endpoint %s failed: %s", label, _place_of(error))
            answer = refuse(GatewayError())
        finally:
            self._running -= 1
            if self._draining and not self._running:
                self._ended.set()
        self._count(label, answer.status)
        return answer

    def _time_limit_s(self, request: BaseRequest) -> float:
        # The body has its own limit, kept by the sweep; what is left is ours to answer in.
        limits = self._settings.api
        waits_for_body = not request.content.is_eof()
        return limits.handler_timeout_s + (limits.body_timeout_s if waits_for_body else 0.0)

    def _account(self, request: BaseRequest) -> AccountSettings:
        """Return the account that asks.

        Raises:
            RequestError: unauthorized.
            Backpressure: rate_limited after many wrong keys; draining.
        """
        account = self._keys.account(request.headers.get("Authorization"))
        if account is None:
            raise self._failed.refuse(_address(request))
        if self._draining:
            raise Backpressure("draining", "this worker is stopping", retry_after_s=1)
        return account

    def _count(self, label: str, status: int) -> None:
        cell = self._cells.get((label, status))
        if cell is None:
            cell = self._metrics.counter("http_requests_total", endpoint=label, status=str(status))
            self._cells[label, status] = cell
        cell.n += 1


def _no_endpoint(place: Place | None) -> Answer:
    if place is None:
        return refuse(RequestError("not_found", "there is no such path", status=404))
    answer = refuse(RequestError("method_not_allowed", "this path has other methods", status=405))
    answer.headers += b"Allow: %b\r\n" % place.allow
    return answer


def _place_of(error: BaseException) -> str:
    """Name an error by its type and the line it came from; of a group, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return type(error).__name__ + where


def _address(request: BaseRequest) -> str:
    connection = request.protocol
    return connection.address if isinstance(connection, GuardedConnection) else ""
