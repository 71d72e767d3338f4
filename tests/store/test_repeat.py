"""The answer was lost after the script ran: the same call again gives the state of a single call.

Every script has a case here; each runs once with the call simply made twice, once with the first answer cut off on the
wire. A new script without a case fails the run.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.dlr.events import entry
from gateway.errors import StoreUnavailable
from gateway.settings import AccountSettings, Settings
from gateway.store import keys, scripts
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from gateway.store.changes import Changes, Told
from gateway.store.console_sessions import ConsoleSessions, Limits
from gateway.store.console_users import ConsoleUsers, User
from gateway.store.erase import Eraser
from gateway.store.gates import GateSweeps
from gateway.store.inbox import InboundStore, PartRow, Recorded, Result
from gateway.store.limits import AccountLimiter
from gateway.store.moves import Feedback, ParkedReceipt, Redelivery, Settlement, named
from gateway.store.outbox import BACK, DONE, GIVEN_UP, LATER, NotHeld, Outbox, Verdict
from gateway.store.receipt_notes import ReceiptNotes
from gateway.store.records import claim_of
from gateway.store.revisions import Member, Revisions
from gateway.store.statistics import Statistics
from gateway.store.stats_table import Table
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from tests.support.messages import accept, apply, claim, ids_of, message, receipt_row, record_ids, request
from tests.support.proxy import CuttingProxy
from tests.support.snapshot import check_consistent, snapshot
from tests.support.until import until
from tests.support.valkey import ValkeyServer

REPEAT_FLAG = {"accept": 2, "claim": 2}  # place of the argument by which a repeated call says that it is one


@dataclass
class Twice:
    """Makes one script's calls twice and keeps what each answered and left behind."""

    store: Store
    server: ValkeyServer
    script: str
    proxy: CuttingProxy | None = None
    args: list[Any] = field(default_factory=list)
    answers: list[tuple[Any, Any]] = field(default_factory=list)
    states: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._call = self.store.client.call
        self._one_at_a_time = asyncio.Lock()  # both commit lanes may be at work
        self.store.client.call = self.call  # type: ignore[method-assign]

    def look(self) -> dict[str, Any]:
        with self.server.sync() as client:
            return snapshot(client)

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any], **kwargs: Any) -> Any:
        if name != self.script:
            return await self._call(name, keys, args, **kwargs)
        async with self._one_at_a_time:
            return await self._twice(name, keys, list(args), **kwargs)

    async def _twice(self, name: str, keys: Sequence[str], args: list[Any], **kwargs: Any) -> Any:
        first: Any = None
        if self.proxy is None:
            first = await self._call(name, keys, args, **kwargs)
        else:
            self.proxy.cut(command(name))
            with pytest.raises(StoreUnavailable) as lost:
                await self._call(name, keys, args, **kwargs)
            assert lost.value.outcome == "unknown"
        once = self.look()
        if name in REPEAT_FLAG:
            args[REPEAT_FLAG[name]] = "1"
        self.args = args
        second = await self._call(name, keys, args, **kwargs)
        self.answers.append((first, second))
        self.states.append((once, self.look()))
        return second


Case = Callable[[Twice], Awaitable[None]]
CASES: dict[str, list[Case]] = {}


def case(script: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        CASES.setdefault(script, []).append(function)
        return function

    return register


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    opened = await Store.open(settings, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[CuttingProxy]:
    with tempfile.TemporaryDirectory(prefix="smsgw-t-") as directory:
        started = CuttingProxy(Path(directory) / "p", valkey.socket)
        await started.start()
        yield started
        await started.stop()


def command(move: str) -> str:
    """Return what a call of a move has on the wire and no other call has."""
    return f"{scripts.function(move)}\r\n"


def test_every_script_has_a_case() -> None:
    assert sorted(CASES) == scripts.names()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # Cases are registered below; the parameters are read when all of the module has been.
    if "one" in metafunc.fixturenames:
        cases = [(script, one) for script in sorted(CASES) for one in CASES[script]]
        metafunc.parametrize(("script", "one"), cases, ids=[one.__name__ for _, one in cases])


async def test_the_same_call_twice(store: Store, valkey: ValkeyServer, script: str, one: Case) -> None:
    await _run(Twice(store, valkey, script), one)


async def test_the_answer_cut_off(
    valkey: ValkeyServer, settings: Settings, proxy: CuttingProxy, script: str, one: Case
) -> None:
    opened = await Store.open(settings, proxy.url, incarnation="worker01")
    try:
        await _run(Twice(opened, valkey, script, proxy), one)
        assert proxy.cuts
    finally:
        await opened.close()


async def _run(twice: Twice, one: Case) -> None:
    await one(twice)
    assert twice.states, "the case did not call its script"
    for once, again in twice.states:
        assert _timeless(again) == _timeless(once)
    check_consistent(twice.look())


def _timeless(snap: dict[str, Any]) -> dict[str, Any]:
    """Take out what a repeat may refresh: lease ends, heartbeats, and the fill of the two buckets (see their cases)."""
    found = {}
    for name, value in snap.items():
        if name.endswith((":lease", ":slots", "{hooks}:workers", "{hooks}:owners", "{config}:members")):
            found[name] = {k: re.sub(rb"\d+", b"", v) for k, v in value.items()}
        elif not name.endswith((":bucket", ":limit")) and ":gatesweep" not in name:  # how far a walk is
            found[name] = value
    return found


# --- helpers


async def submitted(store: Store, **changes: Any) -> Any:
    """Accept, claim and settle one message."""
    m = message(store, **changes)
    await accept(store, m)
    (c,) = await claim(store)
    assert await settle(store, settlement(c), ids=ids_of(c)) == "1"
    return c


def settlement(c: Any, verb: str = "s", **changes: Any) -> Settlement:
    values: dict[str, Any] = {
        "channel": "ch",
        "delay_ms": 60_000,
        "accepted_mask": (1 << c.parts) - 1 if verb == "s" else 0,
    }
    values.update(changes)
    return Settlement(c.claim, c.attempt, verb, **values)


async def settle(store: Store, *items: Settlement, ids: Any = ()) -> str:
    return await store.settle(0, list(items), ids)


def parked_receipt(smsc_id: str, payload: bytes) -> ParkedReceipt:
    return ParkedReceipt(("ch", f"ch:{smsc_id}", b"", "D", "", "", False), payload)


def bring_forward(server: ValkeyServer, family: str) -> None:
    """Make the only bucket of `family` (exp, wait, gone, late) the next one that is looked at."""
    with server.sync() as client:
        (bucket,) = [k for k in client.keys(f"gw:{{s00}}:{family}:*") if not k.endswith(b":cursor")]
        client.rename(bucket, b"gw:{s00}:%s:%s" % (family.encode(), client.get(f"gw:{{s00}}:{family}:cursor")))


def number_of_states(twice: Twice) -> dict[str, int]:
    counted: dict[str, int] = {}
    for r in check_consistent(twice.look()).values():
        counted[r.state] = counted.get(r.state, 0) + 1
    return counted


# --- intake


@case("accept")
async def accept_twice(t: Twice) -> None:
    mark = {"idem": b"i" * 16, "digest": b"d" * 8}
    ms = [
        message(t.store, category=0),
        message(t.store, parts=3),
        message(t.store, **mark),
        message(t.store, send_at_ms=int(time.time() * 1000) + 60_000, category=2),
    ]
    again = message(t.store, ms[0].msisdn, category=0)  # capped by the first of this call
    other = message(t.store, ms[2].msisdn, **mark)  # a replay of the third of this call
    codes = await accept(t.store, *ms, again, other)
    assert codes == ["accepted"] * 4 + ["capped", "replay"]
    assert number_of_states(t) == {"q": 3, "h": 1}
    assert sorted(c.id for c in await claim(t.store)) == sorted(m.id for m in ms[:3])
    assert await claim(t.store, token="b") == []


@case("accept")
async def accept_of_what_is_claimed_meanwhile(t: Twice) -> None:
    m = message(t.store)
    await accept(t.store, m)
    assert len(await claim(t.store)) == 1
    # The repeat comes when the message is on its way: it does not go back into the queue.
    assert t.args[REPEAT_FLAG["accept"]] == "1"
    await t._call("accept", ["gw:{s00}:"], t.args)
    assert await claim(t.store, token="b") == []


@case("account_draw")
async def account_draw(t: Twice) -> None:
    limiter = AccountLimiter(t.store)
    limits = AccountSettings("shop", max_per_s=100, daily_quota=1000)
    assert (await limiter.take(limits, 40)).granted == 40
    first, second = t.answers[0]
    lost = first[0] if first else 40
    # Drawn and never received is lost, never granted twice: both draws together stay inside the limits.
    assert lost + second[0] <= 100
    with t.server.sync() as client:
        assert int(client.hget("gw:{a:shop}:limit", "used")) == (first[1] if first else second[1]) + second[1]


@case("idem_find")
async def idem_find(t: Twice) -> None:
    m = message(t.store, idem=b"i" * 16, digest=b"d" * 8)
    await accept(t.store, m)
    record = await t.store.find_ref(m.msisdn, m.idem)
    assert record is not None
    assert record.id == m.id


@case("number")
async def number(t: Twice) -> None:
    a = message(t.store)
    b = message(t.store, a.msisdn)
    await accept(t.store, a, b)
    assert [r.id for r in await t.store.find(a.msisdn, "shop")] == [b.id, a.id]


@case("cancel")
async def cancel(t: Twice) -> None:
    m = message(t.store, category=0)
    await accept(t.store, m, message(t.store))
    assert await t.store.cancel(m.id, "shop") == "already"
    assert number_of_states(t) == {"C": 1, "q": 1}
    assert await accept(t.store, message(t.store, m.msisdn, category=0)) == ["accepted"], "the cap came back once"


@case("gate")
async def gate(t: Twice) -> None:
    ms = [message(t.store, gate="g") for _ in range(5)]
    await accept(t.store, *ms)
    await t.store.set_gate("gate", "g", "hold")
    assert await claim(t.store) == []
    await t.store.set_gate("gate", "g", "open")
    assert len(await claim(t.store, token="b")) == 5
    await accept(t.store, message(t.store, gate="h"))
    await t.store.set_gate("gate", "h", "hold")
    assert await claim(t.store, token="c") == []
    await t.store.set_gate("gate", "h", "closed")
    assert number_of_states(t) == {"q": 5, "C": 1}


@case("gate_sweep")
async def gate_sweep(t: Twice) -> None:
    far = int(time.time() * 1000) + 60_000
    ms = [message(t.store, campaign="c", **more) for more in ({}, {}, {"send_at_ms": far, "state": "h"})]
    await accept(t.store, *ms, message(t.store))
    (busy,) = await claim(t.store, 1)
    await t.store.set_gate("campaign", "c", "closed")
    sweeps = GateSweeps(t.store)
    for _ in range(6):
        await sweeps.go_on()
    # The repeat goes on with the rest, and what is closed is counted once.
    assert number_of_states(t) == {"C": 2, "q": 2}
    gate = (await t.store.gates())["campaign:c"]
    assert (gate["closed"], gate["sweep"]["closed"], gate["sweep"]["done"]) == (2, 2, True)
    assert (await t.store.get(busy.id)).state == "q"


@case("gate_look")
async def gate_look(t: Twice) -> None:
    await accept(t.store, *[message(t.store, gate="g") for _ in range(3)], message(t.store))
    found = await GateSweeps(t.store).preview("gate", "g")
    assert (found.counts, found.next) == ({("queued", "notification", "shop"): 3}, "")


@case("hasten")
async def hasten(t: Twice) -> None:
    await accept(t.store, message(t.store))
    (c,) = await claim(t.store)
    await settle(t.store, settlement(c, "u"))
    await t.store.resend(c.id)
    assert t.answers == [(b"resent" if t.proxy is None else None, b"waits")]
    record = await t.store.get(c.id)
    assert (record.state, record.possible_duplicate) == ("q", True)


@case("feedback")
async def feedback(t: Twice) -> None:
    await accept(t.store, message(t.store), message(t.store))
    sent, again = await claim(t.store)
    await settle(
        t.store,
        settlement(sent, log="1\x1fch\x1f0\x1f\x1f0=a"),
        settlement(again, "U", log="1\x1fch\x1f\x1funcertain\x1f"),
    )
    (copy,) = await claim(t.store, token="b")
    told = Feedback("converted", "e1", "19.90", "CNY", "new")
    for sid in (sent.id, again.id):
        assert await t.store.feedback(sid, "shop", told) == "repeated"
    assert [r.feedback[0].outcome for r in check_consistent(t.look()).values()] == ["converted"] * 2
    assert await settle(t.store, settlement(copy)) == "1", "a claim holds over feedback"
    hour = int(time.time()) // 3600
    counted = [n for f, n in (await t.store.statistics(hour)).items() if f[8] == "v"]
    assert sum(counted) == 2


# --- claim and what follows


@case("claim")
async def claim_twice(t: Twice) -> None:
    ms = [message(t.store, category=i % 3, account=f"a{i % 2}", parts=1 + i % 2) for i in range(12)]
    await accept(t.store, *ms)
    _, claimed, bad = await t.store.claim(0, "t1", [request(6), request(6, channel="other")])
    assert not bad
    assert len(claimed) == len({c.id for _, c in claimed})
    assert {c.attempt for _, c in claimed} == {1}
    first, second = t.answers[0]
    if first is not None:
        assert sorted(zip(first[2::3], first[3::3], strict=True)) == sorted(
            zip(second[2::3], second[3::3], strict=True)
        )
    # Another token gets the rest, nothing twice.
    _, rest, _ = await t.store.claim(0, "t2", [request(100)])
    assert sorted([c.id for _, c in claimed] + [c.id for _, c in rest]) == sorted(m.id for m in ms)


@case("claim")
async def claim_with_a_receipt_in_between(t: Twice) -> None:
    a, b = message(t.store), message(t.store)
    await accept(t.store, a, b)
    (c, _) = await claim(t.store)
    await settle(t.store, settlement(c, "U"))
    script, t.script = t.script, "-"
    _, first, _ = await t.store.claim(0, "t9", [request(1)])
    assert [c.id for _, c in first] == [a.id]
    await record_ids(t.store, 0, ids_of(c))
    assert await apply(t.store, receipt_row(c)) == "f"
    t.script = script
    # Under this token stands a message that its receipt ended: it is not handed out again.
    args = ["worker01", "t9", "1", "3", "6", "5", "60", "60", "60", 1, "ch", 5, 5, 1, "r", 0, 0, 0, 0, ""]
    assert len(await t._call("claim", ["gw:{s00}:"], args)) == 1


@case("settle")
async def settle_every_verb(t: Twice) -> None:
    verbs = ["s", "r", "n", "l", "p", "P", "u", "U", "F"]
    await accept(t.store, *[message(t.store, parts=2) for _ in verbs])
    taken = await claim(t.store)
    items = [
        settlement(c, verb, delay_ms=0 if verb in "nU" else 60_000, rank=1, log="1\x1fch\x1f8\x1fx\x1f0=a",
                   accepted_mask={"s": 3, "p": 1, "P": 1}.get(verb, 0))
        for c, verb in zip(taken, verbs, strict=True)
    ]  # fmt: skip
    assert await settle(t.store, *items) == "0" * len(verbs)
    assert number_of_states(t) == {"s": 1, "r": 4, "q": 2, "u": 1, "F": 1}
    assert all(len(r.attempts) <= 1 for r in check_consistent(t.look()).values())


@case("settle")
async def settle_late(t: Twice) -> None:
    await accept(t.store, message(t.store), message(t.store))
    a, b = await claim(t.store)
    t.script = "-"
    await settle(t.store, settlement(a, "U"), settlement(b, "u"))
    t.script = "settle"
    assert await settle(t.store, settlement(a), settlement(b)) == "00"
    assert number_of_states(t) == {"s": 2}


@case("settle")
async def settle_one_message_twice_in_a_batch(t: Twice) -> None:
    await accept(t.store, message(t.store))
    (c,) = await claim(t.store)
    item = settlement(c, log="1\x1fch\x1f0\x1fsent\x1f0=a")
    await settle(t.store, item, item)
    (record,) = check_consistent(t.look()).values()
    assert (record.state, len(record.attempts)) == ("s", 1)
    sent = [n for f, n in (await t.store.statistics(record.accepted_at_ms // 3_600_000)).items() if f[8] == "s"]
    assert sent == [1]


@case("settle")
async def settle_behind_its_receipt(t: Twice) -> None:
    await accept(t.store, message(t.store))
    (c,) = await claim(t.store)
    t.script = "-"
    await record_ids(t.store, 0, ids_of(c))
    assert await apply(t.store, receipt_row(c)) == "f"
    t.script = "settle"
    await settle(t.store, settlement(c, log="1\x1fch\x1f0\x1fsent\x1f0=a"))
    (record,) = check_consistent(t.look()).values()
    assert (record.state, len(record.attempts)) == ("D", 1)


@case("settle")
async def settle_with_ids_and_what_is_finished(t: Twice) -> None:
    early = parked_receipt("x", b"early")
    await t.store.park([early])
    m = message(t.store, parts=2)
    await accept(t.store, m)
    (c,) = await claim(t.store)
    ids = [("ch:x", named(m.id, 0)), ("ch:y", named(m.id, 1))]
    (field,) = await t.store.claim_fields(0)
    answer = await t.store.settle_rows(0, [settlement(c).row()], ids, [field])
    assert answer == ("0", [b"early"])
    assert await t.store.claim_fields(0) == []
    row = ("ch", "ch:y", m.msisdn.encode(), "D", "", "", False, False)
    assert await apply(t.store, row) == "p"


@case("release")
async def release(t: Twice) -> None:
    ms = [message(t.store) for _ in range(4)]
    await accept(t.store, *ms)
    taken = await claim(t.store)
    assert await t.store.release(0, [c.claim for c in taken], ["t10"]) == 0
    assert [c.id for c in await claim(t.store, token="b")] == [m.id for m in ms]


@case("reap")
async def reap(t: Twice) -> None:
    await t.store.heartbeat(0, first=True)
    await accept(t.store, *[message(t.store, category=c, parts=1 + c) for c in (0, 1, 2)])
    await claim(t.store)
    await t.store.reap("worker01")
    assert number_of_states(t) == {"q": 1, "u": 2}
    (copy,) = await claim(t.store, token="b")
    assert (copy.attempt, copy.flags & 1) == (2, 1)


# --- receipts


@case("park")
async def park(t: Twice) -> None:
    m = message(t.store)
    await record_ids(t.store, 0, [("ch:x", named(m.id, 0))])
    rows = [parked_receipt("x", b"one"), parked_receipt("z", b"two")]
    assert await t.store.park(rows) == ["K", "P"]
    assert await record_ids(t.store, 0, [("ch:z", named(m.id, 0))]) == [b"two"], "parked once"


@case("unpark")
async def unpark(t: Twice) -> None:
    rows = [parked_receipt("x", b"one"), parked_receipt("x", b"two")]
    await t.store.park(rows)
    await t.store.unpark(rows[:1])
    assert await record_ids(t.store, 0, [("ch:x", named(message(t.store).id, 0))]) == [b"two"]


@case("parked")
async def parked(t: Twice) -> None:
    await t.store.park([parked_receipt("x", b"one"), parked_receipt("y", b"two")])
    await record_ids(t.store, 0, [("ch:y", named(message(t.store).id, 0))])
    assert await t.store.parked(0, "ch") == (2, [b"two"], [])


@case("receipt")
async def receipt(t: Twice) -> None:
    short, long = await submitted(t.store), await submitted(t.store, parts=2)
    assert await apply(t.store, receipt_row(short, "U"), receipt_row(long, "D", 0)) == "dn"
    assert number_of_states(t) == {"U": 1, "s": 1}
    assert await apply(t.store, receipt_row(long, "U", 1)) == "d"
    assert {len(r.receipts) for r in check_consistent(t.look()).values()} == {1, 2}


@case("receipt")
async def receipt_that_corrects(t: Twice) -> None:
    c = await submitted(t.store)
    assert await apply(t.store, receipt_row(c, "K")) == "d"
    assert await apply(t.store, receipt_row(c, "D")) == "n"
    (record,) = check_consistent(t.look()).values()
    assert (record.state, record.late_correction) == ("D", True)
    counted = await t.store.statistics(record.accepted_at_ms // 3_600_000)
    assert {f[8:]: n for f, n in counted.items() if f[8] in "DK"} == {("D", "late_correction"): 1, ("K", "why"): 0}


@case("recipients")
async def recipients(t: Twice) -> None:
    c = await submitted(t.store)
    rows = [receipt_row(c, "U"), receipt_row(c, "U", address=c.msisdn[2:]), receipt_row(c, "U", address="")]
    stranger = receipt_row(c, "U", address="8613900000000")
    unknown = ("ch", "ch:nobody", c.msisdn.encode(), "U", "", "")
    named_to = (c.msisdn, "china-mobile", "r")
    assert await t.store.recipients([*rows, stranger, unknown]) == [named_to] * 3 + [("", "", "")] * 2


@case("ported_learn")
async def ported_learn(t: Twice) -> None:
    facts = [("8613800138000", "china-mobile", ""), ("8613800138000", "", "china-unicom")]
    assert await t.store.learn_ported(facts, 100.0) == 0  # noted by the first of the two calls
    _, noted = await t.store.ported_since(0, 0)
    assert sorted(fact[:3] for fact in noted) == sorted(facts)
    with t.server.sync() as client:
        (week,) = client.keys("gw:{s00}:ported:*")
        assert 0 < client.ttl(week) <= 7 * 86_400 + 100


@case("ported_read")
async def ported_read(t: Twice) -> None:
    await t.store.learn_ported([(f"861380013800{n}", "china-mobile", "") for n in range(5)], 100.0)
    now_ms, facts = await t.store.ported_since(0, 0, most=3)
    assert len(facts) == 3
    assert all(now_ms - 10_000 < at_ms <= now_ms for *_, at_ms in facts)
    assert len((await t.store.ported_since(0, facts[0][3]))[1]) == 5
    assert (await t.store.ported_since(0, now_ms + 60_000))[1] == []
    # What an earlier week holds comes before this one's.
    week = now_ms // 604_800_000
    with t.server.sync() as client:
        client.zadd(f"gw:{{s00}}:ported:{week - 1}", {"861\x1fold\x1f": (now_ms - 604_800_000)})
    assert (await t.store.ported_since(0, now_ms - 2 * 604_800_000, most=1))[1][0][:2] == ("861", "old")


@case("ported_forget")
async def ported_forget(t: Twice) -> None:
    mine, other = "8613800138000", "8613800138001"
    await t.store.learn_ported([(mine, "a", ""), (mine, "", "b"), (other, "a", "")], 100.0)
    with t.server.sync() as client:
        (key,) = client.keys("gw:{s00}:ported:*")
        earlier = f"{key.decode().rpartition(':')[0]}:{int(key.rpartition(b':')[2]) - 1}"
        client.zadd(earlier, {f"{mine}\x1fa\x1f": 1, f"{other}\x1fc\x1f": 1})
    assert await t.store.forget_ported(mine, 100.0) == 0  # the first of the two calls forgot three
    assert t.answers[-1] == (None if t.proxy else 3, 0)
    assert [fact[:3] for fact in (await t.store.ported_since(0, 1))[1]] == [
        (other, "c", ""), (other, "a", ""), (mine, "", ""),
    ]  # fmt: skip
    assert await t.store.forget_ported("", 100.0) == 0
    assert [fact[:3] for fact in (await t.store.ported_since(0, 1))[1]] == [("*", "", "")]
    assert await t.store.forget_ported("", 100.0) == 0


# --- timers


@case("due")
async def due(t: Twice) -> None:
    await accept(t.store, *[message(t.store, category=c) for c in (0, 1, 2)])
    taken = await claim(t.store)
    verbs = ["r", "u", "u"]  # again, resend, hold that is over
    await settle(t.store, *[settlement(c, v, delay_ms=1) for c, v in zip(taken, verbs, strict=True)])
    await asyncio.sleep(0.005)
    assert await t.store.due(0) == (0, -1)
    assert number_of_states(t) == {"q": 2, "K": 1}


@case("expire")
async def expire(t: Twice) -> None:
    await accept(t.store, *[message(t.store, ttl_ms=1) for _ in range(3)])
    with t.server.sync() as client:
        client.lpop("gw:{s00}:q:r:0:1:shop")  # one is held by a worker
        client.hset("gw:{s00}:claims:worker02", mapping={"t\x1fch": _first(client)})
        client.sadd("gw:{s00}:holders", "worker02")
        client.decr("gw:{s00}:waiting")
    bring_forward(t.server, "exp")
    await asyncio.sleep(0.005)
    assert await t.store.expire(0) == (0, 0)
    assert number_of_states(t) == {"E": 2, "q": 1}


def _first(client: Any) -> bytes:
    queued = {entry[:16] for entry in client.lrange("gw:{s00}:q:r:0:1:shop", 0, -1)}
    (sid,) = [k[13:] for k in client.keys("gw:{s00}:msg:*") if k[13:] not in queued]
    return claim_of(sid, client.get(b"gw:{s00}:msg:" + sid))[0]


@case("wait")
async def wait(t: Twice) -> None:
    await accept(t.store, message(t.store))
    (c,) = await claim(t.store)
    await settle(t.store, settlement(c, delay_ms=1))
    bring_forward(t.server, "wait")
    assert await t.store.close_waiting(0) == (0, 0)
    assert number_of_states(t) == {"K": 1}


@case("purge")
async def purge(t: Twice) -> None:
    m = message(t.store)
    await accept(t.store, m, message(t.store))
    await t.store.cancel(m.id, "shop")
    bring_forward(t.server, "gone")
    assert await t.store.purge(0) == 0
    assert number_of_states(t) == {"q": 1}


@case("lease")
async def lease(t: Twice) -> None:
    ours, _, leases = await t.store.heartbeat(0, first=True, channels=["ch"])
    assert (ours, list(leases), leases["worker01"].channels) == (True, ["worker01"], {"ch"})
    await t.store.reap("worker01")
    ours, _, leases = await t.store.heartbeat(0)
    assert (ours, leases) == (False, {})


@case("sweep")
async def sweep(t: Twice) -> None:
    await t.store.heartbeat(0, first=True)
    assert await t.store.sweep(0, 1_000_000)
    assert await t.store.sweep(0, 1_060_000)
    with t.server.sync() as client:
        assert client.hget("gw:{s00}:sweep", "ms") == b"60000"
        client.hset("gw:{s00}:sweep", "ms", 86_399_000)
    assert await t.store.sweep(0, 1_061_000)
    with t.server.sync() as client:
        assert client.get("gw:{s00}:idem:gen") == b"2"


# --- channels


@case("bucket")
async def bucket(t: Twice) -> None:
    granted, wait_us, _ = await t.store.draw_parts("ch", 1.0, 6, burst_ms=10_000)  # no stall refills it
    first, second = t.answers[0]
    assert (first[0] if first else 6) + second[0] <= 10, "a lost draw is lost, not granted on top"
    assert granted == second[0]
    assert wait_us >= 0


@case("slots")
async def slots(t: Twice) -> None:
    assert await t.store.bind_slots("ch", 3, 2) == [1, 2]
    assert await t.store.bind_slots("ch", 3, 3) == [1, 2, 3]
    assert await t.store.bind_slots("ch", 3, 1) == [1]
    await t.store.give_slots_back("ch", 3)
    await until(lambda: not any(name.endswith(":slots") for name in t.look()))


@case("health")
async def health(t: Twice) -> None:
    assert (await t.store.health([("ch", "open:refusals", 0)]))["ch"].state == "open"
    found = await t.store.health([("ch", "pause", 0), ("other", "ok", 3)])
    assert (found["ch"].state, found["ch"].cause, found["ch"].operator) == ("open", "refusals", "pause")
    assert found["other"].state == "closed"
    assert [(c.kind, c.object, c.facts) for c in await Changes(t.store).read(0)] == [
        ("breaker_open", "ch", {"cause": "refusals"})
    ]


@case("sessions")
async def sessions(t: Twice) -> None:
    changes = Changes(t.store)
    await t.store.heartbeat(0, first=True)
    await changes.tell([Told("ch", 2, 2), Told("other", 1, 1)], ["worker01"])
    await changes.tell([Told("ch", 0, 2, "refused", "twice"), Told("other", 1, 1)], ["worker01"])
    found = (await changes.sessions())["ch"]
    assert (found.bound, found.slots) == (0, 2)
    assert found.trouble is not None
    assert (found.trouble.kind, found.trouble.detail) == ("refused", "twice")
    await changes.tell([Told("ch", 1, 2)], ["worker01"])
    assert [(c.kind, c.object) for c in await changes.read(0)] == [("channel_up", "ch"), ("channel_down", "ch")]
    await changes.forget(["other"], ["worker01"])
    await changes.leave(["worker01"])
    assert await changes.sessions() == {}


@case("change")
async def change(t: Twice) -> None:
    changes = Changes(t.store)
    await changes.note("worker_restarted", "dispatch 0", "token", role="dispatch", why="code -9")
    (one,) = await changes.read(0)
    assert (one.kind, one.object, one.facts) == (
        "worker_restarted",
        "dispatch 0",
        {"role": "dispatch", "why": "code -9"},
    )


@case("unpin")
async def unpin(t: Twice) -> None:
    await accept(t.store, message(t.store), message(t.store, parts=2))
    short, long = await claim(t.store)
    away = settlement(short, "n", delay_ms=0, rank=1, target="gone", log="1\x1fch\x1f69\x1fnext\x1f")
    stays = settlement(long, "p", delay_ms=0, accepted_mask=1, channel="gone", log="1\x1fgone\x1f88\x1fslow\x1f0=a")
    assert await settle(t.store, away, stays) == "11"
    assert await claim(t.store, token="b", rank=1) == []
    assert await t.store.unpin(0, "gone") == 0
    assert [c.id for c in await claim(t.store, token="c", rank=1)] == [short.id]
    assert [c.id for c in await claim(t.store, token="d", channel="gone")] == [long.id]


@case("strays")
async def strays(t: Twice) -> None:
    m = message(t.store, route="gone")
    await accept(t.store, m)
    account, found = await t.store.strays(0, "gone:0:1", 10)
    assert account == "shop"
    assert [sid for sid, _ in found] == [m.id]


@case("reroute")
async def reroute(t: Twice) -> None:
    ms = [message(t.store, route="gone") for _ in range(3)]
    await accept(t.store, *ms)
    assert await t.store.reroute(0, "gone:0:1", "shop", [(ms[0].id, "r"), (ms[1].id, "")]) == (0, 0)  # the repeat's
    first = t.answers[0][0]
    assert first is None or first[:2] == [1, 1], "None: the answer was cut off"
    assert [c.id for c in await claim(t.store)] == [ms[0].id]
    record = await t.store.get(ms[1].id)
    assert record is not None
    assert (record.state, record.reason) == ("F", "no_route")
    assert await t.store.waiting() == 1


# --- the store's own repeat, on the wire


async def test_accept_and_claim_repeat_by_themselves(
    valkey: ValkeyServer, settings: Settings, proxy: CuttingProxy
) -> None:
    """The caller of accept and claim sees nothing of a cut connection: one message, claimed once, answered as usual."""
    store = await Store.open(settings, proxy.url, incarnation="worker01")
    try:
        ms = [message(store) for _ in range(3)]
        proxy.cut(command("accept"))
        assert await accept(store, *ms) == ["accepted"] * 3
        assert await store.waiting() == 3
        proxy.cut(command("claim"))
        taken = await claim(store)
        assert [c.id for c in taken] == [m.id for m in ms]
        assert proxy.cuts == 2
        assert not proxy.armed
        with valkey.sync() as client:
            assert len(check_consistent(snapshot(client))) == 3
    finally:
        await store.close()


async def test_cut_twice_the_outcome_is_unknown_and_a_replay_finds_it(
    valkey: ValkeyServer, settings: Settings, proxy: CuttingProxy
) -> None:
    store = await Store.open(settings, proxy.url)
    try:
        m = message(store, idem=b"i" * 16, digest=b"d" * 8)
        proxy.cut(command("accept"))
        pending = asyncio.create_task(accept(store, m))
        await until(lambda: proxy.cuts or not proxy.armed, every_s=0.0)
        proxy.cut(command("accept"))
        assert await pending == ["unavailable:unknown"]
        again = message(store, m.msisdn, idem=b"i" * 16, digest=b"d" * 8)
        (answer,) = await store.accept([again])
        assert (answer.code, answer.id) == ("replay", m.id)  # type: ignore[union-attr]
        assert await store.waiting() == 1
    finally:
        await store.close()


@case("overdue")
async def overdue(t: Twice) -> None:
    await accept(t.store, message(t.store), message(t.store))
    a, b = await claim(t.store)
    await settle(t.store, settlement(a, redeliver_ms=20_000), settlement(b, redeliver_ms=20_000), ids=ids_of(a))
    assert await apply(t.store, receipt_row(a)) == "f"
    bring_forward(t.server, "late")
    assert await t.store.overdue(0) in (0, 2)  # the first call saw them
    assert [sid for sid, _ in await t.store.redo(0)] == [b.id]


@case("redo")
async def redo(t: Twice) -> None:
    await accept(t.store, message(t.store))
    (c,) = await claim(t.store)
    await settle(t.store, settlement(c, redeliver_ms=20_000))
    bring_forward(t.server, "late")
    await t.store.overdue(0)
    (found,) = await t.store.redo(0)
    assert found[0] == c.id
    assert found[1] is not None


@case("redeliver")
async def redeliver(t: Twice) -> None:
    await accept(t.store, message(t.store), message(t.store))
    claimed = await claim(t.store)
    await settle(t.store, *(settlement(c, redeliver_ms=20_000) for c in claimed))
    bring_forward(t.server, "late")
    await t.store.overdue(0)
    go, stay = claimed
    assert await t.store.redeliver(0, [Redelivery(go.id, "g", 0, "other"), Redelivery(stay.id, "n")]) == "00"
    assert number_of_states(t) == {"q": 1, "s": 1}
    assert await t.store.redo(0) == []


@case("receipt_notes")
async def receipt_notes(t: Twice) -> None:
    kept = ReceiptNotes(t.store)
    await kept.add(1, {("a", "QQ:1"): 2, ("b", "QQ:1"): 1}, {("a", "D"): 5, ("a", "t0"): 5})
    assert [(one.channel, one.count) for one in await kept.unknown_codes()] == [("a", 2), ("b", 1)]
    await kept.add(2, {("a", "QQ:1"): 1}, {("a", "D"): 1})
    assert (await kept.unknown_codes())[0].count == 3
    assert await kept.counts(600) == {"a": {"D": 6, "t0": 5}}


COUNTER = "shop\x1fcm\x1fr\x1f\x1f\x1f\x1f1\x1fch\x1fs\x1f"


async def counted(t: Twice, hours_ago: int = 3) -> Statistics:
    """Count one message of an hour that is over."""
    hour = int(time.time()) // 3_600 - hours_ago
    await t.store.client.execute("HINCRBY", f"{t.store.prefixes[0]}stats:{hour}", COUNTER, 7)
    return Statistics(t.store)


async def seven(statistics: Statistics) -> bool:
    """Return whether the seven are found once, whichever tables are read."""
    found: list[int] = []

    def add(account: str, table: Table) -> None:
        found.extend(n for columns in table.slots.values() for _, _, numbers in columns for n in numbers)

    today = int(time.time()) // 86_400
    for kind in ("whole", "path", "content", "merged"):
        await statistics.read([(today - 1, kind == "path"), (today, kind == "path")], None, add, kind)
    return found == [7] * 4


@case("stats_take")
async def stats_take(t: Twice) -> None:
    statistics = await counted(t)
    assert await statistics.fold() == 1
    assert t.answers[0][0] in (t.answers[0][1], None)
    assert await seven(statistics)


@case("stats_fold")
async def stats_fold(t: Twice) -> None:
    statistics = await counted(t)
    assert await statistics.fold() == 0, "the repeat finds it gone"
    assert t.answers[0][1] == b"gone"
    assert await seven(statistics)


@case("stats_open")
async def stats_open(t: Twice) -> None:
    statistics = await counted(t)
    assert await seven(statistics)
    assert t.answers[-1][0] in (t.answers[-1][1], None)


@case("stats_drop")
async def stats_drop(t: Twice) -> None:
    statistics = await counted(t)
    await statistics.fold()
    old = int(time.time()) // 86_400 - 91
    for family in ("stath", "statd"):
        await t.store.client.execute("HSET", f"{t.store.prefixes[0]}{family}:{old}", "shop", b"x")
        await t.store.client.execute("SADD", f"{t.store.prefixes[0]}statdays", f"{family}:{old}")
    assert await statistics.drop() == 0  # the repeat's: the first one removed it
    assert await t.store.client.execute("EXISTS", f"{t.store.prefixes[0]}statd:{old}") == 1
    assert await t.store.client.execute("EXISTS", f"{t.store.prefixes[0]}stath:{old}") == 0
    assert await seven(statistics)


# --- messages from handsets, blacklists, audit


def reply(t: Twice, opt: str = "stop", **changes: Any) -> Recorded:
    """Return a decided message from a handset whose number has messages of `shop`."""
    values: dict[str, Any] = {
        "id": keys.new_id(0),
        "msisdn": "8613800138000",
        "digest": b"0123456789abcdef",
        "account": "shop",
        "opt": opt,
        "event": b'{"account":"shop"}',
        "channel": "ch",
        "scope": "shop",
        "mask": 4,
        "source": "mo.ch",
        "audit": b"{}",
        "opted": b"{}",
    }
    return Recorded(**(values | changes))


async def told(t: Twice, *messages: Recorded) -> list[Result]:
    return await InboundStore(t.store).record(0, messages, keep_s=86_400, keep_optouts_s=86_400)


@case("mo")
async def a_reply_that_opts_out(t: Twice) -> None:
    await t.store.set_consumers({"shop": "io"})
    waits = message(t.store, "8613800138000", category=2, send_at_ms=1 << 42, state="h")
    await accept(t.store, waits)
    await told(t, reply(t))
    [(first, second)] = t.answers
    assert (first is None or first[0] == b"n", second[0]) == (True, b"r")
    assert await t.store.waiting() == 0
    assert await t.store.client.execute("LLEN", "gw:{s00}:out:shop") == 2


@case("mo")
async def a_reply_that_opts_in(t: Twice) -> None:
    lists = Blacklists(t.store)
    await lists.add("8613800138000", "shop", 4, "td", source="mo.ch", actor="mo.ch")
    await told(t, reply(t, "start"), reply(t, "review", digest=b"another one 1234"))
    assert await lists.get("8613800138000") == []
    assert await InboundStore(t.store).waiting_for_review() == 1


async def parts_of(t: Twice, *places: int) -> list[tuple[str, list[bytes]]]:
    rows = [PartRow("name", b'{"c":"ch"}', 3, place, b"\0\0part %d" % place) for place in places]
    return await InboundStore(t.store).keep_parts(0, rows, 60_000)


@case("mo_part")
async def parts_of_a_long_reply(t: Twice) -> None:
    assert await parts_of(t, 1, 3) == [("w", []), ("w", [])]
    [(letter, parts)] = await parts_of(t, 2)
    assert (letter, len(parts)) == ("c", 3)
    await told(t, reply(t, "", parts="name", parts_done=b"1=x;"))
    assert await t.store.client.execute("ZCARD", "gw:{s00}:moparts") == 0


@case("mo_overdue")
async def a_reply_whose_rest_does_not_come(t: Twice) -> None:
    await parts_of(t, 1)
    [(name, _, parts)] = await InboundStore(t.store).overdue(0, 10, 0)  # more than may wait
    assert (name, list(parts)) == ("name", [1])
    assert t.answers[0][1] == t.answers[0][0] or t.answers[0][0] is None


@case("mo_latest")
async def whose_reply_it_is(t: Twice) -> None:
    c = await submitted(t.store)
    [latest] = await InboundStore(t.store).latest(0, [(c.msisdn,)])
    assert [(one.id, one.account, one.left) for one in latest.sent] == [(c.id, "shop", True)]


@case("mo_reviewed")
async def a_reply_was_read(t: Twice) -> None:
    one = reply(t, "review")
    await told(t, one)
    assert not await InboundStore(t.store).reviewed(one.id, actor="operator", decision="dismiss")  # the repeat's


@case("mo_erase")
async def what_a_handset_wrote_is_erased(t: Twice) -> None:
    await told(t, reply(t))
    assert await InboundStore(t.store).erase("8613800138000", 2) == 0  # the repeat's
    assert await InboundStore(t.store).find() == []


@case("black_set")
async def a_number_is_listed(t: Twice) -> None:
    entry = await Blacklists(t.store).put("8613800138000", "shop", 4, "operator", source="api", actor="account:shop")
    assert (entry.mask, t.answers[0][1][:3]) == (4, [0, 0, 1])


@case("black_set")
async def numbers_are_imported(t: Twice) -> None:
    rows = [(f"86138{i:08d}", 4, "do-not-disturb") for i in range(10)]
    counts = await Blacklists(t.store).add_many("*", rows, source="import.x", import_id="x")
    assert counts.unchanged == 10


@case("black_remove")
async def a_number_is_taken_off(t: Twice) -> None:
    lists = Blacklists(t.store)
    await lists.put("8613800138000", "shop", 4, "operator", source="api", actor="account:shop")
    assert await lists.remove("8613800138000", "shop", actor="account:shop", below=True) == []
    assert await lists.counts() == {}


@case("black_get")
async def a_number_is_looked_at(t: Twice) -> None:
    lists = Blacklists(t.store)
    await lists.put("8613800138000", "shop", 4, "operator", source="api", actor="account:shop")
    assert len(await lists.get("8613800138000")) == 1


@case("black_undo")
async def an_import_is_taken_back(t: Twice) -> None:
    lists = Blacklists(t.store)
    await lists.add("8613800000001", "*", 2, "td", source="mo.ch", actor="mo.ch")
    rows = [(f"86138{i:08d}", 4, "do-not-disturb") for i in range(3)]
    await lists.add_many("*", rows, source="import.x", import_id="x")
    assert await lists.undo("*", "import.x", import_id="x") == ("", 0, 0)
    assert await lists.counts() == {("*", "td"): 1}


@case("black_invalid")
async def a_number_is_called_invalid(t: Twice) -> None:
    lists = Blacklists(t.store)
    today = int(time.time()) // 86_400
    for day in (today - 1, today - 1, today):
        await lists.note_invalid(["8613800138000"], day)
    [entry] = await lists.get("8613800138000")
    assert (entry.scope, entry.mask, entry.reason) == ("*", 6, "invalid-number")


@case("audit")
async def a_change_is_noted(t: Twice) -> None:
    audit = Audit(t.store)
    await audit.note("operator", "gate.set", "gate:spring", "open", "hold")
    [entry] = await audit.read()
    assert (entry.actor, entry.action, entry.before, entry.after) == ("operator", "gate.set", "open", "hold")


@case("template_put")
async def template_put(t: Twice) -> None:
    kept = TemplateStore(t.store)
    assert await kept.put("otp", b'{"text":"one"}') == ("same", 1)
    assert await kept.put("otp", b'{"text":"two"}', 2) == ("same", 2)
    assert await kept.put("otp", b'{"text":"else"}', 2) == ("conflict", 2)
    assert [one.content for one in (await kept.all())[1]] == [b'{"text":"one"}', b'{"text":"two"}']


# --- revisions of the configuration


def _member(incarnation: str) -> Member:
    return Member(incarnation, "m", "api", 0, revision=0, digest="d0", files="d0", problem="")


async def _proposed(t: Twice, *members: str) -> Revisions:
    revisions = Revisions(t.store)
    for one in members:
        await revisions.beat(one, _member(one))
    await revisions.propose("token", 0, "d1", b"text", by="operator", machine="m", note="a note")
    return revisions


@case("config_beat")
async def a_member_beats_and_ends(t: Twice) -> None:
    revisions = Revisions(t.store)
    await revisions.beat("worker01", _member("worker01"))
    await revisions.beat("worker02", _member("worker02"))
    await revisions.leave("worker02")
    assert [(one.incarnation, one.lives) for one in await revisions.members()] == [("worker01", True)]


@case("config_propose")
async def a_proposal_is_made_once(t: Twice) -> None:
    revisions = await _proposed(t, "worker01", "worker02")
    assert t.answers[-1][1] == [b"ok", b"worker01", b"worker02"]
    found = await revisions.proposal("token")
    assert found is not None
    assert (found.base, found.digest, found.text) == (0, "d1", b"text")
    assert (await revisions.propose("other", 0, "d2", b"", by="x", machine="n")).word == "busy"


@case("config_vote")
async def a_vote_counts_once(t: Twice) -> None:
    revisions = await _proposed(t, "worker01")
    assert await revisions.vote("token", "worker01", None)
    assert not await revisions.vote("another token", "worker01", None)
    assert (await revisions.commit("token", dry=True)).word == "agreed"


@case("config_commit")
async def a_revision_gets_one_number(t: Twice) -> None:
    revisions = await _proposed(t, "worker01")
    assert (await revisions.commit("token")).waiting == ("worker01",)
    await revisions.vote("token", "worker01", None)
    assert (await revisions.commit("token")).number == 1
    assert [(one.number, one.digest, one.note) for one in await revisions.history()] == [(1, "d1", "a note")]
    assert (await revisions.text(1), (await revisions.state()).number) == (b"text", 1)


@case("config_withdraw")
async def a_proposal_is_withdrawn(t: Twice) -> None:
    revisions = await _proposed(t, "worker01")
    await revisions.withdraw("token")
    assert (await revisions.state()).token == ""
    assert (await revisions.commit("token")).word == "lapsed"
    assert (await revisions.propose("next", 0, "d2", b"", by="x", machine="n")).word == "ok"


@case("template_retire")
async def template_retire(t: Twice) -> None:
    kept = TemplateStore(t.store)
    await kept.put("otp", b"{}")
    assert await kept.retire("otp") == 0  # the repeat's: the first one retired it
    assert [bool(one.retired_at_ms) for one in (await kept.all())[1]] == [True]


@case("erase")
async def erase(t: Twice) -> None:
    """What is final goes, what waits ends first; the second time nothing is there."""
    mine, other = "8613900000001", "8613900000002"
    await accept(t.store, message(t.store, mine), message(t.store, mine), message(t.store, other))
    done = await Eraser(t.store, Audit(t.store), keep_periods=1).go_on(mine, cancel=True, rewrite=False)
    assert "records" not in done.counts
    assert await t.store.find(mine, "shop") == []
    assert len(await t.store.find(other, "shop")) == 1
    assert await t.store.waiting() == 1


@case("erase_kept")
async def erase_kept(t: Twice) -> None:
    mine, other = "8613900000001", "8613900000002"
    await t.store.set_consumers({"shop": "f"})
    await accept(t.store, message(t.store, mine), message(t.store, other))
    for one in await t.store.find(mine, "shop") + await t.store.find(other, "shop"):
        await t.store.cancel(one.id, "shop")
    await t.store.learn_ported([(mine, "china-mobile", "")], 3600)
    await Eraser(t.store, Audit(t.store), keep_periods=1).go_on(mine, learned_ttl_s=3600, rewrite=False)
    with t.server.sync() as client:
        (event,) = client.lrange(f"{t.store.prefixes[0]}out:shop", 0, -1)
    assert other.encode() in event


# --- outboxes


async def _out(t: Twice, n: int) -> Outbox:
    """Write events about messages of one account, and serve it."""
    box = Outbox(t.store)
    await box.beat("worker01", ["shop"])
    await accept(t.store, *(message(t.store) for _ in range(n)))
    for c in await claim(t.store):
        raw = await t.store.client.execute("GET", f"{t.store.prefixes[0]}msg:".encode() + c.id)
        await box.put(0, "shop", [entry("f", int(time.time() * 1000), c.id, raw)])
    return box


@case("outbox_lease")
async def an_account_has_one_holder(t: Twice) -> None:
    box = Outbox(t.store)
    mine = await box.beat("worker01", ["shop"])
    other = await box.beat("worker02", ["shop", "bank"])
    assert mine.accounts["shop"][1] == other.accounts["shop"][1] == "worker01"
    assert other.accounts["bank"][1] == "worker02"
    heir = await box.beat("worker02", ["shop"], [("worker01", mine.workers["worker01"])])
    assert heir.accounts["shop"][1] == "worker02"
    assert heir.accounts["shop"][0] > mine.accounts["shop"][0]
    await box.leave("worker02")
    assert not (await box.beat("worker03")).workers.keys() & {"worker01", "worker02"}


@case("outbox_take")
async def events_are_taken_once_under_a_token(t: Twice) -> None:
    box = await _out(t, 3)
    first = await box.take(0, "shop", 1, "a", 2)
    assert [one.number for one in first] == [1, 2]
    assert t.answers[-1][0] in (None, t.answers[-1][1])  # None: the answer that was cut off
    assert [one.number for one in await box.take(0, "shop", 1, "b", 2)] == [3]
    assert [one.event for one in await box.take(0, "shop", 2, "c", 9)][:2] == [one.event for one in first]
    with pytest.raises(NotHeld):
        await box.settle(0, "shop", 1, [])


@case("outbox_settle")
async def what_became_of_events(t: Twice) -> None:
    box = await _out(t, 4)
    done, later, dead, back = await box.take(0, "shop", 1, "a", 9)
    verdicts = [
        Verdict(done.number, DONE),
        Verdict(later.number, LATER, 5000, "http_5xx"),
        Verdict(dead.number, GIVEN_UP, reason="timeout"),
        Verdict(back.number, BACK),
    ]
    assert await box.settle(0, "shop", 1, verdicts) in (0, 1)
    found = (await box.look(["shop"]))["shop"]
    assert (found.waiting, found.taken, found.retrying, found.dead) == (1, 0, 1, 1)
    assert found.reasons == {"timeout": 1}
    assert [one.event for one in await box.take(0, "shop", 1, "b", 9)] == [back.event]


@case("outbox_revive")
async def dead_letters_go_back_in_line(t: Twice) -> None:
    box = await _out(t, 2)
    taken = await box.take(0, "shop", 1, "a", 9)
    await box.settle(0, "shop", 1, [Verdict(one.number, GIVEN_UP, reason="dns") for one in taken])
    await box.revive("shop")
    found = (await box.look(["shop"]))["shop"]
    assert (found.waiting, found.dead, found.reasons) == (2, 0, {})
    assert [one.event for one in await box.take(0, "shop", 1, "b", 9)] == [one.event for one in taken]


@case("outbox_due")
async def who_has_something_to_take(t: Twice) -> None:
    box = await _out(t, 1)
    assert await box.due(0, ["bank", "shop"]) == ["shop"]
    (one,) = await box.take(0, "shop", 1, "a", 9)
    assert await box.due(0, ["bank", "shop"]) == []
    await box.settle(0, "shop", 1, [Verdict(one.number, LATER, 0, "connect")])
    assert await box.due(0, ["bank", "shop"]) == ["shop"]


@case("outbox_look")
async def how_an_outbox_is(t: Twice) -> None:
    box = await _out(t, 3)
    await box.take(0, "shop", 1, "a", 1)
    found = (await box.look(["shop"]))["shop"]
    assert (found.waiting, found.taken) == (2, 1)
    assert 0 <= found.now_ms - found.oldest_ms < 60_000


@case("outbox_scan")
async def records_of_an_account_by_time(t: Twice) -> None:
    mine, other = message(t.store), message(t.store, account="bank")
    await accept(t.store, mine, other)
    box, now = Outbox(t.store), int(time.time() * 1000)
    assert [sid for sid, _ in (await box.scan(0, "0", "shop", 0, now + 60_000))[1]] == [mine.id]
    assert (await box.scan(0, "0", "shop", now + 60_000, now + 70_000))[1] == []


# --- windows


@case("defer")
async def defer_twice(t: Twice) -> None:
    now_ms = time.time_ns() // 1_000_000
    late = message(t.store, category=2, window_until_ms=now_ms - 1)
    await accept(t.store, late)
    assert await claim(t.store) == []
    assert await t.store.defer(0, [(late.id, now_ms + 60_000, now_ms + 120_000)]) == 1
    assert await t.store.reopen(0) == []


@case("reopen")
async def reopen_twice(t: Twice) -> None:
    late = message(t.store, category=2, window_until_ms=time.time_ns() // 1_000_000 - 1)
    await accept(t.store, late)
    assert await claim(t.store) == []
    assert [sid for sid, _ in await t.store.reopen(0)] == [late.id]


# --- the console


LIMITS = Limits(idle_ms=60_000, longest_ms=120_000)


def _user(name: str = "li", **changes: Any) -> User:
    return User(name, changes.pop("role", "admin"), "$argon2id$hash", **changes)


@case("console_user")
async def a_user_added_changed_and_removed(t: Twice) -> None:
    users, sessions = ConsoleUsers(t.store), ConsoleSessions(t.store)
    li = _user()
    assert (await users.add(li)).word == "ok"
    assert (await users.add(_user(role="viewer"))).word == "exists"
    assert await sessions.open("s", li, "127.0.0.1", "", LIMITS)
    less = li.changed(role="viewer")
    assert (await users.change(less, end="all", guard=True)).word == "last"
    assert (await users.change(less, end="all")).word == "ok"
    assert (await users.change(li.changed(role="operator"))).word == "moved"
    assert (await users.remove(less)).word == "ok"
    assert await users.all() == await sessions.all(LIMITS) == []


@case("console_setup")
async def the_first_user(t: Twice) -> None:
    users = ConsoleUsers(t.store)
    assert await users.take_token("digest", 60) > 0
    assert await users.set_up("other", _user()) == "wrong"
    assert await users.set_up("digest", _user()) == "ok"
    assert await users.set_up("digest", _user("wu")) == "late"
    assert [user.name for user in await users.all()] == ["li"]


@case("console_token")
async def a_set_up_token_counts(t: Twice) -> None:
    users = ConsoleUsers(t.store)
    assert await users.take_token("digest", 60) > 0
    assert await users.token_counts("digest") == "ok"
    await users.add(_user())
    assert await users.take_token("more", 60) == 0
    assert await users.token_counts("digest") == "late"


@case("console_open")
async def a_session_opened(t: Twice) -> None:
    users, sessions = ConsoleUsers(t.store), ConsoleSessions(t.store)
    await users.add(_user())
    assert await sessions.open("s", _user(), "127.0.0.1", "a browser", LIMITS)
    assert not await sessions.open("s2", _user(version=2), "127.0.0.1", "", LIMITS)
    assert [one.id for one in await sessions.all(LIMITS)] == ["s"]


@case("console_session")
async def a_session_used(t: Twice) -> None:
    users, sessions = ConsoleUsers(t.store), ConsoleSessions(t.store)
    await users.add(_user())
    await sessions.open("s", _user(), "127.0.0.1", "", LIMITS)
    found = await sessions.look("s", LIMITS, used_after_ms=30_000, checked=True)
    assert found is not None
    assert (found.name, found.role) == ("li", "admin")
    assert await sessions.look("s", Limits(0, 1000)) is None
    assert await sessions.look("s", LIMITS) is None


@case("console_close")
async def sessions_ended(t: Twice) -> None:
    users, sessions = ConsoleUsers(t.store), ConsoleSessions(t.store)
    await users.add(_user())
    for one in ("a", "b", "c"):
        await sessions.open(one, _user(), "127.0.0.1", "", LIMITS)
    await sessions.close(name="wu", id_="a")
    await sessions.close(id_="b")
    await sessions.close(name="li", keep="c")
    assert [one.id for one in await sessions.all(LIMITS)] == ["c"]


@case("console_try")
async def tries_to_sign_in(t: Twice) -> None:
    sessions = ConsoleSessions(t.store)
    for n in range(5):
        assert await sessions.begin_try(f"t{n}", "name", "address") == (0, n + 1)
    wait_ms, tries = await sessions.begin_try("t5", "name", "other")
    assert 0 < wait_ms <= 2000
    assert tries == 5


@case("console_untry")
async def tries_taken_back(t: Twice) -> None:
    sessions = ConsoleSessions(t.store)
    await sessions.begin_try("a", "name", "address")
    await sessions.begin_try("b", "name", "address")
    await sessions.take_back("a", "name", "address")
    await sessions.forget_tries("name")
    assert await sessions.begin_try("c", "name", "address") == (0, 2)


@case("console_step")
async def a_code_used(t: Twice) -> None:
    users = ConsoleUsers(t.store)
    assert await users.use_step("li", 10)
    assert not await users.use_step("li", 10)
    assert not await users.use_step("li", 9)
    assert await users.use_step("li", 11)
