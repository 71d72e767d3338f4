"""A store weaker than the promise: not ready, the setting named, never a 202; at the start and at run time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until
from tests.support.valkey import ValkeyServer

CHECK_EVERY_S = 0.5


@pytest.fixture
def weak() -> Iterator[ValkeyServer]:
    server = ValkeyServer(appendfsync="everysec")
    server.start()
    yield server
    server.stop()


async def test_a_weaker_store_is_named_and_never_promised_on(tmp_path: Path, weak: ValkeyServer) -> None:
    store = f'url = "{weak.url}"\ncheck_every_s = {CHECK_EVERY_S}'
    async with carrier() as smsc, AuditedGateway(tmp_path, {"cm-a": smsc.port}, store=store, wait=False) as gateway:
        with weak.sync() as admin:
            # 1. From the start.
            await until(lambda: _names(gateway, "appendfsync"), timeout_s=30)
            await _is_refused(gateway)
            assert admin.keys("gw:*msg*") == []
            # 2. Put right by the operator: used within the check's interval.
            admin.config_set("appendfsync", "always")
            await until(lambda: _ready(gateway))
            await until(lambda: _accepts(gateway))  # each worker looks for itself
            answer = await gateway.send(gateway.message())
            assert (answer.status, answer.body["durability"]) == (202, "fsync")
            # 3. Changed under a running gateway, one setting after the other.
            for setting, weaker, right in (
                ("appendfsync", "everysec", "always"),
                ("maxmemory-policy", "allkeys-lru", "noeviction"),
                ("no-appendfsync-on-rewrite", "yes", "no"),
                ("appendonly", "no", "yes"),
                ("maxmemory", "0", "2gb"),
            ):
                await _changed_and_back(gateway, admin, setting, weaker, right)
        await gateway.until_final()
        await gateway.audit([smsc])


async def _changed_and_back(gateway: AuditedGateway, admin: redis.Redis, setting: str, weaker: str, right: str) -> None:
    admin.config_set(setting, weaker)
    await until(lambda: _names(gateway, setting))
    await until(lambda: _refuses(gateway))
    stored = len(admin.keys("gw:*msg*"))
    await _is_refused(gateway)
    assert len(admin.keys("gw:*msg*")) == stored
    # Gauges come with the worker's snapshot, each second.
    await until(lambda: _mismatch(gateway, setting))
    admin.config_set(setting, right)
    await until(lambda: _ready(gateway))
    await until(lambda: _accepts(gateway))


async def _names(gateway: AuditedGateway, setting: str) -> bool:
    """Whether /readyz is 503 and names the setting."""
    status, reasons = await gateway.readyz()
    return status == 503 and any(setting in reason for reason in reasons)


async def _ready(gateway: AuditedGateway) -> bool:
    return (await gateway.readyz())[0] == 200


async def _mismatch(gateway: AuditedGateway, setting: str) -> bool:
    return await gateway.metric("smsgw_store_setting_mismatch", setting=setting) == 1


async def _refuses(gateway: AuditedGateway) -> bool:
    return (await gateway.send(gateway.message())).status == 503


async def _accepts(gateway: AuditedGateway) -> bool:
    return (await gateway.send(gateway.message())).status == 202


async def _is_refused(gateway: AuditedGateway) -> None:
    answer = await gateway.send(gateway.message())
    assert (answer.status, answer.code, answer.outcome) == (503, "store_unavailable", "not_stored")
