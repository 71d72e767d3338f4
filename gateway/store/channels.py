"""What workers agree on about channels: rates, bind slots, health, shares.

Owns the order of values that these moves take. Refuses to know sessions and the reasons of a breaker (`dispatch`).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.store import keys, moves
from gateway.store.base import StoreBase
from gateway.store.moves import Health


class Channels(StoreBase):
    """Channels, over all workers."""

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
            "slots", [keys.channel_key(channel, "slots")], [self.incarnation, binds, wanted, moves.LEASE_MS, "0", used]
        )
        return held

    async def pinned(self, shard: int) -> list[str]:
        """Return the channels that messages were put aside for, whether they are configured or not."""
        return [name.decode() for name in await self.client.execute("SMEMBERS", f"{self.prefixes[shard]}pins")]

    async def unpin(self, shard: int, channel: str, most: int = 500) -> int:
        """Free messages that were meant for a channel alone which cannot take them now; returns how many."""
        return int(await self.client.call("unpin", [self.prefixes[shard]], [channel, most]))

    async def health(self, events: Iterable[tuple[str, str, int]] = ()) -> dict[str, Health]:
        """Tell what happened to channels (channel, event, number; see `lua/health.lua`); returns what is agreed."""
        raw = await self.client.call("health", [keys.HEALTH, keys.CHANGES], [x for event in events for x in event])
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
            "slots", [keys.channel_key(channel, "slots")], [self.incarnation, binds, 0, moves.LEASE_MS, "1"]
        )
