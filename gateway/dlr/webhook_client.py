"""One call to an application's endpoint: bytes go out, one word comes back on what became of them.

Owns HTTP towards applications: no redirects, no cookies, no proxies, no decompression, at most 64 KiB of an answer
read, one limit for all of it, TLS always verified. Refuses to know events, retries and the store. What went wrong is
told by a class (`RESULTS`), never in the words of the peer or of a library.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway import __version__
from gateway.dlr.webhook_guard import Denied, GuardedConnector, Lookup
from gateway.dlr.webhook_schedule import retry_after_s
from gateway.settings import WebhookSettings
from gateway.settings.tls import client_context

READ_MOST: Final = 65_536
TAKEN_REST_S: Final = 2.0
"""How long the rest of an answer may take whose status says that the call was taken."""
IDLE_S: Final = 30.0

DELIVERED: Final = "delivered"
GONE: Final = "gone"
THROTTLED: Final = "throttled"
RESULTS: Final = (
    DELIVERED, "redirect", GONE, THROTTLED, "http_4xx", "http_5xx", "http_other", "timeout", "disconnected", "connect",
    "dns", "denied", "tls", "protocol",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call."""

    result: str  # one of RESULTS
    status: int = 0  # of the answer; 0: there was none
    retry_after_s: float | None = None  # what it asked for, at most an hour


class WebhookClient:
    """Calls one account's endpoint over connections that stay open."""

    def __init__(self, webhook: WebhookSettings, lookup: Lookup, *, timeout_s: float | None = None) -> None:
        """Make the session (inside the loop); `timeout_s` in place of the webhook's own.

        Raises:
            OSError: `tls_ca` cannot be read.
        """
        self._url = webhook.url
        context: ssl.SSLContext | bool = True
        if self._url[:6].lower() == "https:":
            context = client_context(webhook.tls_ca, None, None)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s or webhook.timeout_s, ceil_threshold=120)
        self._session = aiohttp.ClientSession(
            connector=GuardedConnector(
                lookup,
                allow_private=webhook.allow_private,
                limit=webhook.concurrency,
                keepalive_timeout=IDLE_S,
                ssl=context,
            ),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept",),
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"smsgw/{__version__}",
                "Accept-Encoding": "identity",
            },
        )

    async def call(self, headers: dict[str, str], body: bytes) -> Answer:
        """Post once and tell what became of it; never raises but for cancellation."""
        first = await self._call(headers, body)
        if first.result != "disconnected":
            return first
        # Mostly a kept connection that the peer closed at the very moment; a receiver knows the repeat by its id.
        return await self._call(headers, body)

    async def _call(self, headers: dict[str, str], body: bytes) -> Answer:
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                found = _read_status(answer.status, answer.headers.get("Retry-After", ""))
                await _read_rest(answer, taken=found.result == DELIVERED)
                return found
        except Exception as exc:  # the boundary: what is thrown at us becomes a word
            return Answer(_class_of(exc))

    async def close(self) -> None:
        """Close the connections; running calls end as disconnected."""
        await self._session.close()


def _read_status(status: int, retry_after: str) -> Answer:
    pause_s = retry_after_s(retry_after, time.time()) if retry_after and status in (429, 503) else None
    if 200 <= status < 300:
        result = DELIVERED
    elif 300 <= status < 400:
        result = "redirect"
    elif status == 410:
        result = GONE
    elif status == 429:
        result = THROTTLED
    else:
        result = {4: "http_4xx", 5: "http_5xx"}.get(status // 100, "http_other")
    return Answer(result, status, pause_s)


async def _read_rest(answer: aiohttp.ClientResponse, *, taken: bool) -> None:
    """Read what is left so that the connection can be used again; give it up where that is much or slow."""
    left = READ_MOST
    try:
        async with asyncio.timeout(TAKEN_REST_S if taken else None):
            while not answer.content.at_eof():
                left -= len(await answer.content.read(left))
                if left <= 0:
                    answer.close()
                    return
    except (TimeoutError, aiohttp.ClientError):
        answer.close()
        if not taken:
            raise


def _class_of(error: Exception) -> str:
    found = "protocol"
    if isinstance(error, Denied) or isinstance(error.__cause__, Denied):
        found = "denied"
    elif isinstance(error, TimeoutError):
        found = "timeout"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        found = "dns"
    elif isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        found = "tls"
    elif isinstance(error, aiohttp.ClientConnectorError):
        found = "connect"
    elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError):
        found = "disconnected"
    elif isinstance(error, OSError):
        found = "connect"
    return found
