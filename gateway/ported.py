"""`smsgw ported`: import a table of ported numbers, say what is there, look one number up.

Owns what these commands do and answer, as plain values for people and `--json` alike; the words on the screen and exit
codes are `cli`'s. Refuses to know the table's form (`routing.ported_table`) and how a carrier is decided
(`routing.router`). No answer repeats a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.routing.learned import Fact, Learned
from gateway.routing.loader import build_router, load_all_segments
from gateway.routing.msisdn import normalise
from gateway.routing.ported_import import ImportReport, import_file
from gateway.routing.ported_table import PortedTables, ported_folder
from gateway.settings import Settings
from gateway.store.embedded import running_pid, socket_path
from gateway.store.keys import shard_of
from gateway.store.store import Store

_PAGE = 5000


def import_table(
    settings: Settings, source: Path, country: str, progress: Callable[[int, int], None]
) -> tuple[ImportReport, dict[str, Any]]:
    """Import a CSV file; returns the report, and the same as a plain value.

    Raises:
        ImportRefused, ConfigError: nothing was written.
    """
    segments = load_all_segments(settings.number_segments_files)
    folder = ported_folder(settings.store.data_dir)
    report = import_file(source, folder, segments, country, now_ms=_now_ms(), progress=progress)
    return report, {
        "country": report.country,
        "file": str(report.path),
        "rows": report.rows,
        "numbers": report.numbers,
        "duplicates": report.duplicates,
        "bad_rows": report.bad_rows,
        "bad": [{"line": line, "reason": reason} for line, reason in report.bad],
    }


def info(settings: Settings) -> dict[str, Any]:
    """Return every table of this data directory (numbers, by carrier, when written), and what is wrong with others."""
    found = PortedTables(ported_folder(settings.store.data_dir))
    return {
        "tables": [
            {
                "country": country,
                "file": str(table.path),
                "numbers": table.rows,
                "carriers": table.count_by_carrier(),
                "bytes": table.signature.size,
                "imported_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(table.written_at_ms / 1000)),
            }
            for country, table in sorted(found.tables.items())
        ],
        "problems": [str(problem) for problem in found.problems()],
    }


async def lookup(settings: Settings, raw: str, country: str) -> dict[str, Any]:
    """Return the carrier of a number as intake would decide it now, and what each source says.

    `learned` is None where the store could not be asked; the rest holds without it then.

    Raises:
        RequestError: it is no number.
        ConfigError: the configuration cannot be used.
    """
    number = normalise(raw, country)
    router = build_router(settings)
    assert router.learned is not None
    asked = await _learn(settings, number.msisdn, router.learned)
    carrier, origin = router.carrier_of(number.msisdn, number.country)
    segments = router.segments.get(number.country)
    segment = segments.lookup(number.msisdn) if segments is not None else None
    known = router.learned.get(number.msisdn)
    return {
        "country": number.country,
        "carrier": carrier,
        "origin": origin,
        "segment": segment.carrier if segment is not None else "",
        "imported": router.imported.get(number.country, number.msisdn) if router.imported is not None else None,
        "learned": {
            "not": list(known.excluded) if known is not None else [],
            "carrier": known.carrier if known is not None else "",
        }
        if asked
        else None,
    }


async def _learn(settings: Settings, msisdn: str, learned: Learned) -> bool:
    """Bring what the store knows of one number; returns whether it could be asked."""
    url = settings.store.url
    if not url:
        path = socket_path(settings.store.data_dir)
        if not await running_pid(path, settings.store.data_dir):
            return False
        url = f"unix://{path}"
    store = Store(settings, url)
    shard = shard_of(msisdn, store.shards)
    from_ms = max(0, _now_ms() - int(settings.ported.learned_ttl_s * 1000))
    page = _PAGE
    try:
        while True:
            now_ms, facts = await store.ported_since(shard, from_ms, page)
            learned.add([(m, Fact(left, joined), at) for m, left, joined, at in facts if m == msisdn], now_ms)
            if len(facts) < page:
                return True
            if facts[-1][3] == from_ms:
                page *= 2  # all of one millisecond: the next page would be the same
            from_ms = facts[-1][3]
    except StoreUnavailable:
        return False
    finally:
        await store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
