"""Everything a store holds, as plain values: two moments can be compared, and counters checked against their sums."""

from __future__ import annotations

from collections import Counter
from typing import Any

import redis

from gateway.store import records

_LIVE, _FINAL = "qhfrw", "DUREFCBK"


def snapshot(client: redis.Redis) -> dict[str, Any]:
    """Return key → value for all keys (lists as lists, hashes and sorted sets as dicts, sets as sorted lists)."""
    keys = sorted(client.keys("*"))
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = pipe.execute()
        for key, kind in zip(keys, kinds, strict=True):
            _READ[kind](pipe, key)
        values = pipe.execute()
    found: dict[str, Any] = {}
    for key, kind, value in zip(keys, kinds, values, strict=True):
        name = key.decode("latin-1")
        found[name] = sorted(value) if kind == b"set" else dict(value) if kind == b"zset" else value
    return found


_READ: dict[bytes, Any] = {
    b"string": lambda pipe, key: pipe.get(key),
    b"hash": lambda pipe, key: pipe.hgetall(key),
    b"list": lambda pipe, key: pipe.lrange(key, 0, -1),
    b"set": lambda pipe, key: pipe.smembers(key),
    b"zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    b"stream": lambda pipe, key: pipe.xrange(key),
    b"none": lambda pipe, key: pipe.get(key),  # lapsed in between
}


def parsed(snap: dict[str, Any]) -> dict[bytes, records.Record]:
    """Return the messages of a snapshot by id."""
    return {
        (sid := name.split(":msg:", 1)[1].encode("latin-1")): records.parse(sid, raw)
        for name, raw in snap.items()
        if ":msg:" in name
    }


def check_consistent(snap: dict[str, Any]) -> dict[bytes, records.Record]:
    """Assert what must hold between any two moves, on every shard; returns the messages.

    The counter of waiting messages counts them; a queued message stands in one queue or in one worker's claims, never
    in two places; every queue with work is in its ring once; whoever waits for a time stands in `due`.
    """
    messages = parsed(snap)
    prefixes = {name[: name.index("}") + 2] for name in snap if name.startswith("gw:{s")}
    for p in prefixes:
        mine = {sid: r for sid, r in messages.items() if f"{p}msg:{sid.decode('latin-1')}" in snap}
        claimed = [sid for name, value in snap.items() if name.startswith(f"{p}claims:") for sid in held(mine, value)]
        assert len(claimed) == len(set(claimed)), "claimed twice"
        waiting = sum(1 for sid, r in mine.items() if r.state in _LIVE and sid not in claimed)
        assert int(snap.get(f"{p}waiting", 0)) == waiting, "the counter of waiting messages is wrong"
        places: dict[bytes, list[str]] = {}
        rings: dict[str, list[str]] = {}
        for name, value in snap.items():
            if name.startswith((f"{p}q:", f"{p}pin:")):
                for entry in value:
                    places.setdefault(entry[:16], []).append(name)
            elif name.startswith(f"{p}ring:"):
                rings[name.removeprefix(f"{p}ring:")] = [a.decode() for a in value]
        for sid, r in mine.items():
            where = places.get(sid, [])
            assert r.state == "q" or r.final or sid not in claimed, f"held by a worker, and {r.state}"
            if r.state == "q":
                assert len(where) + claimed.count(sid) == 1, f"queued in {where}, claimed {claimed.count(sid)} times"
                if where:
                    assert where[0] == _queue_of(p, r, where[0])
            elif r.state in "hfru":
                assert sid in snap.get(f"{p}due", {}), f"{r.state} without a time"
            elif r.state == "w":
                gated = [v for name, v in snap.items() if name.startswith(f"{p}held:")]
                assert sum(v.count(sid) for v in gated) == 1
        queues = {name.removeprefix(f"{p}q:") for name in snap if name.startswith(f"{p}q:")}
        ringed = [f"{ring}:{account}" for ring, accounts in rings.items() for account in accounts]
        assert len(ringed) == len(set(ringed)), "an account stands in a ring twice"
        assert queues <= set(ringed), "a queue nobody will ever look at"
        _check_statistics(p, snap, list(mine.values()))
    return messages


def _check_statistics(p: str, snap: dict[str, Any], messages: list[records.Record]) -> None:
    """Assert that what was counted is what stands on record, by account, category, state and reason.

    Only where all records are still there that were counted: none purged or made by the test itself.
    """
    counted: Counter[tuple[str, ...]] = Counter()
    for name, fields in snap.items():
        if name.startswith(f"{p}stats:"):
            for field, n in fields.items():
                account, *_, category, _, outcome, reason = field.decode().split(records.US)
                counted[account, category, outcome, "" if outcome == "D" else reason] += int(n)
    real = [r for r in messages if not r.test]
    if sum(n for key, n in counted.items() if key[2] == "accepted") != len(real):
        return
    ended = Counter(
        (r.account, str(r.category), r.state, "" if r.state == "D" else r.reason) for r in real if r.state in _FINAL
    )
    found = Counter({key: n for key, n in counted.items() if key[2] in _FINAL and n})
    assert found == ended, f"counted {found - ended} too much, {ended - found} too little"


def held(messages: dict[bytes, records.Record], claims: dict[bytes, bytes]) -> list[bytes]:
    """Return the messages that a worker's claims still hold: queued, and as they were when they were claimed."""
    found = []
    for entries in claims.values():
        for i in range(0, len(entries), 22):
            r = messages.get(entries[i : i + 16])
            if r is not None and r.state == "q" and r.state_at_ms == int.from_bytes(entries[i + 16 : i + 22], "big"):
                found.append(r.id)
    return found


def _queue_of(p: str, r: records.Record, where: str) -> str:
    """Return the queue a message belongs in (the one it is in, when it is pinned or meant for one channel)."""
    if r.flags & records.FLAG_PINNED or where.startswith(f"{p}pin:"):
        assert where.startswith(f"{p}pin:")
        assert where.endswith(f":{r.category}")
        return where
    return f"{p}q:{r.route}:{r.rank}:{r.category}:{r.account}"
