"""What all parts of the store stand on: connection, shards, layout, and the rules the moves are called with.

Owns start and readiness, and how a move is called. Refuses to know what any move does: see the files beside this one,
of which `store.Store` is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from redis.exceptions import ResponseError

from gateway.errors import ConfigError, ConfigProblem, StoreUnavailable
from gateway.model import Category, State
from gateway.settings import Settings
from gateway.store import keys, records
from gateway.store.client import Client
from gateway.store.moves import HOLD_MS, RESEND_GRACE_MS, ReceiptRow
from gateway.store.records import Record

LAYOUT_VERSION = "2"
SMSC_ID_EXTRA_S = 3_600
_POLICY = {"resend": "r", "hold": "h", "fail": "f"}
_VERIFICATION_RESERVE = 0.05
_OUT_FAMILIES = ("out", "outbusy", "outheld", "outlater", "outdead", "outdeadwhy")
_OUT_KEPT_S = 604_800


class Watcher(Protocol):
    """Who is told of single messages that moves changed by themselves (`gateway.journal`)."""

    @property
    def receipts_wanted(self) -> str:
        """`n`: every message that a receipt names, `f`: those that did not simply arrive, empty: none."""

    def receipts(self, rows: Sequence[ReceiptRow], letters: bytes, names: Sequence[bytes]) -> None:
        """Take what receipts did: a letter an item, and its message as `lua/receipt.lua` names it (b"" where not)."""

    def ends(self, named: bytes) -> None:
        """Take messages that a script ended by itself, as `note_end` in `lua/_counts.lua` lays them out."""


class StoreBase:
    """The connection, the shards and the rules that the moves are called with."""

    def __init__(self, settings: Settings, url: str, *, incarnation: str = "--------") -> None:
        self._settings = settings
        self.shards = settings.store.shards
        self.incarnation = incarnation
        self.client = Client(url)
        self.prefixes = [keys.prefix(s) for s in range(self.shards)]
        self._problems: list[str] = ["not opened yet"]
        self.on_delivery: Callable[[str, int, str, str, int], None] | None = None
        self.on_finals: Callable[[int, str, str, str, int], None] | None = None
        """Called with category, route, state letter, reason and number when a move ended messages."""
        self.on_outcome: Callable[[str, str, str, int], None] | None = None
        """Called with channel, state letter, reason as statistics have it (`t3` of a delivery) and number."""
        self._intake = "open"
        self.watcher: Watcher | None = None
        self.commit_seconds: Any = None  # set by the app: observe(batch size, seconds) per move
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take the category rules and limits of `settings` into use."""
        self._settings = settings
        categories = [settings.categories[c] for c in Category]
        self._retention = [f"{c.retention_s}{'e' if c.text_after_final == 'erase' else ''}" for c in categories]
        self._dlr_waits = [str(c.dlr_wait_s * 1000) for c in categories]
        self._policies = [_POLICY[c.on_uncertain] for c in categories]
        self._max_attempts = [str(c.max_attempts) for c in categories]
        self._rated = "1" if settings.rates_channels else ""
        self._redelivery = "".join(
            f"\x1e{route.id}\x1f{''.join('1' if settings.redeliver_after_s(route.id, c) else '0' for c in Category)}"
            for route in settings.routes
            if any(settings.redeliver_after_s(route.id, c) for c in Category)
        )
        most = settings.store.max_queued // max(1, self.shards)
        self._most = [str(most), str(int(most * (1 + _VERIFICATION_RESERVE)) + 100 if most else 0)]
        self.set_intake(self._intake)
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
        self._intake = level
        self._limits = {"open": self._most, "verification": ["-1", self._most[1]], "closed": ["-1", "-1"]}[level]

    # --- calling moves

    async def run(self, script: str, script_keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script on keys that belong to no shard (account and channel keys)."""
        return await self.client.call(script, script_keys, args)

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

    async def _timed(self, script: str, shard: int, args: list[Any], size: int) -> Any:
        started = time.perf_counter()
        try:
            raw = await self.client.call(script, [self.prefixes[shard]], args)
        except ResponseError as exc:
            raise StoreUnavailable(f"the store failed in {script}") from exc
        if self.commit_seconds is not None:
            self.commit_seconds(script, size, time.perf_counter() - started)
        return raw

    def _tell_finals(self, finals: bytes) -> None:
        """Hand the final states that a script made to whoever counts them (`on_finals`) and looks on (`watcher`)."""
        if not finals:
            return
        counted, _, named = finals.partition(b"\x1d")
        if named and self.watcher is not None:
            self.watcher.ends(named)
        if not counted:
            return
        for row in counted.decode().strip("\x1e").split("\x1e"):
            _, _, route, _, _, _, category, channel, state, reason, n = row.split("\x1f")
            if self.on_outcome is not None:
                self.on_outcome(channel, state, reason, int(n))
            if self.on_delivery is not None:
                self.on_delivery(channel, int(category), state, reason, int(n))
            if self.on_finals is not None:
                # What statistics know a delivery by is how long it took, which is no reason.
                shown = "" if state == State.DELIVERED and reason != "late_correction" else reason
                self.on_finals(int(category), route, state, shown, int(n))

    # --- news

    async def set_consumers(self, wanted: Mapping[str, str]) -> None:
        """Say which events each account wants to hear of: letters `s f c i o`, and `T` for the text (docs/webhooks.md).

        Accounts that are not named hear of nothing from now on; what waits for them stays for a week, in case that was
        a mistake.
        """
        for p in self.prefixes:
            old = [x.decode() for x in await self.client.execute("HKEYS", f"{p}consumers")]
            if wanted:
                await self.client.execute("HSET", f"{p}consumers", *(x for pair in wanted.items() for x in pair))
            if gone := [account for account in old if account not in wanted]:
                await self.client.execute("HDEL", f"{p}consumers", *gone)
            for family in _OUT_FAMILIES:
                for account in gone:
                    await self.client.execute("EXPIRE", f"{p}{family}:{account}", _OUT_KEPT_S)
                for account in wanted.keys() - old:
                    await self.client.execute("PERSIST", f"{p}{family}:{account}")

    async def listen(self, wake: Callable[[], None], slots: Callable[[], None]) -> None:
        """Call `wake` whenever an empty queue got work, `slots` when bind slots were given back, until cancelled.

        Wake-ups can be lost: callers poll as well.
        """

        def hear(word: bytes) -> None:
            if word == b"slots":
                slots()
            elif keys.names_a_shard(word):  # other words are for the events worker
                wake()

        await self.client.listen(keys.WAKE_CHANNEL, hear)

    def shards_of_address(self, address: bytes) -> Sequence[int]:
        if self.shards == 1 or len(address) >= keys.SHARD_DIGITS:
            return (keys.shard_of(address.decode("latin-1"), self.shards),)
        return range(self.shards)


def records_of(raw: list[bytes]) -> list[tuple[bytes, Record | None]]:
    """Read pairs of id and record; None for one that is gone or cannot be read."""
    found: list[tuple[bytes, Record | None]] = []
    for i in range(0, len(raw), 2):
        try:
            found.append((raw[i], records.parse(raw[i], raw[i + 1]) if raw[i + 1] else None))
        except (ValueError, IndexError):
            found.append((raw[i], None))
    return found


def pairs(flat: Any) -> dict[str, str]:
    if isinstance(flat, dict):
        return {k.decode(): v.decode() for k, v in flat.items()}
    return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
