"""Reading and steering single messages and numbers: queries, cancelling, gates, and the gauges of what waits.

Owns nothing but the translation. Asked by applications and operators, never once a message of the path.
"""

from __future__ import annotations

import math
import time
from typing import Any

from gateway.model import route_name, shard_of_id
from gateway.store import keys, records
from gateway.store.base import StoreBase, pairs
from gateway.store.gate_labels import SWEEP_FIELDS, gate_label, progress_of, shown_label
from gateway.store.moves import Feedback
from gateway.store.records import Record

NUMBER_S = 691_200
"""How long one hash of numbers is written to (NUM_S in `lua/_numbers.lua`)."""
_ID_BYTES = 16


class Queries(StoreBase):
    """What is asked about messages, numbers and queues."""

    async def get(self, sid: bytes) -> Record | None:
        """Return a message's record, None when there is none (any more)."""
        shard = shard_of_id(sid)
        if shard >= self.shards:
            return None
        raw = await self.client.execute("GET", f"{self.prefixes[shard]}msg:".encode() + sid)
        return records.parse(sid, raw) if raw else None

    async def find(self, msisdn: str, account: str) -> list[Record]:
        """Return the latest messages of an account, or of all (""), to a number, newest first; 16 are remembered."""
        shard = keys.shard_of(msisdn, self.shards)
        flat = await self.client.call("number", [self.prefixes[shard]], [msisdn, account])
        return [records.parse(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]

    async def find_ref(self, msisdn: str, idem: bytes) -> Record | None:
        """Return the message that an idempotency mark stands for, if its record is kept."""
        shard = keys.shard_of(msisdn, self.shards)
        found = await self.client.call("idem_find", [self.prefixes[shard]], [idem])
        return records.parse(found[0], found[1]) if found and found[1] else None

    async def cancel(self, sid: bytes, account: str) -> str:
        """Cancel a message: `cancelled`, `already`, `too_late` or `not_found`."""
        shard = shard_of_id(sid)
        if shard >= self.shards:
            return "not_found"
        answer: bytes = await self.client.call("cancel", [self.prefixes[shard]], [sid, account, *self._retention])
        return answer.decode()

    async def resend(self, sid: bytes) -> str:
        """Send at once what waits for its next attempt, or is uncertain; see `lua/hasten.lua` for the answers."""
        shard = shard_of_id(sid)
        if shard >= self.shards:
            return "not_found"
        answer: bytes = await self.client.call("hasten", [self.prefixes[shard]], [sid, *self._max_attempts])
        return answer.decode()

    async def feedback(self, sid: bytes, account: str, told: Feedback) -> str:
        """Note what a message led to; see `lua/feedback.lua`.

        Returns `done`, `repeated`, `conflict` (the event_id has other content), `too_many`, `not_sent` or `not_found`.
        """
        shard = shard_of_id(sid)
        if shard >= self.shards:
            return "not_found"
        said = (told.outcome, told.event_id, told.amount, told.currency, told.customer, told.at_ms or "")
        answer: bytes = await self.client.call("feedback", [self.prefixes[shard]], [sid, account, self._rated, *said])
        return answer.decode()

    async def set_gate(self, kind: str, name: str, state: str, *, budget_s: float = math.inf) -> dict[str, int]:
        """Set a gate on every shard and move what it held; returns how many are still held and how many moved.

        With a budget the moving stops when it is spent; `store.gates.GateSweeps` goes on with the rest.
        """
        moved = held = 0
        until = time.monotonic() + budget_s
        label = gate_label(kind, name)
        channels = "\x1f".join(c.id for c in self._settings.channels)
        for p in self.prefixes:
            while True:
                args = [label, state, *self._retention, 200, channels]
                left, now_moved, finals = await self.client.call("gate", [p], args)
                self._tell_finals(finals)
                moved += now_moved
                if state == "hold" or not left or time.monotonic() > until:
                    held += left
                    break
        return {"held": held, "moved": moved}

    async def gates(self) -> dict[str, dict[str, Any]]:
        """Return the gates that are not open: name → state, messages held aside, messages closed so far.

        A closed one also has `sweep`, as `gate_labels.progress_of` sums it up over the shards.
        """
        result: dict[str, dict[str, Any]] = {}
        sweeps: dict[str, list[dict[str, str]]] = {}
        for p in self.prefixes:
            flat = await self.client.execute("HGETALL", f"{p}gates")
            counts = pairs(await self.client.execute("HGETALL", f"{p}gatecount"))
            for name, state in pairs(flat).items():
                shown = shown_label(name)
                entry = result.setdefault(shown, {"state": state, "held": 0, "closed": 0})
                entry["held"] += await self.client.execute("LLEN", f"{p}held:{name}")
                entry["closed"] += int(counts.get(f"{name}\x1fclosed", 0))
                fields = await self.client.execute("HMGET", f"{p}gatesweep:{name}", *SWEEP_FIELDS)
                if state == "closed" and fields[0] is not None:
                    values = [x.decode() if x else "" for x in fields]
                    sweeps.setdefault(shown, []).append(dict(zip(SWEEP_FIELDS, values, strict=True)))
        for shown, shards in sweeps.items():
            result[shown]["sweep"] = progress_of(shards)
        return result

    # --- gauges

    async def depths(self) -> list[tuple[str, int, int, int, float]]:
        """Return (route, rank, category, depth, age of the oldest entry in s) of every queue ring that has work."""
        found: dict[tuple[str, int, int], tuple[int, float]] = {}
        now_ms = time.time() * 1000
        for p in self.prefixes:
            for name in [x.decode() for x in await self.client.execute("SMEMBERS", f"{p}rings")]:
                route, rank, category = name.rsplit(":", 2)
                depth, age = found.get((route, int(rank), int(category)), (0, 0.0))
                for account in await self.client.execute("LRANGE", f"{p}ring:{name}", 0, -1):
                    queue = f"{p}q:{name}:{account.decode()}"
                    depth += await self.client.execute("LLEN", queue)
                    head = await self.client.execute("LINDEX", queue, 0)
                    if head:
                        age = max(age, (now_ms - int.from_bytes(head[_ID_BYTES : _ID_BYTES + 6], "big")) / 1000)
                found[route, int(rank), int(category)] = (depth, max(0.0, age))
        return [(*name, *value) for name, value in found.items()]

    async def timed(self) -> int:
        """Return the number of entries that wait for their time: scheduled, deferred, to be tried again, uncertain."""
        return sum([int(await self.client.execute("ZCARD", f"{p}due")) for p in self.prefixes])

    async def quota_drawn(self, account: str, day: int) -> int:
        """Return what all workers drew of an account's quota on a day (epoch days): spent, or still in their hands."""
        at, used = await self.client.execute("HMGET", keys.account_key(account, "limit"), "day", "used")
        return int(used) if at is not None and int(at) == day else 0

    async def waiting(self) -> int:
        """Return the number of stored messages that wait to be sent."""
        total = 0
        for p in self.prefixes:
            total += int(await self.client.execute("GET", f"{p}waiting") or 0)
        return total

    async def statistics(self, hour: int) -> dict[tuple[str, ...], int]:
        """Return the counters of one hour (epoch hours): (account, carrier, route, template, campaign, variant,
        category, channel, outcome, reason) → number."""
        result: dict[tuple[str, ...], int] = {}
        for p in self.prefixes:
            for name, value in pairs(await self.client.execute("HGETALL", f"{p}stats:{hour}")).items():
                account, carrier, route, *rest = name.split("\x1f")
                fields = (account, carrier, route_name(route), *rest)
                result[fields] = result.get(fields, 0) + int(value)
        return result
