"""Receipts: applied to the messages they name, parked while nobody knows their id; unreadable ones kept.

Owns the order of values that these moves take, and which shard a receipt is looked for on. Refuses to know receipts as
carriers write them (`dlr`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.store.base import StoreBase
from gateway.store.moves import GUESS_AFTER_S, GUESS_SEPARATOR, ID_SEPARATOR, ParkedReceipt, ReceiptRow

PARKED_PER_CHANNEL = 100_000
PARKED_TTL_S = 86_400


class Receipts(StoreBase):
    """What carriers report."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parked_at: dict[tuple[int, str], int] = {}

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
                shards = self.shards_of_address(row[2])
                if turn < len(shards) and results[i][0] == "n":
                    groups.setdefault(shards[turn], []).append(i)
            for shard, places in groups.items():
                answers = await self._apply_receipts(shard, [rows[i] for i in places])
                for i, answer in zip(places, answers, strict=True):
                    results[i] = answer
        return results

    async def _apply_receipts(self, shard: int, rows: list[ReceiptRow]) -> list[tuple[str, int]]:
        classes: dict[tuple[str, ...], int] = {}
        items: list[Any] = []
        for channel, names, address, state, reason, code, again, permanent in rows:
            shared = (channel, state, reason, code, "1" if again else "", "1" if permanent else "")
            place = classes.get(shared)
            if place is None:
                place = classes[shared] = len(classes) + 1
            items += (place, address, names)
        watcher = self.watcher
        wanted = self._rated + watcher.receipts_wanted if watcher is not None else self._rated
        args: list[Any] = [*self._retention, self._smsc_id_days, wanted, self._redelivery, len(classes)]
        for one in classes:
            args += one
        args += items
        letters, matched, finals, names = await self._timed("receipt", shard, args, len(rows))
        self._tell_finals(finals)
        if names and watcher is not None:
            watcher.receipts(rows, letters, names)
        return [(letter, digit - 49) for letter, digit in zip(letters.decode(), matched, strict=True)]

    async def recipients(self, rows: Sequence[ReceiptRow]) -> list[tuple[str, str, str]]:
        """Return to whom the messages went that receipts name: (E.164 digits, carrier, route) each.

        All three are '' where no message is found, or only one to another number.
        """
        results = [("", "", "")] * len(rows)
        groups: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            for shard in self.shards_of_address(row[2]):
                groups.setdefault(shard, []).append(i)
        for shard, places in groups.items():
            args: list[Any] = [self._smsc_id_days]
            for i in places:
                args += (rows[i][2], rows[i][1].replace(GUESS_SEPARATOR, ID_SEPARATOR))
            raw = await self._timed("recipients", shard, args, len(places))
            for place, i in enumerate(places):
                msisdn, dims = raw[2 * place].decode(), raw[2 * place + 1].decode()
                if msisdn:
                    _, carrier, route, _ = dims.split(ID_SEPARATOR, 3)
                    results[i] = (msisdn, carrier, route)
        return results

    async def park(self, items: list[ParkedReceipt]) -> list[str]:
        """Keep receipts whose id is not known; a letter an item: `P` parked, `K` known by now, `O` no room."""
        results = ["P"] * len(items)
        groups: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            for shard in self.shards_of_address(item.row[2]):
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
            for shard in self.shards_of_address(item.row[2]):
                for name in item.row[1].replace(GUESS_SEPARATOR, ID_SEPARATOR).split(ID_SEPARATOR):
                    groups.setdefault(shard, []).extend((channel, name[len(channel) + 1 :], item.payload))
        for shard, flat in groups.items():
            await self.client.call("unpark", [self.prefixes[shard]], flat)

    async def parked(self, shard: int, channel: str, most: int = 200) -> tuple[int, list[bytes], list[bytes]]:
        """Return how many receipts of a channel are parked on a shard, and those whose id is known by now.

        The second list has those that have waited for GUESS_AFTER_S: guesses at their spelling count by now.

        Looks at `most` of them a call, from where the last call ended, and begins again after the newest.
        """
        start = self._parked_at.get((shard, channel), 0)
        raw = await self.client.call(
            "parked", [self.prefixes[shard]], [channel, PARKED_TTL_S, most, self._smsc_id_days, start, GUESS_AFTER_S]
        )
        self._parked_at[shard, channel] = start + most if start + most < int(raw[0]) else 0
        return int(raw[0]), raw[1], raw[2]

    async def keep_dead(self, rows: list[bytes], most: int = 100_000) -> None:
        """Keep PDUs that nobody can read, in a capped list."""
        key = f"{self.prefixes[0]}dead"
        await self.client.execute("RPUSH", key, *rows)
        await self.client.execute("LTRIM", key, -most, -1)
