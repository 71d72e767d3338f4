"""`/v1/blacklist/{number}`: the account's own blacklist, one number at a time.

Owns the shapes. An account sees and changes its own entries alone (its own scope and those of its senders and
signatures); the operator's list for everybody is not shown, a post says `blocked_recipient`. Takes effect at once, also
for what waits. Nothing of a request is logged.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.decode import decode_json
from gateway.api.request import MAX_SINGLE_BYTES
from gateway.errors import RequestError
from gateway.intake import recipient
from gateway.listing import mask_in, reason_in
from gateway.model import CATEGORY_BY_LABEL, iso
from gateway.store.blacklists import OPERATOR, REASONS, Listed

_FIELDS: Final = frozenset({"categories", "reason"})
Json = dict[str, Any]


async def get_entry(context: Context, call: Call) -> Answer:
    """Answer what the account's lists say of a number."""
    msisdn = _number(call)
    return Answer(200, _view(msisdn, await context.blacklists.get(msisdn, call.account.id)))


async def put_entry(context: Context, call: Call) -> Answer:
    """Put a number on the account's list, for these categories and this reason and no others."""
    msisdn = _number(call)
    mask, reason = _checked(decode_json(await context.bodies.read(call.request, MAX_SINGLE_BYTES)))
    account = call.account.id
    entry = await context.blacklists.put(msisdn, account, mask, reason, source="api", actor=f"account:{account}")
    return Answer(200, _view(msisdn, [entry]))


async def delete_entry(context: Context, call: Call) -> Answer:
    """Take a number off all of the account's lists; a repeat answers the same with nothing removed."""
    msisdn, account = _number(call), call.account.id
    removed = await context.blacklists.remove(msisdn, account, below=True, actor=f"account:{account}")
    return Answer(200, {"number": f"+{msisdn}", "removed": [_entry(one) for one in removed]})


def _number(call: Call) -> str:
    return recipient(call.account, unquote(call.name)).msisdn


def _checked(body: Any) -> tuple[int, str]:
    if not isinstance(body, dict):
        raise RequestError("invalid_json", "an object is wanted", status=400)
    if body.keys() - _FIELDS:
        raise RequestError("unknown_field", "categories and reason are the fields")
    return mask_in(body), reason_in(body, OPERATOR)


def _view(msisdn: str, entries: list[Listed]) -> Json:
    return {"number": f"+{msisdn}", "listed": bool(entries), "entries": [_entry(one) for one in entries]}


def _entry(one: Listed) -> Json:
    return {
        "scope": one.scope,
        "categories": [category.label for category in one.categories],
        "reason": one.reason,
        "since": iso(one.since_s * 1000),
        "source": one.source,
    }


def schemas() -> Json:
    """Return what the OpenAPI document says of these shapes."""
    text: Json = {"type": "string"}
    categories = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(CATEGORY_BY_LABEL)}}
    reason = {"type": "string", "enum": list(REASONS)}
    listed = {
        "type": "object",
        "required": ["scope", "categories", "reason", "since"],
        "properties": {
            "scope": {**text, "description": "The account, or with / behind it one of its senders or signatures."},
            "categories": categories,
            "reason": reason,
            "since": {"type": "string", "format": "date-time"},
            "source": {**text, "description": "Who said so: api, mo.<channel>, feedback, operator, import.<id>."},
        },
    }
    number = {**text, "description": "E.164 with +"}
    entries = {"type": "array", "items": {"$ref": "#/components/schemas/Listed"}}
    return {
        "Listed": listed,
        "BlacklistEntry": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "categories": {**categories, "default": ["marketing"]},
                "reason": {**reason, "default": OPERATOR, "description": "A START by the recipient lifts td alone."},
            },
        },
        "BlacklistAnswer": {
            "type": "object",
            "required": ["number", "listed", "entries"],
            "properties": {"number": number, "listed": {"type": "boolean"}, "entries": entries},
        },
        "BlacklistRemoved": {
            "type": "object",
            "required": ["number", "removed"],
            "properties": {"number": number, "removed": entries},
        },
    }
