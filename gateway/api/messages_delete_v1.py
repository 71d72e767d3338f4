"""DELETE /v1/messages/{id}: cancels a message that no worker has taken up yet.

Owns the answers; whether it is still possible is decided in the store, atomically with the claim.
"""

from __future__ import annotations

from gateway import journal
from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.messages_get_v1 import message_named, no_such_message
from gateway.errors import RequestError
from gateway.model import message_id


async def delete_message(context: Context, call: Call) -> Answer:
    """Cancel; a repeat answers the same, 409 when it is claimed, sent or final in another way."""
    sid = message_named(call.name)
    done = await context.store.cancel(sid, call.account.id)
    if done == "not_found":
        raise no_such_message()
    if done == "too_late":
        raise RequestError("too_late", "it was taken up for sending, or has its final state", status=409)
    if journal.on and done == "cancelled":
        journal.cancelled(sid, call.account.id)
    return Answer(200, {"id": message_id(sid), "state": "cancelled"})
