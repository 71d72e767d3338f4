"""One message's life in the store, move by move, on one shard and on four."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import WITHOUT_VALIDITY, State, shard_of_id
from gateway.settings import Settings
from gateway.store.moves import ALL_PARTS, GUESS_AFTER_S, ParkedReceipt, Settlement, named, spellings
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, apply, blacklisted, claim, ids_of, message, receipt_row
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings, shards: int) -> AsyncIterator[Store]:
    opened = await Store.open(with_shards(settings, shards), valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


def settlement(c: object, verb: str = "s", **changes: object) -> Settlement:
    values = {"channel": "ch", "delay_ms": 60_000, "accepted_mask": 1 if verb == "s" else 0}
    values.update(changes)
    return Settlement(c.claim, c.attempt, verb, **values)  # type: ignore[attr-defined, arg-type]


async def settle(store: Store, c: object, verb: str = "s", **changes: object) -> str:
    ids = ids_of(c) if verb == "s" else []
    return await store.settle(shard_of_id(c.id), [settlement(c, verb, **changes)], ids)  # type: ignore[attr-defined]


async def receipt(store: Store, c: object, state: str = "D", part: int = 0, address: str | None = None) -> str:
    return await apply(store, receipt_row(c, state, part, address=address))


async def test_from_accept_to_receipt(store: Store) -> None:
    m = message(store)
    assert await accept(store, m) == ["accepted"]
    assert await store.waiting() == 1
    (c,) = await claim(store)
    assert (c.id, c.attempt, c.msisdn, c.text) == (m.id, 1, m.msisdn, "hello")
    assert await store.waiting() == 0
    sent = settlement(c, log="1\x1fch\x1f0\x1fsent\x1f0=00ABC")
    assert await store.settle_rows(m.shard, [sent.row()], [("ch:abc", named(c.id, 0))]) == ("1", [])
    record = await store.get(m.id)
    assert record is not None
    assert record.state == State.SUBMITTED
    assert record.attempts[0].smsc_ids == {0: "00ABC"}
    row = ("ch", spellings("ch", ("zzz", "abc")), m.msisdn.encode(), "D", "DELIVRD", "000", False, False)
    assert await store.apply_receipts([row]) == [("f", 1)]
    record = await store.get(m.id)
    assert record is not None
    assert record.state == State.DELIVERED
    assert record.receipts[0].state == "D"
    # Its id is forgotten by now; by its number and the attempts in its log it is known as a repeat.
    assert await store.apply_receipts([row]) == [("d", -1)]
    assert await store.apply_receipts([(row[0], "ch:other", *row[2:])]) == [("n", -1)]


async def test_a_claim_takes_each_message_once_and_repeats_by_token(store: Store) -> None:
    ms = [message(store) for _ in range(20)]
    assert set(await accept(store, *ms)) == {"accepted"}
    first = await claim(store, token="a")
    assert sorted(c.id for c in first) == sorted(m.id for m in ms)
    assert await claim(store, token="b") == []


async def test_an_early_receipt_is_parked_and_handed_back(store: Store) -> None:
    m = message(store)
    early = ParkedReceipt(("ch", spellings("ch", ("x1", "X1")), m.msisdn.encode(), "D", "", "", False, False), b"early")
    assert await store.park([early]) == ["P"]
    await accept(store, m)
    (c,) = await claim(store)
    ids = [("ch:x1", named(c.id, 0))]
    assert await store.settle_rows(m.shard, [settlement(c).row()], ids) == ("1", [b"early"])
    assert await store.park([early]) == ["K"], "known by now: to be looked up again"
    await store.unpark([early])
    assert await store.settle_rows(m.shard, [settlement(c).row()], ids) == ("0", [])


async def test_a_guess_counts_where_no_other_message_can_be_meant(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await store.settle_rows(m.shard, [settlement(c).row()], [("ch:64", named(c.id, 0))])
    guessed = ("ch", spellings("ch", ("100",), ("64", "256")), m.msisdn.encode(), "D", "", "", False, False)
    other = replace(message(store), msisdn=m.msisdn, shard=m.shard)
    await accept(store, other)
    assert await store.apply_receipts([guessed]) == [("n", -1)], "it may be that of the other one, which is on its way"
    assert await store.park([ParkedReceipt(guessed, b"it")]) == ["P"], "a guess that is known does not keep it away"
    assert await store.parked(m.shard, "ch") == (3, [b"it"], [])
    for spelt in ("100", "64", "256"):
        await store.client.execute("ZINCRBY", f"{store.prefixes[m.shard]}parked:ch", -GUESS_AFTER_S, spelt)
    assert await store.parked(m.shard, "ch") == (3, [], [b"it"])
    sure = (guessed[0], spellings("ch", ("100", "64", "256")), *guessed[2:])
    assert await store.apply_receipts([sure]) == [("f", 1)]
    await store.unpark([ParkedReceipt(guessed, b"it")])
    assert await store.parked(m.shard, "ch") == (0, [], [])

    alone = message(store)
    await accept(store, alone)
    (c,) = [c for c in await claim(store, token="c") if c.id == alone.id]
    await store.settle_rows(alone.shard, [settlement(c).row()], [("ch:65", named(c.id, 0))])
    guess = ("ch", spellings("ch", ("101",), ("65",)), alone.msisdn.encode(), "D", "", "", False, False)
    assert await store.apply_receipts([guess]) == [("f", 1)]


async def test_a_guess_is_not_taken_for_another_part(store: Store) -> None:
    m = message(store, parts=2)
    await accept(store, m)
    (c,) = await claim(store)
    await store.settle_rows(m.shard, [settlement(c, "q").row()], [("ch:64", named(c.id, 0))])
    guessed = ("ch", spellings("ch", ("100",), ("64",)), m.msisdn.encode(), "D", "", "", False, False)
    assert await store.apply_receipts([guessed]) == [("n", -1)], "it may be that of the second part"
    await store.settle_rows(m.shard, [settlement(c, accepted_mask=3).row()], [])
    assert await store.apply_receipts([guessed]) == [("p", 1)]


async def test_a_receipt_without_an_address_is_found_on_every_shard(store: Store) -> None:
    m = message(store)
    early = ParkedReceipt(("ch", "ch:x", b"", "D", "", "", False, False), b"early")
    assert await store.apply_receipts([early.row]) == [("n", -1)]
    assert await store.park([early]) == ["P"]
    await accept(store, m)
    (c,) = await claim(store)
    ids = [("ch:x", named(c.id, 0))]
    assert await store.settle_rows(m.shard, [settlement(c).row()], ids) == ("1", [b"early"])
    assert await store.apply_receipts([early.row]) == [("f", 0)]
    await store.unpark([early])
    assert [await store.parked(shard, "ch") for shard in range(store.shards)] == [(0, [], [])] * store.shards


@pytest.mark.parametrize("spelt", ["{national}", "0{national}", "86{national}", "0086{national}"])
async def test_a_receipt_finds_its_message_however_the_carrier_writes_the_number(store: Store, spelt: str) -> None:
    for _ in range(4):
        m = message(store)
        await accept(store, m)
        (c,) = await claim(store, token=m.msisdn)
        await settle(store, c)
        assert await receipt(store, c, address=spelt.format(national=m.msisdn[2:])) == "f"


async def test_a_long_message_is_final_when_all_parts_are_with_the_worst_state(store: Store) -> None:
    m = message(store, parts=3)
    await accept(store, m)
    (c,) = await claim(store)
    assert c.parts == 3
    assert await settle(store, c, accepted_mask=7) == "1"
    assert await receipt(store, c, "D", 0) == "p"
    assert await receipt(store, c, "U", 1) == "p"
    assert await receipt(store, c, "D", 1) == "d"
    assert await receipt(store, c, "D", 2) == "f"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.parts_delivered) == ("U", 2)


async def sent_whole(store: Store, log: bool = True) -> tuple[Any, str]:
    """Submit a message of three parts as one; returns it and its one SMSC id."""
    m = message(store, parts=3)
    await accept(store, m)
    (c,) = await claim(store, token=m.msisdn)
    name = f"w{m.msisdn}"
    item = settlement(c, accepted_mask=7, log=f"1\x1fch\x1f0\x1f\x1f16={name.upper()}" if log else "")
    assert await store.settle_rows(m.shard, [item.row()], [(f"ch:{name}", named(c.id, ALL_PARTS))]) == ("1", [])
    return c, name


def whole_receipt(c: Any, name: str, state: str = "D", address: str | None = None) -> Any:
    values = list(receipt_row(c, state, address=address))
    values[1] = spellings("ch", [name])
    return tuple(values)


async def test_one_receipt_ends_a_message_that_went_as_one(store: Store) -> None:
    for state in "DUEK":
        c, name = await sent_whole(store)
        assert await apply(store, whole_receipt(c, name, state)) == "f"
        record = await store.get(c.id)
        assert record is not None
        assert (record.state, record.parts_delivered, record.done) == (state, 3 if state == "D" else 0, 7)
        assert [(r.part, r.state) for r in record.receipts] == [(ALL_PARTS, state)]
        assert record.attempts[0].smsc_ids == {ALL_PARTS: name.upper()}
        # Again: by its id, or, once that is forgotten, by its number and the log.
        assert await apply(store, whole_receipt(c, name, state)) == "d"
        assert await apply(store, whole_receipt(c, name, "D")) == {"D": "d", "U": "d"}.get(state, "c")
        record = await store.get(c.id)
        assert record is not None
        assert (record.state, record.parts_delivered) == (state if state == "U" else "D", 3)
    assert await store.waiting() == 0


async def test_what_went_as_one_is_found_by_its_number_and_by_no_other(store: Store) -> None:
    c, name = await sent_whole(store)
    p = f"gw:{{s{shard_of_id(c.id):02d}}}:corr:"
    for key in await store.client.execute("KEYS", f"{p}*"):
        await store.client.execute("DEL", key)  # its time is over
    assert await apply(store, whole_receipt(c, name, address="8613999999999")) == "n"
    assert await apply(store, whole_receipt(c, name)) == "f"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.parts_delivered) == ("D", 3)


async def test_a_receipt_for_all_parts_that_came_early_waits_and_ends_it(store: Store) -> None:
    m = message(store, parts=2)
    early = ParkedReceipt((*whole_receipt(m, "x"),), b"early")
    assert await store.park([early]) == ["P"]
    await accept(store, m)
    (c,) = await claim(store)
    ids = [("ch:x", named(c.id, ALL_PARTS))]
    assert await store.settle_rows(m.shard, [settlement(c, accepted_mask=3).row()], ids) == ("1", [b"early"])
    assert await apply(store, early.row) == "f"
    await store.unpark([early])
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.parts_delivered, await store.waiting()) == ("D", 2, 0)


async def test_after_parts_a_receipt_for_all_of_them_counts_for_the_rest(store: Store) -> None:
    """An uncertain attempt in parts, then a copy that went as one."""
    c, name = await sent_whole(store)
    await store.settle_rows(shard_of_id(c.id), [settlement(c).row()], [("ch:part", named(c.id, 0))])
    assert await apply(store, whole_receipt(c, "part")) == "p"
    assert await apply(store, whole_receipt(c, name)) == "f"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.parts_delivered, record.done) == ("D", 3, 7)


async def test_a_receipt_of_another_number_changes_nothing(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c)
    assert await receipt(store, c, address="8613999999999") in "qn"  # n: looked for on another shard
    record = await store.get(c.id)
    assert record is not None
    assert record.state == "s"


@pytest.mark.parametrize(
    ("verb", "delay", "state"),
    [
        ("r", 0, "q"),
        ("r", 5000, "r"),
        ("n", 0, "q"),
        ("l", 500, "r"),
        ("u", 5000, "u"),
        ("U", 0, "q"),
        ("F", 0, "F"),
    ],
)
async def test_settle_verbs(store: Store, verb: str, delay: int, state: str) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    assert await settle(store, c, verb, delay_ms=delay, rank=1, reason="x", code="8") == "1"
    record = await store.get(c.id)
    assert record is not None
    assert record.state == state
    assert record.rank == (1 if verb == "n" else 0)
    assert record.attempt == (0 if verb == "l" else 1)
    assert record.possible_duplicate == (verb == "U")
    assert await store.waiting() == (1 if state in "qr" else 0)
    assert await settle(store, c, verb) == "0", "an applied item is not applied again"
    if state == "q":
        assert len(await claim(store, token="again", rank=record.rank)) == 1


async def test_a_late_answer_cancels_the_queued_copy(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    await settle(store, c, "U")
    assert await settle(store, c, "s") == "l"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.possible_duplicate) == ("s", False)
    assert await claim(store, token="again") == []
    assert await store.waiting() == 0


async def test_partly_accepted_waits_for_its_own_channel(store: Store) -> None:
    m = message(store, parts=2)
    await accept(store, m)
    (c,) = await claim(store)
    assert await settle(store, c, "p", delay_ms=0, accepted_mask=1, log="1\x1fch\x1f88\x1fslow\x1f0=a") == "1"
    assert await claim(store, token="b", channel="other") == []
    (again,) = await claim(store, token="c", channel="ch")
    assert (again.id, again.accepted) == (c.id, 1)


async def test_a_message_says_what_its_channel_would_not_have(store: Store) -> None:
    m = message(store)
    await accept(store, m)
    (c,) = await claim(store)
    assert not c.logged
    log = f"1\x1fch\x1f{0x62}\x1fwithout_validity\x1f"
    assert await settle(store, c, "N", delay_ms=0, target="ch", log=log) == "1"
    assert await claim(store, token="b", channel="other") == [], "no other channel takes it"
    (again,) = await claim(store, token="c")
    assert (again.attempt, again.logged) == (1, True)
    assert (again.without("ch"), again.without("other")) == (WITHOUT_VALIDITY, 0)
    assert again.refusals == {}, "it was not the message that was refused"


async def test_release_gives_back_to_the_head_in_order(store: Store) -> None:
    ms = [message(store, msisdn=None) for _ in range(5)]
    for m in ms:
        await accept(store, m)
    taken = await claim(store)
    for shard in range(store.shards):
        mine = [c.claim for c in taken if shard_of_id(c.id) == shard]
        if mine:
            assert await store.release(shard, mine) == len(mine)
    again = await claim(store, token="b")
    assert [c.id for c in again] == [c.id for c in taken]
    assert {c.attempt for c in again} == {1}


async def test_reap_follows_the_category(store: Store) -> None:
    ms = [message(store, category=c) for c in (0, 1, 2)]
    await accept(store, *ms)
    assert len(await claim(store)) == 3
    assert await store.reap("worker01") == {"requeued": 1, "uncertain": 2, "ended": 0}
    states = []
    for m in ms:
        record = await store.get(m.id)
        assert record is not None
        states.append((record.state, record.possible_duplicate))
    assert states == [("q", True), ("u", False), ("u", False)]


async def test_cancel_and_gates(store: Store) -> None:
    a, b, c = (
        message(store),
        message(store, gate="run-1"),
        message(store, campaign="spring", tags=("t1", "t2")),
    )
    await accept(store, a, b, c)
    assert await store.cancel(a.id, "other") == "not_found"
    assert await store.cancel(a.id, "shop") == "cancelled"
    assert await store.cancel(a.id, "shop") == "already"
    await store.set_gate("gate", "run-1", "hold")
    await store.set_gate("tag", "t2", "closed")
    assert await claim(store) == []
    assert (await store.gates())["gate:run-1"]["held"] == 1
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.reason) == ("C", "gate_closed")
    assert await store.set_gate("gate", "run-1", "open") == {"held": 0, "moved": 1}
    assert [x.id for x in await claim(store, token="b")] == [b.id]
    assert await store.cancel(b.id, "shop") == "too_late"


async def test_idempotency_replay_and_conflict(store: Store) -> None:
    m = message(store, idem=b"k" * 16, digest=b"d" * 8)
    same = message(store, m.msisdn, idem=b"k" * 16, digest=b"d" * 8)
    other = message(store, m.msisdn, idem=b"k" * 16, digest=b"e" * 8)
    first, replay, conflict = await store.accept([m, same, other])
    assert (first.code, replay.code, replay.id, conflict.code) == ("accepted", "replay", m.id, "conflict")  # type: ignore[union-attr]
    again = await store.accept([message(store, m.msisdn, idem=b"k" * 16, digest=b"d" * 8)])
    assert (again[0].code, again[0].id) == ("replay", m.id)  # type: ignore[union-attr]
    assert await store.waiting() == 1


async def test_caps_blacklist_and_giving_back(store: Store) -> None:
    m = message(store, category=0)
    assert await accept(store, m) == ["accepted"]
    assert await accept(store, message(store, m.msisdn, category=0)) == ["capped"]
    assert await accept(store, message(store, m.msisdn, category=1)) == ["accepted"]
    assert await accept(store, message(store, m.msisdn, category=0, account="bank")) == ["accepted"]
    assert await store.cancel(m.id, "shop") == "cancelled"
    assert await accept(store, message(store, m.msisdn, category=0)) == ["accepted"]
    assert [r.category for r in await store.find(m.msisdn, "shop")] == [0, 1, 0]

    n = message(store, category=2)
    await blacklisted(store, "*", n.msisdn)
    assert await accept(store, n) == ["blocked"]
    assert await accept(store, message(store, n.msisdn, category=1)) == ["accepted"]
    late = message(store, category=2)
    await accept(store, late)
    await blacklisted(store, "shop", late.msisdn)
    assert [c.category for c in await claim(store, 500) if c.msisdn == late.msisdn] == []
    record = await store.get(late.id)
    assert record is not None
    assert record.state == "B"


async def test_the_last_sixteen_messages_to_a_number_are_remembered(store: Store) -> None:
    first = message(store, category=1)
    ms = [first, *(message(store, first.msisdn, category=1) for _ in range(19))]
    for m in ms:
        await accept(store, m)
    assert [r.id for r in await store.find(first.msisdn, "shop")] == [m.id for m in reversed(ms)][:16]


async def test_statistics_add_up(store: Store) -> None:
    ms = [message(store) for _ in range(3)]
    await accept(store, *ms, message(store, test=True))
    for c in await claim(store):
        await settle(store, c)
        await receipt(store, c)
    record = await store.get(ms[0].id)
    assert record is not None
    counted: dict[str, int] = {}
    for fields, n in (await store.statistics(record.accepted_at_ms // 3_600_000)).items():
        counted[fields[8]] = counted.get(fields[8], 0) + n
    assert counted == {"accepted": 3, "s": 3, "D": 3}
