"""`/admin/v1/failure-codes`: the codes that nobody knew, and what a code means on a channel and why.

    GET /admin/v1/failure-codes                            → {"unknown": [{"channel", "code", "count", "last_seen"}]}
    GET /admin/v1/failure-codes?code=MK:0001&channel=cm-a  → {"reason": "invalid-number", "permanent": true, …}

A code that the tables have by now (a new line, a channel's `failure_codes`) is not listed as unknown any more. Lookup
with `code` as in a receipt's err or stat (or `gsm:27` for its network_error_code); without `channel` as on one that
names no carrier; `stat` beside an err, because they are read together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.dlr.reasons import FailureReasons, spelling
from gateway.errors import RequestError
from gateway.settings import ChannelSettings
from gateway.store.receipt_notes import CODES_MOST, ReceiptNotes

_CODE_CHARS = 64


async def get_failure_codes(
    request: web.Request, notes: ReceiptNotes, reasons: FailureReasons, channels: tuple[ChannelSettings, ...]
) -> web.Response:
    """List the unknown codes, or explain one.

    Raises:
        RequestError: the query is not what is wanted; the field says what.
    """
    query = request.query
    if unknown := sorted(query.keys() - {"code", "channel", "stat"}):
        field = unknown[0] if unknown[0].isidentifier() and unknown[0].isascii() else None
        raise RequestError("unknown_field", "code, channel and stat are the parameters", field=field)
    channel = query.get("channel", "")
    if channel and channel not in {one.id for one in channels}:
        raise RequestError("invalid_field", "no such channel", field="channel")
    if "code" in query:
        return json_answer(_explained(reasons, channels, channel, _word(query["code"], "code"), query.get("stat", "")))
    if "stat" in query:
        raise RequestError("invalid_field", "goes with code only", field="stat")
    found = [
        {"channel": one.channel, "code": one.code, "count": one.count, "last_seen": _iso(one.last_seen_ms)}
        for one in await notes.unknown_codes()
        if (not channel or one.channel == channel) and reasons.explain(one.channel, "", "", one.code).unknown
    ]
    return json_answer({"unknown": found, "most": CODES_MOST})


def _explained(
    reasons: FailureReasons, channels: tuple[ChannelSettings, ...], channel: str, code: str, stat: str
) -> dict[str, Any]:
    verdict = reasons.explain(channel, _word(stat, "stat") if stat else "", "", code)
    settings = next((one for one in channels if one.id == channel), None)
    why = verdict.failure
    return {
        "code": code,
        "spelling": spelling(code),
        "channel": channel or None,
        "carrier": (settings.carrier if settings is not None else "") or None,
        "known": verdict.how != "unknown",
        "found_as": verdict.how,
        "decided_by": verdict.code,
        "reason": why.reason,
        "permanent": why.permanent,
        "passes_elsewhere": why.passes_elsewhere,
        "suppress": why.suppress,
        "detail": why.detail,
        "source": why.source,
    }


def _word(text: str, field: str) -> str:
    if not 0 < len(text) <= _CODE_CHARS or not text.isprintable():
        raise RequestError("invalid_field", f"1 to {_CODE_CHARS} printable characters are wanted", field=field)
    return text


def _iso(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
