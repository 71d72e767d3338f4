"""When messages leave that missed their window: as the rules say, in their place, and never lost when they cannot."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from gateway.dispatch.reopener import Reopener
from gateway.metrics import Metrics
from gateway.model import Category, NewMessage
from gateway.policy.send_window import SendWindows
from gateway.settings import Settings
from gateway.store.records import Record, pack_body, pack_content, place_in_spread
from gateway.store.store import Store
from tests.support.messages import accept, claim, message, number
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

SHANGHAI_MS, DAY_MS = 8 * 3_600_000, 86_400_000


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()
    with valkey.sync() as client:
        check_consistent(snapshot(client))


def shut_now() -> str:
    """Return a local window of an hour that opens in six to seven hours, on a clock in Shanghai."""
    hour = ((time.time_ns() // 1_000_000 + SHANGHAI_MS) % DAY_MS // 3_600_000 + 7) % 24
    return f"{hour:02d}:00-{(hour + 1) % 24:02d}:00" if hour < 23 else "23:00-24:00"


def late(store: Store, window: str, *, ttl_ms: int = 86_400_000) -> NewMessage:
    """Return a message whose window closed a moment ago."""
    carried = orjson.dumps({"w": window, "z": "Asia/Shanghai"})
    body = pack_body("gsm7", pack_content("offer", "", carried))
    now_ms = time.time_ns() // 1_000_000
    kind = {"category": int(Category.MARKETING), "caps": "", "ttl_ms": ttl_ms, "window_until_ms": now_ms - 1}
    return message(store, number(), body=body, **kind)


async def looked(settings: Settings, store: Store, *messages: NewMessage) -> list[Record]:
    """Accept, let the claim put them aside, and say when they leave; returns the records."""
    assert await accept(store, *messages) == ["accepted"] * len(messages)
    assert await claim(store) == []
    assert not await Reopener(settings, store, Metrics("dispatch", "0", "worker01"), SendWindows()).look(0)
    assert await store.reopen(0) == []
    found = [await store.get(m.id) for m in messages]
    assert all(r is not None and r.state == "f" for r in found)
    return [r for r in found if r is not None]


async def test_it_leaves_in_its_place_of_the_next_opening(store: Store, settings: Settings) -> None:
    rules = settings.categories | {Category.MARKETING: replace(settings.categories[Category.MARKETING], spread_s=600)}
    ms = [late(store, shut_now()) for _ in range(20)]
    before = time.time_ns() // 1_000_000
    records = await looked(replace(settings, categories=rules), store, *ms)
    opens = {r.send_at_ms - place_in_spread(r.id, 600_000) for r in records}
    assert len(opens) == 1
    (at,) = opens
    assert (at + SHANGHAI_MS) % 3_600_000 == 0
    assert 5 * 3_600_000 < at - before <= 7 * 3_600_000
    assert {r.window_until_ms for r in records} == {at + 3_600_000}
    assert max(r.send_at_ms for r in records) > min(r.send_at_ms for r in records)


async def test_an_open_window_lets_it_go_at_once(store: Store, settings: Settings) -> None:
    (record,) = await looked(settings, store, late(store, "00:00-24:00"))
    assert record.send_at_ms <= time.time_ns() // 1_000_000
    assert (await store.due(0))[0] == 1
    assert [c.id for c in await claim(store, token="t2")] == [record.id]


async def test_what_would_never_leave_in_its_time_expires(
    store: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    (record,) = await looked(settings, store, late(store, shut_now(), ttl_ms=3_600_000))
    assert record.send_at_ms == record.expires_at_ms
    with valkey.sync() as client:
        assert client.zscore("gw:{s00}:due", record.id) == record.expires_at_ms
