"""What the scripts write in the same step as a state: statistics, events, why it failed; and the text they cut out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.model import Category, NewMessage
from gateway.settings import Settings
from gateway.store import records
from gateway.store.moves import ClaimRequest, Feedback, Settlement, spellings
from gateway.store.record_log import attempt_log
from gateway.store.store import Store
from tests.support.messages import accept, apply, body, claim, ids_of, message, receipt_row
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

P = "gw:{s00}:"
PRICE = 45_000
"""0.045 of the price's unit."""


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()
    with valkey.sync() as client:
        check_consistent(snapshot(client))


async def counted(store: Store) -> Counter[tuple[str, ...]]:
    """Return what statistics say of this hour and the one before: (outcome, reason) → number."""
    found: Counter[tuple[str, ...]] = Counter()
    seconds, _ = await store.client.execute("TIME")
    for hour in (int(seconds) // 3600 - 1, int(seconds) // 3600):
        for field, n in (await store.statistics(hour)).items():
            found[field[8:]] += n
    return Counter({key: n for key, n in found.items() if n})


async def sent(store: Store, m: NewMessage, *, mask: int | None = None, price: int = PRICE) -> Any:
    """Accept, claim and settle a message as taken by channel `ch`; returns what was claimed."""
    assert await accept(store, m) == ["accepted"]
    (c,) = await claim(store)
    taken = (1 << c.parts) - 1 if mask is None else mask
    ids = [(part, f"{c.id.hex()}{part}") for part in range(c.parts) if taken >> part & 1]
    log = attempt_log(c.attempt, "ch", 0, "sent", ids, price)
    item = Settlement(c.claim, c.attempt, "s", "ch", 60_000, taken, price=price, log=log)
    assert await store.settle(0, [item], ids_of(c)) == "1"
    return c


# --- statistics


async def test_parts_and_cost_are_counted_when_the_carrier_takes_them(store: Store) -> None:
    await sent(store, message(store))
    c = await sent(store, message(store, parts=3))
    found = await counted(store)
    assert found == {("accepted", ""): 2, ("s", ""): 2, ("+", ""): 2, ("$", ""): 4 * PRICE}
    record = await store.get(c.id)
    assert record is not None
    assert record.cost == 3 * PRICE
    assert [a.price for a in record.attempts] == [PRICE]


async def test_parts_that_a_carrier_takes_one_by_one_cost_as_much(store: Store) -> None:
    assert await accept(store, message(store, parts=3)) == ["accepted"]
    (c,) = await claim(store)
    partly = Settlement(
        c.claim, c.attempt, "p", "ch", accepted_mask=0b001, price=PRICE, log="1\x1fch\x1f88\x1fslow\x1f0=a"
    )
    assert await store.settle(0, [partly]) == "1"
    _, taken, _ = await store.claim(0, "t2", [_pinned()])
    ((_, again),) = taken
    rest = Settlement(
        again.claim, again.attempt, "s", "ch", 1000, 0b111, price=PRICE, log="2\x1fch\x1f0\x1f\x1f1=b,2=c"
    )
    assert await store.settle(0, [rest]) == "1"
    found = await counted(store)
    assert (found["s", ""], found["+", ""], found["$", ""]) == (1, 2, 3 * PRICE)


def _pinned() -> Any:
    return ClaimRequest("ch", 10, 10, [])


async def test_a_delivery_is_counted_by_how_long_it_took(store: Store, valkey: ValkeyServer) -> None:
    quick, slow = await sent(store, message(store)), await sent(store, message(store))
    _submitted_ago(valkey, slow.id, 5_000)
    assert await apply(store, receipt_row(quick), receipt_row(slow)) == "ff"
    found = await counted(store)
    assert (found["D", "t0"], found["D", "t3"]) == (1, 1)


def _submitted_ago(valkey: ValkeyServer, sid: bytes, ms: int) -> None:
    with valkey.sync() as client:
        raw = client.get(f"{P}msg:".encode() + sid)
        at = len(raw) - records.TRAILER_BYTES + 12
        client.setrange(
            f"{P}msg:".encode() + sid, at, (int.from_bytes(raw[at : at + 6], "big") - ms).to_bytes(6, "big")
        )


async def test_a_correction_takes_back_what_was_counted(store: Store) -> None:
    c = await sent(store, message(store))
    assert await apply(store, receipt_row(c, "K")) == "f"
    assert (await counted(store))["K", "why"] == 1
    assert await apply(store, receipt_row(c, "D")) == "c"
    found = await counted(store)
    assert ("K", "why") not in found
    assert found["D", "late_correction"] == 1
    late = await sent(store, message(store))
    with_no_receipt = await _closed_without(store, late.id)
    assert with_no_receipt == ("K", "no_receipt")
    assert await apply(store, receipt_row(late, "D")) == "c"
    found = await counted(store)
    assert not [key for key in found if key[0] == "K"]
    assert found["D", "late_correction"] == 2


async def _closed_without(store: Store, sid: bytes) -> tuple[str, str]:
    buckets = [key async for key in _scan(store, f"{P}wait:*")]
    for key in buckets:
        name = key.decode()
        if not name.endswith("cursor"):
            await store.client.execute("RENAME", name, f"{P}wait:0")
            await store.client.execute("SET", f"{P}wait:cursor", 0)
    while True:
        record = await store.get(sid)
        assert record is not None
        if record.final:
            return record.state, record.reason
        await store.close_waiting(0)


async def _scan(store: Store, pattern: str) -> AsyncIterator[bytes]:
    for key in await store.client.execute("KEYS", pattern):
        yield key


async def test_too_many_campaigns_are_counted_as_other(store: Store, valkey: ValkeyServer) -> None:
    with valkey.sync() as client:
        seconds = client.time()[0]
        for day in (seconds // 86400, seconds // 86400 + 1):
            client.sadd(f"{P}kinds:{day}:shop", *[f"\x1fc{i}\x1f" for i in range(1_999)])
    known = message(store, campaign="c7")
    last = message(store, campaign="new", variant="b")
    over = message(store, campaign="newer", variant="a")
    assert await accept(store, known, last, over) == ["accepted"] * 3
    found: Counter[str] = Counter()
    for field, n in (await store.statistics(int(seconds) // 3600)).items():
        found[f"{field[4]}/{field[5]}"] += n
    assert found == {"c7/": 1, "new/b": 1, "other/other": 1}
    record = await store.get(over.id)
    assert record is not None
    assert (record.campaign, record.variant) == ("newer", "a"), "the message keeps its own"
    for c in await claim(store):
        log = attempt_log(1, "ch", 0, "sent", [(0, c.id.hex() + "0")], PRICE)
        await store.settle(0, [Settlement(c.claim, 1, "s", "ch", 1000, 1, price=PRICE, log=log)], ids_of(c))
        await apply(store, receipt_row(c))
    found.clear()
    for field, n in (await store.statistics(int(seconds) // 3600)).items():
        found[f"{field[4]}/{field[5]} {field[8]}"] += n
    assert found["other/other D"] == found["other/other s"] == 1
    assert found["other/other $"] == PRICE


async def test_tests_are_counted_nowhere(store: Store) -> None:
    c = await sent(store, message(store, test=True, parts=2, campaign="x"))
    assert await apply(store, receipt_row(c, "D", 0), receipt_row(c, "U", 1)) == "pf"
    assert await counted(store) == {}


async def test_amounts_and_complaints(store: Store, valkey: ValkeyServer) -> None:
    c = await sent(store, message(store, campaign="spring", signature="Acme"))
    assert await store.feedback(c.id, "shop", Feedback("converted", "e1", "19.9", "CNY", "new")) == "done"
    assert await store.feedback(c.id, "shop", Feedback("converted", "e2", "0.0001", "CNY")) == "done"
    assert await store.feedback(c.id, "shop", Feedback("complained", "e3")) == "done"
    found = await counted(store)
    assert (found["a", "CNY"], found["v", "converted"], found["v", "complained"]) == (199_001, 2, 1)
    with valkey.sync() as client:
        day = client.time()[0] // 86400
        assert client.hgetall(f"{P}td:{day}") == {b"shop\x1fspring\x1fAcme\x1fcomplained": b"1"}


# --- why


async def test_the_reason_is_that_of_the_worst_part(store: Store) -> None:
    c = await sent(store, message(store, parts=3))

    def row(part: int, state: str, reason: str, permanent: bool) -> Any:
        names = spellings("ch", [f"{c.id.hex()}{part}"])
        return ("ch", names, c.destination, state, reason, f"code{part}", False, permanent)

    assert await apply(store, row(0, "E", "powered-off", False)) == "p"
    assert await apply(store, row(1, "R", "content-rejected", True), row(2, "U", "out-of-service", False)) == "pf"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.reason, record.carrier_code, record.permanent) == (
        "R", "content-rejected", "code1", True
    )  # fmt: skip
    assert (await counted(store))["R", "content-rejected"] == 1


async def test_what_a_carrier_refused_says_whether_it_will_again(store: Store) -> None:
    assert await accept(store, message(store)) == ["accepted"]
    (c,) = await claim(store)
    item = Settlement(
        c.claim,
        1,
        "F",
        "ch",
        reason="invalid-number",
        code="0x0000000B",
        permanent=True,
        log="1\x1fch\x1f11\x1fnext\x1f",
    )
    assert await store.settle(0, [item]) == "1"
    record = await store.get(c.id)
    assert record is not None
    assert (record.state, record.reason, record.carrier_code, record.permanent) == (
        "F", "invalid-number", "0x0000000B", True
    )  # fmt: skip
    assert record.cost == 0


# --- texts


@pytest.mark.parametrize("end", ["receipt", "last part", "expired", "refused", "cancelled"])
async def test_the_text_of_a_code_goes_when_it_ends(store: Store, valkey: ValkeyServer, end: str) -> None:
    text = body("Your code is 482913")
    parts = 2 if end == "last part" else 1
    m = message(store, category=int(Category.VERIFICATION), body=text, parts=parts)
    if end in ("receipt", "last part"):
        c = await sent(store, m)
        for part in range(parts):
            assert await apply(store, receipt_row(c, "D", part)) in "pf"
    else:
        assert await accept(store, m) == ["accepted"]
        if end == "cancelled":
            assert await store.cancel(m.id, "shop") == "cancelled"
        elif end == "refused":
            (c,) = await claim(store)
            assert (
                await store.settle(0, [Settlement(c.claim, 1, "F", "ch", reason="refused", log="1\x1fch\x1f\x1f\x1f")])
                == "1"
            )
        else:
            with valkey.sync() as client:
                client.setrange(f"{P}msg:".encode() + m.id, 6, (1).to_bytes(6, "big"))
            assert await claim(store) == []
    record = await store.get(m.id)
    assert record is not None
    assert record.final
    assert (record.text, record.encoding) == ("", "gsm7")
    with valkey.sync() as client:
        assert b"482913" not in client.get(f"{P}msg:".encode() + m.id)


async def test_other_texts_stay_as_long_as_the_record(store: Store) -> None:
    c = await sent(store, message(store, body=body("Your parcel is here")))
    await apply(store, receipt_row(c))
    record = await store.get(c.id)
    assert record is not None
    assert record.text == "Your parcel is here"


# --- events


def events(valkey: ValkeyServer, account: str = "shop") -> list[tuple[str, str, str]]:
    """Return what waits for an account: kind, state and text of each."""
    with valkey.sync() as client:
        rows = client.lrange(f"{P}out:{account}", 0, -1)
    found = []
    for row in rows:
        assert abs(int.from_bytes(row[1:7], "big") - time.time() * 1000) < 60_000
        record = records.parse(row[7:23], row[23:])
        found.append((chr(row[0]), record.state, record.text))
    return found


async def test_events_are_written_with_the_state(store: Store, valkey: ValkeyServer) -> None:
    await store.set_consumers({"shop": "sfc", "bank": "fT"})
    c = await sent(store, message(store, body=body("parcel"), parts=2))
    assert events(valkey) == [("s", "s", "")]
    await apply(store, receipt_row(c, "D", 0))
    assert len(events(valkey)) == 1
    await apply(store, receipt_row(c, "K", 1))
    await apply(store, receipt_row(c, "D", 1))
    assert events(valkey) == [("s", "s", ""), ("f", "K", ""), ("c", "D", "")]
    d = await sent(store, message(store, body=body("offer"), account="bank"))
    await apply(store, receipt_row(d, "U"))
    assert events(valkey, "bank") == [("f", "U", "offer")]
    e = message(store, account="bank", send_at_ms=2**42)
    await accept(store, e)
    await store.cancel(e.id, "bank")
    assert [kind for kind, _, _ in events(valkey, "bank")] == ["f", "f"]
    await store.set_consumers({"bank": "f"})
    await sent(store, message(store))
    assert len(events(valkey)) == 3, "nobody listens there any more"


async def test_an_event_of_a_code_has_no_text_and_outlives_its_record(store: Store, valkey: ValkeyServer) -> None:
    await store.set_consumers({"shop": "f"})
    c = await sent(store, message(store, category=0, body=body("482913")))
    await apply(store, receipt_row(c))
    with valkey.sync() as client:
        client.delete(f"{P}msg:".encode() + c.id)
        assert b"482913" not in client.lrange(f"{P}out:shop", 0, -1)[0]
    assert events(valkey) == [("f", "D", "")]


async def test_no_event_keeps_the_text_of_a_code_beyond_its_end(store: Store, valkey: ValkeyServer) -> None:
    """An account that wants texts too: an event may wait for days, and a dead letter for ever."""
    await store.set_consumers({"shop": "sfT"})
    c = await sent(store, message(store, category=0, body=body("482913")))
    await apply(store, receipt_row(c))
    late = message(store, category=0, body=body("482914"), send_at_ms=2**42)
    await accept(store, late)
    await store.cancel(late.id, "shop")
    await sent(store, message(store, body=body("parcel")))
    assert events(valkey) == [("s", "s", ""), ("f", "D", ""), ("f", "C", ""), ("s", "s", "parcel")]


async def test_a_backlog_is_capped_and_says_so(store: Store, valkey: ValkeyServer) -> None:
    await store.set_consumers({"shop": "f"})
    with valkey.sync() as client:
        for _ in range(40):
            client.rpush(f"{P}out:shop", *["x"] * 5_000)
    c = await sent(store, message(store))
    await apply(store, receipt_row(c))
    with valkey.sync() as client:
        assert client.llen(f"{P}out:shop") == 200_000
        assert client.lindex(f"{P}out:shop", -1)[:1] == b"f"
        assert client.hgetall(f"{P}outlost") == {b"shop": b"1"}


async def test_an_account_may_have_any_name(store: Store, valkey: ValkeyServer) -> None:
    await store.set_consumers({"shop": "f"})
    for account in ("some", "type"):
        m = message(store, account=account)
        assert await accept(store, m) == ["accepted"]
        assert await store.cancel(m.id, account) == "cancelled"
        assert events(valkey, account) == []


async def test_a_late_answer_tells_that_it_was_submitted(store: Store, valkey: ValkeyServer) -> None:
    await store.set_consumers({"shop": "s"})
    assert await accept(store, message(store)) == ["accepted"]
    (c,) = await claim(store)
    lost = Settlement(c.claim, 1, "u", "ch", 60_000, log=attempt_log(1, "ch", None, "uncertain", []))
    assert await store.settle(0, [lost]) == "1"
    assert events(valkey) == []
    late = Settlement(c.claim, 1, "s", "ch", 60_000, 1, log=attempt_log(1, "ch", 0, "sent", [(0, "a")]))
    assert await store.settle(0, [late]) == "l"
    assert events(valkey) == [("s", "s", "")]


# --- corrections and reasons


async def test_a_correction_in_the_same_batch_as_the_end(store: Store) -> None:
    c = await sent(store, message(store, parts=2))
    rows = [receipt_row(c, state, part) for state in "KD" for part in (0, 1)]
    assert await apply(store, *rows) == "pfdc"
    found = await counted(store)
    assert [(key, n) for key, n in found.items() if key[0] in "KD"] == [(("D", "late_correction"), 1)]


async def test_a_correction_takes_back_the_end_and_not_what_was_said_later(store: Store) -> None:
    c = await sent(store, message(store))
    assert await _closed_without(store, c.id) == ("K", "no_receipt")
    assert await apply(store, receipt_row(c, "K")) == "d"
    assert await apply(store, receipt_row(c, "D")) == "c"
    found = await counted(store)
    assert [(key, n) for key, n in found.items() if key[0] in "KD"] == [(("D", "late_correction"), 1)]


async def test_a_part_that_is_missing_leaves_the_others_reason(store: Store) -> None:
    c = await sent(store, message(store, parts=2))
    names = spellings("ch", [f"{c.id.hex()}0"])
    failed: Any = ("ch", names, c.destination, "U", "invalid-number", "MK:0001", False, True)
    assert await apply(store, failed) == "p"
    assert await _closed_without(store, c.id) == ("U", "invalid-number")
    record = await store.get(c.id)
    assert record is not None
    assert (record.carrier_code, record.permanent) == ("MK:0001", True)
    assert (await counted(store))["U", "invalid-number"] == 1


async def test_what_only_a_receipt_knows_was_taken_costs_as_much(store: Store) -> None:
    assert await accept(store, message(store)) == ["accepted"]
    (c,) = await claim(store)
    lost = Settlement(c.claim, 1, "u", "ch", 60_000, log=attempt_log(1, "ch", None, "uncertain", [], PRICE))
    assert await store.settle(0, [lost]) == "1"
    assert ("$", "") not in await counted(store)
    assert await apply(store, receipt_row(c)) == "f"
    found = await counted(store)
    assert (found["s", ""], found["$", ""]) == (1, PRICE)
    record = await store.get(c.id)
    assert record is not None
    assert record.cost == PRICE


async def test_what_waits_for_an_account_without_a_webhook_goes_after_a_week(
    store: Store, valkey: ValkeyServer
) -> None:
    await store.set_consumers({"shop": "f", "bank": "f"})
    for account in ("shop", "bank"):
        await apply(store, receipt_row(await sent(store, message(store, account=account))))
    await store.set_consumers({"bank": "f"})
    with valkey.sync() as client:
        assert 604_000 < client.ttl(f"{P}out:shop") <= 604_800
        assert client.ttl(f"{P}out:bank") == -1
    await store.set_consumers({"bank": "f", "shop": "f"})
    with valkey.sync() as client:
        assert client.ttl(f"{P}out:shop") == -1, "it was a mistake"
