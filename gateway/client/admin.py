"""The admin API as the command line asks it: one request, its JSON or a sentence that says what went wrong.

Over the clients' own transport, once: what an operator does is not repeated behind his back. Knows no settings: whoever
calls it says where the listener is and with which token. Never repeats the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.client.aio import AioTransport
from gateway.client.errors import ClientError
from gateway.client.exchange import Broken, Request

TIMEOUT_S = 15.0


class AdminError(ClientError):
    """The admin listener could not be asked, or refused. `status`: of its answer (0: none); `body`: what it said."""

    def __init__(
        self,
        detail: str,
        *,
        status: int = 0,
        code: str = "",
        field: str | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.field, self.body = status, code, field, body or {}


async def ask(
    base: str, token: str, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
) -> Any:
    """Send one request to the admin listener at `base` and return its JSON.

    Raises:
        AdminError: nobody answers, the token is not the right one, or the request was refused (with field and reason).
    """
    headers = {} if body is None else {"Content-Type": "application/json"}
    data = None if body is None else orjson.dumps(body)
    async with AioTransport(base, token, connections=1) as transport:
        answer = await transport.exchange(Request(method, path, query or {}, headers, data, TIMEOUT_S))
    if isinstance(answer, Broken):
        raise AdminError(f"the admin listener at {base} does not answer ({answer.why})")
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError as exc:
        detail = f"the admin listener at {base} answered {answer.status} without JSON"
        raise AdminError(detail, status=answer.status) from exc
    if answer.status >= 300:
        problem = found if isinstance(found, dict) else {}
        field = f"{problem['field']}: " if problem.get("field") else ""
        detail = f"{field}{problem.get('detail') or problem.get('title') or answer.status}"
        code = problem.get("code", "")
        raise AdminError(detail, status=answer.status, code=code, field=problem.get("field"), body=problem)
    return found


async def read_text(base: str, token: str, path: str) -> str:
    """Return what a path of the admin listener answers as text (`/metrics`).

    Raises:
        AdminError: as `ask`.
    """
    async with AioTransport(base, token, connections=1) as transport:
        answer = await transport.exchange(Request("GET", path, {}, {}, None, TIMEOUT_S))
    if isinstance(answer, Broken):
        raise AdminError(f"the admin listener at {base} does not answer ({answer.why})")
    if answer.status >= 300:
        raise AdminError(f"the admin listener at {base} answered {answer.status} to {path}", status=answer.status)
    return answer.body.decode()
