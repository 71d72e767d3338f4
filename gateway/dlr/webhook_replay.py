"""Replays: events of an account's records once more, by time, with the ids they had.

Owns how a replay goes on (slices of the records, no faster than the line empties, its place kept in the store so that
another worker goes on where one died). Refuses to know calls and leases. Run by whoever serves the account.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.dlr import events
from gateway.model import Category
from gateway.store.outbox import Outbox

log = logging.getLogger(__name__)

LINE_ROOM: Final = 2000
"""A replay waits while more events than this stand in line: new ones come first, and nothing is dropped for it."""
SLICES: Final = 20
FAMILY: Final = "replay"


@dataclass(slots=True)
class Replay:
    """One replay as the store keeps it."""

    from_ms: int
    to_ms: int
    types: list[str]
    started_ms: int
    shard: int = 0
    cursor: str = "0"
    run: str = ""  # the life of the server in which the cursor means something
    looked: int = 0  # slices
    events: int = 0
    done: bool = False

    @classmethod
    def begun(cls, from_ms: int, to_ms: int, types: list[str]) -> Replay:
        """Return a replay that begins now."""
        return cls(from_ms, to_ms, types, int(time.time() * 1000))

    def as_json(self) -> dict[str, Any]:
        """Return it as the store keeps it."""
        return asdict(self)


async def go_on(outbox: Outbox, account: str, replay: Replay, *, keep_text: Container[Category] = ()) -> bool:
    """Do some more of a replay and note its place; returns whether there was room to do anything.

    `keep_text`: categories whose events have their text.

    Raises:
        StoreUnavailable: some of it may be done twice when it goes on; receivers know the ids.
    """
    run = await outbox.server_run()
    if replay.run != run:
        replay.run, replay.cursor = run, "0"  # a cursor is good for one life of the server
    types, moved = frozenset(replay.types), False
    for _ in range(SLICES):
        if replay.done or await outbox.waiting(replay.shard, account) > LINE_ROOM:
            break
        moved = True
        cursor, found = await outbox.scan(replay.shard, replay.cursor, account, replay.from_ms, replay.to_ms)
        entries: list[bytes] = []
        for sid, raw in found:
            try:
                entries += events.entries_of(sid, raw, replay.from_ms, replay.to_ms, types, keep_text=keep_text)
            except events.Unreadable as exc:
                log.warning("replay for %s: a record cannot be read (%s)", account, exc)
        await outbox.put(replay.shard, account, entries)
        replay.cursor, replay.looked, replay.events = cursor, replay.looked + 1, replay.events + len(entries)
        if cursor == "0":
            replay.shard += 1
            replay.done = replay.shard >= outbox.shards
    if moved:
        await outbox.tell(FAMILY, account, replay.as_json())
    return moved
