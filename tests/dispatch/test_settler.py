"""Answers become settlements: in which order, in which words, and what happens when the store does not take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.dispatch import settler as settler_module
from gateway.dispatch.flight import Flight, Taken
from gateway.dispatch.settler import Settler
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY, Secret
from gateway.routing.table import RouteTable
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.smpp.channel import ANSWERED, LOST, TIMED_OUT, UNSENT
from gateway.store.store import Store
from tests.support.dispatch_parts import ScriptedStore, flight
from tests.support.until import until


class Parts:
    """A settler at work on a scripted store."""

    def __init__(self) -> None:
        channels = tuple(
            ChannelSettings(id=c, host="127.0.0.1", port=1, system_id="x", password=Secret("y")) for c in "ab"
        )
        route = RouteSettings("r", RouteMatch(), (RankedChannel("a", 0), RankedChannel("b", 1)))
        settings = Settings(config_dir=Path("config"), channels=channels, routes=(route,))
        self.store = ScriptedStore()
        self.parked: list[Any] = []
        self.parked_fails = 0
        self.faults: list[Any] = []
        self.sent_fields = WITHOUT_VALIDITY
        self.left_out: list[tuple[str, int]] = []
        self.metrics = Metrics("dispatch", "worker01", "worker01")
        self.settler = Settler(
            settings,
            cast(Store, self.store),
            self.metrics,
            RouteTable(settings.routes, settings.channels),
            submit_key=lambda raw, id_format: raw.lower(),
            on_parked=self._on_parked,
            available=lambda: frozenset("ab"),
            on_fault=lambda *fault: self.faults.append(fault),
            leave_out=self._leave_out,
        )

    async def _on_parked(self, parked: list[Any]) -> None:
        self.store.calls.append(("parked", parked))
        if self.parked_fails:
            self.parked_fails -= 1
            raise StoreUnavailable("scripted")

    def _leave_out(self, channel: str, field: int) -> bool:
        self.left_out.append((channel, field))
        return bool(self.sent_fields & field)

    def sent(self, **changes: Any) -> Flight:
        one = flight(**changes)
        self.settler.begin(one)
        return one

    def answer(self, one: Flight, status: int = 0, *, part: int = 0, smsc_id: str = "ID1", late: bool = False) -> None:
        self.settler.answered(one, part, ANSWERED, status, smsc_id if not status else "", 0.01, late)

    def nothing(self, one: Flight, kind: str, part: int = 0) -> None:
        self.settler.answered(one, part, kind, 0, "", 0.0, False)

    @property
    def rows(self) -> list[Any]:
        return [row for rows in self.store.named("settle") for row in rows]

    async def row(self) -> dict[str, Any]:
        """Wait for the one row that was settled, and name its fields."""
        await self.settler.idle()
        (row,) = self.rows
        names = (
            "claim",
            "attempt",
            "verb",
            "channel",
            "delay_ms",
            "mask",
            "rank",
            "reason",
            "code",
            "target",
            "redeliver_ms",
            "price",
            "permanent",
            "log",
        )
        return dict(zip(names, row, strict=True))


@pytest.fixture
async def p(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    monkeypatch.setattr(settler_module, "_RETRY_FIRST_S", 0.01)
    parts = Parts()
    task = asyncio.create_task(parts.settler.run())
    yield parts
    parts.settler.stop()
    await asyncio.wait_for(task, 5)


async def test_a_plain_success_with_its_smsc_id(p: Parts) -> None:
    one = p.sent()
    p.answer(one)
    row = await p.row()
    assert row["claim"] == one.message.claim
    assert (row["attempt"], row["verb"], row["channel"], row["mask"]) == (1, "s", "a", 1)
    assert row["log"].split("\x1f") == ["1", "a", "0", "", "0=ID1"]
    assert [name for name, _ in p.store.calls] == ["settle"]
    assert p.store.smsc_ids == [("a:id1", one.message.id + b"0")]
    assert not p.settler.flights


async def test_an_empty_id_is_sent_all_the_same(p: Parts) -> None:
    one = p.sent()
    p.answer(one, smsc_id="")
    assert (await p.row())["verb"] == "s"
    assert not p.store.smsc_ids


async def test_answers_of_one_turn_are_one_batch(p: Parts) -> None:
    for _ in range(50):
        p.answer(p.sent())
    await p.settler.idle()
    assert [len(rows) for rows in p.store.named("settle")] == [50]


async def test_a_message_is_settled_when_its_last_part_is_answered(p: Parts) -> None:
    one = p.sent(parts=3)
    for part in (2, 0):
        p.answer(one, part=part, smsc_id=f"p{part}")
    await asyncio.sleep(0)
    assert not p.rows
    p.answer(one, part=1, smsc_id="p1")
    row = await p.row()
    assert (row["verb"], row["mask"]) == ("s", 0b111)
    assert sorted(named for _, named in p.store.smsc_ids) == [one.message.id + b"%d" % part for part in range(3)]


async def test_a_refused_part_sends_the_rest_again_here(p: Parts) -> None:
    one = p.sent(parts=2)
    p.answer(one, part=0)
    p.answer(one, 0x08, part=1)
    row = await p.row()
    assert (row["verb"], row["mask"], row["code"]) == ("p", 0b01, "0x00000008")
    assert row["delay_ms"] > 0


async def test_a_refusal_names_its_code(p: Parts) -> None:
    p.answer(p.sent(), 0x45)
    row = await p.row()
    assert (row["verb"], row["rank"], row["code"]) == ("n", 1, "0x00000045")
    assert row["log"].split("\x1f")[:4] == ["1", "a", str(0x45), "next"]


async def test_one_answer_for_all_parts_has_one_id_for_them_all(p: Parts) -> None:
    one = p.sent(parts=3)
    p.answer(one, part=-3)
    row = await p.row()
    assert (row["verb"], row["mask"]) == ("s", 0b111)
    assert p.store.smsc_ids == [("a:id1", one.message.id + b"@")]
    assert row["log"].split("\x1f")[4] == "16=ID1"


@pytest.mark.parametrize(("kind", "verb"), [(TIMED_OUT, "u"), (LOST, "u"), (ANSWERED, "n")])
async def test_one_missing_or_bad_answer_is_that_of_all_parts(p: Parts, kind: str, verb: str) -> None:
    one = p.sent(parts=3)
    p.settler.answered(one, -3, kind, 0x45 if kind == ANSWERED else 0, "", 0.0, False)
    row = await p.row()
    assert (row["verb"], row["mask"]) == (verb, 0)
    assert not p.store.smsc_ids


async def test_a_late_answer_for_all_parts_settles_them_all(p: Parts) -> None:
    one = p.sent(parts=2)
    p.nothing(one, TIMED_OUT, part=-2)
    await p.settler.idle()
    p.answer(one, part=-2, late=True)
    await until(lambda: len(p.rows) == 2)
    assert [(row[2], row[5]) for row in p.rows] == [("u", 0), ("s", 0b11)]
    assert p.store.smsc_ids == [("a:id1", one.message.id + b"@")]


@pytest.mark.parametrize("status", [0x61, 0x62])
async def test_a_field_that_is_refused_is_left_out_at_once_and_here(p: Parts, status: int) -> None:
    p.answer(p.sent(rank=2, attempt=3), status)
    row = await p.row()
    assert (row["verb"], row["delay_ms"], row["rank"], row["target"]) == ("N", 0, 2, "a")
    assert row["log"].split("\x1f")[:4] == ["3", "a", str(status), "without_validity"]
    assert p.left_out == [("a", WITHOUT_VALIDITY)]
    assert not p.faults, "no operator is needed"
    assert p.settler.answers() == {("a", status): 0}, "its breaker does not hear of it"
    assert not any(name == "failovers_total" for name, *_ in p.metrics.snapshot()["cells"])


async def test_refused_without_the_field_it_is_a_fault_of_ours(p: Parts) -> None:
    one = p.sent()
    one.without = WITHOUT_VALIDITY
    p.answer(one, 0x62)
    row = await p.row()
    assert (row["verb"], row["rank"], row["target"]) == ("n", 1, "")
    assert row["log"].split("\x1f")[3] == "bug"
    assert [(channel, status) for channel, _, status in p.faults] == [("a", 0x62)]
    assert p.settler.answers() == {("a", 0x62): 1}
    assert not p.left_out


async def test_a_field_that_is_not_sent_cannot_be_left_out(p: Parts) -> None:
    p.answer(p.sent(), 0xC1)  # this channel has no TLVs
    row = await p.row()
    assert row["log"].split("\x1f")[3] == "bug"
    assert p.left_out == [("a", WITHOUT_TLVS)]


async def test_the_other_field_may_be_left_out_after_the_first(p: Parts) -> None:
    p.sent_fields |= WITHOUT_TLVS
    one = p.sent()
    one.without = WITHOUT_VALIDITY
    p.answer(one, 0xC4)
    row = await p.row()
    assert (row["verb"], row["target"]) == ("N", "a")
    assert row["log"].split("\x1f")[3] == "without_tlvs"


async def test_with_a_part_out_the_rest_stays_pinned(p: Parts) -> None:
    one = p.sent(parts=2)
    p.answer(one, part=0)
    p.answer(one, 0x62, part=1)
    row = await p.row()
    assert (row["verb"], row["delay_ms"], row["mask"], row["target"]) == ("P", 0, 0b01, "")


async def test_a_worse_answer_to_another_part_wins(p: Parts) -> None:
    one = p.sent(parts=2)
    p.answer(one, 0x62, part=0)
    p.answer(one, 0x66, part=1)
    assert (await p.row())["verb"] == "F"


@pytest.mark.parametrize("kind", [TIMED_OUT, LOST])
@pytest.mark.parametrize(("category", "verb"), [(0, "U"), (1, "u"), (2, "u")])
async def test_no_answer_is_uncertain(p: Parts, kind: str, category: int, verb: str) -> None:
    p.nothing(p.sent(category=category), kind)
    row = await p.row()
    assert (row["verb"], row["code"], row["mask"]) == (verb, "", 0)


async def test_what_never_left_goes_back(p: Parts) -> None:
    one = p.sent(attempt=2)
    p.nothing(one, UNSENT)
    await p.settler.idle()
    assert p.store.named("release") == [[one.message.claim]]
    assert not p.rows


async def test_half_of_it_left(p: Parts) -> None:
    """One part was written when the connection broke, the other was not: the message is uncertain as a whole."""
    one = p.sent(parts=2)
    p.nothing(one, LOST, part=0)
    p.nothing(one, UNSENT, part=1)
    assert (await p.row())["verb"] == "u"
    assert not p.store.named("release")


async def test_a_late_answer_settles_what_was_uncertain(p: Parts) -> None:
    one = p.sent()
    p.nothing(one, TIMED_OUT)
    await p.settler.idle()
    p.answer(one, late=True)
    await until(lambda: len(p.rows) == 2)
    assert [row[2] for row in p.rows] == ["u", "s"]
    assert p.rows[1][-1].split("\x1f")[2:4] == ["0", ""]


async def test_a_late_answer_that_meets_its_time_out_in_the_queue_is_one_success(p: Parts) -> None:
    one = p.sent()
    p.nothing(one, TIMED_OUT)
    p.answer(one, late=True)
    assert (await p.row())["verb"] == "s"


async def test_a_late_refusal_changes_nothing(p: Parts) -> None:
    one = p.sent()
    p.nothing(one, TIMED_OUT)
    await p.settler.idle()
    p.answer(one, 0x45, late=True)
    p.answer(p.sent())
    await p.settler.idle()
    assert [row[2] for row in p.rows] == ["u", "s"]


async def test_a_late_part_completes_a_message_that_is_still_out(p: Parts) -> None:
    one = p.sent(parts=2)
    p.nothing(one, TIMED_OUT, part=0)
    p.answer(one, part=0, late=True)
    p.answer(one, part=1)
    row = await p.row()
    assert (row["verb"], row["mask"]) == ("s", 0b11)
    assert row["log"].split("\x1f")[3] == ""


async def test_early_receipts_are_applied_after_the_message_is_settled(p: Parts) -> None:
    p.store.parked_receipts = [b"receipt"]
    p.answer(p.sent())
    await until(lambda: p.store.named("parked"))
    assert [name for name, _ in p.store.calls] == ["settle", "parked"]


async def test_early_receipts_that_fail_do_not_settle_anything_twice(p: Parts) -> None:
    p.store.parked_receipts = [b"receipt"]
    p.parked_fails = 1
    p.answer(p.sent())
    await until(lambda: p.store.named("parked"))
    p.answer(p.sent())
    await until(lambda: len(p.store.named("parked")) == 2)
    assert len(p.rows) == 2
    assert not p.settler.failing


async def test_results_wait_while_the_store_is_away(p: Parts) -> None:
    p.store.fail = {"settle": 2}
    one = p.sent()
    p.answer(one)
    await until(lambda: p.settler.failing)
    assert p.settler.flights
    await p.settler.idle()
    assert not p.settler.failing
    assert [row[0] for row in p.rows] == [one.message.claim] * 3
    assert len(p.store.smsc_ids) == 3, "written again with every try"


async def test_a_settlement_whose_answer_was_lost_does_not_hit_the_next_claim(p: Parts) -> None:
    """`slow` gives the attempt back, so the next claim bears the same number: it must not be settled in its place."""
    first = p.sent(category=1)
    p.store.fail = {"settle": 1}
    p.answer(first, 0x58)
    await until(lambda: p.settler.failing)
    second = Flight(first.message, 0, "a", pending=1)  # it was applied: here is the message again
    p.settler.begin(second)
    await until(lambda: not p.settler.failing)
    assert len(p.rows) == 1
    assert p.settler.flights == {first.message.id: second}
    p.answer(second)
    await p.settler.idle()
    assert [row[2] for row in p.rows] == ["l", "s"]


async def test_what_cannot_be_built_fails(p: Parts) -> None:
    one = p.sent()
    one.pending = 0
    p.settler.fail(one, "cannot_be_encoded")
    row = await p.row()
    assert (row["verb"], row["reason"], row["code"]) == ("F", "cannot_be_encoded", "")


async def test_an_unreadable_record_fails_without_a_flight(p: Parts) -> None:
    call = Taken(0, "t/a", 0)
    p.settler.took(call)
    p.settler.fail_unreadable(call, b"some id of sixteen", 3)
    await until(lambda: p.rows)
    assert p.rows[0][:3] == (b"some id of sixteen", 3, "F")
    assert p.rows[0][7] == "record_unreadable"


async def test_one_message_that_we_fail_on_does_not_stop_the_others(p: Parts) -> None:
    bad, good = p.sent(route="r", category=1), p.sent()
    bad.message.category = 99  # no such rules
    p.answer(bad, 0x45)
    p.answer(good)
    await until(lambda: len(p.settler.flights) == 1)
    assert p.settler.flights == {bad.message.id: bad}  # stays claimed: uncertain when the worker ends
    assert p.rows[-1][0] == good.message.claim
    assert not p.settler.failing


async def test_a_claim_call_is_forgotten_when_all_of_it_is_settled(p: Parts) -> None:
    call = Taken(0, "t/a", 2)
    p.settler.took(call)
    one, two = p.sent(), p.sent()
    one.taken = two.taken = call
    p.answer(one)
    await until(lambda: len(p.rows) == 1)
    assert p.settler.knows(0, "t/a")
    p.answer(two)
    await p.settler.idle()
    assert p.settler.knows(0, "t/a"), "the store has not heard of it yet"
    assert not p.store.finished
    p.store.fail = {"release": 1}
    with pytest.raises(StoreUnavailable):
        await p.settler.forget_finished(0)
    assert p.settler.knows(0, "t/a")
    p.answer(p.sent())
    await p.settler.idle()
    assert p.store.finished == ["t/a", "t/a"], "first in vain, then with the next settlement"
    assert not p.settler.knows(0, "t/a")
    await p.settler.forget_finished(0)
    assert len(p.store.named("release")) == 1


async def test_a_claim_whose_answer_was_lost_does_not_keep_its_call(p: Parts) -> None:
    first = p.sent()
    first.taken = Taken(0, "t/a", 1)
    p.settler.took(first.taken)
    p.store.fail = {"settle": 1}
    p.answer(first, 0x58)
    await until(lambda: p.settler.failing)
    second = Flight(first.message, 0, "a", pending=1)
    p.settler.begin(second)
    await until(lambda: not p.settler.failing)
    await p.settler.forget_finished(0)
    assert p.store.finished == ["t/a"]


@pytest.mark.parametrize(("took", "verb"), [({"a", "b"}, "F"), ({"b"}, "n")])
async def test_a_copy_is_not_sent_where_the_message_was_already(p: Parts, took: set[str], verb: str) -> None:
    copy = p.sent(channel="b", rank=1, attempt=2, flags=64 | 32 | 8 | 1, took=frozenset(took))
    p.answer(copy, 0x45)
    assert (await p.row())["verb"] == verb
