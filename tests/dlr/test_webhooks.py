"""An events worker against a real store and real endpoints: delivery, order, retries, and what endpoints may do.

F74, F75, F76 and F06 of docs' fault list, and the promise that one endpoint delays nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from aiohttp import web

from gateway.dlr import webhook as worker_module
from gateway.dlr import webhook_endpoint, webhook_schedule
from gateway.dlr.webhook import Webhooks
from gateway.dlr.webhook_sign import Signer
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.settings import Settings, WebhooksSettings
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.outbox import (
    SECRET,
    empty,
    hook,
    line,
    push,
    push_many,
    retries_now,
    serving,
    stored,
    with_hooks,
)
from tests.support.sink import Call, Sink
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_schedule, "OPEN_FIRST_S", 0.05)
    monkeypatch.setattr(webhook_schedule, "OPEN_MOST_S", 0.2)
    monkeypatch.setattr(worker_module, "BEAT_S", 0.1)
    monkeypatch.setattr(worker_module, "POLL_S", 0.02)


async def closed_for(store: Store, account: str = "shop") -> Any:
    return (await Outbox(store).told("closed")).get(account)


async def test_every_event_arrives_signed_and_once(valkey: ValkeyServer, settings: Settings, shards: int) -> None:
    store = await Store.open(with_shards(settings, shards), valkey.url)
    try:
        async with Sink() as sink, serving(with_hooks(settings, shop=hook(sink.url)), store):
            ids = await push_many(store, 60)
            await until(lambda: len(sink.calls) >= 60)
            await until(lambda: empty(store))
        assert sorted(sink.ids) == sorted(ids)
        call = sink.calls[0]
        assert call.body["type"] == "message.delivered"
        assert call.body["data"]["state"] == "delivered"
        assert "****" in call.body["data"]["to"]
        assert "text" not in call.body["data"]
        at_s = int(call.headers["webhook-timestamp"])
        assert abs(time.time() - at_s) < 60
        assert (
            call.headers["webhook-signature"] == Signer([SECRET]).headers(call.id, at_s, call.raw)["webhook-signature"]
        )
        assert sink.most <= 8
    finally:
        await store.close()


async def test_batches_carry_the_events_with_their_ids(store: Store, settings: Settings) -> None:
    ids = await push_many(store, 230)
    async with Sink() as sink, serving(with_hooks(settings, shop=hook(sink.url, batch=100)), store):
        await until(lambda: len(sink.ids) >= 230)
        await until(lambda: empty(store))
    assert sorted(sink.ids) == sorted(ids)
    assert max(len(call.ids) for call in sink.calls) == 100
    assert len(sink.calls) < 10
    assert all(call.id.startswith("batch.") for call in sink.calls)


async def test_an_account_hears_only_what_it_wants(store: Store, settings: Settings) -> None:
    one, two = await stored(store, 2)
    unwanted = await push(store, one)
    wanted = await push(store, two, state="U")
    async with (
        Sink() as sink,
        serving(with_hooks(settings, shop=hook(sink.url, events=frozenset({"message.failed"}))), store),
    ):
        await until(lambda: empty(store))
    assert sink.ids == [wanted]
    assert unwanted not in sink.ids


async def test_failures_follow_the_schedule_then_come_again_with_the_same_id(
    store: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    """F75: one attempt after another, each after its pause; a 2xx ends it."""
    answers = [500] * 6
    async with Sink(lambda call: answers.pop() if answers else 200) as sink:
        (event,) = await push_many(store, 1)
        async with serving(with_hooks(settings, shop=hook(sink.url)), store):
            for attempt, pause_s in enumerate(webhook_schedule.DELAYS_S, 1):
                await until(lambda n=attempt: len(sink.calls) == n)
                await until(lambda: _waits(store))
                (wait_s,) = retries_now(valkey)
                assert pause_s - 1 < wait_s <= pause_s * 1.1 + 1
            await until(lambda: empty(store))
    assert sink.ids == [event] * 7
    assert (await line(store)).dead == 0


async def _waits(store: Store) -> bool:
    now = await line(store)
    return now.retrying == 1 and now.taken == 0


async def test_after_three_days_an_event_is_a_dead_letter_that_can_be_revived(
    store: Store, settings: Settings, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F75: the clock is an argument of the schedule; here the three days are over after the first attempt."""
    monkeypatch.setattr(webhook_schedule, "GIVE_UP_S", 4)
    async with Sink(503) as sink:
        ids = await push_many(store, 3)
        async with serving(with_hooks(settings, shop=hook(sink.url)), store):
            await until(lambda: _dead(store, 3))
            now = await line(store)
            assert now.reasons == {"http_5xx": 3}
            assert now.retrying == 0
            sink.respond = 200
            assert await Outbox(store).revive("shop") == 3
            await until(lambda: empty(store))
    assert sorted(sink.ids[-3:]) == sorted(ids)
    now = await line(store)
    assert (now.dead, now.reasons) == (0, {})


async def _dead(store: Store, n: int) -> bool:
    return (await line(store)).dead == n


async def test_events_of_one_message_keep_their_order_and_delay_no_other(
    store: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    sids = await stored(store, 12)
    bad = sids[0]
    first = await push(store, bad, "s", "s")

    def respond(call: Call) -> int:
        return 500 if first in call.ids and not healed else 200

    healed = False
    wanted = frozenset({"message.submitted", "message.delivered", "message.corrected"})
    async with Sink(respond) as sink, serving(with_hooks(settings, shop=hook(sink.url, events=wanted)), store):
        await until(lambda: first in sink.ids)
        second = await push(store, bad)
        others = [await push(store, sid) for sid in sids[1:]]
        third = await push(store, bad, "c")
        await until(lambda: set(others) <= set(sink.ids))
        assert second not in sink.ids
        assert third not in sink.ids
        await until(lambda: _nothing_new(store))
        healed = True
        retries_now(valkey)
        await until(lambda: empty(store))
    assert [i for i in sink.ids if i in (first, second, third)][-3:] == [first, second, third]
    assert sink.ids.count(second) == sink.ids.count(third) == 1


async def _nothing_new(store: Store) -> bool:
    now = await line(store)
    return now.waiting == now.taken == 0


async def test_events_of_one_message_taken_together_go_one_after_another(store: Store, settings: Settings) -> None:
    (sid,) = await stored(store)
    ids = [await push(store, sid, kind, state) for kind, state in (("s", "s"), ("f", "K"), ("c", "D"))]
    wanted = frozenset({"message.submitted", "message.failed", "message.corrected"})

    async def respond(call: Call) -> int:
        await asyncio.sleep(0.02)
        return 200

    async with Sink(respond) as sink, serving(with_hooks(settings, shop=hook(sink.url, events=wanted)), store):
        await until(lambda: len(sink.calls) == 3)
        await until(lambda: empty(store))
    assert sink.ids == ids
    assert sink.most == 1


async def test_a_bad_event_does_not_keep_its_batch_from_the_endpoint(
    store: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    ids = await push_many(store, 60)
    async with (
        Sink(lambda call: 500 if ids[30] in call.ids else 200) as sink,
        serving(with_hooks(settings, shop=hook(sink.url, batch=100)), store),
    ):

        async def only_the_bad_one_waits() -> bool:
            retries_now(valkey)
            now = await line(store)
            return now.retrying == 1 and not now.taken and not now.waiting

        await until(only_the_bad_one_waits, every_s=0.05)
    good = [i for call in sink.calls if ids[30] not in call.ids for i in call.ids]
    assert sorted(good) == sorted(set(ids) - {ids[30]})


async def test_a_hanging_endpoint_ends_in_time_and_delays_nobody(store: Store, settings: Settings) -> None:
    """F74: one endpoint never answers, one drips bytes; the third has its events at once."""
    release = asyncio.Event()

    async def hang(call: Call) -> int:
        await release.wait()
        return 200

    async def drip(call: Call) -> web.StreamResponse:
        answer = web.StreamResponse(status=500)
        await answer.prepare(call.request)
        with contextlib.suppress(ConnectionError):
            while not release.is_set():
                await answer.write(b".")
                await asyncio.sleep(0.02)
        return answer

    async with Sink(hang) as hanging, Sink(drip) as dripping, Sink() as quick:
        hooks = with_hooks(
            settings, a=hook(hanging.url, timeout_s=0.5), b=hook(dripping.url, timeout_s=0.5), c=hook(quick.url)
        )
        for account in "ab":
            await push_many(store, 40, account)
        async with serving(hooks, store):
            await until(lambda: hanging.now == 8 and dripping.now == 8)
            started = time.monotonic()
            await push_many(store, 40, "c")
            await until(lambda: len(quick.calls) == 40)
            assert time.monotonic() - started < 2
            await until(lambda: _retrying(store, "a", 8))
            await until(lambda: _retrying(store, "b", 8))
            release.set()


async def _retrying(store: Store, account: str, n: int) -> bool:
    return (await line(store, account)).retrying >= n


async def test_a_failing_endpoint_is_left_alone_and_its_backlog_stays_visible(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_schedule, "OPEN_FIRST_S", 30.0)
    monkeypatch.setattr(webhook_schedule, "OPEN_MOST_S", 30.0)
    await push_many(store, 300)
    async with Sink(500) as sink, serving(with_hooks(settings, shop=hook(sink.url)), store):
        await until(lambda: _nothing_out(store))
        now = await line(store)
    assert len(sink.calls) <= webhook_schedule.OPEN_AFTER + 8
    assert now.waiting + now.retrying == 300
    assert now.waiting >= 280


async def _nothing_out(store: Store) -> bool:
    now = await line(store)
    return now.retrying > 0 and now.taken == 0


async def test_an_endpoint_that_comes_back_gets_everything(
    store: Store, settings: Settings, valkey: ValkeyServer
) -> None:
    ids = await push_many(store, 100)
    async with Sink(500) as sink, serving(with_hooks(settings, shop=hook(sink.url)), store):
        await until(lambda: len(sink.calls) > 5)
        sink.respond = 200

        async def all_done() -> bool:
            retries_now(valkey)
            return await empty(store)

        await until(all_done, every_s=0.05)
    assert set(sink.ids) == set(ids)


async def test_a_410_disables_until_somebody_enables_or_the_entry_changes(store: Store, settings: Settings) -> None:
    """F76."""
    ids = await push_many(store, 3)
    async with Sink(410) as sink:
        hooks = with_hooks(settings, shop=hook(sink.url))
        async with serving(hooks, store):
            await until(lambda: closed_for(store))
            await until(lambda: _waiting(store, 3))
            calls = len(sink.calls)
            sink.respond = 200
            assert (await closed_for(store))["why"] == "gone"
            await Outbox(store).tell("closed", "shop", None)
            await Outbox(store).changed()
            await until(lambda: empty(store))
        assert sorted(sink.ids[calls:]) == sorted(ids)
        sink.respond = 410
        ids = await push_many(store, 2)
        async with serving(hooks, store, name="events02"):
            await until(lambda: closed_for(store))
        sink.respond = 200
        async with serving(with_hooks(settings, shop=hook(sink.url + "/new")), store, name="events03"):
            await until(lambda: empty(store))
        assert sorted(sink.ids[-2:]) == sorted(ids)
        assert await closed_for(store) is None


async def _waiting(store: Store, n: int) -> bool:
    now = await line(store)
    return now.waiting == n and now.taken == 0


async def test_redirects_throttling_and_huge_answers(
    store: Store, settings: Settings, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F76: not followed; an hour at most; read no further than 64 KiB, nothing is unpacked."""
    async with Sink() as inner, Sink() as sink:
        for answer, result in (
            (web.Response(status=301, headers={"Location": inner.url}), "redirect"),
            (web.Response(status=307, headers={"Location": inner.url}), "redirect"),
            (web.Response(status=429, headers={"Retry-After": "99999"}), "throttled"),
        ):
            sink.respond = lambda call, answer=answer: web.Response(status=answer.status, headers=answer.headers)
            (event,) = await push_many(store, 1)
            async with serving(with_hooks(settings, shop=hook(sink.url)), store, name=f"events{answer.status}") as one:
                await until(lambda: _waits(store))
                endpoint = one._served["shop"].endpoint
                assert endpoint.look()["last_result"] == result
                if result == "throttled":
                    assert endpoint.look()["circuit"] == "open"
                    assert 3590 < endpoint._circuit.until - time.monotonic() <= 3600
            (wait_s,) = retries_now(valkey)
            assert 3580 < wait_s <= 3601 if result == "throttled" else wait_s < 6
            sink.respond = 200
            async with serving(with_hooks(settings, shop=hook(sink.url)), store, name=f"again{answer.status}"):
                await until(lambda: empty(store))
            assert sink.ids[-1] == event
        assert not inner.calls

        sent = 0

        async def flood(call: Call) -> web.StreamResponse:
            nonlocal sent
            answer = web.StreamResponse(headers={"Content-Encoding": "gzip"})
            await answer.prepare(call.request)
            with contextlib.suppress(ConnectionError):
                for _ in range(16_384):  # 1 GiB, if anybody read it
                    await answer.write(b"\0" * 65_536)
                    sent += 65_536
            return answer

        sink.respond = flood
        await push_many(store, 1)
        async with serving(with_hooks(settings, shop=hook(sink.url)), store, name="flooded"):
            await until(lambda: empty(store))
        assert sent < 64 << 20


async def test_a_short_retry_after_does_not_keep_a_failing_endpoint_open(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Retry-After: 0` on every answer: as without it, the backlog waits in line and is not tried to death."""
    monkeypatch.setattr(webhook_schedule, "OPEN_FIRST_S", 30.0)
    monkeypatch.setattr(webhook_schedule, "OPEN_MOST_S", 30.0)
    await push_many(store, 40)
    async with Sink(lambda call: web.Response(status=503, headers={"Retry-After": "0"})) as sink:
        async with serving(with_hooks(settings, shop=hook(sink.url, concurrency=2)), store) as one:
            await until(lambda: one._served and one._served["shop"].endpoint._circuit.until > time.monotonic() + 20)
            await until(lambda: _in_line(store, 30))
        assert len(sink.calls) <= 10


async def _in_line(store: Store, least: int) -> bool:
    now = await line(store)
    return now.waiting >= least and not now.taken


async def test_a_worker_that_cannot_say_that_it_lives_begins_no_calls(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a frozen worker had taken is another's by then; it must not tell it again behind what came later."""
    monkeypatch.setattr(worker_module, "DEAD_AFTER_S", 0.6)
    monkeypatch.setattr(worker_module, "SURE_FOR_S", 0.3)
    go_on = asyncio.Event()

    async def answer(call: Call) -> web.Response:
        if len(sink.calls) == 1:
            await go_on.wait()
        return web.Response(status=204)

    async with Sink(answer) as sink:
        hooks = with_hooks(settings, shop=hook(sink.url, concurrency=1))
        async with serving(hooks, store, name="frozen") as frozen:
            ids = await push_many(store, 10)
            await until(lambda: sink.calls)
            stuck = asyncio.Event()
            monkeypatch.setattr(frozen, "_beat_once", stuck.wait)
            async with serving(hooks, store, name="other"):
                await until(lambda: len(sink.calls) == 11)
                await until(lambda: empty(store))
                endpoint = frozen._served["shop"].endpoint
                go_on.set()
                await until(lambda: endpoint.lost)
            stuck.set()
        assert sorted(sink.ids) == sorted([*ids, sink.ids[0]])


async def test_what_a_dead_worker_had_out_comes_again_with_the_same_id(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F06: the worker dies after the 2xx and before it could note it."""
    monkeypatch.setattr(worker_module, "DEAD_AFTER_S", 0.3)
    monkeypatch.setattr(worker_module, "NOT_OURS_S", 0.1)
    ids = await push_many(store, 20)
    async with Sink() as sink:
        hooks = with_hooks(settings, shop=hook(sink.url))
        dead = Webhooks(hooks, store, Metrics("events", "0", "dead"), incarnation="dead")

        async def never(*args: Any) -> int:
            await asyncio.Event().wait()
            return 0

        monkeypatch.setattr(dead._outbox, "settle", never)
        running = asyncio.create_task(dead.run())
        await until(lambda: len(sink.calls) == 20)
        running.cancel()  # as a kill would: nothing is settled, nothing given up
        for one in dead._served.values():
            one.task.cancel()
        await asyncio.gather(running, *(s.task for s in dead._served.values()), return_exceptions=True)
        assert (await line(store)).taken == 20
        async with serving(hooks, store, name="heir0001"):
            await until(lambda: empty(store), timeout_s=15)
    assert sorted(sink.ids) == sorted(ids * 2)


async def test_two_workers_share_accounts_and_never_one(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "NOT_OURS_S", 0.2)
    accounts = [f"account{i}" for i in range(6)]
    async with Sink() as sink:
        hooks = replace(
            with_hooks(settings, **{name: hook(sink.url) for name in accounts}), webhooks=WebhooksSettings(workers=2)
        )
        async with serving(hooks, store, name="one", number=0) as one:
            await until(lambda: one._served)
            async with serving(hooks, store, name="two", number=1) as two:
                await until(lambda: len(one._served) + len(two._served) == 6)
                assert one._served
                assert two._served
                assert not set(one._served) & set(two._served)
                ids = [i for name in accounts for i in await push_many(store, 10, name)]
                await until(lambda: len(sink.calls) >= 60)
            await until(lambda: len(one._served) == 6)  # the other left in order: its accounts are free at once
            ids += [i for name in accounts for i in await push_many(store, 5, name)]
            await until(lambda: len(sink.calls) >= 90)
        assert sorted(sink.ids) == sorted(ids)


async def test_an_unreadable_entry_is_a_dead_letter_and_stops_nothing(store: Store, settings: Settings) -> None:
    p = store.prefixes[0]
    for junk in (b"f", b"z1234567890", b"f" + bytes(6) + bytes(16) + b"short", b"i" + bytes(6) + b"{not json"):
        await store.client.execute("RPUSH", f"{p}out:shop", junk)
    ids = await push_many(store, 2)
    async with Sink() as sink, serving(with_hooks(settings, shop=hook(sink.url)), store):
        await until(lambda: empty(store))
    assert sorted(sink.ids) == sorted(ids)
    assert (await line(store)).reasons == {webhook_endpoint.UNREADABLE: 4}


async def test_a_store_that_goes_away_loses_nothing(valkey: ValkeyServer, store: Store, settings: Settings) -> None:
    async with Sink() as sink, serving(with_hooks(settings, shop=hook(sink.url)), store):
        ids = await push_many(store, 30)
        await until(lambda: len(sink.calls) >= 10)
        valkey.kill()
        valkey.start()

        async def all_done() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await empty(store)
            return False

        await until(all_done, timeout_s=15)
    assert set(sink.ids) == set(ids)


async def test_other_settings_reach_an_endpoint_of_every_worker(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that took an account over which is not its own by its name; and one that comes back after it left."""
    monkeypatch.setattr(worker_module, "NOT_OURS_S", 0.1)
    monkeypatch.setattr(worker_module, "BEAT_S", 0.1)
    others = next(name for i in range(99) if crc32((name := f"account{i}").encode()) % 2 == 1)
    settings = replace(settings, webhooks=WebhooksSettings(workers=2))
    async with Sink() as old, Sink() as new:
        before, after = (with_hooks(settings, **{others: hook(one.url)}) for one in (old, new))
        async with serving(before, store, number=0) as worker:
            await push_many(store, 1, others)
            await until(lambda: len(old.calls) == 1)
            worker.use(after)
            await push_many(store, 5, others)
            await until(lambda: len(new.calls) == 5)
            worker.use(settings)
            await until(lambda: not worker._served)
            worker.use(after)
            await push_many(store, 5, others)
            await until(lambda: len(new.calls) == 10)
            await until(lambda: empty(store, others))
            assert len(old.calls) == 1


async def test_accounts_that_come_and_go_between_two_calls_to_the_store(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "BEAT_S", 0.05)
    async with Sink() as sink:
        some = with_hooks(settings, **{f"account{i}": hook(sink.url) for i in range(8)})
        async with serving(some, store) as worker:
            worker._workers = 1
            beat, tell = worker._outbox.beat, worker._outbox.tell

            async def beats(*args: Any) -> Any:
                found = await beat(*args)
                worker.use(settings)
                return found

            async def tells(*args: Any) -> None:
                await tell(*args)
                worker.use(settings)

            await until(lambda: len(worker._served) == 8)
            monkeypatch.setattr(worker._outbox, "tell", tells)
            worker._told.clear()
            worker.use(some)
            await until(lambda: not worker._served)
            monkeypatch.setattr(worker._outbox, "tell", tell)
            monkeypatch.setattr(worker._outbox, "beat", beats)
            worker.use(some)
            await until(lambda: not worker._accounts)
    assert "a look failed" not in caplog.text
