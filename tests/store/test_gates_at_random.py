"""Gates set, swept and opened at random among all the moves a message can make: nothing is counted twice or forgotten.

After every few moves the store is looked at as a whole (`check_consistent`); at the end every category is closed, and
whatever waited anywhere has ended by its gate, once.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import CATEGORY_LABELS, Category, Secret
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.store.gates import GateSweeps
from gateway.store.moves import ClaimRequest, ClaimSource, Redelivery, Settlement
from gateway.store.records import Record
from gateway.store.store import Store
from tests.support.messages import accept, ids_of, message, receipt_row
from tests.support.snapshot import check_consistent, snapshot
from tests.support.valkey import ValkeyServer

STEPS = 400
GATES = [("gate", "g"), ("tag", "t"), ("campaign", "c"), ("account", "other"), ("category", "marketing"),
         ("category", "notification")]  # fmt: skip


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    route = RouteSettings(
        "r",
        RouteMatch(),
        (RankedChannel("a", 0), RankedChannel("b", 1)),
        redeliver_after_s=tuple((c, 20) for c in Category),
    )
    channels = tuple(ChannelSettings(name, "127.0.0.1", 1, "x", Secret("x")) for name in "ab")
    rules = {c: replace(s, per_number=()) for c, s in settings.categories.items()}
    own = replace(settings, routes=(route,), channels=channels, categories=rules)
    opened = await Store.open(own, valkey.url, incarnation="worker01")
    yield opened
    await opened.close()


class Walk:
    """One run: what is claimed and sent just now, and the moves by name."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.claimed: list[tuple[str, Any]] = []
        self.sent: list[tuple[str, Any]] = []
        self.known: list[bytes] = []
        self.token = 0

    async def step(self) -> str:
        """Make one move; returns its name."""
        moves: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self.accept), (6, self.claim), (8, self.settle), (2, self.release), (4, self.due), (3, self.receipt),
            (2, self.redeliver), (2, self.cancel), (2, self.hasten), (3, self.gate), (6, self.sweep), (1, self.unpin),
            (1, self.reap), (1, self.expire),
        ]  # fmt: skip
        (move,) = self.chance.choices([m for _, m in moves], [w for w, _ in moves])
        await move()
        return move.__name__

    async def accept(self) -> None:
        made = []
        for _ in range(self.chance.randint(1, 12)):
            more: dict[str, Any] = {
                "category": self.chance.randint(0, 2),
                "account": self.chance.choice(["shop", "other"]),
                "parts": self.chance.choice([1, 1, 3]),
                "ttl_ms": self.chance.choice([3_600_000, 3_600_000, 400]),
            }
            if self.chance.random() < 0.4:
                more["gate"] = "g"
            if self.chance.random() < 0.4:
                more["tags"] = ("s", "t")
            if self.chance.random() < 0.4:
                more["campaign"] = "c"
            if self.chance.random() < 0.4:
                ahead = self.chance.choice([50, 3_600_000])
                more |= {"send_at_ms": int(time.time() * 1000) + ahead, "state": self.chance.choice("hf")}
            made.append(message(self.store, **more))
        await accept(self.store, *made)
        self.known += [m.id for m in made]

    async def claim(self) -> None:
        self.token += 1
        channel, rank = self.chance.choice([("a", 0), ("b", 1), ("b", 0)])
        asked = ClaimRequest(channel, 9, 9, [ClaimSource("r", rank, (0, 0, 0))])
        _, found, bad = await self.store.claim(0, f"t{self.token}", [asked])
        assert not bad
        self.claimed += [(channel, c) for _, c in found]

    async def settle(self) -> None:
        if not self.claimed:
            return
        channel, c = self.claimed.pop(self.chance.randrange(len(self.claimed)))
        verb = self.chance.choice("sssrnNlpPuUF")
        if verb in "pP" and c.parts == 1:
            verb = "r"
        mask = (1 << c.parts) - 1 if verb == "s" else 1 if verb == "p" else 0
        outcome = "" if verb in "sp" else "uncertain" if verb in "uU" else "same"
        ids = [(place, name) for place, name in ids_of(c, channel)] if verb == "s" else []
        named = ",".join(f"{part}={place.partition(':')[2]}" for part, (place, _) in enumerate(ids))
        log = f"{c.attempt}\x1f{channel}\x1f0\x1f{outcome}\x1f{named}"
        one = Settlement(
            c.claim, c.attempt, verb, channel, self.chance.choice([0, 30, 60_000]) if verb != "s" else 60_000, mask,
            rank=self.chance.randint(0, 1) if verb in "nN" else 0, log=log,
        )  # fmt: skip
        if (await self.store.settle(0, [one], ids))[0] == "1" and verb == "s":
            self.sent.append((channel, c))

    async def release(self) -> None:
        if self.claimed:
            _, c = self.claimed.pop()
            await self.store.release(0, [c.claim])

    async def due(self) -> None:
        await self.store.due(0)

    async def receipt(self) -> None:
        if self.sent:
            channel, c = self.chance.choice(self.sent)
            row = list(receipt_row(c, self.chance.choice("DDUU"), self.chance.randrange(c.parts), channel=channel))
            row[6] = True  # another channel may do better
            await self.store.apply_receipts([tuple(row)])  # type: ignore[list-item]

    async def redeliver(self) -> None:
        for sid, _ in await self.store.redo(0):
            verb, target = self.chance.choice([("g", "b"), ("g", ""), ("n", "")])
            await self.store.redeliver(0, [Redelivery(sid, verb, 1, target)])

    async def cancel(self) -> None:
        if self.known:
            await self.store.cancel(self.chance.choice(self.known), self.chance.choice(["shop", "other"]))

    async def hasten(self) -> None:
        for sid in self.chance.sample(self.known, min(5, len(self.known))):
            await self.store.resend(sid)

    async def gate(self) -> None:
        kind, name = self.chance.choice(GATES)
        state = self.chance.choice(["open", "open", "hold", "closed"])
        await self.store.set_gate(kind, name, state, budget_s=0.0)

    async def sweep(self) -> None:
        sweeps = GateSweeps(self.store)  # as another process would go on, the last one having died
        for _ in range(self.chance.randint(1, 3)):
            await sweeps.go_on()

    async def unpin(self) -> None:
        await self.store.unpin(0, self.chance.choice("ab"))

    async def reap(self) -> None:
        self.claimed = []
        await self.store.reap("worker01")

    async def expire(self) -> None:
        await self.store.expire(0)


def by_gate(records: dict[bytes, Record]) -> Counter[tuple[int, str]]:
    return Counter((r.category, r.state) for r in records.values() if r.reason == "gate_closed" and r.final)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_happens_meanwhile(
    store: Store, valkey: ValkeyServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.gates.LOOK_MOST", 7)
    monkeypatch.setattr("gateway.store.gates.CLOSE_MOST", 3)
    walk = Walk(store, seed)
    done: Counter[str] = Counter()
    with valkey.sync() as client:
        for n in range(STEPS):
            done[await walk.step()] += 1
            if n % 5 == 0:
                check_consistent(snapshot(client))
        assert len(done) == 14, done
        before = check_consistent(snapshot(client))
        for kind, name in GATES:
            await store.set_gate(kind, name, "open", budget_s=0.0)
        monkeypatch.setattr("gateway.store.gates.LOOK_MOST", 500)
        monkeypatch.setattr("gateway.store.gates.CLOSE_MOST", 50)
        for label in CATEGORY_LABELS:
            await store.set_gate("category", label, "closed", budget_s=0.0)
        sweeps = GateSweeps(store)
        while (await sweeps.go_on()).busy:
            pass
        after = check_consistent(snapshot(client))
    ended = by_gate(after) - by_gate(before)
    gates = await store.gates()
    for category, label in enumerate(CATEGORY_LABELS):
        gate = gates[f"category:{label}"]
        assert gate["closed"] == sum(n for (c, _), n in ended.items() if c == category), (label, gate, ended)
        assert (gate["sweep"]["done"], gate["held"]) == (True, 0)
    held = {c.id for _, c in walk.claimed}
    left = [r for r in after.values() if r.state in "qhfrw" and r.id not in held]
    assert not left, [(r.id.hex(), r.state) for r in left]
    found = await GateSweeps(store).preview("category", "marketing", under_way=False)
    assert not any(n for (word, *_), n in found.counts.items() if word != "uncertain"), found.counts
