"""The guards on HTTP connections: time limits, numbers of connections, and refusals of what is no HTTP.

Owns what aiohttp's server leaves open: it has no read time-out (a silent connection, half a header and a body
that never comes were all still open after 150 s), and its own error page repeats the bad input and names its
version. Refuses to know requests. Stands between the sockets and the server; one sweep over all connections
every quarter of the shortest limit replaces a timer a connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.api.answer import Answer
from gateway.api.problem import CONTENT_TYPE, document
from gateway.api.request import BodyTimeout
from gateway.metrics import Metrics
from gateway.settings import ApiSettings

MAX_HEADER_BYTES: Final = 8190
MAX_HEADERS: Final = 64
LINGER_S: Final = 2.0
"""After an early refusal (413, 401) the rest of the body is read and dropped for so long, so that the client
can read the answer before the connection is reset (RFC 9112 §9.6)."""

_log = logging.getLogger(__name__)


def _refusal(status: int, code: str, detail: str) -> bytes:
    body = document(status, code, detail)
    headers = b"Retry-After: 1\r\n" if status == 503 else b""
    return Answer(status, body, headers=headers, content_type=CONTENT_TYPE).encode(close=True)


_TOO_MANY = _refusal(503, "too_many_connections", "too many connections are open")
_SLOW_HEADER = _refusal(408, "request_timeout", "the request's head came too slowly")
_LONG_HEADER = _refusal(431, "header_too_large", f"at most {MAX_HEADER_BYTES} bytes of header are accepted")


class GuardedConnection(RequestHandler):
    """One connection. Between requests it is idle or receives a head; within one a body or an answer.

    Times are of the loop's clock. `_answered` against aiohttp's `_request_count` tells the two apart.
    """

    __slots__ = (
        "_answered",
        "_busy_since",
        "_guard",
        "_header_bytes",
        "_header_since",
        "_idle_since",
        "_lingering",
        "address",
    )

    def __init__(self, guard: GuardedServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            guard,
            loop=loop,
            # The sweep closes idle connections; aiohttp's own timer only stands behind it.
            keepalive_timeout=guard.limits.idle_timeout_s + 5,
            access_log=None,  # type: ignore[arg-type]  # off, as aiohttp's runner spells it
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self._guard = guard
        self._answered = 0
        self._header_since = 0.0  # 0: no head has begun
        self._header_bytes = 0
        self._idle_since = 0.0
        self._busy_since = 0.0
        self._lingering: StreamReader | None = None  # a body that is read to its end after the answer
        self.address = ""

    # --- events of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        # A new connection owes a head at once; only a used one may be idle.
        self._header_since = self._loop.time()
        if self._guard.admit(self):
            super().connection_made(transport)
            return
        self._force_close = True
        real = cast(asyncio.Transport, transport)
        real.write(_TOO_MANY)
        real.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._guard.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        parsed = self._request_count
        if parsed != self._answered or self._still_lingering():
            super().data_received(data)
            return
        if not self._header_since:
            self._header_since = self._loop.time()
        super().data_received(data)
        if self._request_count != parsed:
            self._header_since = 0.0
            self._header_bytes = 0
            self._busy_since = self._loop.time()
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES * 2:
            self._end("header_too_large", _LONG_HEADER)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._lingering = request.content
            self._answered += 1
            self._idle_since = self._busy_since = self._loop.time()
            self._header_since = 0.0
            self._header_bytes = 0

    def _still_lingering(self) -> bool:
        if self._lingering is not None and self._lingering.is_eof():
            self._lingering = None
        return self._lingering is not None

    # --- refusals in our own words

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse. Neither the answer nor the log repeats any of it."""
        if status == 400:
            body = document(400, "bad_request", "the request line, the headers or the framing are not HTTP/1.1")
            self._guard.count_closed("bad_request")
        else:
            _log.error("request failed in the server: %s", type(exc).__name__)
            body = document(500, "internal", "an error on our side; it may have been stored", outcome="unknown")
        return cast(web.StreamResponse, Answer(status, body, content_type=CONTENT_TYPE, close=True))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log the kind of an error only: aiohttp's messages and tracebacks quote the peer's bytes."""
        error = kw.get("exc_info")
        _log.error("connection failed: %s", type(error).__name__ if error is not None else "unknown")

    # --- the sweep

    def check(self, now: float) -> None:
        """Close this connection, or fail its body, when its time is over."""
        limits = self._guard.limits
        if self._request_count == self._answered:
            if self._header_since:
                if now - self._header_since >= limits.header_timeout_s:
                    self._end("header_timeout", _SLOW_HEADER if self._header_bytes else b"")
            elif now - self._idle_since >= limits.idle_timeout_s:
                self._end("idle_timeout", b"")
            return
        busy_s = now - self._busy_since
        if busy_s >= limits.body_timeout_s:
            self._fail_body()
        # A peer that does not read its answers holds the request open; nothing else lasts so long.
        if busy_s >= limits.body_timeout_s + limits.handler_timeout_s + LINGER_S + 5:
            self._guard.count_closed("stuck")
            if self.transport is not None:
                self.transport.abort()

    def _fail_body(self) -> None:
        request = self._current_request
        if request is None or request.content.is_eof() or request.content.exception() is not None:
            return
        self._guard.count_closed("body_timeout")
        self._lingering_time = 0.0  # it had its time
        request.content.set_exception(BodyTimeout())

    def _end(self, cause: str, answer: bytes) -> None:
        self._guard.count_closed(cause)
        if self.transport is not None and answer:
            self.transport.write(answer)
        self.force_close()


class GuardedServer(web.Server):
    """Makes guarded connections, counts them, and sweeps over them."""

    def __init__(self, handler: Any, limits: ApiSettings, metrics: Metrics) -> None:
        super().__init__(handler)
        self.limits = limits
        self._open: set[GuardedConnection] = set()
        self._by_address: Counter[str] = Counter()
        self._gauge = metrics.gauge("http_connections")
        self._metrics = metrics
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self) -> RequestHandler:
        return GuardedConnection(self, self._loop)

    def admit(self, connection: GuardedConnection) -> bool:
        """Tell whether there is room for one more connection, and count it if so."""
        address = connection.address
        if (
            len(self._open) >= self.limits.max_connections
            or self._by_address[address] >= self.limits.max_connections_per_ip
        ):
            self.count_closed("too_many")
            return False
        self._open.add(connection)
        self._by_address[address] += 1
        self._gauge.n = len(self._open)
        return True

    def forget(self, connection: GuardedConnection) -> None:
        """Take a closed connection out of the counts."""
        if connection in self._open:
            self._open.remove(connection)
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]
            self._gauge.n = len(self._open)

    def count_closed(self, cause: str) -> None:
        """Count a connection that a guard refused or closed."""
        self._metrics.counter("http_connections_closed_total", cause=cause).n += 1

    def start_sweeping(self) -> None:
        """Begin to look at all connections, four times within the shortest limit, at least once a second."""
        limits = self.limits
        shortest_s = min(limits.header_timeout_s, limits.body_timeout_s, limits.idle_timeout_s)
        self._sweeper = asyncio.create_task(self._sweep(min(1.0, shortest_s / 4)), name="http-sweep")

    async def stop_sweeping(self) -> None:
        """End the sweep."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _sweep(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            now = self._loop.time()
            for connection in tuple(self._open):
                connection.check(now)
