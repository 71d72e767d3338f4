"""The admin API as the command line asks it: one request, its JSON or a sentence that says what went wrong.

Knows no settings: whoever calls it says where the listener is and with which token. Never repeats the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from gateway.errors import GatewayError

TIMEOUT_S = 15.0


class AdminError(GatewayError):
    """The admin listener could not be asked, or refused."""


async def ask(
    base: str, token: str, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
) -> Any:
    """Send one request to the admin listener at `base` and return its JSON.

    Raises:
        AdminError: nobody answers, the token is not the right one, or the request was refused (with field and reason).
    """
    headers = {"Authorization": f"Bearer {token}"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = orjson.dumps(body)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.request(method, base + path, params=query, data=data, headers=headers) as answer,
        ):
            raw = await answer.read()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise AdminError(f"the admin listener at {base} does not answer ({type(exc).__name__})") from exc
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise AdminError(f"the admin listener at {base} answered {answer.status} without JSON") from exc
    if answer.status >= 400:
        field = f"{found['field']}: " if found.get("field") else ""
        raise AdminError(f"{field}{found.get('detail') or found.get('title') or answer.status}")
    return found
