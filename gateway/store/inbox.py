"""Messages from handsets in the store: the parts of long ones, the whole ones, and what they did in the same step.

Owns the moves `mo*.lua` and the layout of what they keep. Refuses to know alphabets and opt-out words (`dlr.handset`,
`policy.optout`): whoever calls has decided. A call that is repeated records nothing twice. Stands below `dlr.inbound`,
which writes, and the admin endpoints, which read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from gateway.model import State
from gateway.store import keys, records
from gateway.store.audit import Audit
from gateway.store.store import Store

PERIOD_S = 2_592_000
_LEFT_STATES = frozenset(
    (State.SUBMITTED, State.UNCERTAIN, State.DELIVERED, State.UNDELIVERABLE, State.REJECTED, State.UNKNOWN)
)


class PartRow(NamedTuple):
    """One part of a long message: the name of its set, what is known of the message, and its place from 1."""

    name: str
    about: bytes
    total: int
    place: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What the store remembers of a message that was sent to a handset's number."""

    id: bytes
    state: str
    category: int
    left: bool
    """Whether a carrier has it or may have it."""
    account: str
    campaign: str
    sender: str
    signature: str


@dataclass(frozen=True, slots=True)
class Latest:
    """A number as the store spells it, its latest messages (the newest first), and who was capped by it when."""

    msisdn: str
    sent: tuple[Sent, ...]
    capped: tuple[tuple[int, str, int], ...]
    """(category, account, epoch seconds of the last message that counted), the latest first: it outlives the records"""


@dataclass(slots=True)
class Recorded:
    """One whole message from a handset, decided: what is kept, told and done."""

    id: bytes
    msisdn: str
    digest: bytes
    account: str
    opt: str  # stop | start | review | ''
    event: bytes  # JSON
    channel: str
    answers: bytes = b""
    scope: str = ""
    mask: int = 0
    source: str = ""
    audit: bytes = b""
    opted: bytes = b""  # JSON
    signature: str = ""
    parts: str = ""
    """The name of the parts it was made of, for the store to remove."""
    parts_done: bytes = b""


@dataclass(frozen=True, slots=True)
class Result:
    """What recording did. The numbers are of opt-outs alone."""

    new: bool
    of_channel: int = 0  # opt-outs this hour through the channel, on the number's shard
    of_block: int = 0  # and of the 10,000 numbers that share all but the last four digits
    ended: int = 0  # waiting messages that ended as blocked
    opted_out: bool = False  # it was none before


class InboundStore:
    """What handsets wrote."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = store.client
        self.audit = Audit(store)

    @property
    def shards(self) -> int:
        return self._store.shards

    def shard_of(self, msisdn: str) -> int:
        """Return where a handset's messages are kept."""
        return keys.shard_of(msisdn, self._store.shards)

    # --- writing

    async def keep_parts(self, shard: int, rows: Sequence[PartRow], wait_ms: int) -> list[tuple[str, list[bytes]]]:
        """Keep parts; for each `w` (waits), `d` (a repeat), or `c` with the parts of the whole message in order."""
        args: list[Any] = [wait_ms]
        for row in rows:
            args += row
        raw = await self._client.call("mo_part", [self._store.prefixes[shard]], args)
        found, at = [], 1
        for letter, row in zip(raw[0].decode(), rows, strict=True):
            n = row.total if letter == "c" else 0
            found.append((letter, raw[at : at + n]))
            at += n
        return found

    async def overdue(self, shard: int, most: int, may_wait: int) -> list[tuple[str, bytes, dict[int, bytes]]]:
        """Return sets of parts that are given up: name, what is known of the message, place → octets."""
        raw = await self._client.call("mo_overdue", [self._store.prefixes[shard]], [most, may_wait])
        found, at = [], 0
        while at < len(raw):
            name, n = raw[at].decode(), int(raw[at + 1])
            fields = {raw[i]: raw[i + 1] for i in range(at + 2, at + 2 + n, 2)}
            about = fields.pop(b"m", b"{}")
            found.append((name, about, {int(place): octets for place, octets in fields.items()}))
            at += 2 + n
        return found

    async def latest(self, shard: int, numbers: Sequence[Sequence[str]]) -> list[Latest]:
        """Return what was sent to numbers of late; each is given by its possible spellings, the likeliest first."""
        raw = await self._client.call("mo_latest", [self._store.prefixes[shard]], [records.RS.join(n) for n in numbers])
        found, at = [], 0
        for _ in numbers:
            msisdn, caps, n = raw[at].decode(), raw[at + 1], int(raw[at + 2])
            rows = raw[at + 3 : at + 3 + 4 * n]
            sent = tuple(_sent(*rows[i : i + 4]) for i in range(0, 4 * n, 4))
            found.append(Latest(msisdn, sent, _capped(caps)))
            at += 3 + 4 * n
        return found

    async def record(
        self, shard: int, messages: Sequence[Recorded], *, keep_s: int, keep_optouts_s: int
    ) -> list[Result]:
        """Record messages; see `lua/mo.lua`. What was recorded within ten minutes is not recorded again."""
        args: list[Any] = [*self._store._retention, keep_s, keep_optouts_s]
        for m in messages:
            args += (
                m.id, m.msisdn, m.digest, m.account, m.opt, m.event, m.parts, m.parts_done, m.answers,
                m.scope, m.mask, m.source, m.audit, m.opted, m.channel, m.signature,
            )  # fmt: skip
        raw = await self._store._timed("mo", shard, args, len(messages))
        self._store._tell_finals(raw[1])
        results, at = [], 2
        for letter, m in zip(raw[0].decode(), messages, strict=True):
            if letter == "n" and m.opt == "stop" and m.msisdn:
                results.append(Result(True, raw[at], raw[at + 1], raw[at + 2], raw[at + 3] == 1))
                at += 4
            else:
                results.append(Result(letter == "n"))
        return results

    # --- reading

    async def find(
        self, *, account: str | None = None, msisdn: str = "", review: bool = False, before: str = "", most: int = 50,
        periods: int = 1,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Return messages, the newest first, as their events tell them: of an account, of a number, or to be read.

        `before` is the id of the last one seen; `periods` of 30 days are looked through.
        """
        last = bytes.fromhex(before.replace("-", "")) if before else b""
        found: list[tuple[bytes, dict[str, Any]]] = []
        shards = [self.shard_of(msisdn)] if msisdn else range(self._store.shards)
        for shard in shards:
            p = self._store.prefixes[shard]
            async for period, ids in self._lists(p, account, msisdn, review, periods):
                got = await self._messages(p, period, _older(ids, last))
                if review and account is not None:
                    got = [(sid, event) for sid, event in got if event.get("account") == account]
                found += got[-most:] if not review else got
        found.reverse()
        found.sort(key=lambda pair: pair[0][:6], reverse=True)  # by time; within a millisecond as they came
        return [event for _, event in found[:most]]

    async def _lists(
        self, p: str, account: str | None, msisdn: str, review: bool, periods: int
    ) -> AsyncIterator[tuple[int, list[bytes]]]:
        """Yield (period, ids) of what may be wanted on one shard, ids in the order in which they came."""
        execute = self._client.execute
        now = int(time.time()) // PERIOD_S
        if review:
            ids = await execute("ZRANGE", f"{p}moreview", 0, -1)
            for period in range(now, now - periods, -1):
                yield period, ids
            return
        for period in range(now, now - periods, -1):
            if msisdn:
                packed = (await execute("HMGET", f"{p}monum:{period}", msisdn))[0] or b""
                yield period, [packed[i : i + 16] for i in range(0, len(packed), 16)]
            else:
                own = "" if account is None else f":{account}"
                yield period, await execute("LRANGE", f"{p}molist:{period}{own}", -5000, -1)

    async def _messages(self, p: str, period: int, ids: Sequence[bytes]) -> list[tuple[bytes, dict[str, Any]]]:
        found = []
        for i in range(0, len(ids), 500):
            some = ids[i : i + 500]
            plain = await self._client.execute("HMGET", f"{p}mo:{period}", *some)
            special = await self._client.execute("HMGET", f"{p}mooptout:{period}", *some)
            for sid, one, other in zip(some, plain, special, strict=True):
                if one or other:
                    found.append((sid, orjson.loads(one or other)))
        return found

    async def get(self, sid: bytes, periods: int) -> dict[str, Any] | None:
        """Return one message, None when there is none (any more)."""
        for p in self._store.prefixes:
            now = int(time.time()) // PERIOD_S
            for period in range(now, now - periods, -1):
                found = await self._messages(p, period, [sid])
                if found:
                    return found[0][1]
        return None

    async def waiting_for_review(self) -> int:
        """Return how many replies wait to be read by a person."""
        total = 0
        for p in self._store.prefixes:
            total += int(await self._client.execute("ZCARD", f"{p}moreview"))
        return total

    async def reviewed(self, sid: bytes, *, actor: str, decision: str) -> bool:
        """Take a reply off the list of those to be read; False when it was not on it."""
        what = self.audit.what(actor, "inbound.reviewed", sid.hex(), decision=decision)
        for p in self._store.prefixes:
            if await self._client.call("mo_reviewed", [p], [sid, what]):
                return True
        return False

    async def erase(self, msisdn: str, periods: int) -> int:
        """Remove what a number's handset wrote within so many periods of 30 days; returns how many messages."""
        p = self._store.prefixes[self.shard_of(msisdn)]
        return int(await self._client.call("mo_erase", [p], [msisdn, periods]))


def _older(ids: Sequence[bytes], last: bytes) -> Sequence[bytes]:
    """Return the ids that came before the last one seen; those of its millisecond on other shards may show again."""
    if not last:
        return ids
    if last in ids:
        return ids[: ids.index(last)]
    return [sid for sid in ids if sid[:6] <= last[:6]]


def _sent(sid: bytes, marks: bytes, dims: bytes, extras: bytes) -> Sent:
    account, _, _, _, campaign, _ = dims.decode().split(records.US)
    sender, _, _, *rest = extras.decode().split(records.US)
    state, flags = chr(marks[0]), marks[2]
    left = state in _LEFT_STATES or bool(flags & records.FLAG_LEFT)
    return Sent(sid, state, marks[1] - 48, left, account, campaign, sender, rest[0] if rest else "")


def _capped(value: bytes) -> tuple[tuple[int, str, int], ...]:
    """Return the accounts among the names that caps count by (`lua/_numbers.lua`)."""
    if not value:
        return ()
    found = [
        (category, name, max(times))
        for (category, name), times in records.caps_of_number(value).items()
        if times and name != "*" and "#" not in name
    ]
    return tuple(sorted(found, key=lambda cap: -cap[2]))
