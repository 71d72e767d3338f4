"""`GET /admin/v1/stats`: how the messages of all accounts fared, grouped and filtered as asked, as JSON or CSV.

Owns the form of the answer. Refuses to know what a number means: `gateway.statistics` does; its parameters stand in
docs/statistics.md, and are those of `GET /v1/stats` with `account` beside.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web

from gateway import statistics
from gateway.admin.problem import SAFE_HEADERS

_FILE: Final = {"Content-Disposition": 'attachment; filename="stats.csv"'}


async def get_stats(request: web.Request, store: statistics.Reader) -> web.Response:
    """Answer a report.

    Raises:
        RequestError: `invalid_parameter` or `too_many_rows`; the field says which parameter.
    """
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise statistics.wrong(name if name in statistics.PARAMETERS else None, "it stands there twice")
        given[name] = value
    wants_csv = statistics.prefers_csv(request.headers.get("Accept", ""))
    query = statistics.parse(given, now_s=time.time(), wants_csv=wants_csv)
    report = await statistics.collect(query, store)
    body = await asyncio.to_thread(report.body)
    if query.format == "csv":
        headers = {**SAFE_HEADERS, **_FILE}
        return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)
    return web.Response(body=body, content_type="application/json", headers=SAFE_HEADERS)
