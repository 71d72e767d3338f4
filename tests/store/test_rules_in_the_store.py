"""What the store decides about a message for whom and when: caps by name, blacklist scopes, deferral, windows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from gateway.model import Category, NewMessage, State
from gateway.settings import Settings
from gateway.store.moves import Settlement
from gateway.store.recipients import Recipients
from gateway.store.record_log import attempt_log
from gateway.store.records import place_in_spread
from gateway.store.store import Store
from tests.support.messages import accept, apply, blacklisted, claim, message, number, receipt_row
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"
MARKETING = {"category": int(Category.MARKETING), "ttl_ms": 3_600_000}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def caps(**rules: str) -> str:
    """Return caps as the store takes them: `all` is everybody's, others by their name."""
    return "".join(f"\x1e{'*' if name == 'all' else name}\x1f{rule}" for name, rule in rules.items())


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def state(store: Store, m: NewMessage) -> tuple[str, str]:
    record = await store.get(m.id)
    assert record is not None
    return record.state, record.reason


# --- caps


async def test_every_cap_that_applies_counts(store: Store) -> None:
    to = number()

    def one(account: str, *names: str) -> NewMessage:
        text = "".join(f"\x1e{name}\x1f{rule}" for name, rule in (n.split("=") for n in names))
        return message(store, to, account=account, caps=text)

    shop = "shop=3,60;5,3600"
    assert await accept(store, one("shop", shop, "*=5,60")) == ["accepted"]
    assert await accept(store, one("bank", "bank=9,60", "*=5,60")) == ["accepted"]
    assert await accept(store, one("shop", shop, "*=5,60", "shop#t:login=1,60")) == ["accepted"]
    assert await accept(store, one("shop", shop, "*=5,60", "shop#t:login=1,60")) == ["capped"], "the tag's"
    assert await accept(store, one("shop", shop, "*=5,60", "shop#s:Acme=1,60")) == ["accepted"]
    assert await accept(store, one("shop", shop, "*=9,60")) == ["capped"], "the account's"
    assert await accept(store, one("bank", "bank=9,60", "*=4,60")) == ["capped"], "everybody's"
    assert await accept(store, one("bank", "bank=9,60", "*=5,60")) == ["accepted"]
    known = (await Recipients(store).of(to, ["shop"])).sent
    assert {name: len(times) for (_, name), times in known.items()} == {
        "shop": 3,
        "*": 5,
        "bank": 2,
        "shop#t:login": 1,
        "shop#s:Acme": 1,
    }


async def test_the_longest_wait_of_all_caps_is_told(store: Store) -> None:
    to = number()
    text = caps(shop="1,60") + caps(all="1,3600")
    await accept(store, message(store, to, caps=text))
    (refused,) = await store.accept([message(store, to, caps=text)])
    assert refused.code == "capped"  # type: ignore[union-attr]
    assert 3_590_000 < refused.retry_at_ms - now_ms() <= 3_600_000  # type: ignore[union-attr]


async def test_what_is_never_sent_gives_all_its_caps_back(store: Store) -> None:
    to = number()
    text = caps(shop="1,60") + caps(all="1,60") + "\x1eshop#t:a\x1f1,60\x1eshop#s:Acme\x1f1,60"
    kind = {"caps": text, "tags": ("a",), "signature": "Acme"}
    m = message(store, to, **kind)
    assert await accept(store, m) == ["accepted"]
    assert await accept(store, message(store, to, **kind)) == ["capped"]
    assert await store.cancel(m.id, "shop") == "cancelled"
    assert all(not times for times in (await Recipients(store).of(to, ["shop"])).sent.values())
    assert await accept(store, message(store, to, **kind)) == ["accepted"]


async def test_a_cap_may_defer_instead(store: Store) -> None:
    to = number()
    text = caps(shop="1,60")
    first, second, third = (message(store, to, caps=text, defer_capped=True) for _ in range(3))
    assert await accept(store, first) == ["accepted"]
    (answer,) = await store.accept([second])
    assert answer.code == "accepted"  # type: ignore[union-attr]
    due = answer.deferred_to_ms  # type: ignore[union-attr]
    assert 59_000 <= due - now_ms() <= 60_000
    assert answer.expires_at_ms == due + 3_600_000  # type: ignore[union-attr]
    record = await store.get(second.id)
    assert record is not None
    assert (record.state, record.send_at_ms, record.deferred) == (State.DEFERRED, due, True)
    assert record.expires_at_ms == answer.expires_at_ms  # type: ignore[union-attr]
    (later,) = await store.accept([third])
    assert later.deferred_to_ms == due // 1000 * 1000 + 60_000, "one after the other"  # type: ignore[union-attr]
    assert await store.cancel(second.id, "shop") == "cancelled"
    counted = (await Recipients(store).of(to, ["shop"])).sent[1, "shop"]
    assert due // 1000 not in counted, "the place it would have had is free"
    assert len(counted) == 1, "a rule of one in a minute keeps one time"


async def test_what_a_cap_defers_beyond_its_end_is_refused(store: Store) -> None:
    to = number()
    text = caps(shop="1,600")
    until = now_ms() + 300_000
    assert await accept(store, message(store, to, caps=text)) == ["accepted"]
    assert await accept(store, message(store, to, caps=text, defer_capped=True, not_after_ms=until)) == ["capped"]


async def test_tests_are_not_capped(store: Store) -> None:
    to = number()
    text = caps(shop="1,60")
    assert await accept(store, *[message(store, to, caps=text, test=True) for _ in range(3)]) == ["accepted"] * 3
    assert await accept(store, message(store, to, caps=text)) == ["accepted"]


# --- blacklist scopes


async def test_scopes_of_sender_and_signature(store: Store) -> None:
    to = number()
    await blacklisted(store, "shop/1069", to)
    await blacklisted(store, "shop/Acme", to)

    def one(**changes: object) -> NewMessage:
        return message(store, to, **(MARKETING | {"caps": ""} | changes))

    mine = ("shop", "shop/1069")
    assert await accept(store, one(scopes=mine)) == ["blocked"]
    assert await accept(store, one(scopes=("shop", "shop/1070"), sender="1070")) == ["accepted"]
    assert await accept(store, one(scopes=("bank", "bank/1069"), account="bank")) == ["accepted"]
    assert await accept(store, one(scopes=("shop", "shop/Acme"), sender="1070", signature="Acme")) == ["blocked"]
    assert await accept(store, one(scopes=mine, category=0)) == ["accepted"], "not its category"
    assert len(await claim(store)) == 3


async def test_a_scope_holds_for_what_is_queued_already(store: Store) -> None:
    to = number()
    by_sender = message(store, to, **MARKETING, caps="", scopes=("shop", "shop/1069"))
    by_signature = message(
        store, to, **MARKETING, caps="", sender="1070", signature="Acme", scopes=("shop", "shop/Acme")
    )
    other = message(store, to, **MARKETING, caps="", sender="1071", signature="Else", scopes=("shop", "shop/Else"))
    assert await accept(store, by_sender, by_signature, other) == ["accepted"] * 3
    await blacklisted(store, "shop/1069", to)
    await blacklisted(store, "shop/Acme", to)
    assert [c.id for c in await claim(store)] == [other.id]
    assert await state(store, by_sender) == await state(store, by_signature) == ("B", "blacklisted")


# --- windows


async def test_what_waits_for_its_window_leaves_spread_over_time(store: Store) -> None:
    opens = now_ms() + 60_000
    kind = {"send_at_ms": opens, "spread_ms": 600_000, "state": State.DEFERRED, "window_until_ms": opens + 3_600_000}
    ms = [message(store, **MARKETING, caps="", **kind) for _ in range(400)]
    answers = await store.accept(ms)
    found = []
    for m, answer in zip(ms, answers, strict=True):
        record = await store.get(m.id)
        assert record is not None
        assert record.state == State.DEFERRED
        assert record.deferred
        assert record.send_at_ms == opens + place_in_spread(m.id, 600_000)
        assert record.expires_at_ms == answer.expires_at_ms == record.send_at_ms + 3_600_000  # type: ignore[union-attr]
        assert record.window_until_ms == opens + 3_600_000
        found.append(record.send_at_ms - opens)
    assert min(found) >= 0
    assert max(found) < 600_000
    tenths = [sum(1 for at in found if tenth <= at // 60_000 < tenth + 1) for tenth in range(10)]
    assert all(15 <= n <= 70 for n in tenths), tenths


async def test_a_window_that_closed_keeps_back_what_is_queued(store: Store, valkey: ValkeyServer) -> None:
    closed, still = now_ms() - 1, now_ms() + 600_000
    late = message(store, **MARKETING, caps="", window_until_ms=closed)
    in_time = message(store, **MARKETING, caps="", window_until_ms=still)
    free = message(store, **MARKETING, caps="")
    code = message(store, category=0, caps="")
    assert await accept(store, late, in_time, free, code) == ["accepted"] * 4
    assert {c.id for c in await claim(store)} == {in_time.id, free.id, code.id}
    assert (await state(store, late))[0] == State.DEFERRED
    assert await store.waiting() == 1
    ((sid, record),) = await store.reopen(0)
    assert sid == late.id
    assert record is not None
    # When it opens again is said by who knows; it leaves then, and not before.
    due, closes = now_ms() + 50, now_ms() + 600_000
    assert await store.defer(0, [(sid, due, closes)]) == 1
    assert await store.reopen(0) == []
    again = await store.get(sid)
    assert again is not None
    assert (again.send_at_ms, again.window_until_ms, again.text) == (due, closes, "hello")
    with valkey.sync() as client:
        assert client.zscore(f"{P}due", sid) == due


async def test_a_deferred_message_comes_back_by_itself_when_nobody_says_when(
    store: Store, valkey: ValkeyServer
) -> None:
    late = message(store, **MARKETING, caps="", window_until_ms=now_ms() - 1)
    await accept(store, late)
    assert await claim(store) == []
    with valkey.sync() as client:
        at = client.zscore(f"{P}due", late.id)
        assert 50_000 < at - now_ms() <= 60_000
        client.zadd(f"{P}due", {late.id: now_ms() - 1})
    assert (await store.due(0))[0] == 1
    assert await claim(store, token="t2") == []
    assert len(await store.reopen(0)) == 2, "named again; filing it twice is no harm"


async def test_what_ended_meanwhile_is_not_deferred(store: Store) -> None:
    late = message(store, **MARKETING, caps="", window_until_ms=now_ms() - 1)
    await accept(store, late)
    await claim(store)
    assert await store.cancel(late.id, "shop") == "cancelled"
    assert await store.defer(0, [(late.id, now_ms() + 1000, now_ms() + 2000)]) == 0
    assert (await state(store, late))[0] == "C"
    assert await store.waiting() == 0


async def test_what_came_uncertain_and_missed_its_window_is_settled_by_a_late_answer(store: Store) -> None:
    closes = now_ms() + 700
    m = message(store, **MARKETING, caps="", window_until_ms=closes)
    assert await accept(store, m) == ["accepted"]
    (c,) = await claim(store)
    lost = Settlement(c.claim, 1, "U", "ch", log=attempt_log(1, "ch", None, "uncertain", []))
    assert await store.settle(0, [lost]) == "1"
    await until(lambda: now_ms() > closes)
    assert await claim(store, token="t2") == []
    assert (await state(store, m))[0] == State.DEFERRED
    late = Settlement(c.claim, 1, "s", "ch", 60_000, 1, log=attempt_log(1, "ch", 0, "sent", [(0, "a")]))
    assert await store.settle(0, [late]) == "l"
    assert (await state(store, m))[0] == State.SUBMITTED
    assert await store.waiting() == 0


async def test_a_lost_attempt_that_missed_its_window_is_found_by_its_receipt(store: Store) -> None:
    closes = now_ms() + 700
    m = message(store, **MARKETING, caps="", window_until_ms=closes)
    assert await accept(store, m) == ["accepted"]
    (c,) = await claim(store)
    lost = Settlement(c.claim, 1, "U", "ch", log=attempt_log(1, "ch", None, "uncertain", []))
    assert await store.settle(0, [lost]) == "1"
    await until(lambda: now_ms() > closes)
    assert await claim(store, token="t2") == []
    assert await apply(store, receipt_row(c)) == "f"
    record = await store.get(m.id)
    assert record is not None
    assert (record.state, record.possible_duplicate) == ("D", False)


async def test_a_test_gives_back_no_cap_of_others(store: Store) -> None:
    to = number()
    text = caps(shop="1,60")
    trial = message(store, to, caps=text, test=True)
    assert await accept(store, message(store, to, caps=text), trial) == ["accepted"] * 2
    assert await store.cancel(trial.id, "shop") == "cancelled"
    assert await accept(store, message(store, to, caps=text)) == ["capped"]


async def test_what_a_cap_deferred_gives_its_own_time_back(store: Store) -> None:
    to = number()
    text = caps(shop="2,60;3,3600")
    ms = [message(store, to, caps=text, defer_capped=True) for _ in range(3)]
    answers = await store.accept(ms)
    due = answers[2].deferred_to_ms  # type: ignore[union-attr]
    assert due
    assert await store.cancel(ms[2].id, "shop") == "cancelled"
    times = (await Recipients(store).of(to, ["shop"])).sent[1, "shop"]
    assert len(times) == 2, "those of the two that leave"
    assert due // 1000 not in times


async def test_ever_new_signatures_do_not_fill_a_number(store: Store) -> None:
    to = number()
    for batch in range(5):
        names = [f"{batch}-{i}-".ljust(100, "x") for i in range(200)]
        ms = [message(store, to, caps=f"\x1eshop#s:{name}\x1f1,60", signature=name) for name in names]
        assert await accept(store, *ms) == ["accepted"] * 200
    known = (await Recipients(store).of(to, ["shop"])).sent
    assert 400 < len(known) < 1000
    again = message(store, to, caps=f"\x1eshop#s:{names[-1]}\x1f1,60", signature=names[-1])
    assert await accept(store, again) == ["capped"]
