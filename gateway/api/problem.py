"""Refusals as RFC 9457 problem documents: one shape for every error the API answers.

Owns the shape {type, title, status, code, detail, outcome, field?, retry_after_s?, retry_at?} and the words of each
code. Refuses to repeat anything of the request: details are our own sentences. Stands at the end of every
failing path, also of those on which no request could be read.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from gateway.api.answer import Answer
from gateway.errors import Backpressure, GatewayError, RequestError, StoreUnavailable

CONTENT_TYPE: Final = b"application/problem+json"

TITLES: Final[dict[str, str]] = {
    "bad_request": "The request is not valid HTTP",
    "blocked_recipient": "The recipient is on a blacklist",
    "body_too_large": "The body is too large",
    "category_not_allowed": "The account may not send this category",
    "consent_required": "The message does not say that its recipient agreed",
    "content_rejected": "A rule on contents refuses the text",
    "draining": "The gateway is stopping",
    "duplicate_key": "A key stands twice in an object",
    "expectation_failed": "The expectation cannot be met",
    "expired": "The message would have expired before it could be sent",
    "feedback_conflict": "The event_id was used with other content",
    "frequency_capped": "The recipient has had enough messages for now",
    "header_too_large": "The header is too large",
    "idempotency_mismatch": "The Idempotency-Key was used with other content",
    "internal": "An error on our side",
    "invalid_field": "A field has a value that is not allowed",
    "invalid_idempotency_key": "The Idempotency-Key is not valid",
    "invalid_json": "The body is not valid JSON",
    "invalid_number": "The recipient is not a number that can be sent to",
    "invalid_param": "A param of the template has a value that is not allowed",
    "invalid_parameter": "A query parameter is not valid",
    "key_in_query": "An API key does not belong in a URL",
    "link_not_allowed": "The account may not link there",
    "method_not_allowed": "The method is not allowed here",
    "missing_field": "A required field is missing",
    "missing_param": "A param of the template is missing",
    "missing_optout_text": "The text does not say how to get no more",
    "missing_signature": "The text has no signature",
    "no_route": "There is no route to the recipient",
    "not_found": "There is nothing here",
    "not_sent": "The message was not sent",
    "outside_window": "The message may not leave in time",
    "overloaded": "The gateway is full",
    "quota_exceeded": "The account's daily quota is used up",
    "rate_limited": "Too many requests",
    "ref_conflict": "The ref was used with other content",
    "request_timeout": "The request took too long to arrive",
    "sender_not_allowed": "The account may not use this sender",
    "signature_not_allowed": "The account may not use this signature",
    "signature_not_registered": "No channel of the route carries this signature",
    "store_unavailable": "The store did not answer",
    "template_failed": "The template makes no text of these params",
    "template_retired": "The template is no longer in use",
    "text_too_long": "The text needs more than ten parts",
    "too_deep": "The body is nested too deeply",
    "too_late": "The message can no longer be cancelled",
    "too_many_connections": "Too many connections",
    "too_many_feedback": "The message has as much feedback as is kept",
    "too_many_keys": "An object has too many keys",
    "too_many_rows": "The report would have too many rows",
    "unauthorized": "The API key is missing or not known",
    "unknown_param": "The template has no such param",
    "unknown_template": "There is no such template",
    "unknown_field": "A field is not known",
    "unsupported_media_type": "The content type is not supported",
}
"""Every code the API answers, with its title; the OpenAPI document lists them from here."""


def document(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    outcome: str = "not_stored",
    retry_after_s: float | None = None,
    retry_at_ms: int = 0,
) -> dict[str, Any]:
    """Return the problem document as a dict (an item's `error` in a batch has the same shape)."""
    problem: dict[str, Any] = {
        "type": f"urn:smsgw:problem:{code}",
        "title": TITLES.get(code) or HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "outcome": outcome,
    }
    if field is not None:
        problem["field"] = field
    if retry_after_s is not None:
        problem["retry_after_s"] = max(1, math.ceil(retry_after_s))
    if retry_at_ms:
        at = datetime.fromtimestamp(retry_at_ms // 1000, UTC)
        problem["retry_at"] = f"{at:%Y-%m-%dT%H:%M:%S}.{retry_at_ms % 1000:03d}Z"
    return problem


def describe(error: GatewayError) -> dict[str, Any]:
    """Return the problem document of an error from the tree."""
    if isinstance(error, RequestError):
        return document(
            error.status,
            error.code,
            error.detail,
            field=error.field,
            retry_after_s=error.retry_after_s,
            retry_at_ms=error.retry_at_ms,
        )
    if isinstance(error, Backpressure):
        return document(error.status, error.code, error.detail, retry_after_s=error.retry_after_s)
    if isinstance(error, StoreUnavailable):
        # The exception's own text is for the log: it may name keys or hosts.
        said = "nothing was stored" if error.outcome == "not_stored" else "it may have been stored; repeat it"
        return document(
            503,
            "store_unavailable",
            f"the store did not answer: {said}",
            outcome=error.outcome,
            retry_after_s=error.retry_after_s,
        )
    return document(500, "internal", "an error on our side; it may have been stored", outcome="unknown")


def refuse(error: GatewayError, *, close: bool = False) -> Answer:
    """Return the answer to a request that ends with `error`."""
    problem = describe(error)
    headers = b""
    if "retry_after_s" in problem:
        headers = b"Retry-After: %d\r\n" % problem["retry_after_s"]
    if problem["status"] == 401:
        headers += b"WWW-Authenticate: Bearer\r\n"
    return Answer(problem["status"], problem, headers=headers, content_type=CONTENT_TYPE, close=close)
