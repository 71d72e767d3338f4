"""`GET /admin/v1/changes`: what changed lately, the newest first: by operators, by reloads, and by itself.

    GET …?since=MS&limit=200 → {"since_ms": MS, "changes": [{at_ms, kind, object, actor, facts}]}

Without `since`: the last hour; it reaches back a week at most. `kind` is `operator` for what stands in the audit
(facts: action, before, after, result), else one of channel_down {cause, detail}, channel_up {ms}, breaker_open {cause},
breaker_closed {cause, ms}, worker_restarted {role, why, machine}, whose `actor` is null. Owns the merging; the entries
are `store.audit`'s and `store.changes`'.
"""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import number_in_query
from gateway.store.audit import Audit, Entry
from gateway.store.changes import Change, Changes

MOST: Final = 500
_HOUR_MS: Final = 3_600_000
_WEEK_MS: Final = 168 * _HOUR_MS
OPERATOR: Final = "operator"


class ChangesApi:
    """The endpoint over one store."""

    def __init__(self, audit: Audit, changes: Changes) -> None:
        self._audit = audit
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/changes", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """List what changed lately."""
        now_ms = time.time_ns() // 1_000_000
        since_ms = max(number_in_query(request, "since", now_ms - _HOUR_MS, 1 << 48), now_ms - _WEEK_MS)
        limit = max(1, number_in_query(request, "limit", 200, MOST))
        found = [_operators(entry) for entry in await self._audit.read(limit, since_ms=since_ms)]
        found += [_own(change) for change in await self._changes.read(since_ms, limit)]
        found.sort(key=lambda one: -one["at_ms"])
        return json_answer({"since_ms": since_ms, "changes": found[:limit]})


def _operators(entry: Entry) -> dict[str, Any]:
    facts = {"action": entry.action, "before": entry.before, "after": entry.after, **entry.more}
    return {"at_ms": entry.at_ms, "kind": OPERATOR, "object": entry.object, "actor": entry.actor, "facts": facts}


def _own(change: Change) -> dict[str, Any]:
    return {"at_ms": change.at_ms, "kind": change.kind, "object": change.object, "actor": None, "facts": change.facts}
