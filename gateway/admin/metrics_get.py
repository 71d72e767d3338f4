"""`GET /metrics`: everything the workers counted and the store's gauges, in Prometheus' text format.

Owns the endpoint, not one metric: names and sums are `gateway.metrics`'. Readable without the token while the
admin listener is on a loopback address (Prometheus beside it); elsewhere the token is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.admin.problem import SAFE_HEADERS
from gateway.metrics import GaugeReading, MetricsHub

Readings = Callable[[], Awaitable[list[GaugeReading]]]
"""Reads the store's gauges, once for all workers."""


async def get_metrics(hub: MetricsHub, readings: Readings) -> web.Response:
    """Return the exposition."""
    body = hub.render(await readings())
    return web.Response(body=body, headers={**SAFE_HEADERS, "Content-Type": CONTENT_TYPE_LATEST})
