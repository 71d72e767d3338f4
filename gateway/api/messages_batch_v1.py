"""POST /v1/messages/batch: up to 1,000 messages, each of which stands or falls by itself.

Owns the shape of the answer and the one rule about the whole: an error for all only when no item could be
decided. Stands at the front of the path.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gateway import journal
from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.decode import decode_json
from gateway.api.problem import refuse
from gateway.api.request import MAX_BATCH_BYTES, idempotency_key
from gateway.api.schema import open_batch, validate_items
from gateway.api.views import batch_view
from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable
from gateway.intake import SLICE, ItemResult, Taken
from gateway.model import ValidMessage


async def post_batch(context: Context, call: Call) -> Answer:
    """Take a batch in. Raises RequestError and Backpressure for what the request itself does wrong."""
    raw = await context.bodies.read(call.request, MAX_BATCH_BYTES)
    started = time.perf_counter()
    key = idempotency_key(call.request)
    if journal.traced:
        journal.heard(call.request.headers.get("traceparent"))
    items = await validated(decode_json(raw))
    results = await context.intake.accept(call.account, items, key)
    refusal = undecided(results)
    if refusal is not None:
        return refuse(refusal)
    taken = [result for result in results if result.__class__ is Taken]
    context.accept_seconds.observe(time.perf_counter() - started, len(taken))
    body = batch_view(results, len(taken), context.durability)
    replayed = bool(taken) and all(result.replayed for result in taken)
    return Answer(202, body, headers=b"Idempotent-Replayed: true\r\n" if replayed else b"")


async def validated(body: Any) -> list[ValidMessage | RequestError]:
    """Check all items, letting other requests run after each hundred."""
    given, defaults = open_batch(body)
    now_ms = time.time_ns() // 1_000_000
    if len(given) <= SLICE:
        return validate_items(given, now_ms, defaults)
    checked: list[ValidMessage | RequestError] = []
    for start in range(0, len(given), SLICE):
        checked += validate_items(given[start : start + SLICE], now_ms, defaults)
        await asyncio.sleep(0)
    return checked


def undecided(results: list[ItemResult]) -> GatewayError | None:
    """Return the error for the whole when not one item was taken or refused for its content, else None.

    Where anything may be stored, that is what the caller must hear.
    """
    chosen: GatewayError | None = None
    for result in results:
        if not isinstance(result, Backpressure | StoreUnavailable):
            return None
        if chosen is None or (isinstance(result, StoreUnavailable) and result.outcome == "unknown"):
            chosen = result
    return chosen
