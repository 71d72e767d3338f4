"""GET /v1/messages/{id}: what became of one message.

Owns the rule that an id of another account does not exist. Stands beside the path: it only reads.
"""

from __future__ import annotations

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.views import record_view
from gateway.errors import RequestError
from gateway.model import MessageId, StoreId, store_id


async def get_message(context: Context, call: Call) -> Answer:
    """Answer with the record, 404 when there is none for this account."""
    record = await context.store.get(message_named(call.name))
    if record is None or record.account != call.account.id:
        raise no_such_message()
    return Answer(200, record_view(record))


def message_named(name: str) -> StoreId:
    """Return the store's id for the id in a path. Raises RequestError: what is no id names nothing."""
    try:
        return store_id(MessageId(name))
    except ValueError:
        raise no_such_message() from None


def no_such_message() -> RequestError:
    """Make the answer to an id that is unknown, foreign or no longer kept: all three look the same."""
    return RequestError("not_found", "there is no such message", status=404)
