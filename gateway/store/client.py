"""Talks to Redis: a small pool of links, one FCALL a call, errors told apart by what they mean for the caller.

Nothing is retried here: a client that repeats a write after a time-out runs it twice (seen with redis-py's default
retries). A link on which a call did not end (time-out, cancellation) is closed, never used again: the next caller would
read its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.errors import StoreUnavailable
from gateway.store import scripts
from gateway.store.link import CONNECT_TIMEOUT_S, Link, Refused, UnknownMove, connect


class Client:
    """A pool of at most `size` links to one server; calls wait for a free one."""

    def __init__(self, url: str, *, size: int = 24, timeout_s: float = 3.0) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._idle: deque[Link] = deque()
        self._room = asyncio.Semaphore(size)
        self._closed = False
        self.commands = 0
        self.on_failure: Callable[[str, str], None] | None = None
        """Called for each failed call: the move, and `not_stored`, `unknown` or `fault` (a script of ours failed)."""

    async def listen(self, channel: str, hear: Callable[[bytes], None]) -> None:
        """Call `hear` with each word on a pub/sub channel, on a connection of its own, until cancelled.

        A lost connection is opened again; words can be lost with it, so who waits for one polls as well.
        """
        while True:
            client = redis.Redis.from_url(
                self.url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=CONNECT_TIMEOUT_S
            )
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(channel)
                async for note in pubsub.listen():
                    hear(note["data"])
            except (RedisError, OSError):
                await asyncio.sleep(1.0)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
                    await client.aclose()

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any], *, timeout_s: float | None = None) -> Any:
        """Run the script `name` and return its answer.

        Raises:
            StoreUnavailable: `not_stored` when the server refused before it ran or could not be reached at all,
                `unknown` when the call was sent and no answer came.
        """
        try:
            return await self._call(name, keys, args, timeout_s)
        except StoreUnavailable as exc:
            if self.on_failure is not None:
                self.on_failure(name, exc.outcome)
            raise
        except ResponseError:
            if self.on_failure is not None:
                self.on_failure(name, "fault")
            raise

    async def _call(self, name: str, keys: Sequence[str], args: Sequence[Any], timeout_s: float | None) -> Any:
        function = scripts.function(name)
        try:
            return await self.execute("FCALL", function, len(keys), *keys, *args, timeout_s=timeout_s)
        except UnknownMove:
            await self.load_moves()
            try:
                return await self.execute("FCALL", function, len(keys), *keys, *args, timeout_s=timeout_s)
            except UnknownMove as exc:
                raise StoreUnavailable("the store forgot its moves", outcome="not_stored") from exc

    async def load_moves(self) -> None:
        """Teach the server the moves; nothing happens when it knows them.

        Raises:
            StoreUnavailable: as `call`, and where the server does not take them.
        """
        bundle = scripts.bundle()
        try:
            await self.execute("FUNCTION", "LOAD", bundle.source)
        except ResponseError as exc:
            if "already exists" not in str(exc):
                raise StoreUnavailable(f"the store does not take the moves ({exc})", outcome="not_stored") from exc

    async def forget_other_moves(self) -> None:
        """Remove the libraries of other versions; one that still runs loads its own again."""
        for found in await self.execute("FUNCTION", "LIST", "LIBRARYNAME", f"{scripts.LIBRARIES}*"):
            fields = dict(zip(found[::2], found[1::2], strict=True))
            name = fields[b"library_name"].decode()
            if name != scripts.bundle().name:
                with contextlib.suppress(ResponseError):  # somebody else did
                    await self.execute("FUNCTION", "DELETE", name)

    async def execute(self, *command: Any, timeout_s: float | None = None) -> Any:
        """Send one command and return its answer.

        Raises:
            StoreUnavailable: as `call`.
            ResponseError: the server ran into an error of ours (UnknownMove is one).
        """
        if self._closed:
            raise StoreUnavailable("the store client is closed", outcome="not_stored")
        limit_s = timeout_s or self.timeout_s
        started = time.monotonic()
        await self._enter(limit_s)
        link: Link | None = None
        try:
            if time.monotonic() - started > 0.95 * limit_s:  # nothing was sent, and no time is left for an answer
                raise StoreUnavailable("no connection to the store was free in time", outcome="not_stored")
            link = self._take_idle() or await self._connect(min(limit_s, CONNECT_TIMEOUT_S))
            left_s = max(0.05, limit_s - (time.monotonic() - started))
            self.commands += 1
            return await self._ask(link, command, left_s)
        finally:
            self._room.release()
            if link is not None and not link.closed:
                if self._closed:
                    link.abort()
                else:
                    self._idle.append(link)

    async def _enter(self, limit_s: float) -> None:
        if not self._room.locked():
            await self._room.acquire()  # at once
            return
        try:
            # Not wait_for: before Python 3.12 it may swallow a cancellation, and its caller then never ends.
            async with asyncio.timeout(limit_s):
                await self._room.acquire()
        except TimeoutError as exc:
            raise StoreUnavailable("no connection to the store is free", outcome="not_stored") from exc

    def _take_idle(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.closed:
                return link
        return None

    async def _connect(self, limit_s: float) -> Link:
        try:
            return await connect(self.url, limit_s)
        except Refused as exc:
            raise StoreUnavailable(f"the store refused the connection ({exc})", outcome="not_stored") from exc
        except (OSError, TimeoutError) as exc:
            raise StoreUnavailable("the store cannot be reached", outcome="not_stored") from exc

    async def _ask(self, link: Link, command: tuple[Any, ...], limit_s: float) -> Any:
        try:
            return await link.ask(command, limit_s)
        except Refused as exc:
            raise StoreUnavailable(f"the store refused the call ({exc})", outcome="not_stored") from exc
        except TimeoutError as exc:
            raise StoreUnavailable("the store did not answer in time", outcome="unknown") from exc
        except OSError as exc:
            raise StoreUnavailable("the connection to the store failed", outcome="unknown") from exc

    async def close(self) -> None:
        """Close all idle links; running calls end with theirs."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()
