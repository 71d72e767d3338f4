"""Answers of the admin listener: JSON, and RFC 9457 problems that never repeat what was sent.

Owns their form and headers. Refuses to know endpoints. Stands between the endpoint files and aiohttp.
"""

from __future__ import annotations

import math
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.errors import Backpressure, RequestError, StoreUnavailable

SAFE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "smsgw",  # aiohttp would name its version
}
CONSOLE_HEADERS: Final = {
    **SAFE_HEADERS,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}
"""What every answer under /console has: its page may load what the package brings, and nothing else."""


def json_answer(body: Any, *, status: int = 200) -> web.Response:
    """Return `body` as JSON."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=SAFE_HEADERS)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """Return an `application/problem+json` answer; `field` names what is at fault."""
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}
    if field is not None:
        body["field"] = field
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/problem+json",
        headers={**SAFE_HEADERS, **(headers or {})},
    )


def refusal(error: RequestError | Backpressure | StoreUnavailable) -> web.Response:
    """Return the answer for one of our own errors."""
    if isinstance(error, RequestError):
        return problem(error.status, error.code, error.detail, field=error.field)
    retry = {"Retry-After": str(math.ceil(error.retry_after_s))}
    if isinstance(error, Backpressure):
        return problem(error.status, error.code, error.detail, headers=retry, outcome="not_stored")
    return problem(503, "store_unavailable", str(error), headers=retry, outcome=error.outcome)
