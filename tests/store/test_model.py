"""Random walks over the moves of the store, on a real server: what was accepted is never lost, doubled or miscounted.

Two workers of one gateway take messages, settle, release, die and are reaped, out of order and more than once, while
receipts come for whatever was out there. After every step the books must balance (see `check_consistent`), nobody holds
what another holds, no final state changes but unknown or expired to delivered, and every copy is flagged as one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.model import Category, shard_of_id
from gateway.settings import Settings
from gateway.store.moves import Settlement
from gateway.store.store import Store
from tests.conftest import with_shards
from tests.support.messages import accept, ids_of, message, number, receipt_row, record_ids, request
from tests.support.snapshot import check_consistent, held, snapshot
from tests.support.valkey import ValkeyServer

WORKERS = ("worker01", "worker02")
SHARDS = 2
VERBS = "srnlpPuUuUF"


def pick(data: st.DataObject, things: Any) -> Any:
    """Draw one by its place: ids are new in every run, places are not, so that a failure can be found again."""
    return list(things)[data.draw(st.integers(0, len(things) - 1))]


async def settle(store: Store, item: Settlement) -> str:
    return await store.settle(shard_of_id(item.claim), [item])


class Moves(RuleBasedStateMachine):
    """The store, and what a faithful observer knows of it."""

    server: ValkeyServer  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stores: dict[str, Store] = {}
        self.accepted: dict[bytes, Any] = {}
        self.held: dict[str, dict[bytes, tuple[Any, str]]] = {name: {} for name in WORKERS}  # claim, channel
        self.settled: list[tuple[Store, Settlement]] = []  # to be repeated
        self.claimed: dict[bytes, Any] = {}  # ever, in order
        self.left: set[bytes] = set()  # an attempt may have reached the SMSC and nobody knows
        self.final: dict[bytes, str] = {}
        self.tokens = 0

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        for s in self.stores.values():
            self.do(s.close())
        self.loop.close()

    @initialize()
    def begin(self) -> None:
        """Empty the server, open both workers' stores and accept the first nine messages."""
        with self.server.sync() as client:
            client.flushall()
        base = with_shards(Settings(config_dir=Path("config")), SHARDS)
        # Each policy once; no caps, so that the same numbers may come again.
        policies = ("resend", "hold", "fail")
        rules = {c: replace(base.categories[c], on_uncertain=policies[c], per_number=()) for c in Category}
        for name in WORKERS:
            store = self.do(Store.open(replace(base, categories=rules), self.server.url, incarnation=name))
            # Nothing here waits for a grace: what is uncertain is decided by the next look at `due`.
            store._graces = [0, 0, 0]
            self.stores[name] = store
        self.accept([(i % 3, "aab"[i // 3], 1 + i % 2, "g" if i == 8 else "") for i in range(9)], False)

    # --- moves

    @rule(
        kinds=st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(("a", "b")), st.integers(1, 3), st.sampled_from(("", "g"))),
            min_size=1,
            max_size=6,
        ),
        later=st.sampled_from((False, False, True)),
    )
    def accept(self, kinds: list[tuple[int, str, int, str]], later: bool) -> None:
        store = self.stores[WORKERS[0]]
        at = 4_000_000_000_000 if later else 0
        ms = [
            message(store, number(len(self.accepted) + i), category=c, account=a, parts=p, gate=g, send_at_ms=at)
            for i, (c, a, p, g) in enumerate(kinds)
        ]
        assert self.do(accept(store, *ms)) == ["accepted"] * len(ms)
        self.accepted |= {m.id: m for m in ms}

    @rule(
        name=st.sampled_from(WORKERS),
        parts=st.integers(1, 9),
        rest=st.integers(0, 9),
        channel=st.sampled_from(("c1", "c2")),
        rank=st.integers(0, 1),
    )
    def claim(self, name: str, parts: int, rest: int, channel: str, rank: int) -> None:
        store = self.stores[name]
        for shard in range(SHARDS):
            self.tokens += 1
            one = request(parts, rest=rest, channel=channel, rank=rank)
            _, claimed, bad = self.do(store.claim(shard, f"{self.tokens}", [one]))
            assert not bad
            sizes = [c.parts for _, c in claimed]
            assert sum(sizes[:-1]) < parts, "more than was asked for"
            for _, c in claimed:
                assert all(c.id not in held for held in self.held.values()), "handed out twice"
                assert c.id not in self.final, "final, and handed out"
                if c.id in self.left:
                    assert c.flags & 1, "a copy that nobody would know as one"
                self.held[name][c.id] = (c, channel)
                self.claimed[c.id] = c

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), verb=st.sampled_from(VERBS), delay=st.sampled_from((0, 1)), mask=st.integers(1, 7))
    def settle(self, data: st.DataObject, verb: str, delay: int, mask: int) -> None:
        name = data.draw(st.sampled_from([n for n in WORKERS if self.held[n]]))
        self._settle(name, pick(data, self.held[name]), verb, delay, mask)

    @rule(name=st.sampled_from(WORKERS), verb=st.sampled_from(VERBS), mask=st.integers(1, 7))
    def one_round(self, name: str, verb: str, mask: int) -> None:
        """Take what there is on every queue, and let it all end in the same way: many attempts in few steps."""
        for channel, rank in (("c1", 0), ("c2", 0), ("c1", 1)):
            self.claim(name, 9, 9, channel, rank)
        for sid in list(self.held[name]):
            self._settle(name, sid, verb, 0, mask)
        self.due()

    def _settle(self, name: str, sid: bytes, verb: str, delay: int, mask: int) -> None:
        c, channel = self.held[name].pop(sid)
        everything = (1 << c.parts) - 1
        accepted = {"s": everything & ~c.accepted, "p": mask & everything, "P": mask & everything}.get(verb, 0)
        log = f"{c.attempt}\x1f{channel}\x1f0\x1fx\x1f"
        item = Settlement(c.claim, c.attempt, verb, channel, delay, accepted, log=log)
        item = replace(item, rank=1 if verb == "n" else 0, reason="why")
        assert self.do(settle(self.stores[name], item)) in "10"
        self.settled.append((self.stores[name], item))
        if verb in "uU":
            self.left.add(c.id)

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """The answer was lost."""
        store, item = pick(data, self.settled)
        if item.claim[:16] in self.held[store.incarnation]:
            return  # a worker does not repeat a call about a message that it holds again (see settler.py)
        with self.server.sync() as client:
            before = snapshot(client)
        assert self.do(settle(store, item)) in "0l"
        with self.server.sync() as client:
            assert snapshot(client) == before or item.verb == "s"

    @precondition(lambda self: any(item.verb in "uU" for _, item in self.settled))
    @rule(data=st.data())
    def late_answer(self, data: st.DataObject) -> None:
        """The SMSC accepted it after all, and says so when the attempt was given up."""
        store, item = pick(data, [one for one in self.settled if one[1].verb in "uU"])
        attempts = sum(1 for _, other in self.settled if other.claim[:16] == item.claim[:16] and other.verb in "uU")
        item = replace(item, verb="s", accepted_mask=(1 << self.accepted[item.claim[:16]].parts) - 1)
        if self.do(settle(store, item)) == "l":
            record = self.do(store.get(item.claim[:16]))
            if attempts == 1:
                self.left.discard(item.claim[:16])
            assert attempts == 1 or record.possible_duplicate, "two may have left, and nobody would know"

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, twice: bool) -> None:
        name = data.draw(st.sampled_from([n for n in WORKERS if self.held[n]]))
        sid = pick(data, self.held[name])
        c, _ = self.held[name].pop(sid)
        for _ in range(2 if twice else 1):
            self.do(self.stores[name].release(shard_of_id(sid), [c.claim]))

    @rule(name=st.sampled_from(WORKERS))
    def reap(self, name: str) -> None:
        other = self.stores[WORKERS[name == WORKERS[0]]]
        self.do(other.reap(name))
        self.left |= set(self.held[name])
        self.held[name].clear()

    @rule()
    def due(self) -> None:
        time.sleep(0.002)  # every delay used here is over, so that a walk can be repeated
        for shard in range(SHARDS):
            self.do(self.stores[WORKERS[0]].due(shard))

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sid = pick(data, self.accepted)
        answer = self.do(self.stores[WORKERS[0]].cancel(sid, self.accepted[sid].kind.account))
        assert answer in ("cancelled", "already", "too_late")
        if any(sid in held for held in self.held.values()) or sid in self.left:
            assert answer != "cancelled", "cancelled what may have been sent"

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), part=st.integers(0, 2), state=st.sampled_from("DUREK"), twice=st.booleans())
    def receipt(self, data: st.DataObject, part: int, state: str, twice: bool) -> None:
        sid = pick(data, self.claimed)
        m = self.accepted[sid]
        row = receipt_row(self.claimed[sid], state, part % m.parts)
        self.do(record_ids(self.stores[WORKERS[0]], m.shard, ids_of(self.claimed[sid])))
        for again in range(2 if twice else 1):
            ((answer, _),) = self.do(self.stores[WORKERS[1]].apply_receipts([row]))
            # A delivered part's id is forgotten; again it is found by the log, where its attempt has come that far.
            assert answer in ("f", "p", "d", "c") or (again and answer == "n" and state == "D")

    @rule(state=st.sampled_from(("hold", "open", "closed", "open")))
    def gate(self, state: str) -> None:
        self.do(self.stores[WORKERS[0]].set_gate("gate", "g", state))

    # --- what always holds

    @invariant()
    def the_books_balance(self) -> None:
        if not self.stores:
            return
        with self.server.sync() as client:
            snap = snapshot(client)
        found = check_consistent(snap)
        assert sorted(found) == sorted(self.accepted), "accepted = final + live"
        for name, mine in self.held.items():
            noted = [snap.get(f"gw:{{s{shard:02d}}}:claims:{name}", {}) for shard in range(SHARDS)]
            claims = [sid for one in noted for sid in held(found, one)]
            # What its receipt ended is no longer held in the store; the worker does not know.
            still = [sid for sid in mine if found[sid].state == "q"]
            assert sorted(claims) == sorted(still), "the store and the worker disagree on who holds what"
        for sid, r in found.items():
            was = self.final.get(sid)
            if was is not None and r.state != was:
                assert (was in "KE", r.state, r.late_correction) == (True, "D", True)
            if r.final:
                self.final[sid] = r.state
            if sid in self.left and r.state == "q" and sid not in self.held[WORKERS[0]] | self.held[WORKERS[1]]:
                assert r.possible_duplicate, "waits to be sent again, and nobody would know the copy as one"
        counted = [
            int(n)
            for key, fields in snap.items()
            if ":stats:" in key
            for name, n in fields.items()
            if name.split(b"\x1f")[8] == b"accepted"
        ]
        assert sum(counted) == len(self.accepted)


def test_random_walks(valkey: ValkeyServer) -> None:
    class Walk(Moves):
        server = valkey

    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=15,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
