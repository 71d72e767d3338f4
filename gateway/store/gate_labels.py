"""How gates are written in the store and shown to people, and how far the sweep of a closed one is.

Owns the two spellings (`category:2`, `category:marketing`) and the sum over shards. Pure: knows no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.model import Category

SWEEP_FIELDS: Final = ("total", "looked", "closed", "passes", "started", "ended")


def gate_label(kind: str, name: str) -> str:
    """Return a gate as the store writes it; a category by its label or its number."""
    if kind == "category" and not name.isdigit():
        name = str(int(Category[name.upper()]))
    return f"{kind}:{name}"


def shown_label(label: str) -> str:
    """Return a gate as people see it."""
    kind, _, rest = label.partition(":")
    return f"{kind}:{Category(int(rest)).label}" if kind == "category" else label


def progress_of(shards: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return how far a sweep is, over all shards: `looked` of `total` entries, `left`, `closed`, `done`, times (ms)."""
    total = looked = closed = 0
    for one in shards:
        looked += int(one["looked"])
        closed += int(one["closed"])
        # Entries come and go while it walks: what is over has nothing left, whatever was counted at first.
        total += int(one["looked"]) if one["ended"] else max(int(one["total"]), int(one["looked"]))
    done = all(one["ended"] for one in shards)
    return {
        "done": done,
        "closed": closed,
        "looked": looked,
        "total": total,
        "left": total - looked,
        "started_ms": min(int(one["started"]) for one in shards),
        "ended_ms": max(int(one["ended"]) for one in shards) if done else 0,
    }
