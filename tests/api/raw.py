"""A plain TCP peer for tests of the server: sends bytes as they are and reads until the server closes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from tests.api.conftest import KEY


@dataclass
class RawAnswer:
    """One answer as it came."""

    status: int
    head: bytes
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        problem: dict[str, Any] = orjson.loads(self.body)
        return problem


class Raw:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> RawAnswer:
        """Read one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return RawAnswer(int(head.split(b" ", 2)[1]), head, await self.reader.readexactly(length))

    async def rest(self) -> bytes:
        """Read until the server closes. A reset takes nothing away of what came before it."""
        came = b""
        while True:
            try:
                some = await self.reader.read(65_536)
            except ConnectionResetError:
                return came
            if not some:
                return came
            came += some


def post_head(*lines: bytes, path: bytes = b"/v1/messages") -> bytes:
    """Return a head with a key and JSON's content type; `lines` are further headers."""
    fixed = (
        b"POST " + path + b" HTTP/1.1",
        b"Host: gateway",
        b"Authorization: Bearer " + KEY.encode(),
        b"Content-Type: application/json",
    )
    return b"\r\n".join((*fixed, *lines)) + b"\r\n\r\n"
