"""An HTTP answer as bytes, written in one piece.

Owns the head that every answer has. Stands where aiohttp would build a Response: its header map, preparation
and writer cost 16 µs an answer of the 52 µs that a small request takes, and every answer here is short and
whole. Offers the three members that aiohttp's connection asks of a response: `prepare`, `write_eof`,
`keep_alive`.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp.web import BaseRequest

JSON: Final = b"application/json"
# No-store: an answer holds a recipient's number. No version in Server: it would help nobody but an attacker.
_HEAD: Final = (
    b"HTTP/1.1 %d %b\r\nServer: smsgw\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n"
    b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%b%b\r\n"
)
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


@lru_cache(maxsize=2)
def _date(now_s: int) -> bytes:
    return formatdate(now_s, usegmt=True).encode()


class Answer:
    """One answer: `body` is bytes, or a value to be written as JSON; `headers` are whole lines."""

    __slots__ = ("body", "close", "content_type", "headers", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        body: Any,
        *,
        headers: bytes = b"",
        content_type: bytes = JSON,
        close: bool = False,
    ) -> None:
        self.status = status
        self.body: bytes = body if body.__class__ is bytes else orjson.dumps(body)
        self.headers = headers
        self.content_type = content_type
        self.close = close
        self.keep_alive = not close

    def encode(self, *, close: bool, with_body: bool = True) -> bytes:
        """Return head and body as they go on the wire."""
        head = _HEAD % (
            self.status,
            _REASONS.get(self.status, b""),
            _date(int(time.time())),
            self.content_type,
            len(self.body),
            self.headers,
            b"Connection: close\r\n" if close else b"",
        )
        return head + self.body if with_body else head

    async def prepare(self, request: BaseRequest) -> None:
        """Write the whole answer; wait only while the peer reads too slowly.

        Raises:
            ConnectionResetError: the peer is gone.
        """
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        # HTTP/1.0 clients would need `Connection: keep-alive` spelled out; they get one request a connection.
        self.keep_alive = request.keep_alive and not self.close and request.version.minor != 0
        transport.write(self.encode(close=not self.keep_alive, with_body=request.method != "HEAD"))
        if request.protocol.writing_paused:
            await request.protocol._drain_helper()

    async def write_eof(self) -> None:
        """Do nothing: `prepare` wrote it all."""
