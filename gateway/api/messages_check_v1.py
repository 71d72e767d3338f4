"""POST /v1/messages/check: what would become of up to 1,000 messages now. Stores nothing and takes nothing from limits.

Owns the shape of the answer. The decisions are `precheck`'s, which goes intake's own way. Stands at the front of the
path, beside the batch whose body it takes.
"""

from __future__ import annotations

from typing import Any

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.decode import decode_json
from gateway.api.messages_batch_v1 import undecided, validated
from gateway.api.problem import describe, refuse
from gateway.api.request import MAX_BATCH_BYTES, idempotency_key
from gateway.errors import GatewayError
from gateway.intake import Taken
from gateway.model import iso, message_id, route_name
from gateway.precheck import Foreseen


async def post_check(context: Context, call: Call) -> Answer:
    """Look at messages. Raises RequestError and Backpressure for what the request itself does wrong."""
    raw = await context.bodies.read(call.request, MAX_BATCH_BYTES)
    key = idempotency_key(call.request)
    items = await validated(decode_json(raw))
    foreseen = await context.precheck.look(call.account, items, key)
    refusal = undecided([one.result for one in foreseen])
    if refusal is not None:
        return refuse(refusal)
    taken = sum(isinstance(one.result, Taken) for one in foreseen)
    results = [_view(one) for one in foreseen]
    return Answer(200, {"accepted": taken, "rejected": len(results) - taken, "results": results})


def _view(one: Foreseen) -> dict[str, Any]:
    view: dict[str, Any] = {}
    result = one.result
    if isinstance(result, GatewayError):
        view["error"] = describe(result)
    else:
        view["state"] = result.state
        view["expires_at"] = iso(result.expires_at_ms) if result.expires_at_ms else None
        if result.replayed:
            view["replayed"] = True
        if result.id:
            view["id"] = message_id(result.id)
    if not one.prepared:
        return view
    return {
        **view,
        "parts": one.parts,
        "encoding": one.encoding,
        "route": route_name(one.route),
        "price": one.price,
        "send_at": iso(one.send_at_ms) if one.send_at_ms else None,
        "spread_s": one.spread_ms // 1000,
        "window_until": iso(one.window_until_ms) if one.window_until_ms else None,
        "blacklisted": bool(one.blacklist),
        "capped_until": iso(one.capped_until_ms) if one.capped_until_ms else None,
    }
