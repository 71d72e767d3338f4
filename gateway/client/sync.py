"""The blocking client: the same flows, driven over http.client.

    with Client("http://127.0.0.1:8080", key) as client:
        accepted = client.send(Message(to="+8613800138000", category="verification", text="…"))

Owns connections, kept open and shared by threads, each with one call at a time. What a call is stands in `calls`, how
it is repeated in `exchange`. Needs no event loop and no package beside the standard library and orjson.
"""

from __future__ import annotations

import http.client
import random
import selectors
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from gateway.client import calls
from gateway.client.exchange import Broken, Clock, Effort, Flow, Pause, Request, Response, Retry, T
from gateway.client.model import (
    Accepted,
    Cancelled,
    Feedback,
    Foreseen,
    Health,
    Listed,
    Message,
    Refused,
    Report,
    Status,
)

CLOCK = Clock(time.monotonic, time.time, random.random)
_CHUNK_BYTES = 256 * 1024


class SyncTransport:
    """Sends requests to one base URL with one key, from any thread."""

    def __init__(self, url: str, key: str, connections: int = 16) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an http or https URL is wanted")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._places = threading.BoundedSemaphore(connections)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Close the connections that no call uses; those in use are closed when their call ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def exchange(self, request: Request) -> Response | Broken:
        """Send one request once. Redirects are answers: following one could take the key elsewhere."""
        ends_at = time.monotonic() + request.timeout_s
        if not self._places.acquire(timeout=request.timeout_s):
            return Broken("TimeoutError", sent=False)
        try:
            return self._on(self._take(), request, ends_at)
        finally:
            self._places.release()

    def _on(self, connection: http.client.HTTPConnection, request: Request, ends_at: float) -> Response | Broken:
        target = self._base + request.path + (f"?{urlencode(request.query)}" if request.query else "")
        sent = connection.sock is not None
        try:
            _limit(connection, ends_at)
            if connection.sock is None:
                connection.connect()
                sent = True
            connection.request(request.method, target, request.body, {**self._headers, **request.headers})
            answer = connection.getresponse()
            raw = bytearray()
            while chunk := answer.read1(_CHUNK_BYTES):
                raw += chunk
                _limit(connection, ends_at)
            if answer.length:
                raise http.client.IncompleteRead(bytes(raw), answer.length)
            answer.close()  # Python 3.11's read1 does not see that this was all (gh-113199)
        except (http.client.HTTPException, OSError) as exc:
            connection.close()
            return Broken(type(exc).__name__, sent=sent)
        except BaseException:  # an interrupt: what is left of the answer must not be read as the next one
            connection.close()
            raise
        self._give_back(connection)
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, bytes(raw))

    def _take(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            while self._idle:
                connection = self._idle.pop()
                if not _ended(connection):
                    return connection
                connection.close()
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()

    def drive(self, flow: Flow[T]) -> T:
        """Do what a flow asks for and return its value."""
        got: Response | Broken | None = None
        while True:
            try:
                step = flow.send(got)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                got = None
            else:
                got = self.exchange(step)


def _ended(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the gateway closed an idle connection meanwhile: then there is something to read, the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _limit(connection: http.client.HTTPConnection, ends_at: float) -> None:
    """Give the next wait on the socket what is left of the attempt's time. Raises TimeoutError when nothing is."""
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.timeout = left_s
    if connection.sock is not None:
        connection.sock.settimeout(left_s)


class Client:
    """One account's access to one gateway, for programs without an event loop; threads may share it.

    A context manager, or `close` it. `connections` bounds how many calls are under way at once.
    """

    def __init__(self, url: str, key: str, *, retry: Retry | None = None, connections: int = 16) -> None:
        self._retry = retry or Retry()
        self._transport = SyncTransport(url, key, connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _effort(self) -> Effort:
        return Effort(self._retry, CLOCK)

    def send(self, message: Message, *, idempotency_key: str | None = None) -> Accepted:
        """See `AsyncClient.send`."""
        return self._transport.drive(calls.send(self._effort(), message, idempotency_key, uuid.uuid4().hex))

    def send_batch(
        self,
        messages: Sequence[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        retry_items: bool = True,
    ) -> list[Accepted | Refused]:
        """See `AsyncClient.send_batch`."""
        flow = calls.send_batch(
            self._effort(), messages, defaults, idempotency_key, uuid.uuid4().hex, retry_items=retry_items
        )
        return self._transport.drive(flow)

    def send_many(
        self,
        messages: Iterable[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        batch: int = 500,
        concurrency: int = 4,
    ) -> Iterator[tuple[Message, Accepted | Refused]]:
        """See `AsyncClient.send_many`; here each batch under way has a thread."""
        source = iter(messages)
        running: dict[Future[list[Accepted | Refused]], list[Message]] = {}
        with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="smsgw-send") as pool:
            try:
                while True:
                    while len(running) < concurrency and (rows := list(islice(source, batch))):
                        running[pool.submit(self.send_batch, rows, defaults=defaults)] = rows
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield from zip(running.pop(future), future.result(), strict=True)
            finally:
                for future in running:
                    future.cancel()

    def check(
        self,
        messages: Sequence[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> list[Foreseen]:
        """See `AsyncClient.check`."""
        return self._transport.drive(calls.check(self._effort(), messages, defaults, idempotency_key))

    def get(self, message_id: str) -> Status:
        """See `AsyncClient.get`."""
        return self._transport.drive(calls.get(self._effort(), message_id))

    def find(self, to: str, *, ref: str | None = None) -> list[Status]:
        """See `AsyncClient.find`."""
        return self._transport.drive(calls.find(self._effort(), to, ref))

    def cancel(self, message_id: str) -> Cancelled:
        """See `AsyncClient.cancel`."""
        return self._transport.drive(calls.cancel(self._effort(), message_id))

    def feedback(self, message_id: str, told: Feedback) -> bool:
        """See `AsyncClient.feedback`."""
        return self._transport.drive(calls.feedback(self._effort(), message_id, told))

    def blacklist_get(self, number: str) -> list[Listed]:
        """See `AsyncClient.blacklist_get`."""
        return self._transport.drive(calls.blacklist_get(self._effort(), number))

    def blacklist_put(
        self, number: str, *, categories: Sequence[str] | None = None, reason: str | None = None
    ) -> Listed:
        """See `AsyncClient.blacklist_put`."""
        return self._transport.drive(calls.blacklist_put(self._effort(), number, categories, reason))

    def blacklist_delete(self, number: str) -> list[Listed]:
        """See `AsyncClient.blacklist_delete`."""
        return self._transport.drive(calls.blacklist_delete(self._effort(), number))

    def stats(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        by: Sequence[str] = (),
        zone: str | None = None,
        **where: str | Sequence[str],
    ) -> Report:
        """See `AsyncClient.stats`."""
        return self._transport.drive(calls.stats(self._effort(), calls.stats_query(since, until, by, zone, where)))

    def health(self) -> Health:
        """See `AsyncClient.health`."""
        return self._transport.drive(calls.health(self._effort()))
