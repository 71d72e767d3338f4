"""Intake on a real store: what becomes of each message, in slices, with limits, and when the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable
from gateway.intake import SLICE, Intake, ItemResult, MessageStore, Taken, ref_mark
from gateway.metrics import Metrics
from gateway.model import Accepted, Category, NewMessage, State, ValidMessage
from gateway.routing.loader import build_router
from gateway.settings import AccountSettings, Settings
from gateway.store.keys import shard_of
from gateway.store.limits import AccountLimiter
from gateway.store.records import Record, pack_body, pack_content
from gateway.store.store import Store
from tests.api.conftest import api_settings
from tests.support.messages import blacklisted
from tests.support.valkey import ValkeyServer

SHOP = api_settings().accounts[0]


@pytest.fixture
def settings(shards: int) -> Settings:
    plain = api_settings()
    return replace(plain, store=replace(plain.store, shards=shards))


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url)
    yield opened
    await opened.close()


def make_intake(store: Any, settings: Settings) -> Intake:
    return Intake(settings, build_router(settings), store, AccountLimiter(store), Metrics("api", "0"))


@pytest.fixture
def intake(store: Store, settings: Settings) -> Intake:
    return make_intake(store, settings)


def valid(i: int = 0, **changes: Any) -> ValidMessage:
    fields = {"to": f"+86138{i:08d}", "category": "notification", "text": "hello"}
    return ValidMessage({**fields, **changes})


def codes(results: list[ItemResult]) -> list[str]:
    return [
        result.state if isinstance(result, Taken) else str(getattr(result, "code", type(result).__name__))
        for result in results
    ]


async def record_of(store: Store, result: ItemResult) -> Record:
    assert isinstance(result, Taken)
    record = await store.get(result.id)
    assert record is not None
    return record


async def test_the_record_holds_what_was_asked(intake: Intake, store: Store) -> None:
    origin = {"campaign": "c", "variant": "v", "ordinal": 3}
    item = valid(1, text="你好", sender="Acme", ref="r", tags=["t"], origin=origin, gate="g", meta="m", contact="p")
    (result,) = await intake.accept(SHOP, [item], None)
    record = await record_of(store, result)
    assert (record.msisdn, record.account, record.category) == ("8613800000001", "shop", Category.NOTIFICATION)
    assert (record.route, record.carrier, record.sender) == ("cn", "china-mobile", "Acme")
    assert (record.campaign, record.variant, record.gate, record.tags) == ("c", "v", "g", ("t",))
    assert (record.encoding, record.text, record.ref) == ("ucs2", "你好", "r")
    assert record.carried == {"o": origin, "m": "m", "c": "p"}
    assert record.expires_at_ms - record.accepted_at_ms == 86_400_000


async def test_another_country_by_prefix(intake: Intake, store: Store) -> None:
    (result,) = await intake.accept(SHOP, [valid(to="+447911123456")], None)
    record = await record_of(store, result)
    assert (record.route, record.carrier) == ("gb", "")


async def test_a_thousand_items_keep_their_places(intake: Intake, store: Store) -> None:
    bad = RequestError("unknown_field", "no", field="x")
    items: list[ValidMessage | RequestError] = [valid(i, ref=str(i)) for i in range(10 * SLICE)]
    for i in (0, 150, 999):
        items[i] = bad
    items[500] = valid(to="nonsense")
    results = await intake.accept(SHOP, items, None)
    for i in range(0, 990, 37):
        if i not in (0, 500):
            assert (await record_of(store, results[i])).msisdn == f"86138{i:08d}"
    assert [i for i, result in enumerate(results) if isinstance(result, GatewayError)] == [0, 150, 500, 999]
    assert results[150] is bad


async def test_an_account_is_counted_once_for_each_message(store: Store, settings: Settings) -> None:
    metrics = Metrics("api", "0")
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), metrics)
    items = [valid(1, ref="a"), valid(2), RequestError("invalid_field", "no", field="to")]
    await intake.accept(SHOP, items, None)
    await intake.accept(SHOP, [valid(1, ref="a")], None)  # a repeat is no new message
    counted = {tuple(labels): n for name, labels, n in metrics.snapshot()["cells"] if name == "account_messages_total"}
    assert counted == {(SHOP.id, "accepted"): 2, (SHOP.id, "invalid_field"): 1}


async def test_large_batches_leave_room_for_others(intake: Intake) -> None:
    """A single message is not behind a thousand: slices yield to the loop in between."""
    items = [valid(i) for i in range(1000)]
    batch = asyncio.create_task(intake.accept(SHOP, items, None))
    await asyncio.sleep(0)
    (single,) = await intake.accept(SHOP, [valid(5000, category="verification")], None)
    assert isinstance(single, Taken)
    assert not batch.done()
    assert codes(await batch) == ["queued"] * 1000


async def test_the_store_s_answers_become_errors(intake: Intake, store: Store) -> None:
    await blacklisted(store, "*", "8613800000001", categories=[Category.NOTIFICATION])
    (result,) = await intake.accept(SHOP, [valid(1)], None)
    assert isinstance(result, RequestError)
    assert (result.code, result.field, result.status) == ("blocked_recipient", "to", 422)
    (result,) = await intake.accept(SHOP, [valid(1, category="verification")], None)
    assert isinstance(result, Taken)


async def test_caps_and_replays(valkey: ValkeyServer, settings: Settings) -> None:
    rules = dict(settings.categories)
    rules[Category.NOTIFICATION] = replace(rules[Category.NOTIFICATION], per_number=((1, 3600),))
    capped = replace(settings, categories=rules)
    store = await Store.open(capped, valkey.url)
    intake = make_intake(store, capped)
    (first,) = await intake.accept(SHOP, [valid(1, ref="a")], None)
    (second,) = await intake.accept(SHOP, [valid(1, ref="b")], None)
    assert isinstance(second, RequestError)
    assert (second.code, second.field) == ("frequency_capped", "to")
    assert second.retry_after_s is not None
    assert 3500 < second.retry_after_s <= 3601
    (again,) = await intake.accept(SHOP, [valid(1, ref="a")], None)
    assert isinstance(again, Taken)
    assert isinstance(first, Taken)
    assert again == replace(first, replayed=True)
    await store.close()


async def test_a_full_queue_keeps_room_for_verification(valkey: ValkeyServer, settings: Settings) -> None:
    small = replace(settings, store=replace(settings.store, max_queued=4 * settings.store.shards))
    store = await Store.open(small, valkey.url)
    intake = make_intake(store, small)
    results = await intake.accept(SHOP, [valid(i) for i in range(60)], None)
    full = [result for result in results if isinstance(result, Backpressure)]
    assert len(full) == 60 - 4 * settings.store.shards
    assert {(error.code, error.status) for error in full} == {("overloaded", 503)}
    (result,) = await intake.accept(SHOP, [valid(99, category="verification")], None)
    assert isinstance(result, Taken)
    await store.close()


async def test_replays_give_their_quota_back(intake: Intake) -> None:
    account = AccountSettings("quoted", daily_quota=3)
    for _ in range(5):
        assert codes(await intake.accept(account, [valid(1, ref="a")], None)) == ["queued"]
    items = [valid(i, ref="b") for i in range(2, 6)]
    assert codes(await intake.accept(account, items, None)) == ["queued", "queued", "quota_exceeded", "quota_exceeded"]


async def test_a_default_sender_is_no_part_of_the_content(intake: Intake) -> None:
    (first,) = await intake.accept(SHOP, [valid(1, ref="a")], None)
    later = replace(SHOP, senders=("106999",))
    (again,) = await intake.accept(later, [valid(1, ref="a")], None)
    assert isinstance(first, Taken)
    assert isinstance(again, Taken)
    assert (again.id, again.replayed) == (first.id, True)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"}, {"category": "marketing"}, {"sender": "Acme"}, {"ttl_s": 5}, {"send_at_ms": 1},
        {"not_after_ms": 4_000_000_000_000}, {"tags": ["a"]}, {"tags": ["a", "b"]}, {"origin": {"step": "1"}},
        {"contact": "x"}, {"gate": "g"}, {"ext": "1"}, {"meta": "m"}, {"test": True},
    ],
)  # fmt: skip
async def test_every_field_is_part_of_the_content(intake: Intake, change: dict[str, Any]) -> None:
    await intake.accept(SHOP, [valid(1, ref="a", tags=["ab"])], None)
    assert codes(await intake.accept(SHOP, [valid(1, ref="a", **{"tags": ["ab"], **change})], None)) == ["ref_conflict"]


async def test_the_mark_of_a_ref_finds_its_message(intake: Intake, store: Store) -> None:
    (result,) = await intake.accept(SHOP, [valid(1, ref="a")], None)
    found = await store.find_ref("8613800000001", ref_mark("shop", "a", "8613800000001"))
    assert found is not None
    assert isinstance(result, Taken)
    assert found.id == result.id


class Broken:
    """A store whose shards fail on request; answers the rest as accepted."""

    def __init__(self, shards: int, failing: dict[int, StoreUnavailable]) -> None:
        self.shards = shards
        self.failing = failing
        self.seen: list[NewMessage] = []
        self.problems: list[str] = []

    def ready(self) -> list[str]:
        return self.problems

    async def accept(self, messages: list[NewMessage]) -> list[Accepted | StoreUnavailable]:
        self.seen += messages
        return [self.failing.get(m.shard) or Accepted("accepted", m.id, 1000, 2000) for m in messages]

    async def get(self, sid: bytes) -> Record | None:
        return None

    async def run(self, script: str, script_keys: Any, args: Any) -> Any:
        raise StoreUnavailable("gone")


async def test_a_shard_that_fails_answers_its_own_items() -> None:
    settings = api_settings()
    gone = StoreUnavailable("gone", outcome="unknown")
    store = Broken(4, {2: gone})
    results = await make_intake(store, settings).accept(SHOP, [valid(i) for i in range(40)], None)
    for i, result in enumerate(results):
        assert (result is gone) == (shard_of(f"86138{i:08d}", 4) == 2)


async def test_limits_that_cannot_be_read_store_nothing() -> None:
    store = Broken(1, {})
    intake = make_intake(store, api_settings())
    limited = AccountSettings("limited", max_per_s=10)
    (result,) = await intake.accept(limited, [valid(1)], None)
    assert isinstance(result, StoreUnavailable)
    assert result.outcome == "not_stored"
    assert store.seen == []


async def test_what_the_store_is_given() -> None:
    store: Any = Broken(1, {})
    assert isinstance(store, object)
    checked: MessageStore = store
    intake = make_intake(checked, api_settings())
    await intake.accept(SHOP, [valid(1), valid(2, send_at_ms=4_000_000_000_000, ttl_s=9, test=True)], "key")
    now, later = store.seen
    first, second = now.kind, later.kind
    assert (first.state, first.send_at_ms, first.ttl_ms, first.test) == (State.QUEUED, 0, 86_400_000, False)
    assert (second.state, second.send_at_ms, second.ttl_ms, second.test) == (
        State.SCHEDULED,
        4_000_000_000_000,
        9000,
        True,
    )
    assert len(now.idem) == 16
    assert len(now.digest) == 8
    assert now.idem != later.idem
    assert now.body == pack_body("gsm7", pack_content("hello"))
