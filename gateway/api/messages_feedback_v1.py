"""POST /v1/messages/{id}/feedback: what a message led to: its link followed, its code used, a complaint.

Owns the answers. Whether the event is new, and which channel it speaks for, is decided in the store in one step.
Refuses to log anything of it: amounts and event ids are the application's affair.
"""

from __future__ import annotations

import time

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.decode import decode_json
from gateway.api.messages_get_v1 import message_named, no_such_message
from gateway.api.request import MAX_SINGLE_BYTES
from gateway.api.schema import validate_feedback
from gateway.dlr.ties import mask_of, scope_of
from gateway.errors import RequestError
from gateway.model import message_id
from gateway.store.blacklists import COMPLAINT


async def post_feedback(context: Context, call: Call) -> Answer:
    """Put one event on the message's record; a repeat of it answers the same with `repeated` true."""
    raw = await context.bodies.read(call.request, MAX_SINGLE_BYTES)
    told = validate_feedback(decode_json(raw), time.time_ns() // 1_000_000)
    sid = message_named(call.name)
    done = await context.store.feedback(sid, call.account.id, told)
    if done == "not_found":
        raise no_such_message()
    if done == "not_sent":
        raise RequestError("not_sent", "no carrier has had it, so nothing can have come of it", status=409)
    if done == "conflict":
        raise RequestError("feedback_conflict", "the event_id was told with other content", field="event_id")
    if done == "too_many":
        raise RequestError("too_many_feedback", "no more feedback is kept for this message")
    if told.outcome == "complained":
        await _remember_complaint(context, call, sid)
    return Answer(
        200,
        {"id": message_id(sid), "event_id": told.event_id, "outcome": told.outcome, "repeated": done == "repeated"},
    )


async def _remember_complaint(context: Context, call: Call, sid: bytes) -> None:
    """Put who complained on the account's blacklist, as far as an opt-out by reply would reach.

    After the event and also when it is repeated: where this worker dies in between, the repeat makes up for it.
    """
    record = await context.store.get(sid)
    if record is None or record.test:
        return
    account = call.account
    scope = scope_of(account, record.sender, record.signature)
    actor = f"account:{account.id}"
    await context.blacklists.add(record.msisdn, scope, mask_of(account), COMPLAINT, source="feedback", actor=actor)
