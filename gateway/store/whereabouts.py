"""Where one message is just now: when it is due, and in whose hands it is. Asked by people, one message at a time.

Owns the reading of `due` and of workers' claims for a single id. Refuses to know why it is there (`admin.waiting`).
Stands beside the path: nothing here is called for a message on its way; a look costs a command and one a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.model import State, shard_of_id
from gateway.store.records import Record
from gateway.store.store import Store

_CLAIM: Final = 22


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What the store says of a message besides its record."""

    due_ms: int = 0
    """When something is done about it by the clock (epoch ms), 0: not known to the clock."""
    worker: str = ""
    """The incarnation that has it in hand, '' without."""
    channel: str = ""
    """The channel it was claimed for."""


async def of(store: Store, record: Record) -> Whereabouts:
    """Return where a message is; nothing of it where its shard is not among ours.

    Raises:
        StoreUnavailable: as for every call.
    """
    shard = shard_of_id(record.id)
    if shard >= store.shards:
        return Whereabouts()
    prefix, ask = store.prefixes[shard], store.client.execute
    score = await ask("ZSCORE", f"{prefix}due", record.id)
    due_ms = int(float(score)) if score is not None else 0
    if record.state != State.QUEUED:
        return Whereabouts(due_ms)
    # A claim stands until all that were claimed with it are settled: it holds while the record bears its time.
    claim = record.id + record.state_at_ms.to_bytes(6, "big")
    for holder in sorted(await ask("SMEMBERS", f"{prefix}holders")):
        flat = await ask("HGETALL", f"{prefix}claims:{holder.decode()}")
        for i in range(0, len(flat), 2):
            entries = flat[i + 1]
            if any(entries[at : at + _CLAIM] == claim for at in range(0, len(entries), _CLAIM)):
                return Whereabouts(due_ms, holder.decode(), flat[i].rpartition(b"\x1f")[2].decode())
    return Whereabouts(due_ms)
