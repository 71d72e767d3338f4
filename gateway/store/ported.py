"""Facts about ported numbers that receipts taught: noted, read by all workers, forgotten.

Owns the order of values that these moves take. Refuses to know codes and tables (`routing`).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.store import keys
from gateway.store.base import StoreBase
from gateway.store.moves import ID_SEPARATOR


class PortedFacts(StoreBase):
    """What was learned about numbers."""

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
