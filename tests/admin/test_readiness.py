"""Readiness and the store's gauges on a real store: what stands in the list, and what a dead store does to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.admin import store_gauges
from gateway.admin.readiness import Readiness
from gateway.admin.store_gauges import StoreGauges
from gateway.metrics import Metrics, MetricsHub, SnapshotWriter
from gateway.model import Secret
from gateway.settings import ChannelSettings, Settings
from gateway.store.blacklists import REASONS
from gateway.store.moves import ParkedReceipt
from gateway.store.store import Store
from tests.support.messages import accept, message


def hub_with(directory: Path, **ready: int) -> MetricsHub:
    for role, value in ready.items():
        m = Metrics(role, "0", role)
        m.gauge("worker_ready", role=role, worker="0").n = value
        SnapshotWriter(m, directory).write()
    return MetricsHub(directory)


async def test_ready_is_an_empty_list_and_every_reason_is_told(store: Store, tmp_path: Path) -> None:
    draining = False
    readiness = Readiness(store, hub_with(tmp_path, api=1, dispatch=0), draining=lambda: draining, supervised=True)
    assert await readiness.reasons() == ["no dispatch worker is ready"]
    hub_with(tmp_path, dispatch=1)
    assert await readiness.reasons() == []
    draining = True
    store.set_problems(["appendfsync: is everysec; strict needs always"])
    assert await readiness.reasons() == ["draining", "store: appendfsync: is everysec; strict needs always"]


async def test_a_role_that_runs_alone_expects_no_neighbours(store: Store, tmp_path: Path) -> None:
    alone = Readiness(store, MetricsHub(tmp_path), draining=lambda: False, supervised=False)
    assert await alone.reasons() == []


async def test_a_store_that_is_gone_is_a_reason(settings: Settings, tmp_path: Path) -> None:
    gone = Store(settings, f"unix://{tmp_path}/none.sock")
    readiness = Readiness(gone, MetricsHub(tmp_path), draining=lambda: False, supervised=False)
    assert await readiness.reasons() == ["store: not opened yet", "store: does not answer"]
    await gone.close()


async def test_gauges_count_queues_parked_receipts_and_what_waits(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_gauges, "KEEP_S", 0.0)
    channel = ChannelSettings(id="ch", host="h", port=1, system_id="s", password=Secret("p"))
    gauges = StoreGauges(Settings(config_dir=tmp_path, channels=(channel,)), store)
    assert [(r.name, r.value) for r in await gauges.read()] == [
        ("waiting_messages", 0),
        ("parked_receipts", 0),
        ("inbound_review_waiting", 0),
        *[("blacklist_entries", 0)] * len(REASONS),
    ]
    await accept(store, message(store), message(store, category=0))
    await store.park([ParkedReceipt(("ch", "ch:abc", b"", "D", "", "", False), b"{}")])
    found = {(r.name, r.labels): r.value for r in await gauges.read()}
    assert found["waiting_messages", ()] == 2
    assert found["queue_depth", ("r", "0", "verification")] == 1
    assert found["queue_depth", ("r", "0", "notification")] == 1
    assert 0 <= found["queue_oldest_age_seconds", ("r", "0", "notification")] < 60
    assert found["parked_receipts", ("ch",)] == 1


async def test_gauges_of_a_store_that_is_gone_are_not_shown(settings: Settings, tmp_path: Path) -> None:
    gone = Store(settings, f"unix://{tmp_path}/none.sock")
    assert await StoreGauges(settings, gone).read() == []
    await gone.close()
