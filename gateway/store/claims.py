"""What a dispatch worker does with messages: claim, settle, release; its lease, and taking back what a dead one held.

Owns the order of values that these moves take. Refuses to know channels and outcomes (`dispatch`). On the path of every
message.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.store import keys, moves, records
from gateway.store.base import StoreBase, records_of
from gateway.store.moves import ClaimRequest, Lease, Settlement, SettleRow, SmscId
from gateway.store.records import Claimed, Record

_CLAIM_PASSES = 50
_CLAIM_BYTES = 22


class Claims(StoreBase):
    """Messages on their way to the carriers."""

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
            head, separator, named = raw[0].partition(b"\x1d")
            now_text, _, finals = head.partition(b"\x1e")
            self._tell_finals(finals + separator + named)
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
            shared = row[1:13]
            place = classes.get(shared)
            if place is None:
                place = classes[shared] = len(classes) + 1
            items += (place, row[0], row[13])
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
                left, requeued, uncertain, ended, finals = await self.client.call(
                    "reap", [p], [incarnation, *self._retention, *self._policies, *self._graces, 200]
                )
                self._tell_finals(finals)
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
            [self.incarnation, moves.LEASE_MS, "1" if first else "0", ",".join(channels)],
        )
        leases = {}
        for i in range(2, len(raw), 2):
            beats, ends, names = raw[i + 1].decode().split(":", 2)
            leases[raw[i].decode()] = Lease(
                int(beats), int(ends), frozenset(names.split(",")) if names else frozenset()
            )
        return raw[0] == b"ok", int(raw[1]), leases

    # --- windows

    async def reopen(self, shard: int, most: int = 200) -> list[tuple[bytes, Record | None]]:
        """Return messages whose window closed before they could be sent, the first of them, for `defer`.

        None for one that is gone or cannot be read.
        """
        return records_of(await self.client.call("reopen", [self.prefixes[shard]], [most]))

    async def defer(self, shard: int, times: Sequence[tuple[bytes, int, int]]) -> int:
        """Say when such messages are due again, and when that window closes (epoch ms); returns how many wait."""
        flat = [x for one in times for x in one]
        return int(await self.client.call("defer", [self.prefixes[shard]], flat))
