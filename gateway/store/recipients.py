"""What is known of many recipients at once, for whoever only asks: blacklists, times that count for caps, replays.

Owns the reading of what `lua/accept.lua` would read, a shard and family in one command, however many messages are asked
about. Writes nothing. Refuses to decide: that is `policy.caps`' and intake's. Stands beside the store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.model import NewMessage
from gateway.store import records
from gateway.store.blacklists import parse
from gateway.store.client import Client
from gateway.store.keys import shard_of
from gateway.store.moves import Recipient

EVERYBODY: Final = "*"
NUMBER_S: Final = 691_200
"""Grain of the hashes of numbers, eight days: `NUM_S` of `lua/_numbers.lua`."""
_ID_BYTES: Final = 16
_NO_TIMES: Final[Mapping[str, tuple[int, ...]]] = {}


@dataclass(slots=True)
class Known:
    """What the store knows that bears on one message."""

    blacklist: str = ""
    """The scope of a blacklist that holds its number for its category, '' where none does."""
    sent: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Times (epoch s, oldest first) that count for the caps of its category, by name."""
    replay_of: bytes = b""
    """The id of the message that was taken under its idempotency mark before."""
    same_content: bool = True
    """Whether that one had the same content."""


class Shards(Protocol):
    """The part of the store that is read here."""

    @property
    def client(self) -> Client: ...
    @property
    def prefixes(self) -> list[str]: ...


class Recipients:
    """Answers for an api worker; keeps nothing."""

    def __init__(self, store: Shards) -> None:
        self._store = store

    async def look(self, messages: Sequence[NewMessage]) -> list[Known]:
        """Return what is known of each message's recipient, in order.

        Raises:
            StoreUnavailable: a shard did not answer.
        """
        found = [Known() for _ in messages]
        by_shard: dict[int, list[int]] = {}
        for place, message in enumerate(messages):
            by_shard.setdefault(message.shard, []).append(place)
        for shard, places in by_shard.items():
            p = self._store.prefixes[shard]
            asked = [messages[place] for place in places]
            numbers = list(dict.fromkeys(message.msisdn for message in asked))
            listed = await self._blacklists(p, numbers, asked)
            sent = await self._sent(p, numbers)
            marks = await self._marks(p, asked)
            for place, message in zip(places, asked, strict=True):
                known = found[place]
                scopes = (EVERYBODY, *message.kind.scopes)
                known.blacklist = next((s for s in scopes if _lists(listed[s].get(message.msisdn), message)), "")
                known.sent = sent.get((message.msisdn, message.kind.category), _NO_TIMES)
                held = marks.get(message.idem, b"")
                known.replay_of = held[:_ID_BYTES]
                known.same_content = held[_ID_BYTES:] == message.digest
        return found

    async def of(self, msisdn: str, scopes: Sequence[str]) -> Recipient:
        """Return what is known of one number: its entries on these blacklists, and all times that count for caps.

        Raises:
            StoreUnavailable: the shard did not answer.
        """
        p = self._store.prefixes[shard_of(msisdn, len(self._store.prefixes))]
        blacklists: dict[str, tuple[int, str]] = {}
        for scope in (EVERYBODY, *scopes):
            listed = await self._fields(f"{p}blacklist:{scope}", [msisdn])
            if msisdn in listed:
                entry = parse(scope, listed[msisdn])
                blacklists[scope] = (entry.mask, entry.reason)
        sent = await self._sent(p, [msisdn])
        times = {(category, name): at for (_, category), by_name in sent.items() for name, at in by_name.items()}
        return Recipient(blacklists, times)

    async def _blacklists(self, p: str, numbers: list[str], asked: list[NewMessage]) -> dict[str, dict[str, bytes]]:
        """Return by scope what its blacklist says of those numbers that are on it."""
        scopes = dict.fromkeys((EVERYBODY, *(scope for message in asked for scope in message.kind.scopes)))
        return {scope: await self._fields(f"{p}blacklist:{scope}", numbers) for scope in scopes}

    async def _sent(self, p: str, numbers: list[str]) -> dict[tuple[str, int], dict[str, tuple[int, ...]]]:
        """Return by number and category the times that count, by the caps' names."""
        period = int(time.time()) // NUMBER_S
        values = await self._fields(f"{p}num:{period - 1}", numbers)
        values |= await self._fields(f"{p}num:{period}", numbers)  # what was written since holds the earlier times too
        sent: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {}
        for number, value in values.items():
            for (category, name), times in records.caps_of_number(value).items():
                sent.setdefault((number, category), {})[name] = times
        return sent

    async def _marks(self, p: str, asked: list[NewMessage]) -> dict[bytes, bytes]:
        """Return by idempotency mark the id and the digest of what was taken under it."""
        marks = list(dict.fromkeys(message.idem for message in asked if message.idem))
        if not marks:
            return {}
        generation = int(await self._store.client.execute("GET", f"{p}idem:gen") or 1)
        found = await self._fields(f"{p}idem:{generation - 1}", marks)
        return found | await self._fields(f"{p}idem:{generation}", marks)

    async def _fields(self, key: str, names: list[Any]) -> dict[Any, bytes]:
        values = await self._store.client.execute("HMGET", key, *names)
        return {name: value for name, value in zip(names, values, strict=True) if value}


def _lists(value: bytes | None, message: NewMessage) -> bool:
    """Tell whether an entry (mask digit of categories, then its reason) is about a message's category."""
    return value is not None and bool((value[0] - 48) >> message.kind.category & 1)
