"""Messages from handsets: whole or in parts, in every charset, tied to what they answer, recorded once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.model import message_id
from gateway.settings import AccountSettings, InboundSettings, KeywordSettings, Settings
from gateway.simulator.smsc import Smsc
from gateway.store.inbox import InboundStore
from gateway.store.store import Store
from tests.support.inbound import events, messages, with_replies
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer

HANDSET = "8613800138000"
LONG = "".join(f"第{i}句话，后面还有。" for i in range(30)) + "👍完"


def line(smsc: Smsc, *accounts: AccountSettings, shards: int = 1, channel: dict[str, Any] | None = None) -> Settings:
    return with_replies(line_settings([channel_to(smsc, "a", **(channel or {}))], shards=shards), *accounts)


async def all_acked(smsc: Smsc, n: int) -> None:
    await until(lambda: smsc.counters.mo_acked >= n and not smsc.stats()["receipts_waiting"])


async def texts(store: Store) -> list[str]:
    return [one["text"] for one in await messages(store)]


async def test_every_charset_and_every_form_of_a_long_message(valkey: ValkeyServer, shards: int) -> None:
    """One worker with two binds; parts come in any order, doubled, by both binds."""
    async with carrier() as smsc:
        settings = line(smsc, shards=shards, channel={"binds": 2})
        async with worker(settings, valkey) as w:
            await until(lambda: smsc.counters.sessions == 2)
            sent = 0
            short = [
                (b"caf\x05 \x1b\x65", 0, "cafè €".replace("è", "é")),
                ("你好，退货怎么办".encode("utf-16-be"), 8, "你好，退货怎么办"),
                ("naïve".encode("latin-1"), 3, "naïve"),
                ("привет".encode("iso8859_5"), 6, "привет"),
                ("汉字".encode("gb18030"), 15, "汉字"),
                (b"\xd8", 8, "\ufffd"),
            ]
            for octets, coding, _ in short:
                smsc.send_mo(HANDSET, "1069", octets, data_coding=coding)
                sent += 1
            wanted = [text for _, _, text in short]
            gsm = "GSM text {with} extension € " * 12
            for i, (text, encoding, how, order) in enumerate(
                [
                    (LONG + "1", "ucs2", "udh", (4, 2, 0, 1, 3)),
                    (LONG + "2", "ucs2", "udh16", (0, 0, 1, 2, 3, 4, 3)),
                    (LONG + "3", "ucs2", "sar", (1, 0, 3, 2, 4)),
                    (gsm + "4", "gsm7", "udh", ()),
                    (gsm + "5", "gsm7", "payload", ()),
                    ("é" * 300, "latin1", "udh", (2, 1, 0)),
                ]
            ):
                smsc.send_long_mo(HANDSET, "1069", text, encoding=encoding, how=how, order=order, reference=i)
                sent = sent + (len(order) or (1 if how == "payload" else 3))
                wanted.append(text)
            await all_acked(smsc, sent)
            assert sorted(await texts(w.store)) == sorted(wanted)
            kept = await messages(w.store)
            assert {one["from"] for one in kept} == {HANDSET}
            assert {one["account"] for one in kept} == {"shop"}, "the only account there is"
            # Once more as a whole, also a part of one that is complete: repeats, answered and not recorded.
            for octets, coding, _ in short:
                smsc.send_mo(HANDSET, "1069", octets, data_coding=coding)
            smsc.send_long_mo(HANDSET, "1069", LONG + "1", reference=0, order=(3,))
            await all_acked(smsc, sent + len(short) + 1)
            assert len(await texts(w.store)) == len(wanted)
            counted = {
                what: int(w.metrics.counter("inbound_read_total", channel="a", what=what).n)
                for what in ("repeated", "repeated_part", "other")
            }
            assert counted["other"] == len(wanted)
            # A part that comes twice while its message is being recorded makes that a repeat; later it is one itself.
            assert counted["repeated"] + counted["repeated_part"] == len(short) + 2
            assert {row.ack for row in smsc.ledger.receipts} == {0}
            for p in w.store.prefixes:
                assert await w.store.client.execute("ZCARD", f"{p}moparts") == 0


async def test_parts_by_two_workers_and_packed_septets(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = line(smsc, channel={"binds": 2, "packed": True})
        async with (
            worker(settings, valkey, "worker01", bound=False) as one,
            worker(settings, valkey, "worker02", bound=False) as two,
        ):
            channels = [w.dispatcher.channels["a"] for w in (one, two)]
            # The first has both binds until the second asks for its share.
            await until(lambda: all(len(c.slots) == 1 and c.up for c in channels) and smsc.counters.sessions == 2)
            wanted = []
            for i in range(20):
                text = f"{i:02d} packed text with a euro € and [brackets] " * 10
                smsc.send_long_mo(HANDSET, "1069", text, encoding="gsm7", reference=i, packed=True, order=(2, 0, 1, 3))
                wanted.append(text)
            await all_acked(smsc, 80)
            assert sorted(await texts(one.store)) == sorted(wanted)
            parts = [int(w.metrics.counter("inbound_read_total", channel="a", what="part").n) for w in (one, two)]
            assert sum(parts) == 80
            assert all(parts), "both workers had some"


async def test_a_rest_that_never_comes_and_a_reference_used_again(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = replace(line(smsc), inbound=InboundSettings(parts_wait_s=1))
        async with worker(settings, valkey) as w:
            first, second = "甲" * 150, "乙" * 150
            smsc.send_long_mo(HANDSET, "1069", first, order=(0, 2))
            await all_acked(smsc, 2)
            assert await texts(w.store) == []
            # The same reference again with other parts: the first one is given up, nothing of it is mixed in.
            smsc.send_long_mo(HANDSET, "1069", second, order=(2, 0, 1))
            await all_acked(smsc, 5)

            async def delivered() -> bool:
                await w.recorder._inbox.deliver_overdue()
                return len(await texts(w.store)) == 2

            await until(delivered)
            whole, partial = sorted(await messages(w.store), key=lambda one: one.get("partial", False))
            assert (whole["text"], whole["parts"], "partial" in whole) == (second, 3, False)
            assert (partial["text"], partial["parts"], partial["partial"]) == ("甲" * 67 + "…" + "甲" * 16, 2, True)
            assert await w.recorder._inbox.deliver_overdue() == 0


async def test_a_part_that_comes_while_the_others_are_given_up_is_not_lost(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = replace(line(smsc), inbound=InboundSettings(parts_wait_s=1))
        async with worker(settings, valkey) as w:
            inbox, kept = w.recorder._inbox, w.recorder._inbox._store
            overdue, late = kept.overdue, []

            async def and_then_one_comes(shard: int, most: int, may_wait: int) -> Any:
                found = await overdue(shard, most, may_wait)
                if found and not late:
                    late.append(True)
                    smsc.send_long_mo(HANDSET, "1069", "甲" * 150, order=(2,))
                    await all_acked(smsc, 2)
                return found

            kept.overdue = and_then_one_comes  # type: ignore[method-assign]
            smsc.send_long_mo(HANDSET, "1069", "甲" * 150, order=(0,))
            await all_acked(smsc, 1)

            async def delivered() -> bool:
                await inbox.deliver_overdue()
                return len(await texts(w.store)) == 2

            await until(delivered)
            assert sorted(await texts(w.store)) == ["…" + "甲" * 16, "甲" * 67 + "…"]


async def test_half_an_opt_in_is_for_a_person_to_read(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = replace(line(smsc), inbound=InboundSettings(parts_wait_s=1))
        async with worker(settings, valkey) as w:
            smsc.send_long_mo(HANDSET, "1069", "START".ljust(67) + "? no, never" * 8, order=(0,))
            await all_acked(smsc, 1)

            async def delivered() -> bool:
                await w.recorder._inbox.deliver_overdue()
                return bool(await texts(w.store))

            await until(delivered)
            assert [one["opt"] for one in await messages(w.store)] == ["review"]


async def test_whose_a_reply_is(valkey: ValkeyServer) -> None:
    """The number it came to; else the latest message from there; else the latest; in_reply_to names it."""
    accounts = [AccountSettings(name) for name in ("shop", "bank", "club")]
    rules = (KeywordSettings(("JOIN", "加入"), account="club", tag="join"),)
    async with carrier() as smsc:
        settings = replace(line(smsc, *accounts), keywords=rules)
        async with worker(settings, valkey) as w:
            await w.store.set_consumers({"shop": "io", "bank": "io", "club": "o"})
            ms = [message(w.store, HANDSET, account=account, sender=sender) for account, sender in
                  (("shop", "10690001"), ("bank", "10690002"), ("shop", "10690003"))]  # fmt: skip
            for m in ms:  # one after the other, so that "the latest" is known
                await accepted(w.store, [m])
                await end_as(w.store, [m.id], D=1)
            scheduled = message(w.store, HANDSET, account="club", sender="10690002", send_at_ms=1 << 42, state="h")
            await accepted(w.store, [scheduled])
            for to, text in (("10690001", b"1"), ("1069000277", b"2"), ("5555", b"3"), ("10690001", b"join")):
                smsc.send_mo(HANDSET, to, text)
            smsc.send_mo("13800138000", "10690002", b"national")
            smsc.send_mo("8613900139000", "10690002", b"stranger")
            await all_acked(smsc, 6)
            a, b, c = (message_id(m.id) for m in ms)
            found = {
                one["text"]: (one["account"], one["in_reply_to"], one["keyword"]) for one in await messages(w.store)
            }
            assert found == {
                "1": ("shop", a, ""),
                "2": ("bank", b, ""),  # digits of the application's behind the number
                "3": ("shop", c, ""),
                "join": ("club", None, "JOIN"),
                "national": ("bank", b, ""),
                "stranger": ("", None, ""),
            }
            told = [(kind, event["text"], event.get("tag")) for kind, event in await events(w.store)]
            assert sorted(told) == [("i", "1", None), ("i", "3", None)]
            assert [event["from"] for _, event in await events(w.store, "bank")] == [HANDSET] * 2
            assert await events(w.store, "club") == []


async def test_one_that_was_not_recorded_comes_again(settings: Settings) -> None:
    """C13: the store is killed with replies on the way; they are not acknowledged, come again, and count once."""
    server = ValkeyServer()
    server.start()
    try:
        async with carrier(redeliver_s=0.1) as smsc:
            store = await Store.open(line(smsc), server.url, incarnation="worker01")
            w = Worker(line(smsc), store)
            await w.start()
            smsc.send_mo(HANDSET, "1069", b"before")
            await all_acked(smsc, 1)
            server.kill()
            for i in range(50):
                smsc.send_mo(f"86138001{i:05d}", "1069", b"TD")
            await until(lambda: smsc.counters.receipts_refused >= 50)
            assert {row.ack for row in smsc.ledger.receipts[1:]} <= {0x08, None}
            server.start()
            await until(lambda: sum(row.ack == 0 for row in smsc.ledger.receipts) == 51, timeout_s=20)
            kept = await messages(store)
            assert len(kept) == 51
            assert len({one["from"] for one in kept}) == 51
            assert await InboundStore(store).waiting_for_review() == 0
            await w.stop()
            await store.close()
    finally:
        server.stop()


async def test_a_flood_is_held_off_and_nothing_is_lost(valkey: ValkeyServer) -> None:
    """Two thousand at once: all answered, all recorded, verification still leaves."""
    async with carrier() as smsc, worker(line(smsc), valkey) as w:
        for i in range(2000):
            smsc.send_mo(f"86139{i:08d}", "1069", b"question %d" % i)
        code = message(w.store, category=0, body=body("your code is 1234"))
        await accepted(w.store, [code])
        await end_as(w.store, [code.id], D=1)
        await all_acked(smsc, 2000)
        assert len(await messages(w.store)) == 2000


@pytest.mark.parametrize("to", ["1069", ""])
async def test_odd_senders_do_no_harm(valkey: ValkeyServer, to: str) -> None:
    async with carrier() as smsc, worker(line(smsc), valkey) as w:
        for source in ("", "Bank", "12"):
            smsc.send_mo(source, to, b"TD")
        await all_acked(smsc, 3)
        kept = await messages(w.store)
        assert sorted((one["from"], one["opt"]) for one in kept) == [("", "review"), ("12", "stop"), ("Bank", "review")]
