"""GET /v1/stats: how the account's messages fared, grouped and filtered as asked, as JSON or CSV.

Owns which parameters the application API knows (an account sees itself alone), the form of the answer, and how both
stand in the specification. Refuses to know what a number means: `gateway.statistics` does. Beside the path: it only
reads.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from gateway import statistics
from gateway.api.answer import Answer
from gateway.api.context import Call, Context

PARAMETERS: Final = frozenset(statistics.PARAMETERS) - {"account"}
_CSV: Final = b"text/csv; charset=utf-8"
_FILE: Final = b'Content-Disposition: attachment; filename="stats.csv"\r\n'


async def get_stats(context: Context, call: Call) -> Answer:
    """Answer the account's report.

    Raises:
        RequestError: `invalid_parameter` or `too_many_rows`; the field says which parameter.
    """
    wants_csv = statistics.prefers_csv(call.request.headers.get("Accept", ""))
    query = statistics.parse(call.parameters, now_s=time.time(), account=call.account.id, wants_csv=wants_csv)
    report = await statistics.collect(query, context.statistics)
    body = await asyncio.to_thread(report.body)
    if query.format == "csv":
        return Answer(200, body, headers=_FILE, content_type=_CSV)
    return Answer(200, body)


# --- the specification

_SAID: Final = {
    "from": "A date, or a time with its offset (RFC 3339). The start of today where it is not given.",
    "to": "The same; a date is in it, a time is not. Up to now where it is not given.",
    "zone": "Whose days: UTC, an offset as +08:00, or a name as Asia/Shanghai.",
    "by": "Grouped by hour or day and by any of what can be filtered by, with commas between.",
    "format": "json or csv; where it is not given, as Accept says.",
    "signature": "Only these. By signature there are opt-outs and complaints alone.",
}
_FILTER: Final = "Only these, with commas between; a comma in a value is written \\,"


def parameters() -> list[dict[str, Any]]:
    """Return the parameters as OpenAPI describes them."""
    return [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": _SAID.get(name, _FILTER)}
        for name in statistics.PARAMETERS
        if name in PARAMETERS
    ]


def schemas() -> dict[str, Any]:
    """Return the schemas of the answer."""
    text, number, number_or_none = {"type": "string"}, {"type": "integer"}, {"type": ["number", "null"]}
    time_text = {"type": "string", "format": "date-time"}
    counts = {"$ref": "#/components/schemas/Counts"}
    shares = dict.fromkeys(("p50_s", "p95_s", "p99_s"), number_or_none)
    latency = {"bucketed": {"type": "boolean"}, "n": number, **shares}
    failure = {"state": text, "reason": text, "n": number, "share": number_or_none}
    return {
        "Report": {
            "type": "object",
            "required": ["from", "to", "zone", "by", "where", "rows", "total"],
            "properties": {
                "from": time_text,
                "to": time_text,
                "zone": text,
                "by": {"type": "array", "items": text},
                "where": {"type": "object"},
                "rows": {"type": "array", "maxItems": statistics.MOST_ROWS, "items": counts},
                "total": counts,
            },
        },
        "Counts": {
            "type": "object",
            "description": "What it is grouped by, and the counts; by signature, td and complaints alone.",
            "required": list(statistics.OPT_OUT_COUNTS),
            "properties": {
                **dict.fromkeys((*statistics.TIMES, *statistics.DIMENSIONS), text),
                **dict.fromkeys(statistics.COUNTS, number),
                "delivery_ratio": {**number_or_none, "description": "Delivered, of those that were sent and ended."},
                "latency": {
                    "type": ["object", "null"],
                    "description": "Seconds from submission to delivery, read from buckets of powers of two.",
                    "properties": latency,
                },
                "cost": {**text, "description": "Decimal, in the unit of the configured prices."},
                "amounts": {"type": "object", "additionalProperties": text, "description": "By currency."},
                "failures": {"type": "array", "items": {"type": "object", "properties": failure}},
                "refusals": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"status": text, "n": number}},
                },
            },
        },
    }
