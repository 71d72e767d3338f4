"""Talks to Redis: a small pool of connections, one EVALSHA a call, errors told apart by what they mean for the caller.

redis-py's own retries are off: it would run a write twice after a time-out (delivery.md §0, fact 3). A connection on
which a call did not end (time-out, cancellation) is closed, never reused: the next caller would read its answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as redis
from hiredis import pack_command
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import StoreUnavailable
from gateway.store import scripts

# Answers that mean "refused before the first write": redis-py has classes for some, the others keep their code word.
_REFUSED_CLASSES = (OutOfMemoryError, ReadOnlyError, NoPermissionError, AuthenticationError, BusyLoadingError)
_REFUSED_WORDS = re.compile(r"^(MISCONF|NOREPLICAS|MASTERDOWN|BUSY|CLUSTERDOWN|LOADING|OOM|READONLY)\b")


class Client:
    """A pool of at most `size` connections to one server; calls wait for a free one."""

    def __init__(self, url: str, *, size: int = 24, timeout_s: float = 3.0) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._kwargs: dict[str, Any] = dict(parse_url(url))
        self._kwargs.pop("connection_class", None)
        self._factory: type[Connection] | type[UnixDomainSocketConnection] = Connection
        scheme = urlsplit(url).scheme
        if scheme == "unix":
            self._factory = UnixDomainSocketConnection
        elif scheme == "rediss":
            self._factory = redis.SSLConnection
        self._idle: deque[Any] = deque()
        self._room = asyncio.Semaphore(size)
        self._closed = False
        self.commands = 0

    def connection(self) -> Any:
        """Return a new, unconnected connection of our settings (for pub/sub and the like)."""
        return self._factory(
            **self._kwargs,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=2.0,
            health_check_interval=0,
        )

    def pubsub_client(self) -> redis.Redis:
        """Return a separate client for pub/sub."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=2.0)

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any], *, timeout_s: float | None = None) -> Any:
        """Run the script `name` and return its answer.

        Raises:
            StoreUnavailable: `not_stored` when the server refused before it ran or could not be reached at all,
                `unknown` when the call was sent and no answer came.
        """
        script = scripts.load(name)
        try:
            return await self.execute("EVALSHA", script.sha, len(keys), *keys, *args, timeout_s=timeout_s)
        except NoScriptError:
            try:
                return await self.execute("EVAL", script.source, len(keys), *keys, *args, timeout_s=timeout_s)
            except NoScriptError as exc:
                raise StoreUnavailable("the store forgot its scripts", outcome="not_stored") from exc

    async def execute(self, *command: Any, timeout_s: float | None = None) -> Any:
        """Send one command and return its answer; see `call` for the errors (NoScriptError and ResponseError pass)."""
        if self._closed:
            raise StoreUnavailable("the store client is closed", outcome="not_stored")
        limit_s = timeout_s or self.timeout_s
        deadline = time.monotonic() + limit_s
        try:
            # Not wait_for: before Python 3.12 it may swallow a cancellation, and its caller then never ends.
            async with asyncio.timeout(limit_s):
                await self._room.acquire()
        except TimeoutError as exc:
            raise StoreUnavailable("no connection to the store is free", outcome="not_stored") from exc
        connection = None
        clean = False
        sent = False
        try:
            async with asyncio.timeout(max(0.05, deadline - time.monotonic())):
                connection = await self._take_idle()
                if connection is None:
                    connection = self.connection()
                    await connection.connect()
                self.commands += 1
                sent = True
                # hiredis writes 100 messages of an accept in 0.1 ms, redis-py's own packer in 0.7.
                await connection.send_packed_command(pack_command(command), check_health=False)
                answer = await connection.read_response(disconnect_on_error=False)
            clean = True
            if isinstance(answer, Exception):
                raise answer
            return answer
        except NoScriptError:
            clean = True
            raise
        except (*_REFUSED_CLASSES, ResponseError) as exc:
            clean = not isinstance(exc, RedisConnectionError)
            if isinstance(exc, _REFUSED_CLASSES) or _REFUSED_WORDS.match(str(exc)):
                raise StoreUnavailable(
                    f"the store refused the call ({type(exc).__name__})", outcome="not_stored"
                ) from exc
            raise
        except TimeoutError as exc:
            raise StoreUnavailable(
                "the store did not answer in time", outcome="unknown" if sent else "not_stored"
            ) from exc
        except (RedisConnectionError, OSError) as exc:
            raise StoreUnavailable(
                "the connection to the store failed", outcome="unknown" if sent else "not_stored"
            ) from exc
        except RedisError as exc:
            raise StoreUnavailable("the store answered with an error", outcome="unknown") from exc
        finally:
            self._room.release()
            if connection is not None:
                if clean and not self._closed:
                    self._idle.append(connection)
                else:
                    await _drop(connection)

    async def _take_idle(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if not _closed_by_server(connection):
                return connection
            await _drop(connection)
        return None

    async def close(self) -> None:
        """Close all idle connections; running calls end with theirs."""
        self._closed = True
        while self._idle:
            await _drop(self._idle.pop())


def _closed_by_server(connection: Any) -> bool:
    # A server that was restarted has closed all idle connections: a command sent on one would end as `unknown`, though
    # nobody can have read it. redis-py has no public way to ask without a system call.
    reader = getattr(connection, "_reader", None)
    return reader is None or bool(reader.at_eof())


async def _drop(connection: Any) -> None:
    try:
        await connection.disconnect(nowait=True)
    except (RedisError, OSError):
        return
