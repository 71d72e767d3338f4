"""What workers tell of their sessions, and what changed by itself: channels lost and back, breakers, workers.

Owns the two keys of it and the order of values in them. What a worker says stands until it says something else, ends or
dies; of changes the last 500 are kept, for a week at most. Refuses to know why a session ends (`smpp.trouble` has the
words) and what operators changed (`store.audit`). Beside the path: written when something changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.store import keys
from gateway.store.store import Store

_US: Final = "\x1f"
_DETAIL_CHARS: Final = 64
MOST_READ: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """What one worker says of its sessions on a channel. `kind` is '' where nothing is wrong."""

    channel: str
    bound: int  # sessions that can submit
    slots: int  # bind slots it serves
    kind: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a worker's sessions on a channel: since when, and when it was said last (epoch ms)."""

    kind: str
    detail: str
    since_ms: int
    at_ms: int


@dataclass(slots=True)
class Sessions:
    """A channel's sessions over all living workers of all machines."""

    bound: int = 0
    slots: int = 0
    word: str = ""  # up | down, as was said last by all of them together; '': not known
    since_ms: int = 0  # since when it is that
    trouble: Trouble | None = None  # the latest of those that are not over


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed by itself."""

    at_ms: int
    kind: str  # channel_down | channel_up | breaker_open | breaker_closed | worker_restarted
    object: str
    facts: dict[str, str]


class Changes:
    """The moves on both, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def tell(self, told: Iterable[Told], living: Sequence[str]) -> None:
        """Say how this worker's sessions are on some channels; `living` are the incarnations with a lease."""
        rows: list[Any] = []
        for one in told:
            rows += (one.channel, one.bound, one.slots, one.kind, _clean(one.detail))
        await self._call("0", living, rows)

    async def forget(self, channels: Iterable[str], living: Sequence[str]) -> None:
        """Say nothing more of channels that left the configuration."""
        await self._call("0", living, [x for channel in channels for x in (channel, 0, "-", "", "")])

    async def leave(self, living: Sequence[str]) -> None:
        """Take back what this worker said: it ends."""
        await self._call("1", living, [])

    async def _call(self, ends: str, living: Sequence[str], rows: Sequence[Any]) -> None:
        args = [self._store.incarnation, ends, len(living), *living, *rows]
        await self._store.client.call("sessions", [keys.SESSIONS, keys.CHANGES], args)

    async def sessions(self) -> dict[str, Sessions]:
        """Return what is known of each channel's sessions; what workers without a lease said is left out."""
        leases = (await self._store.client.execute("HGETALL", f"{self._store.prefixes[0]}lease"))[0::2]
        living = {name.decode() for name in leases}
        flat = await self._store.client.execute("HGETALL", keys.SESSIONS)
        found: dict[str, Sessions] = {}
        for i in range(0, len(flat), 2):
            channel, _, who = flat[i].decode().partition(_US)
            if not channel:
                word, _, since = flat[i + 1].decode().partition(",")
                of_all = found.setdefault(who, Sessions())
                of_all.word, of_all.since_ms = word, int(since)
                continue
            if who not in living:
                continue
            bound, slots, since, at, kind, detail = flat[i + 1].decode().split(",", 5)
            of_all = found.setdefault(channel, Sessions())
            of_all.bound += int(bound)
            of_all.slots += int(slots)
            if kind and (of_all.trouble is None or of_all.trouble.at_ms < int(at)):
                of_all.trouble = Trouble(kind, detail, int(since), int(at))
        return found

    async def note(self, kind: str, object_: str, token: str, **facts: str) -> None:
        """Note a change that no move makes; one repeated with its token is noted once."""
        pairs = [x for name, value in facts.items() for x in (name, _clean(value))]
        await self._store.client.call("change", [keys.CHANGES], [token, "kind", kind, "object", object_, *pairs])

    async def read(self, since_ms: int, most: int = MOST_READ) -> list[Change]:
        """Return the changes from a time on (epoch ms), the newest first."""
        rows = await self._store.client.execute("XREVRANGE", keys.CHANGES, "+", str(since_ms), "COUNT", most)
        found = []
        for position, flat in rows:
            fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
            fields.pop("token", None)
            at_ms = int(position.partition(b"-")[0])
            found.append(Change(at_ms, fields.pop("kind", ""), fields.pop("object", ""), fields))
        return found


def _clean(text: str) -> str:
    """Return a detail as it may be kept: one line, short."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_DETAIL_CHARS]
