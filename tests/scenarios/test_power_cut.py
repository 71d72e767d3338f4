"""The power fails: what was answered as accepted is on disk, with its idempotency mark.

kill -9 proves nothing about fsync, because the page cache survives it. So the server runs under strace, and after the
kill its append-only file is cut to the size it had when the last finished fdatasync began: that much a disk without
power is sure to hold. That the method finds losses is shown with `appendfsync everysec`, the mode called `relaxed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.errors import StoreUnavailable
from gateway.model import Accepted, NewMessage
from gateway.settings import Settings
from gateway.store import scripts
from gateway.store.store import Store
from tests.support.messages import message
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.needs_strace

_AOF = re.compile(r"^(\d+) +(write|fdatasync|fsync)\(\d+<[^>]*\.incr\.aof>(.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (write|fdatasync|fsync) resumed>(.*)$")
_RESULT = re.compile(r"\) += (-?\d+)")


def sizes(trace: Path) -> tuple[int, int]:
    """Read a trace: bytes written to the incremental AOF, and bytes before the start of the last finished fsync."""
    written = durable = 0
    begun: dict[tuple[str, str], int] = {}  # calls that strace shows in two lines, with the size at their start
    for line in trace.read_text(errors="replace").splitlines():
        if match := _AOF.match(line):
            pid, call, rest = match.groups()
            at = written
            if "<unfinished" in rest:
                begun[pid, call] = at
                continue
        elif (match := _RESUMED.match(line)) and match.group(1, 2) in begun:
            pid, call, rest = match.groups()
            at = begun.pop((pid, call))
        else:
            continue
        result = _RESULT.search(rest)
        if result is None or int(result[1]) < 0:
            continue
        if call == "write":
            written += int(result[1])
        else:
            durable = max(durable, at)
    return written, durable


def test_sizes_are_read_from_whole_and_broken_lines(tmp_path: Path) -> None:
    aof = "</d/appendonlydir/appendonly.aof.1.incr.aof>"
    (tmp_path / "trace").write_text(
        f'7 write(9{aof}, "*3"..., 100) = 100\n'
        f"7 fdatasync(9{aof}) = 0\n"
        '7 write(8<socket:[1]>, "+OK", 5) = 5\n'
        f'7 write(9{aof}, "*3"..., 50) = 50\n'
        f"8 fdatasync(9{aof} <unfinished ...>\n"
        f'7 write(9{aof}, "*3"..., 25) = 25\n'
        "8 <... fdatasync resumed>) = 0\n"
        f"7 fdatasync(9{aof} <unfinished ...>\n"
        "7 +++ killed by SIGKILL +++\n"
    )
    assert sizes(tmp_path / "trace") == (175, 150)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is missing; the power cut must be tested here")
        pytest.skip("strace is not installed")
    return tmp_path / "trace"


@pytest.fixture
def server(request: pytest.FixtureRequest, trace: Path) -> Iterator[ValkeyServer]:
    started = ValkeyServer(appendfsync=request.param)
    started.start("strace", "-f", "-y", "-e", "trace=write,fdatasync,fsync", "-o", str(trace))
    yield started
    with contextlib.suppress(redis.RedisError, OSError):
        os.kill(_pid(started), signal.SIGKILL)  # it would outlive the strace that `stop` ends
    started.stop()


def _pid(server: ValkeyServer) -> int:
    with server.sync() as client:
        return int(client.info("server")["process_id"])


class Load:
    """Writers that store marked messages in batches, all at once, and remember what was answered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.accepted: dict[str, NewMessage] = {}
        self.unknown = 0
        self._stop = False
        self._count = 0

    async def run(self, writers: int = 8) -> None:
        await asyncio.gather(*(self._write() for _ in range(writers)))

    def stop(self) -> None:
        self._stop = True

    async def _write(self) -> None:
        while not self._stop:
            batch = []
            for _ in range(random.randint(1, 20)):
                self._count += 1
                mark = self._count.to_bytes(16, "big")
                category = random.choice((0, 1, 1, 2))
                batch.append(
                    message(self.store, category=category, parts=random.randint(1, 3), idem=mark, digest=b"d" * 8)
                )
            for m, answer in zip(batch, await self.store.accept(batch), strict=True):
                if isinstance(answer, Accepted):
                    self.accepted[m.id] = m
                else:
                    self.unknown += 1
            if self.unknown:
                return


def cut_power(server: ValkeyServer, trace: Path) -> tuple[int, int]:
    """Kill the server under its strace and take away what no finished fsync covers; returns (written, durable)."""
    os.kill(_pid(server), signal.SIGKILL)
    assert server.process is not None
    server.process.wait(10)
    written, durable = sizes(trace)
    (aof,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    assert aof.stat().st_size >= written, "the trace tells of more than there is"
    with aof.open("rb+") as file:
        file.truncate(durable)
    return written, durable


async def lost_after_restart(server: ValkeyServer, settings: Settings, load: Load) -> list[str]:
    """Start again on what is left and check it; return the ids that were accepted and are gone."""
    server.kill()
    server.start()
    with server.sync() as client:
        found = check_consistent(snapshot(client))
    store = await Store.open(settings, server.url)
    try:
        kept = [m for sid, m in load.accepted.items() if sid in found]
        for m in kept[:: max(1, len(kept) // 100)]:
            again = message(store, m.msisdn, idem=m.idem, digest=m.digest)
            (answer,) = await store.accept([again])
            assert isinstance(answer, Accepted)
            assert (answer.code, answer.id) == ("replay", m.id), "a message without its mark would be sent twice"
    finally:
        await store.close()
    return [sid for sid in load.accepted if sid not in found]


@pytest.mark.parametrize("server", ["always"], indirect=True)
@pytest.mark.parametrize("turn", range(3))
async def test_strict_loses_nothing(server: ValkeyServer, settings: Settings, trace: Path, turn: int) -> None:
    store = await Store.open(settings, server.url)
    load = Load(store)
    running = asyncio.create_task(load.run())
    try:
        enough = random.randint(300, 700)
        await until(lambda: len(load.accepted) >= enough, every_s=0.001, timeout_s=20)
        await asyncio.to_thread(cut_power, server, trace)
        await running
    finally:
        load.stop()
        await store.close()
    lost = await lost_after_restart(server, settings, load)
    assert lost == [], f"{len(lost)} of {len(load.accepted)} accepted messages are gone"


@pytest.mark.parametrize("server", ["everysec"], indirect=True)
async def test_the_method_finds_what_relaxed_loses(server: ValkeyServer, settings: Settings, trace: Path) -> None:
    store = await Store.open(settings, server.url)
    load = Load(store)
    running = asyncio.create_task(load.run())
    try:
        # A moment at which it hurts: some messages are safe (behind the moves, which are written first), and much was
        # written since then.
        safe = len(scripts.bundle().source) + 50_000
        await until(
            lambda: sizes(trace)[1] > safe and sizes(trace)[0] - sizes(trace)[1] > 50_000, timeout_s=20, every_s=0.05
        )
        written, durable = await asyncio.to_thread(cut_power, server, trace)
        await running
    except StoreUnavailable:
        pass
    finally:
        load.stop()
        await store.close()
    assert durable < written
    lost = await lost_after_restart(server, settings, load)
    assert 0 < len(lost) < len(load.accepted)
