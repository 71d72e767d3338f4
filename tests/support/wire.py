"""The line between the gateway and a carrier, in our hands: a TCP proxy that cuts, chops, gathers and slows octets.

`async with Wire(carrier.port) as wire:` listens on `wire.port`. "Up" is from the gateway to the carrier, "down" from
the carrier to the gateway. The faults may be set and cleared while it runs. It knows PDU headers and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from gateway.smpp import constants as c

_READ_OCTETS = 1 << 16
_HEADER = struct.Struct(">IIII")


def headers(octets: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (command_id, command_status, sequence_number, octets of the whole PDU) of a stream's whole PDUs."""
    at = 0
    while at + _HEADER.size <= len(octets):
        length, command_id, status, number = _HEADER.unpack_from(octets, at)
        if length < _HEADER.size or at + length > len(octets):
            return
        yield command_id, status, number, length
        at += length


@dataclass(slots=True)
class Direction:
    """What happens to the octets of one direction."""

    one_by_one: bool = False
    """Every octet is a write of its own, with a turn of the loop behind it."""
    gather: int = 0
    """Hold everything back until so many PDUs are complete, then write them at once."""
    most_gathered: int = 0
    cut_command: int = 0
    """Cut in the next PDU of this command: `cut_octets` of it are written, then the connections end."""
    cut_octets: int = 0
    reset: bool = False
    """The cut is a RST; otherwise a FIN."""
    cuts: int = 0
    held: bool = False
    """Write nothing, and read no more than a few kilobytes."""
    seen: bytearray = field(default_factory=bytearray)
    """All octets that came in this direction, over all connections."""


class Wire:
    """Carries every connection to one port of a carrier. `receive_octets` makes the buffer small that it reads with."""

    def __init__(self, carrier_port: int, *, receive_octets: int = 0) -> None:
        self.up, self.down = Direction(), Direction()
        self.port = 0
        self.connections = 0
        self._carrier_port = carrier_port
        self._receive_octets = receive_octets
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()

    async def __aenter__(self) -> Self:
        listener = socket.socket()
        if self._receive_octets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_octets)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=1024)
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def release(self) -> None:
        """Let both directions go on after `held`."""
        self.up.held = self.down.held = False
        self._moved.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._carrier_port)
            pumps = [
                asyncio.create_task(self._pump(reader, up_writer, self.up)),
                asyncio.create_task(self._pump(up_reader, writer, self.down)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (asyncio.CancelledError, OSError):
            return  # the wire ends, or the carrier is not there: both sides see a closed connection
        finally:
            for w in (writer, up_writer):
                if w is not None:
                    with contextlib.suppress(OSError):
                        w.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
        waiting = b""
        while True:
            data = await reader.read(_READ_OCTETS)
            if not data:
                return
            while way.held:
                self._moved.clear()
                await self._moved.wait()
            way.seen += data
            waiting += data
            cut_at = _cut_at(waiting, way)
            if cut_at >= 0:
                await self._cut(writer, waiting[:cut_at], way)
                return
            if way.cut_command:
                whole = sum(length for *_, length in headers(waiting))  # a header may be cut by the read
                data, waiting = waiting[:whole], waiting[whole:]
            elif way.gather:
                found = sum(1 for _ in headers(waiting))
                if found < way.gather:
                    continue
                way.most_gathered = max(way.most_gathered, found)
                data, waiting = waiting, b""
            else:
                data, waiting = waiting, b""
            await _write(writer, data, way)

    async def _cut(self, writer: asyncio.StreamWriter, rest: bytes, way: Direction) -> None:
        """Write the last octets and end the connection inside a PDU."""
        way.cut_command = 0
        way.cuts += 1
        writer.write(rest)
        await writer.drain()
        if way.reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def _cut_at(waiting: bytes, way: Direction) -> int:
    """Return where the stream is to be cut, -1 when the command has not come."""
    if not way.cut_command:
        return -1
    at = 0
    for command_id, _, _, length in headers(waiting):
        if command_id == way.cut_command:
            return at + min(way.cut_octets, length - 1)
        at += length
    return -1


async def _write(writer: asyncio.StreamWriter, data: bytes, way: Direction) -> None:
    if not way.one_by_one:
        writer.write(data)
        await writer.drain()
        return
    for octet in data:
        writer.write(bytes((octet,)))
        await asyncio.sleep(0)
    await writer.drain()


def answers(octets: bytes | bytearray, *commands: int) -> list[tuple[int, int, int]]:
    """Return (command_id, command_status, sequence_number) of these commands in a stream, all responses if none."""
    return [
        (command_id, status, number)
        for command_id, status, number, _ in headers(bytes(octets))
        if (command_id in commands if commands else command_id & c.RESPONSE_BIT)
    ]
