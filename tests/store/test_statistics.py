"""Folding statistics loses and doubles nothing: while it is counted, with several folders, with a death at any step."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import statistics as asked
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import Category, shard_of_id
from gateway.settings import Settings
from gateway.store.moves import Feedback, Settlement
from gateway.store.statistics import DAILY_DAYS, HOURLY_DAYS, Folder, Statistics
from gateway.store.stats_table import CONTENT, LABELS, MERGED, PATH, US, WHOLE, Table, narrowed, pack, unpack
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, apply, claim, ids_of, message, receipt_row
from tests.support.until import until
from tests.support.valkey import ValkeyServer

OPEN = -3_600
"""A grace at which the hour that is still open is folded too."""


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    opened = await Store.open(with_shards(settings, shards), valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


@pytest.fixture
async def one(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


def now_hour() -> int:
    return int(time.time()) // 3_600


def field(account: str, outcome: str, reason: str = "", *, campaign: str = "", route: str = "r", ch: str = "ch") -> str:
    return US.join((account, "cm", route, "", campaign, "", "1", ch, outcome, reason))


async def add(store: Store, hour: int, name: str, n: int = 1, shard: int = 0) -> None:
    await store.client.execute("HINCRBY", f"{store.prefixes[shard]}stats:{hour}", name, n)


async def read(
    statistics: Statistics, first: int, last: int, kind: str = WHOLE, *, by_hour: bool = True
) -> Counter[Any]:
    """Return all numbers of days: (account, hour, label, measure) → number; of a day its first hour."""
    found: Counter[Any] = Counter()

    def take(account: str, table: Table) -> None:
        for hour, columns in table.slots.items():
            for at, places, numbers in columns:
                for place, n in zip(places, numbers, strict=True):
                    slot = hour if by_hour else hour // 24 * 24
                    found[account, slot, table.labels[place], table.measures[at]] += n

    await statistics.read([(day, by_hour) for day in range(first, last + 1)], None, take, kind)
    return Counter({key: n for key, n in found.items() if n})


async def total(statistics: Statistics, kind: str = WHOLE) -> int:
    today = now_hour() // 24
    return sum((await read(statistics, today - 1, today, kind)).values())


async def leftovers(store: Store) -> list[bytes]:
    found = []
    for prefix in store.prefixes:
        found += [
            key for key in await store.client.execute("KEYS", "*") if key.startswith(f"{prefix}statfold".encode())
        ]
        found += await store.client.execute("SMEMBERS", f"{prefix}statfolds")
        found += [
            key for key in await store.client.execute("KEYS", "*") if key.startswith(f"{prefix}statdone".encode())
        ]
    return found


async def test_what_is_folded_and_what_is_open_add_up(store: Store) -> None:
    statistics = Statistics(store)
    hour = now_hour()
    expected: Counter[Any] = Counter()
    for back, n in ((30, 3), (2, 5), (0, 7)):
        for shard in range(store.shards):
            for account in ("a", "b", "c*[x]"):
                await add(store, hour - back, field(account, "s", route="r~0123", campaign="spring"), n, shard)
                await add(store, hour - back, field(account, "s", campaign="spring"), 1, shard)
                expected[account, hour - back] += n + 1
    first, last = (hour - 30) // 24, hour // 24
    before = await read(statistics, first, last)
    assert await statistics.fold(back_h=9_600) == 2 * store.shards
    assert await statistics.fold() == 0
    for kind in (WHOLE, PATH, CONTENT):
        after = await read(statistics, first, last, kind)
        counted: Counter[Any] = Counter()
        for (account, at, label, measure), n in after.items():
            fields = dict(zip(LABELS, label.split(US), strict=True))
            assert measure == f"s{US}"
            folded = at != hour
            assert (fields["route"], fields["carrier"]) == (("", "") if kind == CONTENT and folded else ("r", "cm"))
            assert fields["campaign"] == ("" if kind == PATH and folded else "spring")
            counted[account, at] += n
        assert counted == expected
    assert await read(statistics, first, last) == before
    merged = await read(statistics, first, last, MERGED)
    assert sum(merged.values()) == sum(expected.values())
    by_day = await read(statistics, first, last, by_hour=False)
    assert sum(by_day.values()) == sum(expected.values())
    assert {at % 24 for _, at, _, _ in by_day} == {0}
    assert await leftovers(store) == []
    only: list[str] = []
    await statistics.read(
        [(d, True) for d in range(first, last + 1)], ["c*[x]"], lambda account, _: only.append(account)
    )
    assert set(only) == {"c*[x]"}
    assert len(only) >= 3 * store.shards


async def test_an_hour_is_folded_after_its_grace_and_late_news_are_added(one: Store) -> None:
    statistics = Statistics(one)
    hour = now_hour() - 5
    await add(one, hour, field("a", "accepted"), 4)
    await add(one, now_hour(), field("a", "accepted"), 1)
    assert await statistics.fold(grace_s=6 * 3_600) == 0  # not over for that long
    assert await statistics.fold() == 1
    await add(one, hour, field("a", "accepted"), 2)  # a clock that stepped back
    await add(one, hour, field("b", "accepted"), 9)
    await add(one, hour, field("a", "K", "no_receipt"), 1)
    assert await total(statistics) == 17
    assert await statistics.fold() == 1
    await add(one, hour, field("a", "K", "no_receipt"), -1)  # taken back: nothing is left of it
    assert await statistics.fold() == 1
    found = await read(statistics, hour // 24, hour // 24)
    assert {(a, m): n for (a, at, _, m), n in found.items() if at == hour} == {
        ("a", f"accepted{US}"): 6,
        ("b", f"accepted{US}"): 9,
    }
    assert await leftovers(one) == []


async def test_two_folders_and_a_reader_while_it_is_counted(one: Store, valkey: ValkeyServer) -> None:
    """Readings never go back and never exceed what was counted, whoever folds what meanwhile."""
    statistics = [Statistics(one), Statistics(one)]
    counted = 0
    seen: list[int] = []
    done = asyncio.Event()

    async def count() -> None:
        nonlocal counted
        for i in range(600):
            counted += 1
            await add(one, now_hour(), field(f"account-{i % 90}", "s", campaign=f"c{i % 7}"), 1)
        done.set()

    async def fold(own: Statistics) -> None:
        while not done.is_set():
            await own.fold(grace_s=OPEN)
            await asyncio.sleep(0.01)  # else no day ever rests, and readers only wait

    async def look() -> None:
        while not done.is_set():
            seen.append(await total(statistics[0], (WHOLE, PATH, CONTENT, MERGED)[len(seen) % 4]))
            assert seen[-1] <= counted

    await asyncio.gather(count(), fold(statistics[0]), fold(statistics[1]), look())
    assert seen == sorted(seen)
    assert await total(statistics[0]) == counted
    await statistics[1].fold(grace_s=OPEN)
    assert await leftovers(one) == []
    assert await total(statistics[0], MERGED) == counted


class Died(Exception):
    """In place of a process's end."""


def die_at(store: Store, step: int, *, after: bool) -> Callable[[], None]:
    """Make the client die at the `step`-th command, before it is sent or when its answer came; returns the undoing."""
    execute = store.client.execute
    seen = 0

    async def dying(*command: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen < step:
            return await execute(*command, **kwargs)
        if after and seen == step:
            await execute(*command, **kwargs)
        raise Died

    store.client.execute = dying  # type: ignore[method-assign]

    def undo() -> None:
        store.client.execute = execute  # type: ignore[method-assign]

    return undo


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_death_at_any_step_neither_loses_nor_doubles(
    one: Store, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.statistics._BATCH_ACCOUNTS", 2)  # several writes an hour
    hour, expected = now_hour() - 3, 0
    for step in range(1, 100):
        for i in range(5):
            await add(one, hour - step % 2, field(f"a{i}", "s"), 1)
            expected += 1
        undo = die_at(one, step, after=after)
        try:
            await Statistics(one).fold()
            died = False
        except Died:
            died = True
        finally:
            undo()
        statistics = Statistics(one)
        assert await total(statistics) == expected, f"died at {step}"
        assert await total(statistics, MERGED) == expected, f"died at {step}"
        await statistics.fold()
        assert await total(statistics) == expected, f"died at {step}, folded since"
        assert await leftovers(one) == []
        if not died:
            assert step > 10
            return
    raise AssertionError("it never came to its end")


async def test_a_fold_that_others_moved_reads_the_day_again(one: Store) -> None:
    hour = now_hour() - 3
    for i in range(3):
        await add(one, hour, field(f"a{i}", "s"), 1)
        await add(one, hour - 1, field(f"a{i}", "s"), 1)
    first, second = Statistics(one), Statistics(one)
    call = one.client.call
    interfered = 0

    async def interfering(name: str, *args: Any, **kwargs: Any) -> Any:
        nonlocal interfered
        if name == "stats_fold" and not interfered:
            interfered = 1
            assert await second.fold() >= 1
        return await call(name, *args, **kwargs)

    one.client.call = interfering  # type: ignore[method-assign]
    await first.fold()
    one.client.call = call  # type: ignore[method-assign]
    assert interfered
    assert await total(first) == 6
    assert await leftovers(one) == []


async def test_readings_give_up_when_a_day_never_rests(one: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.statistics._TRIES", 2)
    statistics = Statistics(one)

    async def restless(prefix: str, day: int) -> bytes:
        return b"other"

    monkeypatch.setattr(statistics, "_version", restless)
    with pytest.raises(StoreUnavailable):
        await total(statistics)


async def test_old_tables_go_a_few_at_a_time(one: Store) -> None:
    statistics = Statistics(one)
    prefix, today = one.prefixes[0], now_hour() // 24
    days = {
        "stath": (HOURLY_DAYS, HOURLY_DAYS + 1, HOURLY_DAYS + 5),
        "statd": (HOURLY_DAYS + 5, DAILY_DAYS, DAILY_DAYS + 1),
    }
    for family, backs in days.items():
        for back in backs:
            await one.client.execute("HSET", f"{prefix}{family}:{today - back}", "a", b"x")
            await one.client.execute("SADD", f"{prefix}statdays", f"{family}:{today - back}")
    assert await statistics.drop(most=2) == 2  # the oldest first
    left = {f"{family}:{today - back}" for family, backs in days.items() for back in backs}
    left -= {f"statd:{today - DAILY_DAYS - 1}", f"stath:{today - HOURLY_DAYS - 5}"}
    assert {n.decode() for n in await one.client.execute("SMEMBERS", f"{prefix}statdays")} == left
    assert await statistics.drop() == 1
    assert await statistics.drop() == 0
    left -= {f"stath:{today - HOURLY_DAYS - 1}"}
    kept = {k.decode().removeprefix(prefix) for k in await one.client.execute("KEYS", "*stat[hd]:*")}
    assert kept == left


async def test_the_folder_takes_turns_and_goes_on_after_a_failure(one: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics, metrics = Statistics(one), Metrics("admin", "0")
    assert await statistics.take_turn()
    assert not await Statistics(one).take_turn()
    await one.client.execute("DEL", "gw:statistics:turn")
    monkeypatch.setattr("gateway.store.statistics.EVERY_S", 0.01)
    monkeypatch.setattr("gateway.store.statistics._TURN_MS", 1)
    await add(one, now_hour() - 2_000, field("a", "s"), 3)
    broken = True
    call = one.client.call

    async def failing(name: str, *args: Any, **kwargs: Any) -> Any:
        if broken:
            raise StoreUnavailable("away")
        return await call(name, *args, **kwargs)

    monkeypatch.setattr(one.client, "call", failing)
    folder = asyncio.create_task(Folder(statistics, metrics).run())
    try:
        await until(lambda: metrics.counter("statistics_fold_failures_total").n >= 2)
        broken = False
        await until(lambda: metrics.counter("statistics_folds_total").n == 1)
    finally:
        folder.cancel()
        await asyncio.gather(folder, return_exceptions=True)
    day = (now_hour() - 2_000) // 24
    assert sum((await read(statistics, day, day)).values()) == 3


def test_a_table_is_read_as_it_was_written() -> None:
    table = Table()
    assert unpack(pack(table)) == table
    label = US.join(("cm", "r", "t", "春", "b", "2", "ch"))
    table.add(7, {label: {f"s{US}": 3, f"${US}": 2**45, f"K{US}x": -1}})
    table.add(8, {label: {f"s{US}": 1}, label.replace("cm", "cu"): {f"s{US}": 2}})
    table.add(7, {label: {f"K{US}x": 1}})
    assert unpack(pack(table)) == table
    assert [numbers for _, _, numbers in table.slots[7]] == [[3], [2**45]]
    seasons = {label: {"s": 1}, label.replace("春", "夏"): {"s": 2}}
    assert narrowed(seasons, PATH) == {US.join(("cm", "r", "", "", "", "2", "ch")): {"s": 3}}
    assert narrowed({label: {"s": 1}}, CONTENT) == {US.join(("", "", "t", "春", "b", "2", "")): {"s": 1}}
    for bad in (b"", b"x", pack(table)[:-1], b"\x78\x9c\x03\x00\x00\x00\x00\x01"):
        with pytest.raises(ValueError, match="not a table"):
            unpack(bad)


# --- from real moves


async def answer(store: Store, **parameters: str) -> Any:
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    query = asked.parse({"from": yesterday, **parameters}, now_s=time.time())
    return (await asked.collect(query, Statistics(store))).answer()


async def test_a_mixed_run_is_counted_as_the_records_have_it(store: Store) -> None:
    """The report says what the records say, whether the hour was folded or not."""
    draw = random.Random(7)
    sent: list[bytes] = []
    for account in ("shop", "bank"):
        for i in range(60):
            m = message(
                store, account=account, category=i % 3, campaign=("spring", "", "x,=y")[i % 3], variant="ab"[i % 2],
                parts=1 + i % 2, test=i % 20 == 19,
            )  # fmt: skip
            sent.append(m.id)
            assert await accept(store, m) == ["accepted"]
    for sid in sent[::12]:
        record = await store.get(sid)
        assert record is not None
        assert await store.cancel(sid, record.account) == "cancelled"
    cost = 0
    for c in await claim(store, parts=10_000):
        fate = draw.random()
        verb = "s" if fate < 0.8 else "F"
        mask = (1 << c.parts) - 1 if verb == "s" else 0
        log = US.join((str(c.attempt), "ch", "0" if mask else "11", "" if mask else "permanent", ""))
        item = Settlement(
            c.claim, c.attempt, verb, "ch", delay_ms=60_000, accepted_mask=mask, price=45_000, log=log,
            reason="" if mask else draw.choice(("unknown_number", "absent")),
        )  # fmt: skip
        assert await store.settle(shard_of_id(c.id), [item], ids_of(c) if mask else ()) == "1"
        record = await store.get(c.id)
        assert record is not None
        cost += 45_000 * c.parts if mask and not record.test else 0
        if fate < 0.7:
            await apply(store, *(receipt_row(c, draw.choice("DDDU"), part) for part in range(c.parts)))
    told = Feedback("converted", "e1", "19.90", "CNY")
    delivered = [sid for sid in sent if (r := await store.get(sid)) is not None and r.state == "D" and not r.test]
    assert await store.feedback(delivered[0], (await store.get(delivered[0])).account, told) == "done"  # type: ignore[union-attr]
    records = [r for sid in sent if (r := await store.get(sid)) is not None and not r.test]
    states = Counter(r.state for r in records)

    async def check() -> None:
        found = (await answer(store))["total"]
        assert found["accepted"] == len(records)
        assert found["delivered"] == states["D"] == found["latency"]["n"]
        assert found["failed"] == states["U"] + states["F"]
        assert found["cancelled"] == states["C"] == 10
        assert found["submitted"] == sum(1 for r in records if r.attempts and r.attempts[-1].status == 0)
        assert found["parts"] == sum(r.accepted.bit_count() for r in records)
        assert (found["conversions"], found["amounts"]) == (1, {"CNY": "19.90"})
        assert round(float(found["cost"]) * 1e6) == cost
        reasons = Counter((r.state, r.reason) for r in records if r.state in "UF")
        by_reason = {("U" if f["state"] == "undeliverable" else "F", f["reason"]): f["n"] for f in found["failures"]}
        assert by_reason == reasons
        rows = (await answer(store, by="account,category,campaign,variant"))["rows"]
        by = Counter((r.account, Category(r.category).label, r.campaign, r.variant) for r in records)
        assert {(r["account"], r["category"], r["campaign"], r["variant"]): r["accepted"] for r in rows} == by
        rows = (await answer(store, by="campaign", campaign=r"x\,=y,", account="bank"))["rows"]
        wanted = Counter(r.campaign for r in records if r.account == "bank" and r.campaign != "spring")
        assert {r["campaign"]: r["accepted"] for r in rows} == wanted

    await check()
    assert await Statistics(store).fold(grace_s=OPEN) >= store.shards
    await check()
