"""One connection to Redis: a command goes out, its answer comes back, nothing else happens on it meanwhile.

An asyncio.Protocol around hiredis' parser. redis-py's own connection goes through streams and several layers, which
cost a dispatch worker a tenth of its time; its URL grammar and its error classes are used here all the same. Knows no
scripts and no pool.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ResponseError

CONNECT_TIMEOUT_S: Final = 2.0

# Answers that mean "refused before the first write"; errors from inside a script begin with the same words.
_REFUSED: Final = re.compile(
    r"^(OOM|LOADING|MISCONF|READONLY|NOREPLICAS|MASTERDOWN|BUSY|CLUSTERDOWN|NOAUTH|WRONGPASS|NOPERM"
    r"|ERR max number of clients reached|ERR Client sent AUTH|ERR invalid password)\b"
)


class UnknownMove(ResponseError):
    """The server does not know the function that was called (any more)."""


class Refused(Exception):
    """The server refused a command before it did anything; `word` is that of its error code."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def _error(text: str) -> Exception:
    if text.endswith("Function not found"):
        return UnknownMove(text)
    refused = _REFUSED.match(text)
    if refused is not None:
        return Refused(refused.group(1))
    return ResponseError(text)


class Link(asyncio.Protocol):
    """A connection that carries one command at a time; `closed` is true as soon as it cannot carry another."""

    def __init__(self) -> None:
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=_error)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Any] | None = None
        self._refused: Refused | None = None

    async def ask(self, command: tuple[Any, ...], timeout_s: float) -> Any:
        """Send a command and return its answer; an error answer is raised.

        Raises:
            TimeoutError: no answer in time; the link is closed, since the answer may still come.
            ConnectionError: the connection ended before the answer.
            Refused, UnknownMove, ResponseError: the server's answer (Refused also: nothing could be sent).
        """
        transport = self._transport
        if self.closed or transport is None:
            raise self._refused or Refused("closed")
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire, waiter)
        transport.write(hiredis.pack_command(command))
        try:
            answer = await waiter
        except BaseException:
            self.abort()  # also when the caller was cancelled: the next one would read this answer
            raise
        finally:
            timer.cancel()
            self._waiter = None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _expire(self, waiter: asyncio.Future[Any]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError("no answer in time"))

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            answer = self._reader.gets()
        except hiredis.ProtocolError:
            self._fail(ConnectionError("the answer is not RESP"))
            return
        if answer is False:
            return  # not whole yet; the protocol of version 2 has no other False
        waiter = self._waiter
        if waiter is None or waiter.done() or self._reader.has_data():
            if isinstance(answer, Refused):
                self._refused = answer  # told before we asked: too many clients
            self._fail(ConnectionError("an answer without a question"))
        else:
            waiter.set_result(answer)

    def eof_received(self) -> bool | None:
        self.closed = True  # connection_lost comes a turn later; a command sent until then would end as unknown
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError("the connection to the store ended"))

    def _fail(self, error: Exception) -> None:
        self.closed = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


async def connect(url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Link:
    """Open a link to `redis://`, `rediss://` or `unix://`, authenticated and on its database.

    Raises:
        OSError, TimeoutError: nobody answers there.
        Refused: the server does not let us in.
    """
    options: dict[str, Any] = dict(parse_url(url))
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        if "path" in options:
            _, link = await loop.create_unix_connection(Link, options["path"])
        else:
            tls = _tls(options) if url.startswith("rediss:") else None
            host, port = options.get("host", "localhost"), options.get("port", 6379)
            _, link = await loop.create_connection(Link, host, port, ssl=tls)
    try:
        if options.get("password"):
            names = (options["username"],) if options.get("username") else ()
            await link.ask(("AUTH", *names, options["password"]), timeout_s)
        if options.get("db"):
            await link.ask(("SELECT", options["db"]), timeout_s)
        # A server with too many clients says so and hangs up: better now than when a write is on its way.
        await link.ask(("PING",), timeout_s)
    except BaseException:
        link.abort()
        raise
    return link


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
