"""GET /v1/messages?to=…[&ref=…]: the account's latest messages to a number, or the one with that ref.

Owns the parameters. Stands beside the path: it only reads.
"""

from __future__ import annotations

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.views import record_view
from gateway.errors import RequestError
from gateway.intake import recipient, ref_mark

PARAMETERS = frozenset({"to", "ref"})
_MAX_REF_CHARS = 128


async def find_messages(context: Context, call: Call) -> Answer:
    """Answer `{"messages": [...]}`, newest first and at most 16; empty when there are none."""
    parameters = call.parameters
    if "to" not in parameters:
        raise RequestError("missing_field", "the parameter to is required", field="to")
    # A '+' in a query string means a space (URL Standard); no number begins with one.
    to = parameters["to"]
    msisdn, _ = recipient(call.account, "+" + to[1:] if to.startswith(" ") else to)
    account = call.account.id
    if "ref" not in parameters:
        records = await context.store.find(msisdn, account)
    else:
        ref = parameters["ref"]
        if not 1 <= len(ref) <= _MAX_REF_CHARS:
            raise RequestError("invalid_parameter", "ref must have 1 to 128 characters", field="ref", status=400)
        found = await context.store.find_ref(msisdn, ref_mark(account, ref, msisdn))
        records = [found] if found is not None else []
    return Answer(200, {"messages": [record_view(r) for r in records if r.account == account]})
