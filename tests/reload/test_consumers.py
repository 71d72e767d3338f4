"""Who hears of what is said by those that run the revision in force, and by nobody that is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.metrics import Metrics
from gateway.model import Secret
from gateway.reload import Start
from gateway.reload.machine import Mark
from gateway.settings import AccountSettings, Settings, WebhookSettings
from gateway.store import keys
from gateway.store.revisions import Revisions
from gateway.store.store import Store
from gateway.worker import Launch, Worker
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def heard(settings: Settings, *accounts: str) -> Settings:
    """Return settings in which these accounts have a webhook."""
    hook = WebhookSettings(url="https://example.com/", secrets=(Secret("whsec_c2VjcmV0"),))
    return replace(settings, accounts=tuple(AccountSettings(a, key_hashes=(), webhook=hook) for a in accounts))


@pytest.fixture
async def first(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    store = await Store.open(settings, valkey.url)
    yield store
    await store.close()


async def test_a_worker_that_is_behind_takes_no_events_away(
    valkey: ValkeyServer, settings: Settings, first: Store, tmp_path: Path
) -> None:
    revisions = Revisions(first)
    await revisions.propose("one", 0, "new-digest", b"text", by="test", machine="other")
    assert (await revisions.commit("one")).number == 1
    await first.set_consumers(heard(settings, "shop", "bank").consumers)

    async def hear() -> set[str]:
        found = await first.client.execute("HKEYS", f"{keys.prefix(0)}consumers")
        return {name.decode() for name in found}

    async def starts(digest: str) -> Worker:
        old = heard(settings, "shop")
        start = Start(old, Mark(5, digest), pending=False, started=tmp_path)
        launch = Launch("worker01", 0, -1, -1, valkey.url)
        worker = Worker("api", old, launch, Metrics("api", "0", digest), start=start)
        await worker.connect(await worker.store())
        return worker

    async def ends(worker: Worker) -> None:
        for task in worker._tasks:
            task.cancel()
        await asyncio.gather(*worker._tasks, return_exceptions=True)
        assert worker._store is not None
        await worker._store.close()

    behind = await starts("old-digest")
    assert await hear() == {"shop", "bank"}, "what happens until it has caught up would be told to nobody"
    behind._now_runs(heard(settings, "shop", "bank", "club"))

    async def all_three() -> bool:
        return await hear() == {"shop", "bank", "club"}

    await until(all_three)
    behind._now_runs(heard(settings, "shop"))  # as its own files come into force at last

    async def only_shop() -> bool:
        return await hear() == {"shop"}

    await until(only_shop)
    await ends(behind)
    await first.set_consumers({})
    await ends(await starts("new-digest"))
    assert await hear() == {"shop"}
