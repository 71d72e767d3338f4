"""Reading admin requests: one JSON object with known fields, and who asks. Repeats nothing of what it refuses."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin.operators import Operator
from gateway.errors import RequestError
from gateway.routing.msisdn import normalise

_OPERATOR, _NOTED = web.RequestKey("operator", Operator), web.RequestKey("noted", bool)
_ADDRESS = web.RequestKey("address", str)
_FIELD: Final = re.compile(r"[a-z_]{1,32}")
_DIGITS: Final = 19  # int() refuses more than 4,300


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the body as an object. Raises RequestError (415, 400)."""
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() != "utf-8":
        raise RequestError("unsupported_media_type", "application/json in UTF-8 is wanted", status=415)
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError as exc:
        raise RequestError("invalid_json", "the body is not JSON", status=400) from exc
    if not isinstance(value, dict):
        raise RequestError("invalid_json", "an object is wanted", status=400)
    return value


def unknown_field(body: dict[str, Any], known: set[str]) -> None:
    """Refuse a body with other fields than `known`. Raises RequestError."""
    if unknown := sorted(body.keys() - known):
        # Named when it is a plain word: a misspelt field. Anything else is the caller's text and not repeated.
        field = unknown[0] if _FIELD.fullmatch(unknown[0]) else None
        *first, last = sorted(known)
        raise RequestError("unknown_field", f"{', '.join(first)} and {last} are the fields", field=field)


def no_fields(body: dict[str, Any]) -> None:
    """Refuse a body that says anything. Raises RequestError."""
    if body:
        raise RequestError("unknown_field", "an empty object is wanted")


def name_operator(request: web.Request, operator: Operator) -> None:
    """Remember who asks: by their token, or their session."""
    request[_OPERATOR] = operator


def operator_of(request: web.Request) -> Operator | None:
    """Return who asks, None where nobody had to say."""
    return request.get(_OPERATOR)


def place_client(request: web.Request, address: str) -> None:
    """Remember the client's address, which is not the peer's where a proxy stands between."""
    request[_ADDRESS] = address


def address_of(request: web.Request) -> str:
    """Return the client's address."""
    return request.get(_ADDRESS) or request.remote or "unknown"


def actor_of(request: web.Request) -> str:
    """Return who is asking, as the audit names it: the operator, and the address they come from."""
    operator = operator_of(request)
    return f"{operator.name if operator is not None else 'nobody'}@{address_of(request)}"


def noted(request: web.Request) -> None:
    """Say that the audit has what this request changed; without it the server notes the request itself."""
    request[_NOTED] = True


def is_noted(request: web.Request) -> bool:
    """Tell whether the audit has what this request changed."""
    return bool(request.get(_NOTED))


def number_of(body: dict[str, Any]) -> str:
    """Return the E.164 digits of a body's `number`, which `country` completes. Raises RequestError."""
    raw, country = body.get("number", ""), body.get("country", "")
    if not isinstance(raw, str) or not raw:
        raise RequestError("invalid_field", "a number in quotes is wanted", field="number")
    if not isinstance(country, str):
        raise RequestError("invalid_field", "two letters are wanted", field="country")
    try:
        return normalise(raw, country.upper()).msisdn
    except RequestError as error:
        raise RequestError(error.code, error.detail, field="number") from None


def number_in_query(request: web.Request, name: str, usual: int, most: int) -> int:
    """Return a number of the query string, `usual` where it is left out. Raises RequestError."""
    text = request.query.get(name)
    if text is None:
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) > most:
        raise RequestError("invalid_field", f"a number up to {most} is wanted", field=name)
    return int(text)


STREAMS: Final = ("/admin/v1/events",)
"""Paths whose answers go on and on: the limit of a request's time does not hold for them."""
