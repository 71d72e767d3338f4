"""The asynchronous client: flows driven over one aiohttp session.

    async with AsyncClient("http://127.0.0.1:8080", key) as client:
        accepted = await client.send(Message(to="+8613800138000", category="verification", text="…"))

Owns the session and the event loop's clock. What a call is stands in `calls`, how it is repeated in `exchange`.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL  # aiohttp's own type: as a text it would read %2E%2E in a path as a step up

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


class AioTransport:
    """Sends requests to one base URL with one key. An async context manager; not shared between event loops."""

    def __init__(self, url: str, key: str, connections: int = 16) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def exchange(self, request: Request) -> Response | Broken:
        """Send one request once. Redirects are answers: following one could take the key elsewhere."""
        if self._session is None:
            raise RuntimeError("use `async with`")
        try:
            async with self._session.request(
                request.method,
                URL(self._url + request.path, encoded=True),
                data=request.body,
                headers=request.headers,
                params=request.query,
                timeout=aiohttp.ClientTimeout(total=request.timeout_s),
                allow_redirects=False,
            ) as answer:
                raw = await answer.read()
                return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, raw)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            return Broken(type(exc).__name__, sent=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return Broken(type(exc).__name__)

    async def drive(self, flow: Flow[T]) -> T:
        """Do what a flow asks for and return its value."""
        got: Response | Broken | None = None
        while True:
            try:
                step = flow.send(got)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                got = None
            else:
                got = await self.exchange(step)


class AsyncClient:
    """One account's access to one gateway; an async context manager. Not shared between event loops.

    `connections` bounds how many calls are under way at once; others wait their turn.
    """

    def __init__(self, url: str, key: str, *, retry: Retry | None = None, connections: int = 16) -> None:
        self._retry = retry or Retry()
        self._transport = AioTransport(url, key, connections)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, exc, traceback)

    def _effort(self) -> Effort:
        return Effort(self._retry, CLOCK)

    async def send(self, message: Message, *, idempotency_key: str | None = None) -> Accepted:
        """Post one message until it is accepted or refused.

        Raises:
            ApiError: refused; `outcome` says whether anything may be stored.
            Unreachable: no answer in time; sending the same `ref` or key again finds out.
        """
        return await self._transport.drive(calls.send(self._effort(), message, idempotency_key, uuid.uuid4().hex))

    async def send_batch(
        self,
        messages: Sequence[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        retry_items: bool = True,
    ) -> list[Accepted | Refused]:
        """Post messages, in several calls where they are more than 1,000 or 4 MiB; the answers are in their order.

        Items that are refused for now and have a `ref` are posted again until the deadline; `retry_items=False` leaves
        that to the caller.

        Raises:
            ApiError: a call as a whole was refused; those before it were not, and with refs or a key a repeat is safe.
            Unreachable: no answer in time.
        """
        flow = calls.send_batch(
            self._effort(), messages, defaults, idempotency_key, uuid.uuid4().hex, retry_items=retry_items
        )
        return await self._transport.drive(flow)

    async def send_many(
        self,
        messages: Iterable[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        batch: int = 500,
        concurrency: int = 4,
    ) -> AsyncIterator[tuple[Message, Accepted | Refused]]:
        """Post any number of messages, `concurrency` batches at a time; yield each with its answer as they come.

        Takes from `messages` only what it can post, so that a file of millions is never held as a whole.

        Raises:
            ApiError, Unreachable: as `send_batch`; what is still under way is given up. With refs, a repeat is safe.
        """
        source = iter(messages)
        running: dict[asyncio.Task[list[Accepted | Refused]], list[Message]] = {}
        try:
            while True:
                while len(running) < concurrency and (rows := list(islice(source, batch))):
                    running[asyncio.create_task(self.send_batch(rows, defaults=defaults))] = rows
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    for pair in zip(running.pop(task), task.result(), strict=True):
                        yield pair
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def check(
        self,
        messages: Sequence[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> list[Foreseen]:
        """Ask what would become of messages now; nothing is stored and no limit is used up. Raises as `send_batch`."""
        return await self._transport.drive(calls.check(self._effort(), messages, defaults, idempotency_key))

    async def get(self, message_id: str) -> Status:
        """Return a message's state. Raises NotFound where it is not this account's, or no longer kept."""
        return await self._transport.drive(calls.get(self._effort(), message_id))

    async def find(self, to: str, *, ref: str | None = None) -> list[Status]:
        """Return the account's latest messages to a number, at most 16; with `ref`, that one."""
        return await self._transport.drive(calls.find(self._effort(), to, ref))

    async def cancel(self, message_id: str) -> Cancelled:
        """Cancel what is not yet claimed for sending. Raises Conflict (too late) or NotFound."""
        return await self._transport.drive(calls.cancel(self._effort(), message_id))

    async def feedback(self, message_id: str, told: Feedback) -> bool:
        """Tell what a message led to; return whether it was new (repeats, also by this client, count once).

        Raises:
            NotFound: unknown or no longer kept.
            Conflict: never sent, or the event_id has other content.
            Unreachable: no answer in time; telling it again is safe.
        """
        return await self._transport.drive(calls.feedback(self._effort(), message_id, told))

    async def blacklist_get(self, number: str) -> list[Listed]:
        """Return the account's own blacklist entries of a number; none: it is not listed."""
        return await self._transport.drive(calls.blacklist_get(self._effort(), number))

    async def blacklist_put(
        self, number: str, *, categories: Sequence[str] | None = None, reason: str | None = None
    ) -> Listed:
        """Put a number on the account's blacklist (marketing where no categories are named); return the entry."""
        return await self._transport.drive(calls.blacklist_put(self._effort(), number, categories, reason))

    async def blacklist_delete(self, number: str) -> list[Listed]:
        """Take a number off all of the account's lists; return the entries that were there."""
        return await self._transport.drive(calls.blacklist_delete(self._effort(), number))

    async def stats(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        by: Sequence[str] = (),
        zone: str | None = None,
        **where: str | Sequence[str],
    ) -> Report:
        """Return how messages fared from `since` to `until` (dates or RFC 3339 times; today where not given).

        `by` groups (hour or day, category, carrier, route, channel, reason, template, campaign, variant, signature);
        the same names filter: `stats(by=["day"], category="marketing")`.
        """
        return await self._transport.drive(
            calls.stats(self._effort(), calls.stats_query(since, until, by, zone, where))
        )

    async def health(self) -> Health:
        """Return whose key this is. Raises ApiError or Unreachable where the gateway could not take a message now."""
        return await self._transport.drive(calls.health(self._effort()))
