"""GET /v1/health: would a message of this account be taken now, as far as that can be known without one.

For applications and their load balancers, with a key and at the same listener as messages; machines' own probes are
`/livez` and `/readyz` of the admin listener. Reads one record that does not exist, so that the store has to answer.
Refuses to say anything of the gateway's inside.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.model import MessageId, store_id

_NOBODY: Final = store_id(MessageId("00000000-0000-7000-8000-000000000000"))


async def get_health(context: Context, call: Call) -> Answer:
    """Answer whose key this is. Raises StoreUnavailable; 503 `draining` comes before."""
    await context.store.get(_NOBODY)
    return Answer(200, {"status": "ok", "account": call.account.id})


def schemas() -> dict[str, Any]:
    """Return what the OpenAPI document says of the answer."""
    return {
        "Health": {
            "type": "object",
            "required": ["status", "account"],
            "properties": {
                "status": {"type": "string", "enum": ["ok"]},
                "account": {"type": "string", "description": "Whose key this is."},
            },
        }
    }
