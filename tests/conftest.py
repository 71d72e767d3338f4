"""Fixtures for all tests: a real Valkey for the run, emptied before each test that uses it, and a store on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.settings import Settings, StoreSettings
from gateway.store.store import Store
from tests.support.valkey import ValkeyServer

ALONE = frozenset(
    {
        "test_backup_takes_over", "test_both_carriers_down", "test_breaker", "test_fairness",
        "test_flapping_primary", "test_gate_closed_on_200k", "test_graceful_stop", "test_half_open", "test_live",
        "test_one_of_two_workers_killed", "test_priority_during_failover", "test_priority_under_backlog",
        "test_refused_connection", "test_reload_under_load", "test_sharing", "test_store_hangs", "test_supervisor",
        "test_td_under_load", "test_templates", "test_throttled", "test_throttled_then_stopped",
        "test_worker_killed_at_random",
    }
)  # fmt: skip
"""Files whose subject is a rate or a time: beside others they would measure those, so `make test` runs them alone.
Single tests of other files are marked `alone` where they stand."""


FIRST = (
    "test_api_worker_killed", "test_everything_killed", "test_reload_refused", "test_cli_operators",
    "test_one_post_to_one_receipt", "test_demo", "test_ported_cli", "test_same_key_in_parallel", "test_overload",
    "test_admin_api", "test_metrics_never_fall", "test_protocol", "test_told_of_messages", "test_signatures",
    "test_architecture", "test_canaries", "test_ported_learned", "test_webhooks", "test_send_window",
)  # fmt: skip
"""The files that take longest beside others, the longest first: one that began last would be waited for by itself."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the files of ALONE before `-m` looks; put those of FIRST first."""
    for item in items:
        if item.path.stem in ALONE and "templates" not in item.path.parent.name:
            item.add_marker(pytest.mark.alone)
    order = {stem: place for place, stem in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test fails the run: a tool that is missing there would hide what it tests."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line(f"{len(reporter.stats['skipped'])} tests were skipped, and CI requires all", red=True)
        session.exitstatus = 1
