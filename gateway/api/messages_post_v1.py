"""POST /v1/messages: one message, answered 202 when it is on disk.

Owns the order of the steps; each step has its own module. Stands at the front of the path.
"""

from __future__ import annotations

import time

from gateway import journal
from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.decode import decode_json
from gateway.api.problem import refuse
from gateway.api.request import MAX_SINGLE_BYTES, idempotency_key
from gateway.api.schema import validate_message
from gateway.api.views import taken_view
from gateway.errors import GatewayError


async def post_message(context: Context, call: Call) -> Answer:
    """Take one message in. Raises RequestError and Backpressure for what the request itself does wrong."""
    raw = await context.bodies.read(call.request, MAX_SINGLE_BYTES)
    started = time.perf_counter()
    key = idempotency_key(call.request)
    if journal.traced:
        journal.heard(call.request.headers.get("traceparent"))
    message = validate_message(decode_json(raw), time.time_ns() // 1_000_000)
    (result,) = await context.intake.accept(call.account, [message], key)
    if isinstance(result, GatewayError):
        return refuse(result)
    context.accept_seconds.observe(time.perf_counter() - started)
    headers = b"Idempotent-Replayed: true\r\n" if result.replayed else b""
    return Answer(202, taken_view(result, context.durability), headers=headers)
