"""`/admin/v1/audit`: who changed what; and whether somebody changed that afterwards.

    GET …?limit=100&before=MS&since=MS   → {"entries": [{at, actor, action, object, before, after, …}]}
    GET …?verify=1                       → {"sound": true, "chains": [{shard, entries, first, last, head, broken_at}]}

Each shard has a chain of its own; keep the `head` elsewhere, and a whole chain that was made anew shows as well. Owns
the shapes; the chains are the store's. Numbers stand masked, with a keyed hash.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.errors import RequestError
from gateway.store.audit import Audit, Entry
from gateway.store.store import Store

MOST: Final = 1000
_DIGITS: Final = 19  # int() refuses more than 4,300


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
        limit = _number(query.get("limit", "100"), "limit", MOST)
        before, since = (_number(query.get(name, "0"), name, 1 << 48) for name in ("before", "since"))
        entries = await self.audit.read(max(1, limit), before_ms=before, since_ms=since)
        return json_answer({"entries": [_view(entry) for entry in entries]})


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


def _number(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) > most:
        raise RequestError("invalid_field", f"a number up to {most} is wanted", field=name)
    return int(text)
