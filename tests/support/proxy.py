"""A proxy between a store client and the server that loses answers on purpose.

Forwards bytes both ways over Unix sockets. Armed with a word, it forwards the next command that holds it, waits until
the server has answered (so the command was executed), and cuts the client's connection instead of passing the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


class CuttingProxy:
    """Listens on `path`, forwards to the server's socket; `cut(word)` arms it for one answer."""

    def __init__(self, path: Path, server: Path, *, delay_s: float = 0.0) -> None:
        self.path = path
        self.delay_s = delay_s
        self.cuts = 0
        self._server = server
        self._word: bytes | None = None
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def cut(self, word: str) -> None:
        """Lose the answer to the next command that holds `word` (a script's SHA-1, for example)."""
        self._word = word.encode()

    @property
    def armed(self) -> bool:
        return self._word is not None

    async def start(self) -> None:
        self._listener = await asyncio.start_unix_server(self._serve, path=str(self.path))

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_unix_connection(str(self._server))
        lost = asyncio.Event()
        pumps = [
            asyncio.create_task(self._up(reader, up_writer, lost)),
            asyncio.create_task(self._down(up_reader, writer, lost)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # the proxy stops; streams would log a cancelled handler as an error
        finally:
            for pump in pumps:
                pump.cancel()
            for w in (writer, up_writer):
                with contextlib.suppress(OSError):
                    w.transport.abort()
            self._tasks.discard(task)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if self._word is not None and self._word in data:
                self._word = None
                lost.set()
            writer.write(data)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if lost.is_set():
                self.cuts += 1
                return
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(data)
