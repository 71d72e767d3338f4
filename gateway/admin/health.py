"""`/livez` and `/readyz`: whether this process runs, and whether this machine may be sent work.

Owns the two answers. Refuses to look for reasons itself: it is given a function. Reasons are for those who
have the token; anybody else learns yes or no.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.admin.problem import json_answer

Reasons = Callable[[], Awaitable[list[str]]]
"""Returns why not, an entry a reason; empty: ready."""


async def livez(request: web.Request) -> web.Response:
    """Answer 200 as long as the process answers at all; depends on nothing else."""
    del request
    return json_answer({"live": True})


async def readyz(reasons: Reasons, *, authenticated: bool) -> web.Response:
    """Answer 200 or 503, to holders of the token with every reason."""
    found = await reasons()
    body: dict[str, object] = {"ready": not found}
    if authenticated:
        body["reasons"] = found
    return json_answer(body, status=503 if found else 200)
