"""The slow half of gates: ending what waits behind a closed one, freeing what an opened one held, counting beforehand.

Owns the pace. A slice is one move (`lua/gate_sweep.lua`, `lua/gate.lua`, `lua/gate_look.lua`); where a sweep stands is
kept in the store with what it did, so any process may go on with it, also after one died. Refuses to know who sets a
gate and why. Stands beside the path: claims meet a closed gate by themselves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.model import CATEGORY_LABELS, State
from gateway.store import keys
from gateway.store.gate_labels import gate_label, shown_label
from gateway.store.store import Store

LOOK_MOST: Final = 500
"""Entries a slice looks at: reading one costs the store about 2 µs."""
CLOSE_MOST: Final = 50
"""Messages a slice ends: each costs the store 25 to 45 µs, so a slice keeps it for some 2 ms."""
PREVIEW_MOST: Final = 1000
LIST_S: Final = 0.5
TURN_MS: Final = 5_000

_WORDS: Final = {
    State.QUEUED: "queued",
    State.RETRY: "retry",
    State.SCHEDULED: "scheduled",
    State.DEFERRED: "deferred",
    State.HELD: "held",
    "c": "claimed",
    State.SUBMITTED: "submitted",
    State.UNCERTAIN: "uncertain",
}
WAITING: Final = ("queued", "scheduled", "deferred", "retry", "held")
UNDER_WAY: Final = ("claimed", "submitted", "uncertain")


@dataclass(slots=True)
class Slice:
    """What one round of slices over all shards and gates did."""

    looked: int = 0
    closed: int = 0
    freed: int = 0
    going: bool = False
    """Whether a sweep or an opened gate has more to do, also where this slice only came to an end of a pass."""
    over: list[str] = field(default_factory=list)
    """Gates whose sweep ended in this round, as people see them."""

    @property
    def busy(self) -> bool:
        return bool(self.looked or self.closed or self.freed or self.going)


@dataclass(slots=True)
class Preview:
    """What a gate would end, so far; `next` is where the count goes on ('': it is whole)."""

    counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(word of WAITING or UNDER_WAY, category, account) → messages."""
    looked: int = 0
    next: str = ""

    def add(self, what: str, n: int) -> None:
        state, category, account = what.split("\x1f")
        key = (_WORDS[state], CATEGORY_LABELS[int(category)], account)
        self.counts[key] = self.counts.get(key, 0) + n


class GateSweeps:
    """Sweeps and previews over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed_at = float("-inf")
        self._sweeping: list[tuple[str, str]] = []  # prefix of the shard, gate
        self._freeing: list[tuple[str, str]] = []

    async def turn(self) -> bool:
        """Take or keep the turn to sweep; one process of all machines has it, for `TURN_MS` after it last asked."""
        client, mine = self._store.client, self._store.incarnation
        if await client.execute("SET", keys.GATES_TURN, mine, "NX", "PX", TURN_MS) is not None:
            return True
        if await client.execute("GET", keys.GATES_TURN) != mine.encode():
            return False
        await client.execute("PEXPIRE", keys.GATES_TURN, TURN_MS)
        return True

    async def go_on(self) -> Slice:
        """Do one slice of each sweep and of each opened gate that still holds messages, on every shard.

        Raises:
            StoreUnavailable: what was done stays done and counted.
        """
        did = Slice()
        store = self._store
        if time.monotonic() - self._listed_at > LIST_S:
            await self._list()
        for p, name in list(self._sweeping):
            args = [name, LOOK_MOST, CLOSE_MOST, *store._retention]
            over, looked, closed, finals = await store.client.call("gate_sweep", [p], args)
            store._tell_finals(finals)
            did.looked += looked
            did.closed += closed
            if over:
                did.over.append(shown_label(name))
                self._sweeping.remove((p, name))
            else:
                did.going = True
        for p, name in list(self._freeing):
            args = [name, "free", *store._retention, CLOSE_MOST, ""]
            left, moved, finals = await store.client.call("gate", [p], args)
            store._tell_finals(finals)
            did.freed += moved
            if left:
                did.going = True
            else:
                self._freeing.remove((p, name))
        if not did.busy:
            self._listed_at = float("-inf")  # nothing is known to be left: the next round looks
        return did

    async def _list(self) -> None:
        """Read which sweeps there are, and which opened gates still hold messages."""
        ask = self._store.client.execute
        self._listed_at = time.monotonic()
        self._sweeping, self._freeing = [], []
        for p in self._store.prefixes:
            self._sweeping += [(p, x.decode()) for x in sorted(await ask("SMEMBERS", f"{p}gatesweeps"))]
            self._freeing += [(p, x.decode()) for x in sorted(await ask("SMEMBERS", f"{p}gatefree"))]

    async def preview(
        self, kind: str, name: str, *, under_way: bool = True, at: str = "", budget_s: float = 5.0
    ) -> Preview:
        """Count what is under a gate, from `at` on ('': the beginning), for about `budget_s`; changes nothing.

        While messages move, one may be counted in two places or in none. Where `under_way` is set, what carriers have
        and may still report on is walked as well, which is all traffic of the last days.

        Raises:
            StoreUnavailable: as for every call.
        """
        store = self._store
        found = Preview()
        shard, _, place = at.partition(":") if at else ("0", "", "")
        number, position = int(shard), bytes.fromhex(place)
        channels = "\x1f".join(c.id for c in store._settings.channels)
        waits_s = max(c.dlr_wait_s for c in store._settings.categories.values()) if under_way else 0
        until = time.monotonic() + budget_s
        while number < store.shards:
            args = [gate_label(kind, name), position, PREVIEW_MOST, channels, waits_s]
            raw: list[Any] = await store.client.call("gate_look", [store.prefixes[number]], args)
            position = raw[0]
            found.looked += raw[1]
            for i in range(2, len(raw), 2):
                found.add(raw[i].decode(), raw[i + 1])
            if not position:
                number += 1
            if number < store.shards and time.monotonic() > until:
                found.next = f"{number}:{position.hex()}"
                break
        return found
