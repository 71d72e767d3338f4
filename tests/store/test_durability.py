"""Durability: every setting weaker than the promise is named, by the pure rules and against a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from gateway.errors import StoreUnavailable
from gateway.settings import StoreSettings
from gateway.store.client import Client
from gateway.store.durability import (
    Health,
    Problem,
    check_server,
    check_settings,
    inspect,
    judge_intake,
    server_version,
    watch,
)
from gateway.store.embedded import EmbeddedServer
from gateway.store.store import Store
from tests.support.messages import accept, message
from tests.support.until import until

STRICT = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "aof-use-rdb-preamble": "yes",
    "maxmemory-policy": "noeviction",
    "maxmemory": "1000000",
}
REPLICATED = {
    **STRICT,
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "5",
    "repl-diskless-sync-delay": "0",
}
SOUND_INFO = {"redis_version": "7.2.4", "role": "master", "loading": 0, "aof_enabled": 1}


@pytest.mark.parametrize(
    ("durability", "config"),
    [
        ("strict", STRICT),
        ("replicated", REPLICATED),
        ("relaxed", {**STRICT, "appendfsync": "everysec"}),
        ("relaxed", STRICT),
    ],
)
def test_sound_settings_have_no_problem(durability: str, config: dict[str, str]) -> None:
    assert check_settings(durability, config) == []


@pytest.mark.parametrize(
    ("durability", "setting", "value"),
    [
        ("strict", "appendonly", "no"),
        ("strict", "appendfsync", "everysec"),
        ("strict", "appendfsync", "no"),
        ("strict", "no-appendfsync-on-rewrite", "yes"),
        ("strict", "aof-use-rdb-preamble", "no"),
        ("strict", "maxmemory-policy", "allkeys-lru"),
        ("strict", "maxmemory-policy", "volatile-ttl"),
        ("strict", "maxmemory", "0"),
        ("strict", "maxmemory", "lots"),
        ("relaxed", "appendfsync", "no"),
        ("relaxed", "appendonly", "no"),
        ("replicated", "min-replicas-to-write", "0"),
        ("replicated", "min-replicas-max-lag", "0"),
        ("replicated", "min-replicas-max-lag", "10"),
        ("replicated", "repl-diskless-sync-delay", "5"),
        ("replicated", "appendfsync", "everysec"),
    ],
)
def test_a_weaker_setting_is_named_with_what_was_found(durability: str, setting: str, value: str) -> None:
    [problem] = check_settings(durability, {**REPLICATED, setting: value})
    assert problem.setting == setting
    assert value in str(problem)
    assert durability in str(problem)


@pytest.mark.parametrize("setting", STRICT)
def test_a_setting_that_cannot_be_read_counts_as_weaker(setting: str) -> None:
    config = {k: v for k, v in STRICT.items() if k != setting}
    assert [p.setting for p in check_settings("strict", config)] == [setting]


@pytest.mark.parametrize(
    ("durability", "change", "named"),
    [
        ("strict", {}, []),
        ("strict", {"redis_version": "6.2.14"}, ["version"]),
        ("strict", {"redis_version": "7.0.15"}, []),
        ("replicated", {"redis_version": "7.0.15"}, ["version"]),
        ("strict", {"redis_version": ""}, ["version"]),
        ("strict", {"loading": 1}, ["loading"]),
        ("strict", {"role": "slave"}, ["role"]),
        ("strict", {"aof_enabled": 0}, ["aof_enabled"]),
        ("strict", {"aof_last_write_status": "err"}, ["aof_last_write_status"]),
    ],
)
def test_the_servers_own_state(durability: str, change: dict[str, object], named: list[str]) -> None:
    assert [p.setting for p in check_server(durability, {**SOUND_INFO, **change})] == named


def test_valkey_counts_by_the_redis_version_it_is_compatible_with() -> None:
    info = {"redis_version": "7.2.4", "valkey_version": "9.1.2"}
    assert server_version(info) == ("valkey", (7, 2, 4))


@pytest.mark.parametrize(
    ("used", "free", "aof", "level", "reasons"),
    [
        (80, 1000, 0, "open", 0),
        (81, 1000, 0, "verification", 1),
        (91, 1000, 0, "closed", 1),
        (10, 99, 0, "verification", 1),  # below 10 % of 1000
        (10, 49, 0, "closed", 1),
        (10, 500, 300, "verification", 1),  # a rewrite of 300 needs 600
        (10, 299, 300, "closed", 1),
        (81, 49, 0, "closed", 2),
        (10, None, 300, "open", 0),
    ],
)
def test_intake_stops_before_memory_or_disk_are_gone(
    used: int, free: int | None, aof: int, level: str, reasons: int
) -> None:
    got, why = judge_intake(used_memory=used, max_memory=100, disk_free=free, disk_total=1000, aof_bytes=aof)
    assert (got, len(why)) == (level, reasons)


@contextlib.asynccontextmanager
async def server(tmp_path: Path) -> AsyncIterator[redis.asyncio.Redis]:
    embedded = EmbeddedServer(StoreSettings(data_dir=tmp_path))
    await embedded.start()
    client = redis.asyncio.Redis.from_url(embedded.url)
    try:
        yield client
    finally:
        await client.aclose()
        await embedded.stop()


def url(client: redis.asyncio.Redis) -> str:
    return f"unix://{client.connection_pool.connection_kwargs['path']}"


async def test_the_embedded_server_is_sound_and_described(tmp_path: Path) -> None:
    async with server(tmp_path) as client:
        health = await inspect(client.execute_command, "strict", tmp_path)
        assert health.problems == ()
        raw = Client(url(client))
        again = await inspect(raw.execute, "strict", tmp_path)
        assert (again.problems, again.server) == (health.problems, health.server)  # raw answers read alike
        await raw.close()
        assert health.server.startswith("valkey ")
        assert 0 < health.used_memory_bytes < health.max_memory_bytes


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "allkeys-lru"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory", "0"),
    ],
)
async def test_a_setting_weakened_at_run_time_is_found_and_its_return_too(
    tmp_path: Path, setting: str, value: str
) -> None:
    seen: list[Health] = []

    def named() -> bool:
        return any(p.setting == setting for p in seen[-1].problems)

    async with server(tmp_path) as client:
        before = (await client.config_get(setting))[setting]
        checks = asyncio.create_task(watch(client.execute_command, "strict", seen.append, every_s=0.01, recheck_s=0.01))
        await until(lambda: seen and not seen[-1].problems)
        await client.config_set(setting, value)
        await until(named)
        await client.config_set(setting, before)
        await until(lambda: not seen[-1].problems)
        checks.cancel()


async def test_a_server_that_is_gone_is_a_problem_not_an_exception(tmp_path: Path) -> None:
    client = Client(f"unix://{tmp_path}/none.sock")
    health = await inspect(client.execute, "strict")
    assert (health.intake, [p.setting for p in health.problems]) == ("closed", ["connection"])
    await client.close()


async def test_an_operator_who_forbids_config_gets_told(tmp_path: Path) -> None:
    async with server(tmp_path) as client:
        await client.execute_command("ACL", "SETUSER", "gw", "on", "nopass", "~*", "+@all", "-config")
        limited = Client(url(client).replace("unix://", "unix://gw:x@"))
        with pytest.raises(StoreUnavailable):
            await limited.execute("CONFIG", "GET", "maxmemory")
        health = await inspect(limited.execute, "strict")
        assert [p.setting for p in health.problems] == ["config|get"]
        assert "not allowed" in str(health.problems[0])
        await limited.close()


def test_a_problem_reads_as_one_line() -> None:
    assert str(Problem("appendfsync", "is no")) == "appendfsync: is no"


async def test_what_is_short_goes_to_verification_first_and_replays_are_answered(store: Store) -> None:
    mark = {"idem": b"i" * 16, "digest": b"d" * 8}
    first = message(store, "8613800000001", **mark)
    assert await accept(store, first) == ["accepted"]
    for level, wanted in (
        ("verification", ["full", "accepted", "replay"]),
        ("closed", ["full", "full", "replay"]),
        ("open", ["accepted", "accepted", "replay"]),
    ):
        store.set_intake(level)
        again = message(store, "8613800000001", **mark)
        assert await accept(store, message(store), message(store, category=0), again) == wanted
