"""Fixtures for all tests: a real Valkey for the run, emptied before each test that uses it, and a store on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.settings import Settings, StoreSettings
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """The run's server, empty."""
    with valkey_server.sync() as client:
        client.config_set("maxmemory", "2gb")
        client.flushall()
        client.script_flush()
    return valkey_server


@pytest.fixture(params=[1, 4], ids=["one-shard", "four-shards"])
def shards(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def settings() -> Settings:
    """Defaults, without files."""
    return Settings(config_dir=Path("config"))


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


def with_shards(settings: Settings, shards: int) -> Settings:
    return replace(settings, store=replace(settings.store, shards=shards))


__all__ = ["StoreSettings", "with_shards"]
