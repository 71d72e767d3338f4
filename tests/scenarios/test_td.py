"""A recipient says TD: nothing more of that kind is taken, what waits ends, codes still come; START lifts it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from gateway.model import Category, message_id
from gateway.settings import AccountSettings, InboundSettings
from gateway.simulator.smsc import Smsc
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists, Listed
from gateway.store.inbox import InboundStore
from tests.support.inbound import events, messages, with_replies
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import accept, message
from tests.support.scenario import accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer

VERIFICATION, NOTIFICATION, MARKETING = 0, 1, 2
HANDSET = "8613800138000"
NEVER_CAPPED = {Category.MARKETING: {"per_number": ()}, Category.VERIFICATION: {"per_number": ()}}


async def says(smsc: Smsc, w: Worker, text: str, *, source: str = HANDSET, to: str = "1069") -> None:
    """Let a handset reply, and wait until the reply is recorded and acknowledged."""
    n = smsc.counters.mo_acked
    smsc.send_mo(source, to, text.encode("utf-16-be"), data_coding=8)
    await until(lambda: smsc.counters.mo_acked == n + 1)


async def listed(w: Worker, number: str = HANDSET) -> dict[str, Listed]:
    return {one.scope: one for one in await Blacklists(w.store).get(number)}


async def test_an_opt_out_end_to_end(valkey: ValkeyServer, shards: int) -> None:
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a")], shards=shards, categories=NEVER_CAPPED))
        async with worker(settings, valkey) as w:
            await w.store.set_consumers({"shop": "iof"})
            advert = message(w.store, HANDSET, category=MARKETING, campaign="spring", signature="Acme")
            await accepted(w.store, [advert])
            await end_as(w.store, [advert.id], D=1)
            later = {"send_at_ms": int(time.time() * 1000) + 3_600_000, "ttl_ms": 7_200_000}
            waits = [
                message(w.store, HANDSET, category=MARKETING, state="h", **later),
                message(w.store, HANDSET, category=MARKETING, state="f", **later),
                message(w.store, HANDSET, category=NOTIFICATION, state="h", **later),
                message(w.store, HANDSET, category=MARKETING, account="bank", state="h", **later),
            ]
            await accepted(w.store, waits)
            await w.store.set_gate("account", "shop", "hold")
            held = message(w.store, HANDSET, category=MARKETING)
            await accepted(w.store, [held])
            await end_as(w.store, [held.id], w=1)
            waiting = await w.store.waiting()
            started = time.monotonic()
            await says(smsc, w, "回复TD。")
            # In force with the acknowledgement; what waited has ended in the same step.
            assert [(await record(w.store, m.id)).state for m in [*waits, held]] == ["B", "B", "h", "h", "B"]
            assert time.monotonic() - started < 1
            assert (await record(w.store, held.id)).reason == "user-unsubscribed"
            assert await w.store.waiting() == waiting - 3
            await w.store.set_gate("account", "shop", "open")

            entry = (await listed(w))["shop"]
            assert (entry.categories, entry.reason, entry.source) == ((Category.MARKETING,), "td", "mo.a")
            codes = [message(w.store, HANDSET, category=c) for c in (MARKETING, NOTIFICATION, VERIFICATION)]
            assert await accept(w.store, *codes) == ["blocked", "accepted", "accepted"]
            assert await accept(w.store, message(w.store, HANDSET, category=MARKETING, account="bank", sender="2")) == [
                "accepted"
            ]

            [(_, inbound), (_, opted)] = sorted(await events(w.store))
            assert (inbound["opt"], inbound["in_reply_to"]) == ("stop", message_id(advert.id))
            assert opted | {"id": "", "at": ""} == {
                "id": "", "at": "", "account": "shop", "number": HANDSET, "scope": "shop", "reason": "td", "word": "TD",
                "in_reply_to": message_id(advert.id), "campaign": "spring",
            }  # fmt: skip
            hour = int(time.time()) // 3600
            counted = {k: n for k, n in (await w.store.statistics(hour)).items() if k[8] == "td"}
            assert counted == {("shop", "china-mobile", "r", "", "spring", "", "2", "a", "td", ""): 1}
            days = [await w.store.client.execute("HGETALL", f"{p}td:{hour // 24}") for p in w.store.prefixes]
            assert [day for day in days if day] == [[b"shop\x1fspring\x1fAcme\x1ftd", b"1"]]

            # Again, after ten minutes or in other words: no second event, nothing counted twice.
            await says(smsc, w, "退订")
            assert sum(kind == "o" for kind, _ in await events(w.store)) == 1
            assert sum(n for k, n in (await w.store.statistics(hour)).items() if k[8] == "td") == 1

            await says(smsc, w, "START")
            assert await listed(w) == {}
            assert await accept(w.store, message(w.store, HANDSET, category=MARKETING)) == ["accepted"]
            audit = Audit(w.store)
            assert [(e.actor, e.action, e.more["word"]) for e in await audit.read()] == [
                ("mo.a", "blacklist.remove", "START"), ("mo.a", "blacklist.add", "TD"),
            ]  # fmt: skip
            assert [v.broken_at for v in await audit.verify()] == [0] * shards


async def test_what_does_not_mean_it(valkey: ValkeyServer) -> None:
    """Bill services, words inside sentences, a survey's N; what only begins like it is for a person to read."""
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a")]))
        async with worker(settings, valkey) as w:
            for text in ("TDZD", "T恤有货吗", "谢谢", "TD 我的订单什么时候到，我想知道为什么还没发货"):
                await says(smsc, w, text)
            assert await listed(w) == {}
            inbox = InboundStore(w.store)
            one, shirt = await inbox.find(review=True)
            assert (one["text"][:4], shirt["text"]) == ("TD 我", "T恤有货吗")
            assert await inbox.waiting_for_review() == 2
            sid = bytes.fromhex(one["id"].replace("-", ""))
            assert await inbox.reviewed(sid, actor="operator", decision="dismiss")
            assert not await inbox.reviewed(sid, actor="operator", decision="dismiss")
            assert await inbox.find(review=True) == [shirt]
            assert (await inbox.get(sid, 1) or {})["text"] == one["text"], "read, not removed"


@pytest.mark.parametrize(
    ("scope", "where", "blocked"),
    [
        ("account", "shop", {"1069", "1070"}),
        ("sender", "shop/1070", {"1070"}),
        ("signature", "shop/Acme", {"1070"}),
        ("global", "*", {"1069", "1070", "bank"}),
    ],
)
async def test_how_wide_it_reaches(valkey: ValkeyServer, scope: str, where: str, blocked: set[str]) -> None:
    async with carrier() as smsc:
        accounts = [
            AccountSettings("shop", optout_scope=scope, optout_categories=frozenset({Category.MARKETING, Category(1)})),
            AccountSettings("bank"),
        ]
        settings = with_replies(line_settings([channel_to(smsc, "a")], categories=NEVER_CAPPED), *accounts)
        async with worker(settings, valkey) as w:
            first = message(
                w.store, HANDSET, sender="1070", signature="Acme", scopes=("shop", "shop/1070", "shop/Acme")
            )
            await accepted(w.store, [first])
            await end_as(w.store, [first.id], D=1)
            later = {
                "send_at_ms": int(time.time() * 1000) + 3_600_000,
                "ttl_ms": 7_200_000,
                "state": "h",
                "category": 2,
            }
            ms = {
                "1069": message(w.store, HANDSET, sender="1069", signature="Bank", **later),
                "1070": message(w.store, HANDSET, sender="1070", signature="Acme", **later),
                "bank": message(w.store, HANDSET, sender="1069", account="bank", **later),
            }
            await accepted(w.store, ms.values())
            await says(smsc, w, "STOP", to="1070")
            assert {name for name, m in ms.items() if (await record(w.store, m.id)).state == "B"} == blocked
            [(at, entry)] = (await listed(w)).items()
            assert (at, entry.mask) == (where, 6)
            await says(smsc, w, "START", to="1070")
            assert await listed(w) == {}


async def test_an_opt_out_when_the_records_are_gone(valkey: ValkeyServer) -> None:
    """TD comes days later: the caps still tell whose advert it was. Where nobody knows, it holds for all accounts."""
    async with carrier() as smsc:
        accounts = [AccountSettings("shop"), AccountSettings("bank")]
        settings = with_replies(line_settings([channel_to(smsc, "a")]), *accounts)
        async with worker(settings, valkey) as w:
            advert = message(w.store, HANDSET, category=MARKETING)
            await accepted(w.store, [advert])
            await end_as(w.store, [advert.id], D=1)
            await w.store.client.execute("DEL", b"gw:{s00}:msg:" + advert.id)
            await says(smsc, w, "TD")
            await says(smsc, w, "TD", source="8613700137000")
            assert list(await listed(w)) == ["shop"]
            assert list(await listed(w, "8613700137000")) == ["*"]


async def test_start_lifts_an_opt_out_and_nothing_else(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a")]))
        async with worker(settings, valkey) as w:
            lists = Blacklists(w.store)
            await lists.add(HANDSET, "shop", 2, "do-not-disturb", source="operator", actor="operator")
            await says(smsc, w, "TD")
            [entry] = (await listed(w)).values()
            assert (entry.mask, entry.reason) == (6, "do-not-disturb"), "joined, and the stronger reason stays"
            await says(smsc, w, "START")
            assert len(await listed(w)) == 1
            assert await lists.counts() == {("shop", "do-not-disturb"): 1}


async def test_a_forged_flood_raises_an_alarm_and_is_taken_back(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = replace(
            with_replies(line_settings([channel_to(smsc, "a")])), inbound=InboundSettings(optout_alarm_per_hour=150)
        )
        async with worker(settings, valkey) as w:
            lists = Blacklists(w.store)
            await lists.add("8613800000001", "shop", 4, "operator", source="operator", actor="operator")
            alarms = {cause: w.metrics.counter("optout_alarms_total", channel="a", cause=cause) for cause in
                      ("channel", "block")}  # fmt: skip
            for i in range(100):
                smsc.send_mo(f"861380000{i:04d}", "1069", b"TD")
            await until(lambda: smsc.counters.mo_acked == 100)
            assert (alarms["channel"].n, alarms["block"].n) == (0, 0)
            for i in range(100, 200):
                smsc.send_mo(f"861380000{i:04d}", "1069", b"TD")
            await until(lambda: smsc.counters.mo_acked == 200)
            assert (alarms["channel"].n, alarms["block"].n) == (50, 100)
            assert await lists.counts() == {("shop", "td"): 199, ("shop", "operator"): 1}
            cursor, removed = "", 0
            while True:
                cursor, n, _ = await lists.undo("shop", "mo.a", since_s=int(time.time()) - 60, cursor=cursor)
                removed += n
                if not cursor:
                    break
            assert removed == 199
            assert await lists.counts() == {("shop", "operator"): 1}
            assert len(await messages(w.store)) == 200, "what was written stays on record"


async def test_a_change_of_mind_within_ten_minutes_is_no_repeat(valkey: ValkeyServer) -> None:
    """TD, START, TD: the third says the same as the first, and is meant. The SMSC's repeat of it is none."""
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a")]))
        async with worker(settings, valkey) as w:
            for text, on_list in (("TD", 1), ("TD", 1), ("START", 0), ("START", 0), ("TD", 1), ("TD", 1), ("START", 0)):
                await says(smsc, w, text)
                assert len(await listed(w)) == on_list, text
            assert [one["text"] for one in await messages(w.store)] == ["TD", "START", "TD", "START"]


async def test_taking_an_import_back_leaves_the_opt_outs_of_meanwhile(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = with_replies(line_settings([channel_to(smsc, "a")]))
        async with worker(settings, valkey) as w:
            lists = Blacklists(w.store)
            numbers = [f"861380013800{i}" for i in range(4)]
            await lists.put(numbers[3], "shop", 2, "operator", source="operator", actor="operator")
            rows = [(number, 4, "do-not-disturb") for number in numbers[:3]]
            for name in ("one", "two"):
                await lists.add_many("shop", rows, source=f"import.{name}", import_id=name)
                rows = [(number, 6, "do-not-disturb") for number in numbers[:3]]
            for number in (numbers[0], numbers[1], numbers[3]):
                await says(smsc, w, "TD", source=number)
            await says(smsc, w, "START", source=numbers[1])
            assert await lists.undo("shop", "import.two", import_id="two") == ("", 0, 3)
            assert await lists.undo("shop", "import.one", import_id="one") == ("", 2, 1)
            assert [(one.reason, one.mask, one.source) for one in await lists.get(numbers[0])] == [("td", 4, "mo.a")]
            assert await lists.get(numbers[1]) == await lists.get(numbers[2]) == []
            assert await lists.counts() == {("shop", "td"): 1, ("shop", "operator"): 1}
            # Nor does taking back what replies did take what an operator had said before.
            assert await lists.undo("shop", "mo.a") == ("", 1, 0)
            assert [one.reason for one in await lists.get(numbers[3])] == ["operator"]
