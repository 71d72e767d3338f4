"""Notes of receipts on a real store: unknown codes and counts of all workers, gauges, and a store that is down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.dlr import notes as notes_module
from gateway.dlr.notes import Notes, probe_prefixes
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import Secret
from gateway.settings import ChannelSettings, ReceiptsSettings, Settings
from gateway.store.receipt_notes import CODES_MOST, ReceiptNotes
from gateway.store.store import Store
from tests.support.until import until
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    channel = ChannelSettings(id="a", host="h", port=1, system_id="s", password=Secret("p"))
    return replace(settings, channels=(channel,), receipts=ReceiptsSettings(probe_numbers=("8617000000", "44700")))


@pytest.fixture
async def other(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker02")
    yield opened
    await opened.close()


def made(settings: Settings, store: Store) -> tuple[Notes, Metrics]:
    metrics = Metrics("dispatch", store.incarnation, store.incarnation)
    return Notes(settings, store, metrics), metrics


async def test_codes_and_counts_of_all_workers_come_together(
    store: Store, other: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    (one, metrics), (two, _) = made(settings, store), made(settings, other)
    for _ in range(3):
        one.unknown_code("a", "QQ:1")
    two.unknown_code("a", "QQ:1")
    two.unknown_code("b", "X" * 64)
    one.outcome("a", "D", "t0", 6)
    one.outcome("a", "U", "unknown", 2)
    one.outcome("", "E", "expired", 5)  # never sent: nobody's receipt
    two.outcome("a", "D", "t2", 2)
    await two.refresh()
    await one.refresh()
    found = await ReceiptNotes(store).unknown_codes()
    assert [(x.channel, x.code, x.count) for x in found] == [("a", "QQ:1", 4), ("b", "X" * 32, 1)]
    assert metrics.counter("unknown_failure_codes_total", channel="a").n == 3
    gauges = {
        name: metrics.gauge(name, channel="a").n
        for name in ("receipts_rated", "receipts_delivered_ratio", "receipts_fast_share", "receipt_delay_p50_seconds")
    }
    assert gauges == {
        "receipts_rated": 10,
        "receipts_delivered_ratio": 0.8,
        "receipts_fast_share": 0.75,
        "receipt_delay_p50_seconds": 0.6667,
    }
    assert metrics.histogram("receipt_delay_seconds", channel="a").counts[1] == 6
    with valkey.sync() as client:
        assert sorted(key.decode().removeprefix(P).rstrip("0123456789") for key in client.keys(P + "*")) == [
            "codes", "exp:cursor", "gone:cursor", "late:cursor", "noted:worker", "noted:worker", "receipts:",
            "wait:cursor",
        ]  # fmt: skip
        assert 0 < client.ttl(client.keys(P + "receipts:*")[0]) <= 10_800


async def test_at_most_a_thousand_codes_those_seen_last(store: Store, settings: Settings) -> None:
    kept = ReceiptNotes(store)
    await kept.add(1, {("a", f"OLD{i:04d}"): 5 for i in range(CODES_MOST)}, {})
    await kept.add(2, {("a", "OLD0003"): 1, **{("a", f"NEW{i:04d}"): 1 for i in range(400)}}, {})
    codes = {one.code: one.count for one in await kept.unknown_codes()}
    assert len(codes) == CODES_MOST
    assert codes["OLD0003"] == 6
    assert sum(code.startswith("NEW") for code in codes) == 400


async def test_what_the_store_did_not_take_waits_and_is_counted_once(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, _ = made(settings, store)
    call, lose = store.client.call, ["before", "after"]

    async def failing(name: str, *args: object, **kwargs: object) -> object:
        what = lose.pop(0) if lose else ""
        if what == "before":
            raise StoreUnavailable("as if it were down", outcome="not_stored")
        answer = await call(name, *args, **kwargs)  # type: ignore[arg-type]
        if what == "after":
            raise StoreUnavailable("the answer was lost", outcome="unknown")
        return answer

    monkeypatch.setattr(store.client, "call", failing)
    notes.unknown_code("a", "QQ")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await notes.write()
        notes.unknown_code("a", "LATER")
    await notes.write()
    assert {one.code: one.count for one in await ReceiptNotes(store).unknown_codes()} == {"QQ": 1, "LATER": 2}


async def test_a_flood_of_codes_is_bounded_in_memory(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes_module, "_CODES_MOST", 10)
    notes, metrics = made(settings, store)
    for i in range(100):
        notes.unknown_code("a", f"C{i}")
    await notes.write()
    assert metrics.counter("unknown_failure_codes_total", channel="a").n == 100
    assert len(await ReceiptNotes(store).unknown_codes()) == 10


async def test_delivered_to_a_number_that_nobody_has(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    notes, metrics = made(settings, store)
    with caplog.at_level(logging.WARNING):
        for address in (b"8617000000123", b"17000000123", b"447001", b"8613800138000", b"13800138000", b""):
            notes.delivered("a", address)
    assert metrics.counter("receipts_impossible_total", channel="a").n == 3
    warnings = [r for r in caplog.records if "probe_numbers" in r.getMessage()]
    assert len(warnings) == 1, "told once in ten minutes"
    assert "123" not in warnings[0].getMessage()


def test_how_probe_addresses_begin() -> None:
    assert probe_prefixes(()) == ()
    assert probe_prefixes(("8617000000", "447000001")) == (b"8617000000", b"447000001", b"17000000")


async def test_the_task_writes_in_time_and_once_more_at_the_end(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ReceiptNotes(store)
    monkeypatch.setattr(notes_module, "EVERY_S", 0.02)
    notes, metrics = made(settings, store)
    task = asyncio.create_task(notes.run())
    notes.outcome("a", "D", "t1", 4)
    await until(lambda: metrics.gauge("receipts_rated", channel="a").n == 4)
    assert await kept.counts(300) == {"a": {"D": 4, "t1": 4}}
    task.cancel()
    monkeypatch.setattr(notes_module, "EVERY_S", 60.0)
    ending = asyncio.create_task(notes.run())
    await asyncio.sleep(0)
    notes.unknown_code("a", "LAST")
    ending.cancel()
    assert await asyncio.gather(task, ending, return_exceptions=True)
    assert [one.code for one in await kept.unknown_codes()] == ["LAST"]
