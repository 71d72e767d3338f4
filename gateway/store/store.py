"""The store as the other layers see it: accept, claim, settle, receipts, timers, leases; each an atomic move in Lua.

Owns the connection pool, the commit lanes and the translation between Python values and script arguments. Knows no
HTTP and no SMPP. Every call can be repeated without doing its work twice; what that costs is said in each script.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.model import Accepted, Category, MessageKind, NewMessage, route_name, shard_of_id
from gateway.settings import Settings
from gateway.store import keys, records
from gateway.store.batcher import Batcher
from gateway.store.client import Client
from gateway.store.moves import (
    HOLD_MS,
    ID_SEPARATOR,
    LEASE_MS,
    RATING_S,
    RESEND_GRACE_MS,
    ClaimRequest,
    Feedback,
    Health,
    Lease,
    ParkedReceipt,
    ReceiptRow,
    Recipient,
    Redelivery,
    Settlement,
    SettleRow,
    SmscId,
)
from gateway.store.records import Claimed, Record

_CLAIM_PASSES = 50
LAYOUT_VERSION = "2"
SMSC_ID_EXTRA_S = 3_600
NUMBER_S = 691_200
"""How long one hash of numbers is written to (NUM_S in `lua/_record.lua`)."""
PARKED_PER_CHANNEL = 100_000
PARKED_TTL_S = 86_400
_POLICY = {"resend": "r", "hold": "h", "fail": "f"}
_VERIFICATION_RESERVE = 0.05
_ID_BYTES = 16
_CLAIM_BYTES = 22
_ACCEPTED = ord("a")
_CODES = {ord("b"): "blocked", ord("e"): "expired", ord("f"): "full"}


class Store:
    """All moves on the messages of a gateway. One instance a process."""

    def __init__(self, settings: Settings, url: str, *, incarnation: str = "--------") -> None:
        self._settings = settings
        self.shards = settings.store.shards
        self.incarnation = incarnation
        self.client = Client(url)
        self._fast = [Batcher(s, self._commit) for s in range(self.shards)]
        self._bulk = [Batcher(s, self._commit) for s in range(self.shards)]
        self.prefixes = [keys.prefix(s) for s in range(self.shards)]
        self._problems: list[str] = ["not opened yet"]
        self._parked_at: dict[tuple[int, str], int] = {}
        self.on_finals: Callable[[int, str, str, str, int], None] | None = None
        """Called with category, route, state letter, reason and number when a move ended messages."""
        self.commit_seconds: Any = None  # set by the app: observe(batch size, seconds) per move
        self.configure(settings)

    @classmethod
    async def open(cls, settings: Settings, url: str, *, incarnation: str = "--------") -> Store:
        """Connect, check the layout in `gw:meta` and return a store that is ready to use.

        Raises:
            StoreUnavailable: no server answers there.
            ConfigError: the data there was written for another number of shards or another layout.
        """
        store = cls(settings, url, incarnation=incarnation)
        try:
            await store.check_layout()
        except BaseException:
            await store.close()
            raise
        store._problems = []
        return store

    def configure(self, settings: Settings) -> None:
        """Take the category rules and limits of `settings` into use."""
        self._settings = settings
        categories = [settings.categories[c] for c in Category]
        self._retention = [str(c.retention_s) for c in categories]
        self._dlr_waits = [str(c.dlr_wait_s * 1000) for c in categories]
        self._policies = [_POLICY[c.on_uncertain] for c in categories]
        self._max_attempts = [str(c.max_attempts) for c in categories]
        self._rules = [";".join(f"{n},{w}" for n, w in c.per_number) for c in categories]
        self._rated = "1" if settings.rates_channels else ""
        self._redelivery = "".join(
            f"\x1e{route.id}\x1f{''.join('1' if settings.redeliver_after_s(route.id, c) else '0' for c in Category)}"
            for route in settings.routes
            if any(settings.redeliver_after_s(route.id, c) for c in Category)
        )
        most = settings.store.max_queued // max(1, self.shards)
        self._most = [str(most), str(int(most * (1 + _VERIFICATION_RESERVE)) + 100 if most else 0)]
        self.set_intake("open")
        self.smsc_id_ttl_s = max(c.dlr_wait_s for c in categories) + SMSC_ID_EXTRA_S
        self._smsc_id_days = self.smsc_id_ttl_s // 86_400 + 1
        response_s = max((c.response_timer_s for c in settings.channels), default=30)
        self._graces = [
            0
            if p == "f" or (p == "r" and i == 0)
            else HOLD_MS
            if p == "h"
            else int(response_s * 1000) + RESEND_GRACE_MS
            for i, p in enumerate(self._policies)
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def check_layout(self) -> None:
        """Load the moves; write `gw:meta` at the first start, compare it with the configuration later; see `open`."""
        await self.client.load_moves()
        await self.client.forget_other_moves()
        await self.client.execute("HSETNX", keys.META, "shards", self.shards)
        await self.client.execute("HSETNX", keys.META, "layout", LAYOUT_VERSION)
        shards, layout = await self.client.execute("HMGET", keys.META, "shards", "layout")
        if layout.decode() != LAYOUT_VERSION:
            raise ConfigError(
                [
                    ConfigProblem(
                        "gateway.toml",
                        "store",
                        f"the data has layout {layout.decode()}, not {LAYOUT_VERSION}",
                    )
                ]
            )
        if int(shards) != self.shards:
            if await self._holds_messages(int(shards)):
                reason = f"the data was written with shards = {int(shards)}; empty the store before changing it"
                raise ConfigError([ConfigProblem("gateway.toml", "store.shards", reason)])
            await self.client.execute("HSET", keys.META, "shards", self.shards)
        now_s = int(time.time())
        for p in self.prefixes:
            await self.client.execute("SET", f"{p}exp:cursor", now_s // 15 * 15, "NX")
            await self.client.execute("SET", f"{p}late:cursor", now_s // 15 * 15, "NX")
            await self.client.execute("SET", f"{p}wait:cursor", now_s // 300 * 300, "NX")
            await self.client.execute("SET", f"{p}gone:cursor", now_s // 300 * 300, "NX")

    async def _holds_messages(self, shards: int) -> bool:
        for s in range(shards):
            cursor = b"0"
            while True:
                cursor, found = await self.client.execute(
                    "SCAN", cursor, "MATCH", f"{keys.prefix(s)}msg:*".replace("[", "\\["), "COUNT", 1000
                )
                if found:
                    return True
                if int(cursor) == 0:
                    break
        return False

    # --- readiness -----------------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Return why the store must not be used now; empty when it may."""
        return self._problems

    def set_problems(self, problems: list[str]) -> None:
        """Take the findings of the periodic durability check."""
        self._problems = problems

    def set_intake(self, level: str) -> None:
        """Narrow what may be stored: `open`, `verification` (nothing else) or `closed`; replays are answered still.

        The periodic check narrows it while memory or disk run low (`durability.judge_intake`).
        """
        self._limits = {"open": self._most, "verification": ["-1", self._most[1]], "closed": ["-1", "-1"]}[level]

    # --- accept --------------------------------------------------------------------------------------------------

    async def accept(self, messages: list[NewMessage]) -> list[Accepted | StoreUnavailable]:
        """Store messages, grouped with those of other requests; one result an item, in order.

        A shard that fails answers its own items only.
        """
        if self.shards == 1 and len({m.kind.category == 0 for m in messages}) == 1:
            lane = self._fast[0] if messages[0].kind.category == 0 else self._bulk[0]
            try:
                return list(await lane.add(messages))
            except StoreUnavailable as exc:
                return [exc] * len(messages)
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, m in enumerate(messages):
            groups.setdefault((m.shard, m.kind.category == 0), []).append(i)
        futures = [
            (self._fast if fast else self._bulk)[shard].add([messages[i] for i in places])
            for (shard, fast), places in groups.items()
        ]
        results: list[Accepted | StoreUnavailable] = [StoreUnavailable("not decided")] * len(messages)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for places, answer in zip(groups.values(), answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                for i in places:
                    results[i] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                for i, one in zip(places, answer, strict=True):
                    results[i] = one
        return results

    async def _commit(self, shard: int, messages: list[NewMessage]) -> list[Accepted]:
        places: dict[MessageKind, int] = {}
        head: list[Any] = []
        items: list[Any] = []
        for m in messages:
            kind = m.kind
            place = places.get(kind)
            if place is None:
                place = places[kind] = len(places) + 1
                if kind.packed is None:
                    kind.packed = records.PackedKind(kind)
                head += kind.packed.head
            rest = records.pack_rest(m, kind.packed)
            items += (place, m.id, m.msisdn, rest, m.idem + m.digest if m.idem else b"")
        args = [*self._limits, *self._rules, "0", len(places), *head, *items]
        started = time.perf_counter()
        raw = await self._call_twice("accept", shard, args, repeat_at=5)
        if self.commit_seconds is not None:
            self.commit_seconds("accept", len(messages), time.perf_counter() - started)
        now = int(raw[0])
        details = iter(raw[2:])
        return [
            self._accepted(m, now) if letter == _ACCEPTED else _refused(letter, details)
            for m, letter in zip(messages, raw[1], strict=True)
        ]

    async def _call_twice(self, script: str, shard: int, args: list[Any], *, repeat_at: int) -> Any:
        """Run a script that may be repeated once, inside one deadline, when its answer was lost on the way.

        A time-out is not repeated: the server may be hanging, and the caller's own deadline counts.
        """
        started = time.monotonic()
        try:
            return await self.client.call(script, [self.prefixes[shard]], args)
        except StoreUnavailable as exc:
            spent = time.monotonic() - started
            if exc.outcome != "unknown" or spent > self.client.timeout_s * 0.5:
                raise
            args[repeat_at] = "1"
            try:
                return await self.client.call(
                    script, [self.prefixes[shard]], args, timeout_s=self.client.timeout_s - spent
                )
            except StoreUnavailable as again:
                raise StoreUnavailable(str(again), outcome="unknown") from again

    @staticmethod
    def _accepted(m: NewMessage, now: int) -> Accepted:
        k = m.kind
        expires = (k.send_at_ms if k.send_at_ms > now else now) + k.ttl_ms
        if k.not_after_ms and expires > k.not_after_ms:
            expires = k.not_after_ms
        return Accepted("accepted", m.id, now, expires)

    # --- queries, cancel, gates ------------------------------------------------------------------------------------

    async def get(self, sid: bytes) -> Record | None:
        """Return a message's record, None when there is none (any more)."""
        shard = shard_of_id(sid)
        if shard >= self.shards:
            return None
        raw = await self.client.execute("GET", f"{self.prefixes[shard]}msg:".encode() + sid)
        return records.parse(sid, raw) if raw else None

    async def find(self, msisdn: str, account: str) -> list[Record]:
        """Return the account's latest messages to a number, newest first (the last 16 to it are remembered)."""
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

    async def set_gate(self, kind: str, name: str, state: str) -> dict[str, int]:
        """Set a gate on every shard and move what it held; returns how many are still held and how many moved."""
        moved = held = 0
        label = f"{kind}:{_category_number(name)}" if kind == "category" else f"{kind}:{name}"
        for p in self.prefixes:
            while True:
                left, now_moved = await self.client.call("gate", [p], [label, state, *self._retention, 200])
                moved += now_moved
                if state == "hold" or not left:
                    held += left
                    break
        return {"held": held, "moved": moved}

    async def gates(self) -> dict[str, dict[str, Any]]:
        """Return the gates that are not open: name → state, messages held aside, messages closed so far."""
        result: dict[str, dict[str, Any]] = {}
        for p in self.prefixes:
            flat = await self.client.execute("HGETALL", f"{p}gates")
            counts = _pairs(await self.client.execute("HGETALL", f"{p}gatecount"))
            for name, state in _pairs(flat).items():
                kind, _, rest = name.partition(":")
                shown = f"{kind}:{Category(int(rest)).label}" if kind == "category" else name
                entry = result.setdefault(shown, {"state": state, "held": 0, "closed": 0})
                entry["held"] += await self.client.execute("LLEN", f"{p}held:{name}")
                entry["closed"] += int(counts.get(f"{name}\x1fclosed", 0))
        return result

    # --- blacklist -------------------------------------------------------------------------------------------------

    async def blacklist_add(self, scope: str, rows: Iterable[tuple[str, Sequence[Category], str]]) -> int:
        """Add numbers to a blacklist: scope `*` (all accounts) or an account; rows of number, categories, reason."""
        by_shard: dict[int, list[Any]] = {}
        n = 0
        now = int(time.time())
        for msisdn, categories, reason in rows:
            mask = sum(1 << c for c in categories)
            by_shard.setdefault(keys.shard_of(msisdn, self.shards), []).extend((msisdn, f"{mask}{reason}:{now}"))
            n += 1
        for shard, flat in by_shard.items():
            if scope != "*":
                await self.client.execute("SADD", f"{self.prefixes[shard]}blacklists", scope)
            for i in range(0, len(flat), 2000):
                await self.client.execute("HSET", f"{self.prefixes[shard]}blacklist:{scope}", *flat[i : i + 2000])
        return n

    async def blacklist_remove(self, scope: str, msisdn: str) -> bool:
        """Take a number off a blacklist; False when it was not on it."""
        shard = keys.shard_of(msisdn, self.shards)
        return bool(await self.client.execute("HDEL", f"{self.prefixes[shard]}blacklist:{scope}", msisdn))

    async def recipient(self, msisdn: str, account: str) -> Recipient:
        """Return what is known of a number, for whoever asks why it would be refused."""
        p = self.prefixes[keys.shard_of(msisdn, self.shards)]
        blacklists: dict[str, tuple[int, str]] = {}
        for scope in ("*", account):
            value = await self.client.execute("HGET", f"{p}blacklist:{scope}", msisdn)
            if value:
                blacklists[scope] = (value[0] - 48, value[1:].decode().rpartition(":")[0])
        period = int(time.time()) // NUMBER_S
        sent: dict[tuple[int, str], tuple[int, ...]] = {}
        for key in (f"{p}num:{period - 1}", f"{p}num:{period}"):
            value = await self.client.execute("HGET", key, msisdn)
            if value:
                sent |= records.caps_of_number(value)
        return Recipient(blacklists, sent)

    # --- claim, settle, release, reap --------------------------------------------------------------------------------

    async def claim(
        self, shard: int, token: str, requests: list[ClaimRequest], *, again: bool = False
    ) -> tuple[int, list[tuple[int, Claimed]], list[tuple[int, bytes, int]]]:
        """Claim messages for the free capacity of several channels in one call.

        With `again`, return what an earlier call under this token claimed, whose answer was lost, and nothing new.
        Returns the store's time (epoch ms), pairs of (index into `requests`, message), and (index, claim, attempt) of
        records that could not be read.
        """
        args: list[Any] = [self.incarnation, token, "0", *self._max_attempts, *self._retention, len(requests)]
        for request in requests:
            args += (request.channel, request.parts, request.parts_rest, len(request.sources))
            for s in request.sources:
                args += (s.route, s.rank, *s.min_wait_ms, s.share)
        started = time.perf_counter()
        for _ in range(1 if again else _CLAIM_PASSES):
            args[2] = "1" if again else "0"
            raw = await self._call_twice("claim", shard, args, repeat_at=2)
            now_text, _, finals = raw[0].partition(b"\x1e")
            self._tell_finals(finals)
            if len(raw) != 2:
                break
            raw.pop()  # cancelled, expired and the like: looked through at once, or it would hold up what is behind it
        n = (len(raw) - 1) // 3
        if n and self.commit_seconds is not None:
            self.commit_seconds("claim", n, time.perf_counter() - started)
        claimed: list[tuple[int, Claimed]] = []
        bad: list[tuple[int, bytes, int]] = []
        for i in range(1, len(raw), 3):
            place, sid, record = int(raw[i]) - 1, raw[i + 1], raw[i + 2]
            try:
                claimed.append((place, Claimed(sid, record)))
            except (ValueError, IndexError):
                bad.append((place, *records.claim_of(sid, record)))
        return int(now_text), claimed, bad

    async def settle(self, shard: int, items: list[Settlement], smsc_ids: Sequence[SmscId] = ()) -> str:
        """Record what became of claimed attempts; a letter an item: `1` applied, `l` late, `0` nothing changed."""
        return (await self.settle_rows(shard, [s.row() for s in items], smsc_ids))[0]

    async def settle_rows(
        self, shard: int, rows: list[SettleRow], smsc_ids: Sequence[SmscId] = (), finished: Sequence[str] = ()
    ) -> tuple[str, list[bytes]]:
        """Do the same for rows that are laid out already (`Settlement.row`), and put SMSC ids on record.

        `finished` are claim fields (`claim_field`) of which everything is settled. Returns the letters, and receipts
        that came before their SMSC id was known.
        """
        classes: dict[tuple[Any, ...], int] = {}
        items: list[Any] = []
        for row in rows:
            shared = row[1:11]
            place = classes.get(shared)
            if place is None:
                place = classes[shared] = len(classes) + 1
            items += (place, row[0], row[11])
        args: list[Any] = [
            self.incarnation, *self._retention, self.smsc_id_ttl_s, len(classes), len(rows), len(finished), self._rated
        ]  # fmt: skip
        for shared in classes:
            args += shared
        args += items
        args += finished
        for pair in smsc_ids:
            args += pair
        raw = await self._timed("settle", shard, args, len(rows))
        return raw[0].decode(), raw[1:]

    async def release(self, shard: int, claims: Sequence[bytes], finished: Sequence[str] = ()) -> int:
        """Give claimed, unsent messages back to the head of their queues; forget finished claim fields."""
        args = [self.incarnation, len(finished), *finished, *claims]
        return int(await self.client.call("release", [self.prefixes[shard]], args))

    @staticmethod
    def claim_field(token: str, channel: str) -> str:
        """Return the name of the field in which the store notes what a claim took for a channel."""
        return f"{token}\x1f{channel}"

    async def claim_fields(self, shard: int) -> list[str]:
        """Return the claim fields that the store notes for this incarnation."""
        found = await self.client.execute("HKEYS", f"{self.prefixes[shard]}claims:{self.incarnation}")
        return [field.decode() for field in found]

    async def give_back(self, shard: int, field: str) -> int:
        """Give back what this incarnation claimed without knowing it (an answer that was lost)."""
        key = f"{self.prefixes[shard]}claims:{self.incarnation}"
        entries = await self.client.execute("HGET", key, field) or b""
        claims = [entries[i : i + _CLAIM_BYTES] for i in range(0, len(entries), _CLAIM_BYTES)]
        return await self.release(shard, claims, [field])

    async def reap(self, incarnation: str) -> dict[str, int]:
        """Take back everything a dead worker held: claims on all shards, its lease, its bind slots."""
        total = {"requeued": 0, "uncertain": 0, "ended": 0}
        for p in self.prefixes:
            left = 1
            while left:
                left, requeued, uncertain, ended = await self.client.call(
                    "reap", [p], [incarnation, *self._retention, *self._policies, *self._graces, 200]
                )
                total["requeued"] += requeued
                total["uncertain"] += uncertain
                total["ended"] += ended
        for channel in self._settings.channels:
            await self.client.call(
                "slots", [keys.channel_key(channel.id, "slots")], [incarnation, channel.binds, 0, 0, "1"]
            )
        return total

    async def heartbeat(
        self, shard: int, *, first: bool = False, channels: Iterable[str] = ()
    ) -> tuple[bool, int, dict[str, Lease]]:
        """Renew this worker's lease, saying on which channels it can submit.

        Returns whether the lease is still ours, the store's time (epoch ms), and everybody's lease by incarnation.
        """
        raw = await self.client.call(
            "lease",
            [self.prefixes[shard]],
            [self.incarnation, LEASE_MS, "1" if first else "0", ",".join(channels)],
        )
        leases = {}
        for i in range(2, len(raw), 2):
            beats, ends, names = raw[i + 1].decode().split(":", 2)
            leases[raw[i].decode()] = Lease(
                int(beats), int(ends), frozenset(names.split(",")) if names else frozenset()
            )
        return raw[0] == b"ok", int(raw[1]), leases

    # --- receipts ----------------------------------------------------------------------------------------------------

    async def apply_receipts(self, rows: list[ReceiptRow]) -> list[tuple[str, int]]:
        """Apply final receipts; a letter an item, see `lua/receipt.lua`, and which of its spellings was found (from 0).

        A receipt is looked for on the shard of its address. One that has none is looked for on all of them.
        """
        if self.shards == 1:
            return await self._apply_receipts(0, rows)
        results: list[tuple[str, int]] = [("n", 0)] * len(rows)
        for turn in range(self.shards):
            groups: dict[int, list[int]] = {}
            for i, row in enumerate(rows):
                shards = self._shards_of_address(row[2])
                if turn < len(shards) and results[i][0] == "n":
                    groups.setdefault(shards[turn], []).append(i)
            for shard, places in groups.items():
                answers = await self._apply_receipts(shard, [rows[i] for i in places])
                for i, answer in zip(places, answers, strict=True):
                    results[i] = answer
        return results

    def _shards_of_address(self, address: bytes) -> Sequence[int]:
        if self.shards == 1 or len(address) >= keys.SHARD_DIGITS:
            return (keys.shard_of(address.decode("latin-1"), self.shards),)
        return range(self.shards)

    async def _apply_receipts(self, shard: int, rows: list[ReceiptRow]) -> list[tuple[str, int]]:
        classes: dict[tuple[str, str, str, str, str], int] = {}
        items: list[Any] = []
        for channel, names, address, state, reason, code, again in rows:
            shared = (channel, state, reason, code, "1" if again else "")
            place = classes.get(shared)
            if place is None:
                place = classes[shared] = len(classes) + 1
            items += (place, address, names)
        args: list[Any] = [*self._retention, self._smsc_id_days, self._rated, self._redelivery, len(classes)]
        for one in classes:
            args += one
        args += items
        letters, matched, finals = await self._timed("receipt", shard, args, len(rows))
        self._tell_finals(finals)
        return [(letter, digit - 49) for letter, digit in zip(letters.decode(), matched, strict=True)]

    async def recipients(self, rows: Sequence[ReceiptRow]) -> list[tuple[str, str, str]]:
        """Return to whom the messages went that receipts name: (E.164 digits, carrier, route) each.

        All three are '' where no message is found, or only one to another number.
        """
        results = [("", "", "")] * len(rows)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            for shard in self._shards_of_address(row[2]):
                groups.setdefault(shard, []).append(i)
        for shard, places in groups.items():
            args: list[Any] = [self._smsc_id_days]
            for i in places:
                args += (rows[i][2], rows[i][1])
            raw = await self._timed("recipients", shard, args, len(places))
            for place, i in enumerate(places):
                msisdn, dims = raw[2 * place].decode(), raw[2 * place + 1].decode()
                if msisdn:
                    _, carrier, route, _ = dims.split(ID_SEPARATOR, 3)
                    results[i] = (msisdn, carrier, route)
        return results

    # --- ported numbers ----------------------------------------------------------------------------------------------

    async def learn_ported(self, facts: Iterable[tuple[str, str, str]], ttl_s: float) -> int:
        """Note what receipts said: (E.164 digits, carrier left, carrier joined) each, '' where not said.

        Returns how many were new; what was noted within the last hour is not.
        """
        groups: dict[int, list[str]] = {}
        for fact in facts:
            groups.setdefault(keys.shard_of(fact[0], self.shards), []).extend(fact)
        noted = 0
        for shard, flat in groups.items():
            noted += await self._timed("ported_learn", shard, [int(ttl_s * 1000), *flat], len(flat) // 3)
        return noted

    async def forget_ported(self, msisdn: str, ttl_s: float) -> int:
        """Forget what was learned about a number (E.164 digits), or with '' about all; returns how many facts.

        Workers read of it as a fact without carriers, of the number or of '*'.
        """
        shards = [keys.shard_of(msisdn, self.shards)] if msisdn else range(self.shards)
        forgotten = 0
        for shard in shards:
            forgotten += await self._timed("ported_forget", shard, [msisdn, int(ttl_s * 1000)], 1)
        return forgotten

    async def ported_since(
        self, shard: int, from_ms: int, most: int = 2000
    ) -> tuple[int, list[tuple[str, str, str, int]]]:
        """Return the store's time and the first `most` facts of a shard learned at or after `from_ms` (epoch ms).

        A fact is (E.164 digits, carrier left, carrier joined, epoch ms).
        """
        raw = await self._timed("ported_read", shard, [from_ms, most], most)
        facts = []
        for i in range(1, len(raw), 2):
            msisdn, left, joined = raw[i].decode().split(ID_SEPARATOR)
            facts.append((msisdn, left, joined, int(float(raw[i + 1]))))
        return int(raw[0]), facts

    async def park(self, items: list[ParkedReceipt]) -> list[str]:
        """Keep receipts whose id is not known; a letter an item: `P` parked, `K` known by now, `O` no room."""
        results = ["P"] * len(items)
        groups: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            for shard in self._shards_of_address(item.row[2]):
                groups.setdefault(shard, []).append(i)
        for shard, places in groups.items():
            args: list[Any] = [PARKED_PER_CHANNEL, PARKED_TTL_S, self._smsc_id_days]
            for i in places:
                item = items[i]
                args += (item.row[0], item.row[1], "1" if item.again else "0", item.payload)
            letters = await self._timed("park", shard, args, len(places))
            for i, letter in zip(places, letters.decode(), strict=True):
                results[i] = letter if letter != "P" else results[i]
        return results

    async def unpark(self, items: list[ParkedReceipt]) -> None:
        """Remove parked receipts that have been applied."""
        groups: dict[int, list[Any]] = {}
        for item in items:
            channel = item.row[0]
            for shard in self._shards_of_address(item.row[2]):
                for name in item.row[1].split(ID_SEPARATOR):
                    groups.setdefault(shard, []).extend((channel, name[len(channel) + 1 :], item.payload))
        for shard, flat in groups.items():
            await self.client.call("unpark", [self.prefixes[shard]], flat)

    async def parked(self, shard: int, channel: str, most: int = 200) -> tuple[int, list[bytes]]:
        """Return how many receipts of a channel are parked on a shard, and those whose id is known by now.

        Looks at `most` of them a call, from where the last call ended, and begins again after the newest.
        """
        start = self._parked_at.get((shard, channel), 0)
        raw = await self.client.call(
            "parked", [self.prefixes[shard]], [channel, PARKED_TTL_S, most, self._smsc_id_days, start]
        )
        self._parked_at[shard, channel] = start + most if start + most < int(raw[0]) else 0
        return int(raw[0]), raw[1:]

    async def listen(self, wake: Callable[[], None], slots: Callable[[], None]) -> None:
        """Call `wake` whenever an empty queue got work, `slots` when bind slots were given back, until cancelled.

        A lost connection is opened again.
        Wake-ups can be lost with it: callers poll as well.
        """
        while True:
            client = self.client.pubsub_client()
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(keys.WAKE_CHANNEL)
                async for note in pubsub.listen():
                    (slots if note["data"] == b"slots" else wake)()
            except (RedisError, OSError):
                await asyncio.sleep(1.0)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
                    await client.aclose()

    # --- inbound and dead letters ------------------------------------------------------------------------------------

    async def keep_inbound(self, family: str, rows: list[bytes], most: int = 100_000) -> None:
        """Append rows to a capped list: `mo` (messages from handsets) or `dead` (PDUs nobody can read)."""
        key = f"{self.prefixes[0]}{family}"
        await self.client.execute("RPUSH", key, *rows)
        await self.client.execute("LTRIM", key, -most, -1)

    # --- timers ------------------------------------------------------------------------------------------------------

    async def due(self, shard: int, most: int = 200) -> tuple[int, int]:
        """Move due messages to their queues; returns (looked at, ms until the next or -1)."""
        looked, wait_ms, finals = await self.client.call(
            "due", [self.prefixes[shard]], [most, *self._retention, *self._policies]
        )
        self._tell_finals(finals)
        return looked, wait_ms

    async def expire(self, shard: int, most: int = 500) -> tuple[int, int]:
        """End messages whose time is over; returns (looked at, expired)."""
        looked, expired, finals = await self.client.call("expire", [self.prefixes[shard]], [most, *self._retention])
        self._tell_finals(finals)
        return looked, expired

    async def close_waiting(self, shard: int, most: int = 500) -> tuple[int, int]:
        """Close submitted messages whose receipt is overdue; returns (looked at, closed)."""
        looked, closed, finals = await self.client.call(
            "wait", [self.prefixes[shard]], [most, *self._retention, *self._dlr_waits]
        )
        self._tell_finals(finals)
        return looked, closed

    async def rings(self, shard: int) -> list[str]:
        """Return the rings ("route:rank:category") in which messages wait or waited on a shard."""
        return [x.decode() for x in await self.client.execute("SMEMBERS", f"{self.prefixes[shard]}rings")]

    async def strays(self, shard: int, ring: str, most: int) -> tuple[str, list[tuple[bytes, Record | None]]]:
        """Return the first account of a ring and its first entries, (id, record), for `reroute`."""
        raw = await self.client.call("strays", [self.prefixes[shard]], [ring, most])
        if not raw:
            return "", []
        pairs = [(raw[i], raw[i + 1]) for i in range(1, len(raw), 2)]
        return raw[0].decode(), [(sid, records.parse(sid, data) if data else None) for sid, data in pairs]

    async def reroute(self, shard: int, ring: str, account: str, routes: list[tuple[bytes, str]]) -> tuple[int, int]:
        """Move the entries at the head of a queue to other routes ('': none, ends it); returns (moved, ended)."""
        flat = [x for pair in routes for x in pair]
        moved, ended = await self.client.call(
            "reroute", [self.prefixes[shard]], [ring, account, *self._retention, *flat]
        )
        return moved, ended

    async def purge(self, shard: int, most: int = 1000) -> int:
        """Remove final records whose retention is over; returns how many."""
        return int(await self.client.call("purge", [self.prefixes[shard]], [most]))

    async def sweep(self, shard: int, monotonic_ms: int) -> bool:
        """Take part in the sweeper's election and tell it our monotonic clock; returns whether we are elected."""
        return bool(await self.client.call("sweep", [self.prefixes[shard]], [self.incarnation, monotonic_ms]))

    # --- redelivery --------------------------------------------------------------------------------------------------

    async def overdue(self, shard: int, most: int = 500) -> int:
        """Ask for redelivery of messages whose receipt ought to have come; returns how many were looked at."""
        return int(await self.client.call("overdue", [self.prefixes[shard]], [most]))

    async def redo(self, shard: int, most: int = 100) -> list[tuple[bytes, Record | None]]:
        """Return the messages whose redelivery was asked for, the oldest first.

        None for one that is gone or cannot be read.
        """
        raw = await self.client.call("redo", [self.prefixes[shard]], [most])
        found: list[tuple[bytes, Record | None]] = []
        for i in range(0, len(raw), 2):
            try:
                found.append((raw[i], records.parse(raw[i], raw[i + 1]) if raw[i + 1] else None))
            except (ValueError, IndexError):
                found.append((raw[i], None))
        return found

    async def redeliver(self, shard: int, decisions: Sequence[Redelivery]) -> str:
        """Carry out what was decided about them; a letter each, see `lua/redeliver.lua`."""
        flat: list[Any] = []
        for d in decisions:
            flat += (d.id, d.verb, d.rank, d.target, d.delay_ms)
        letters, finals = await self.client.call("redeliver", [self.prefixes[shard]], [*self._retention, *flat])
        self._tell_finals(finals)
        return str(letters.decode())

    async def ratings(self, now_s: float, window_s: int) -> list[tuple[int, str, str, int, str, int]]:
        """Return how channels did: (slot, channel, carrier, category, what, number), see `rate` in `lua/_record.lua`.

        `slot` is when the messages were submitted (epoch s, by `RATING_S`); all that begin within the window.
        """
        latest = int(now_s) // RATING_S * RATING_S
        found: list[tuple[int, str, str, int, str, int]] = []
        for p in self.prefixes:
            for slot in range(latest - window_s // RATING_S * RATING_S, latest + 1, RATING_S):
                for field, n in _pairs(await self.client.execute("HGETALL", f"{p}quality:{slot}")).items():
                    channel, carrier, category, what = field.split("\x1f")
                    found.append((slot, channel, carrier, int(category), what, int(n)))
        return found

    # --- channels ----------------------------------------------------------------------------------------------------

    async def draw_parts(
        self,
        channel: str,
        rate_per_s: float,
        wanted: int,
        *,
        burst_ms: int = 100,
        accepted: int = 0,
        throttled: int = 0,
    ) -> tuple[int, int, float]:
        """Draw parts from a channel's rate bucket, and report what the carrier did with those since the last draw.

        Returns parts granted, µs until the next one, and the rate in force (parts a second, 0: none).
        """
        granted, wait_us, in_force = await self.client.call(
            "bucket", [keys.channel_key(channel, "bucket")], [rate_per_s, burst_ms, wanted, accepted, throttled]
        )
        return granted, wait_us, float(in_force)

    async def bind_slots(self, channel: str, binds: int, wanted: int, in_use: Iterable[int] = ()) -> list[int]:
        """Lease up to `wanted` of a channel's bind slots; returns the slots held now.

        Renews those held; slots `in_use` are kept also when they are more than `wanted`.
        """
        used = ",".join(str(slot) for slot in in_use)
        held: list[int] = await self.client.call(
            "slots", [keys.channel_key(channel, "slots")], [self.incarnation, binds, wanted, LEASE_MS, "0", used]
        )
        return held

    async def unpin(self, shard: int, channel: str, most: int = 500) -> int:
        """Free messages that were meant for a channel alone which cannot take them now; returns how many."""
        return int(await self.client.call("unpin", [self.prefixes[shard]], [channel, most]))

    async def health(self, events: Iterable[tuple[str, str, int]] = ()) -> dict[str, Health]:
        """Tell what happened to channels (channel, event, number; see `lua/health.lua`); returns what is agreed."""
        raw = await self.client.call("health", [keys.HEALTH], [x for event in events for x in event])
        found = {}
        for i in range(1, len(raw), 2):
            state, since, _, _, operator, cause = raw[i + 1].decode().split(",", 5)
            found[raw[i].decode()] = Health(state, int(since), cause, operator)
        return found

    async def shares(self) -> dict[str, bytes]:
        """Return how channels share by quality, as `set_shares` wrote it."""
        flat = await self.client.execute("HGETALL", keys.SHARES)
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def shares_turn(self, every_ms: int) -> bool:
        """Take the turn to move the shares; nobody else gets one for `every_ms`."""
        taken = await self.client.execute("SET", keys.SHARES_TURN, self.incarnation, "NX", "PX", every_ms)
        return taken is not None

    async def set_shares(self, fields: dict[str, bytes]) -> None:
        """Publish how channels share; what was published before goes."""
        old = [field.decode() for field in await self.client.execute("HKEYS", keys.SHARES)]
        if fields:
            await self.client.execute("HSET", keys.SHARES, *(x for pair in fields.items() for x in pair))
        if gone := [field for field in old if field not in fields]:
            await self.client.execute("HDEL", keys.SHARES, *gone)

    async def channels_bound(self) -> set[str]:
        """Return the channels on which some worker can submit, by its lease."""
        found: set[str] = set()
        for value in (await self.client.execute("HGETALL", f"{self.prefixes[0]}lease"))[1::2]:
            found.update(name for name in value.decode().split(":", 2)[2].split(",") if name)
        return found

    async def give_slots_back(self, channel: str, binds: int) -> None:
        """Free all bind slots of this incarnation on a channel."""
        await self.client.call(
            "slots", [keys.channel_key(channel, "slots")], [self.incarnation, binds, 0, LEASE_MS, "1"]
        )

    # --- gauges ------------------------------------------------------------------------------------------------------

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
            for name, value in _pairs(await self.client.execute("HGETALL", f"{p}stats:{hour}")).items():
                account, carrier, route, *rest = name.split("\x1f")
                fields = (account, carrier, route_name(route), *rest)
                result[fields] = result.get(fields, 0) + int(value)
        return result

    async def run(self, script: str, script_keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script on keys that belong to no shard (account and channel keys)."""
        return await self.client.call(script, script_keys, args)

    # --- helpers -----------------------------------------------------------------------------------------------------

    async def _timed(self, script: str, shard: int, args: list[Any], size: int) -> Any:
        started = time.perf_counter()
        try:
            raw = await self.client.call(script, [self.prefixes[shard]], args)
        except ResponseError as exc:
            raise StoreUnavailable(f"the store failed in {script}") from exc
        if self.commit_seconds is not None:
            self.commit_seconds(script, size, time.perf_counter() - started)
        return raw

    def _tell_finals(self, finals: str | bytes) -> None:
        """Hand the final states that a script made to whoever counts them (`on_finals`)."""
        if not finals or self.on_finals is None:
            return
        text = finals.decode() if isinstance(finals, bytes) else finals
        for row in text.strip("\x1e").split("\x1e"):
            _, _, route, _, _, _, category, _, state, reason, n = row.split("\x1f")
            self.on_finals(int(category), route, state, reason, int(n))


def _refused(letter: int, details: Iterator[bytes]) -> Accepted:
    """Return what the store did with a message it did not take; `details` are those of its answer, in order."""
    if letter == ord("r"):
        first = next(details)
        return Accepted("replay" if first[_ID_BYTES:] == b"1" else "conflict", first[:_ID_BYTES])
    if letter == ord("c"):
        return Accepted("capped", retry_at_ms=int(next(details)))
    return Accepted(_CODES[letter])


def _pairs(flat: Any) -> dict[str, str]:
    if isinstance(flat, dict):
        return {k.decode(): v.decode() for k, v in flat.items()}
    return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


def _category_number(name: str) -> str:
    return str(int(Category[name.upper()])) if not name.isdigit() else name
