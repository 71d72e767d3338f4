"""GET /openapi.json: the specification, made from the same tables that check and answer.

Owns the document's frame; message and feedback come from `schema`, the codes from `problem`. Built once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson

from gateway.api import blacklist_v1, health_get_v1, problem, schema, stats_get_v1
from gateway.api.advice import ADVICE
from gateway.api.answer import Answer
from gateway.api.context import Call, Context
from gateway.api.samples import PRELUDE, samples
from gateway.model import STATE_LABELS

_VERSION = "1.0.0"
Json = dict[str, Any]


async def get_openapi(context: Context, call: Call) -> Answer:
    """Answer with the OpenAPI document."""
    return Answer(200, _encoded())


@cache
def _encoded() -> bytes:
    return orjson.dumps(document())


def document() -> Json:
    """Return the OpenAPI 3.1 document of the application API."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "smsgw",
            "version": _VERSION,
            "description": "Send text messages and learn what became of them. A 202 means: stored on disk.",
            "x-prelude": PRELUDE,
        },
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _paths() -> Json:
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "maxLength": 255, "pattern": "^[!-~]+$"},
        "description": "A repeat with the same key stores nothing twice. Items with a ref use that instead.",
    }
    item = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "string"}}
    to = {
        "name": "to", "in": "query", "required": True, "schema": {"type": "string"},
        "description": "The recipient, as in a message.",
    }  # fmt: skip
    ref = {
        "name": "ref", "in": "query", "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": "The application's own id: that message alone.",
    }  # fmt: skip
    asked = (400, 401, 429, 503)  # of every call: 429 also for many wrong keys from one address
    told = (*asked, 408, 413, 415)
    posted = (*told, 422)
    return {
        "/v1/messages": {
            "post": _operation("sendMessage", "Send one message", "Message", "Accepted", posted, [key]),
            "get": _operation("findMessages", "Find messages to a number", None, "Found", (*asked, 422), [to, ref]),
        },
        "/v1/messages/batch": {
            "post": _operation("sendBatch", "Send up to 1,000 messages", "Batch", "BatchAnswer", posted, [key]),
        },
        "/v1/messages/check": {
            "post": _operation(
                "checkMessages",
                "Ask what would become of up to 1,000 messages; nothing is stored",
                "Batch",
                "CheckAnswer",
                posted,
                [key],
            ),
        },
        "/v1/messages/{id}": {
            "get": _operation("getMessage", "Read one message", None, "Record", (*asked, 404), [item]),
            "delete": _operation("cancelMessage", "Cancel a message", None, "Cancelled", (*asked, 404, 409), [item]),
        },
        "/v1/messages/{id}/feedback": {
            "post": _operation(
                "sendFeedback", "Tell what a message led to", "Feedback", "FeedbackAnswer", (*posted, 404, 409), [item]
            ),
        },
        "/v1/blacklist/{number}": {
            "get": _operation(
                "getBlacklist", "Read the account's own blacklist", None, "BlacklistAnswer", (*asked, 422), [number]
            ),
            "put": _operation(
                "putBlacklist", "Put a number on it", "BlacklistEntry", "BlacklistAnswer", posted, [number]
            ),
            "delete": _operation(
                "deleteBlacklist", "Take a number off it", None, "BlacklistRemoved", (*asked, 422), [number]
            ),
        },
        "/v1/stats": {"get": _statistics((*asked, 422))},
        "/v1/health": {
            "get": _operation("getHealth", "Ask whether messages are taken now", None, "Health", asked, []),
        },
    }


_TAKEN = frozenset({"Accepted", "BatchAnswer"})
"""Answers that say that something was stored: 202."""


def _operation(
    name: str, summary: str, body: str | None, answer: str, errors: tuple[int, ...], parameters: list[Json]
) -> Json:
    refusal = {"content": {"application/problem+json": {"schema": _ref("Problem")}}}
    taken = answer in _TAKEN
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "202" if taken else "200": {
                "description": "Stored as `durability` says" if taken else "Done",
                "content": {"application/json": {"schema": _ref(answer)}},
            },
            **{str(error): _refusal(error) | refusal for error in sorted(errors)},
        },
        "x-codeSamples": samples(name),
    }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(body)}},
        }
    return operation


def _refusal(status: int) -> Json:
    described: Json = {"description": _MEANINGS[status]}
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 1}
        described["headers"] = {"Retry-After": {"schema": seconds, "description": "Seconds", "required": True}}
    return described


def _statistics(errors: tuple[int, ...]) -> Json:
    parameters = stats_get_v1.parameters()
    operation = _operation("getStats", "How messages fared", None, "Report", errors, parameters)
    operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return operation


_MEANINGS = {
    400: "Not readable; nothing was stored",
    401: "No valid key",
    404: "No such message of this account",
    408: "The body came too slowly; nothing was stored",
    409: "The message's state does not allow it",
    413: "Too large; nothing was stored",
    415: "Not JSON in UTF-8; nothing was stored",
    422: "Refused for its content; nothing was stored",
    429: "Over the account's rate or quota, or too many wrong keys; nothing was stored; see Retry-After",
    503: "Not now; `outcome` says whether anything may be stored; see Retry-After",
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Json:
    states = list(dict.fromkeys(STATE_LABELS.values()))
    text: Json = {"type": "string"}
    time: Json = {"type": "string", "format": "date-time"}
    time_or_none: Json = {"type": ["string", "null"], "format": "date-time"}
    count: Json = {"type": "integer", "minimum": 0}
    accepted = {
        "id": {"type": "string", "format": "uuid"},
        "state": {"type": "string", "enum": ["queued", "scheduled", "deferred"]},
        "parts": {"type": "integer", "minimum": 1, "maximum": 10},
        "encoding": {"type": "string", "enum": ["gsm7", "ucs2", "latin1"]},
        "route": text,
        "expires_at": time_or_none,
        "durability": {"type": "string", "enum": ["fsync", "replicated", "relaxed"]},
        "replayed": {"type": "boolean", "description": "This is the first answer again."},
    }
    record = {
        "id": accepted["id"], "state": {"type": "string", "enum": states}, "final": {"type": "boolean"},
        "to": text, "category": text, "sender": text, "parts": count, "parts_delivered": count,
        "cost": {"type": "string", "description": "What the carriers take for it, at the prices of when they took it."},
        "encoding": text, "route": text, "carrier": text, "possible_duplicate": {"type": "boolean"},
        "reason": {"type": ["object", "null"], "properties": {
            "code": text, "permanent": {"type": "boolean"}, "carrier_code": {"type": ["string", "null"]},
        }},
        "late_correction": {"type": "boolean"}, "accepted_at": time, "send_at": time_or_none,
        "expires_at": time, "state_at": time, "attempts": {"type": "array", "items": _ref("Attempt")},
        "feedback": {"type": "array", "maxItems": 32, "items": _ref("Told")},
        "tags": {"type": "array", "items": text}, "test": {"type": "boolean"}, "ref": text,
        "origin": {"type": "object"}, "contact": text, "meta": text, "ext": text, "gate": text,
        "zone": text, "local_window": text, "consent": {"type": "boolean"},
        "template": text, "template_version": {"type": "integer"},
    }  # fmt: skip
    return {
        "Message": schema.message_schema(),
        "MessageDefaults": schema.message_schema(required=False),
        "Batch": schema.batch_schema(),
        "Accepted": {
            "type": "object",
            "properties": accepted,
            "required": [name for name in accepted if name != "replayed"],
        },
        "BatchAnswer": {
            "type": "object",
            "required": ["accepted", "rejected", "results"],
            "properties": {
                "accepted": count,
                "rejected": count,
                "results": {"type": "array", "items": {"anyOf": [_ref("Accepted"), _ref("Refused")]}},
            },
        },
        "CheckAnswer": {
            "type": "object",
            "required": ["accepted", "rejected", "results"],
            "properties": {
                "accepted": count,
                "rejected": count,
                "results": {"type": "array", "items": _ref("Foreseen")},
            },
        },
        "Foreseen": {
            "type": "object",
            "description": "What accepting it now would answer: a state or an error, and what else is known of it.",
            "properties": {
                "state": accepted["state"],
                "error": _ref("Problem"),
                "id": {"type": "string", "format": "uuid", "description": "Of the message this one repeats."},
                "replayed": accepted["replayed"],
                "expires_at": time_or_none,
                "parts": accepted["parts"],
                "encoding": accepted["encoding"],
                "route": text,
                "price": {
                    "type": "string",
                    "description": "Of all parts by the dearest of the route's first channels.",
                },
                "send_at": {**time_or_none, "description": "When it would be due; null: at once."},
                "spread_s": {**count, "description": "It leaves within so long after send_at."},
                "window_until": {**time_or_none, "description": "When its window closes again."},
                "blacklisted": {"type": "boolean"},
                "capped_until": time_or_none,
            },
        },
        "Refused": {"type": "object", "required": ["error"], "properties": {"error": _ref("Problem")}},
        "Record": {"type": "object", "properties": record, "required": ["id", "state", "parts", "attempts"]},
        "Feedback": schema.feedback_schema(),
        "FeedbackAnswer": {
            "type": "object",
            "required": ["id", "event_id", "outcome", "repeated"],
            "properties": {
                "id": accepted["id"],
                "event_id": text,
                "outcome": text,
                "repeated": {"type": "boolean", "description": "It was on record already."},
            },
        },
        "Told": {
            "type": "object",
            "required": ["outcome", "at", "event_id"],
            "properties": {
                "outcome": text,
                "at": time,
                "event_id": text,
                "amount": text,
                "currency": text,
                "customer": text,
            },
        },
        "Attempt": {
            "type": "object",
            "properties": {
                "number": count,
                "channel": text,
                "at": time,
                "outcome": text,
                "command_status": {"type": ["string", "null"]},
                "smsc_ids": {"type": "array", "items": text},
            },
        },
        "Found": {
            "type": "object",
            "required": ["messages"],
            "properties": {"messages": {"type": "array", "maxItems": 16, "items": _ref("Record")}},
        },
        "Cancelled": {"type": "object", "properties": {"id": accepted["id"], "state": text}},
        **stats_get_v1.schemas(),
        **blacklist_v1.schemas(),
        **health_get_v1.schemas(),
        "Problem": {
            "type": "object",
            "description": "RFC 9457",
            "required": ["type", "title", "status", "code", "detail", "outcome"],
            "properties": {
                "type": text,
                "title": text,
                "status": {"type": "integer"},
                "code": {
                    "type": "string",
                    "enum": sorted(problem.TITLES),
                    "x-codes": {
                        code: {"title": title, "do": ADVICE[code]} for code, title in sorted(problem.TITLES.items())
                    },
                },
                "detail": text,
                "field": {"type": "string", "description": "The field at fault, where one is."},
                "outcome": {"type": "string", "enum": ["not_stored", "unknown"]},
                "retry_after_s": {"type": "integer", "description": "When a repeat may succeed."},
                "retry_at": {**time, "description": "The time from which it would be taken, where it is known."},
            },
        },
    }
