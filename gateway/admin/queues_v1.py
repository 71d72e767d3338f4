"""`/admin/v1/queues`: what waits to be sent, and since when.

    GET …?top=10 → {"waiting": N, "scheduled": N, "held": N,
        "queues": [{route, rank, category, depth, oldest_age_s, accounts: [{account, depth, oldest_age_s}]}],
        "pinned": [{channel, category, depth, oldest_age_s}]}

`waiting` counts messages; `scheduled` those that wait for a time (scheduled, deferred, to be retried, uncertain);
`held` those that a gate holds aside; `pinned` what one channel alone may send. A depth counts entries: those of
messages that were cancelled meanwhile stay until they are met. `accounts` are the `top` deepest. Owns the shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import number_in_query
from gateway.model import CATEGORY_LABELS
from gateway.settings import Settings
from gateway.store.queues import Queue, waiting
from gateway.store.store import Store

MOST_ACCOUNTS: Final = 1000


@dataclass
class QueuesApi:
    """What the endpoint works on; `settings` may be replaced."""

    settings: Settings
    store: Store

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/queues", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """Show the queues, those of codes first, the oldest first."""
        top = number_in_query(request, "top", 10, MOST_ACCOUNTS)
        found = await waiting(self.store, [c.id for c in self.settings.channels])
        queues = sorted(found.queues.items(), key=lambda item: (item[0][2], -item[1].oldest_s, item[0]))
        pinned = sorted(found.pinned.items(), key=lambda item: (item[0][1], item[0][0]))
        return json_answer(
            {
                "waiting": found.messages,
                "scheduled": found.timed,
                "held": found.held,
                "queues": [
                    {
                        "route": route,
                        "rank": rank,
                        "category": CATEGORY_LABELS[category],
                        **_sizes(queue),
                        "accounts": _accounts(queue, top),
                    }
                    for (route, rank, category), queue in queues
                    if queue.depth
                ],
                "pinned": [
                    {"channel": channel, "category": CATEGORY_LABELS[category], **_sizes(queue)}
                    for (channel, category), queue in pinned
                ],
            }
        )


def _sizes(queue: Queue) -> dict[str, Any]:
    return {"depth": queue.depth, "oldest_age_s": round(queue.oldest_s, 1)}


def _accounts(queue: Queue, top: int) -> list[dict[str, Any]]:
    deepest = sorted(queue.accounts.items(), key=lambda item: (-item[1][0], item[0]))[:top]
    return [{"account": a, "depth": depth, "oldest_age_s": round(age_s, 1)} for a, (depth, age_s) in deepest]
