"""`/admin/v1/audit`: who changed what; and whether somebody changed that afterwards.

    GET …?limit=100&before=MS&since=MS&actor=…&action=…
                                         → {"entries": [{at, actor, action, object, before, after, …}], "older": MS}
    GET …?verify=1                       → {"sound": true, "chains": [{shard, entries, first, last, head, broken_at}]}

`actor` is a part of the name or address, `action` the beginning of one (`config` is all of `config.…`). `older` is what
to give as `before` for the next page, 0 where nothing older is kept; its first entries may be the last of this page
once more (several stand in one millisecond). A filter looks at 20,000 entries a call: a page may be short, or empty.

Each shard has a chain of its own; keep the `head` elsewhere, and a whole chain that was made anew shows as well. Owns
the shapes; the chains are the store's. Numbers stand masked, with a keyed hash.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import number_in_query
from gateway.errors import RequestError
from gateway.store.audit import Audit, Entry
from gateway.store.store import Store

MOST: Final = 1000
LOOKED_MOST: Final = 20_000
"""Entries that one call compares with its filter: about a fifth of a second."""
_FILTER_CHARS: Final = 128


@dataclass
class AuditApi:
    """What the endpoint works on."""

    store: Store
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        self.audit = Audit(self.store)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/audit", self.get_audit)]

    async def get_audit(self, request: web.Request) -> web.Response:
        """List the latest changes, or follow the chains."""
        query = request.query
        if query.get("verify") == "1":
            chains = await self.audit.verify()
            return json_answer(
                {"sound": not any(chain.broken_at for chain in chains), "chains": [asdict(chain) for chain in chains]}
            )
        limit = number_in_query(request, "limit", 100, MOST)
        before, since = (number_in_query(request, name, 0, 1 << 48) for name in ("before", "since"))
        actor, action = (_filter(query.get(name, ""), name) for name in ("actor", "action"))
        if not (actor or action):
            most = max(1, limit)
            entries = await self.audit.read(most, before_ms=before, since_ms=since)
            older = entries[-1].at_ms + 1 if len(entries) == most else 0
        else:
            entries, older = await self._find(max(1, limit), before, since, actor.lower(), action)
        return json_answer({"entries": [_view(entry) for entry in entries], "older": older})

    async def _find(self, most: int, before: int, since: int, actor: str, action: str) -> tuple[list[Entry], int]:
        """Return the latest entries that fit, and where to go on (0: nothing older is kept)."""
        found: list[Entry] = []
        seen: set[tuple[int, int]] = set()
        while True:
            page = await self.audit.read(MOST, before_ms=before, since_ms=since)
            fresh = [entry for entry in page if (entry.shard, entry.number) not in seen]
            for entry in fresh:
                seen.add((entry.shard, entry.number))
                if actor in entry.actor.lower() and entry.action.startswith(action):
                    found.append(entry)
                    if len(found) == most:
                        return found, entry.at_ms + 1
            if len(page) < MOST:
                return found, 0
            # Others may stand in the last one's millisecond: it is read again, unless it fills a whole page.
            before = page[-1].at_ms + (1 if fresh and page[0].at_ms != page[-1].at_ms else 0)
            if len(seen) >= LOOKED_MOST:
                return found, before


def _view(entry: Entry) -> dict[str, Any]:
    at = datetime.fromtimestamp(entry.at_ms // 1000, UTC)
    return {
        "at": f"{at:%Y-%m-%dT%H:%M:%S}.{entry.at_ms % 1000:03d}Z",
        "at_ms": entry.at_ms,
        "shard": entry.shard,
        "entry": entry.number,
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "before": entry.before,
        "after": entry.after,
        **entry.more,
    }


def _filter(text: str, name: str) -> str:
    if len(text) > _FILTER_CHARS:
        raise RequestError("invalid_field", f"at most {_FILTER_CHARS} characters are wanted", field=name)
    return text
