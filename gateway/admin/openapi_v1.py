"""`GET /admin/v1/openapi.json`: the admin API as an OpenAPI document, made from the listener's own route table.

Every route under /admin/v1/ stands in it, with the first line of its function's docstring; what `BODIES` and `QUERIES`
know of a route's body and parameters comes on top, and a route that they do not know still is described, by an object.
Answers are objects or problems. Owns these tables and nothing of what an endpoint does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from gateway import statistics
from gateway.admin import channels_v1, explain_v1, gates_v1, messages_v1, webhooks_v1
from gateway.admin.problem import json_answer
from gateway.model import CATEGORY_LABELS
from gateway.store.blacklists import REASONS

PREFIX: Final = "/admin/v1/"
Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_EVENT: Final[Json] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"event": _TEXT, "id": _TEXT, "data": {"type": "string", "contentMediaType": "application/json"}},
}
"""One event of a stream; what its data is, `events_v1` says."""
_YES: Final[Json] = {"type": "boolean"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_CATEGORIES: Final[Json] = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(CATEGORY_LABELS)}}
_REASON: Final[Json] = {"type": "string", "enum": list(REASONS)}
_NUMBER: Final[Json] = {"number": _TEXT, "country": _TEXT}
_MEANINGS: Final = {
    "400": "Not readable, or a parameter is wrong",
    "401": "No valid token",
    "403": "The operator's role does not allow it",
    "404": "There is no such thing",
    "409": "The state of things does not allow it",
    "413": "Too large",
    "415": "Not JSON in UTF-8",
    "422": "Refused for its content; `field` says where",
    "503": "Not now: the store does not answer, or it took too long",
}


def _one_of(values: Iterable[str]) -> Json:
    return {"type": "string", "enum": list(values)}


def _object(*required: str, **fields: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": fields, "additionalProperties": False}


BODIES: Final[dict[tuple[str, str], Json]] = {
    ("PUT", "gates"): _object(
        "kind", "name", "state",
        kind=_one_of(gates_v1.KINDS), state=_one_of(gates_v1.STATES),
        name={"type": "string", "minLength": 1, "maxLength": gates_v1.MAX_NAME_CHARS},
    ),
    ("POST", "gates/preview"): _object(
        "kind", "name", kind=_one_of(gates_v1.KINDS), under_way=_YES, next=_TEXT,
        name={"type": "string", "minLength": 1, "maxLength": gates_v1.MAX_NAME_CHARS},
    ),
    ("POST", "explain"): _object("to", "category", "account", **dict.fromkeys(explain_v1.KEYS, _TEXT)),
    ("POST", "messages/find"): _object("to", to=_TEXT, country=_TEXT, account=_TEXT, ref=_TEXT, full=_YES),
    ("POST", "messages/{id}"): _object("action", action=_one_of(messages_v1.ACTIONS)),
    ("POST", "accounts/{id}/key"): _object(),
    ("POST", "accounts/{id}/test-send"): _object(
        "to", "category", "text", to=_TEXT, country=_TEXT, category=_one_of(CATEGORY_LABELS), text=_TEXT, sender=_TEXT
    ),
    ("PUT", "channels"): _object("id", "action", id=_TEXT, action=_one_of(channels_v1.ACTIONS)),
    ("POST", "ported/forget"): _object(**_NUMBER, all_learned=_YES),
    ("POST", "erase"): _object("number", **_NUMBER, cancel=_YES, also_blacklist=_YES, rewrite=_YES, next=_TEXT),
    ("POST", "webhooks"): {
        **_object("account", "action", account=_TEXT, action=_one_of(webhooks_v1.ACTIONS)),
        "properties": {
            "account": _TEXT, "action": _one_of(webhooks_v1.ACTIONS), "from": _TEXT, "to": _TEXT,
            "types": {"type": "array", "items": _one_of(webhooks_v1.REPLAYED)},
        },
    },
    ("PUT", "blacklist"): _object("number", **_NUMBER, scope=_TEXT, categories=_CATEGORIES, reason=_REASON),
    ("DELETE", "blacklist"): _object("number", **_NUMBER, scope=_TEXT),
    ("POST", "blacklist/search"): _object("number", **_NUMBER),
    ("POST", "blacklist/imports"): _object(
        scope=_TEXT, categories=_CATEGORIES, reason=_REASON, country=_TEXT, dry_run=_YES, name=_TEXT, id=_TEXT
    ),
    ("POST", "blacklist/imports/{id}/rows"): _object("rows", rows={"type": "array", "items": {"type": "array"}}),
    ("POST", "blacklist/imports/{id}/end"): _object(added=_COUNT, changed=_COUNT, unchanged=_COUNT, bad_rows=_COUNT),
    ("POST", "blacklist/undo"): {
        **_object(),
        "properties": dict.fromkeys(("import", "scope", "source", "since", "until", "next"), _TEXT),
    },
    ("POST", "inbound/search"): _object("number", **_NUMBER, months={"type": "integer", "minimum": 1}, full=_YES),
    ("POST", "inbound/reviewed"): _object("id", "decision", id=_TEXT, decision=_one_of(("dismiss", "opt_out"))),
    ("POST", "config/reload"): _object(force=_YES, dry_run=_YES, note=_TEXT),
    ("POST", "config/rollback"): _object("revision", revision={"type": "integer", "minimum": 1}, note=_TEXT),
    ("POST", "config/write"): _object(),
    ("POST", "templates/{id}/retire"): _object(version=_COUNT, id=_TEXT),
    ("POST", "templates/{id}/preview"): _object(
        id=_TEXT, params={"type": "object"}, version=_COUNT, to=_TEXT, account=_TEXT, sender=_TEXT
    ),
}  # fmt: skip
"""What a body may hold, by method and by the path behind /admin/v1/."""

QUERIES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("GET", "accounts"): ("account",),
    ("GET", "audit"): ("limit", "before", "since", "actor", "action", "verify"),
    ("GET", "changes"): ("since", "limit"),
    ("GET", "events"): ("topics",),
    ("GET", "stats"): statistics.PARAMETERS,
    ("GET", "explain"): explain_v1.KEYS,
    ("GET", "queues"): ("top",),
    ("GET", "messages/{id}"): ("full",),
    ("GET", "failure-codes"): ("code", "channel", "stat"),
    ("GET", "blacklist"): ("days",),
    ("GET", "blacklist/entries"): ("scope", "cursor"),
    ("GET", "inbound"): ("review", "account", "limit", "before", "months", "full"),
    ("GET", "templates/{id}"): ("version",),
    ("GET", "config/diff"): ("a", "b"),
}
"""The parameters of a query, all of them texts."""
_REQUIRED: Final = {("GET", "explain"): ("to", "category", "account")}


async def get_openapi(request: web.Request) -> web.Response:
    """Describe these calls."""
    return json_answer(document(request.app.router.routes()))


def document(routes: Iterable[web.AbstractRoute]) -> Json:
    """Return the OpenAPI 3.1 document of those routes that stand under /admin/v1/."""
    paths: dict[str, Json] = {}
    for route in routes:
        path = route.resource.canonical if route.resource is not None else ""
        if path.startswith(PREFIX) and route.method not in ("HEAD", "*"):
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, path.removeprefix(PREFIX))
    return {
        "openapi": "3.1.0",
        "info": {"title": "smsgw admin", "version": "1.0.0", "description": "For operators. Wants the admin token."},
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM},
        },
    }


_PROBLEM: Final[Json] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "code": _TEXT, "detail": _TEXT,
        "field": {"type": "string", "description": "The field at fault, where one is."},
        "outcome": {"type": "string", "enum": ["not_stored", "unknown"]},
    },
}  # fmt: skip


def _operation(route: web.AbstractRoute, path: str) -> Json:
    method = route.method
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answer: Json = {"application/json": {"schema": {"type": "object"}}}
    if path == "stats":
        answer["text/csv"] = {"schema": _TEXT}
    if path == "events":
        answer = {"text/event-stream": {"schema": _EVENT}}
    operation: Json = {
        "operationId": "_".join([method.lower(), *re.findall("[a-z]+", path)]),
        "summary": (route.handler.__doc__ or path).strip().splitlines()[0].rstrip("."),
        "parameters": [
            *(_parameter(name, "path", required=True) for name in re.findall(r"\{(\w+)\}", path)),
            *(
                _parameter(name, "query", required=name in _REQUIRED.get((method, path), ()))
                for name in QUERIES.get((method, path), ())
            ),
        ],
        "responses": {
            "200": {"description": "Done", "content": answer},
            **{status: {"description": said, "content": problem} for status, said in _MEANINGS.items()},
        },
    }
    body = BODIES.get((method, path))
    if body is not None or method in ("POST", "PUT", "PATCH"):
        schema = body if body is not None else {"type": "object"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameter(name: str, where: str, *, required: bool) -> Json:
    return {"name": name, "in": where, "required": required, "schema": _TEXT}
