"""`/admin/v1/ported`: what receipts taught about ported numbers, taken back by an operator.

    POST /admin/v1/ported/forget {"number": "+86138…"}      → {"forgotten": 1, "imported": "china-unicom"}
    POST /admin/v1/ported/forget {"all_learned": true}      → {"forgotten": 1234, "imported": null}

`country` beside a national number. `forgotten` counts facts; `imported` is the carrier that the imported table has for
the number: that stays, until another table is imported. Workers act on it within seconds. In a body and not in a path,
because paths stand in logs; the answer does not repeat the number.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, read_object, unknown_field
from gateway.errors import RequestError
from gateway.routing.msisdn import normalise
from gateway.routing.ported_table import PortedTables
from gateway.settings import Settings
from gateway.store.audit import Audit


class PortedStore(Protocol):
    """The part of the store that keeps what was learned."""

    async def forget_ported(self, msisdn: str, ttl_s: float) -> int: ...


async def forget(
    request: web.Request,
    settings: Settings,
    store: PortedStore,
    imported: PortedTables | None,
    audit: Audit | None = None,
) -> web.Response:
    """Forget one number, or all that was learned.

    Raises:
        RequestError: the body is not what is wanted; the field says what.
    """
    body = await read_object(request)
    unknown_field(body, {"number", "country", "all_learned"})
    everything, raw, country = body.get("all_learned", False), body.get("number", ""), body.get("country", "")
    if not isinstance(everything, bool):
        raise RequestError("invalid_field", "true or false is wanted", field="all_learned")
    if not isinstance(country, str):
        raise RequestError("invalid_field", "two letters are wanted", field="country")
    if not isinstance(raw, str) or bool(raw) == everything:
        raise RequestError("invalid_field", "a number in quotes is wanted, or all_learned", field="number")
    carrier = None
    msisdn = ""
    if raw:
        try:
            number = normalise(raw, country.upper())
        except RequestError as error:
            raise RequestError(error.code, error.detail, field="number") from None
        msisdn = number.msisdn
        if imported is not None:
            await asyncio.to_thread(imported.refresh)
            carrier = imported.get(number.country, msisdn)
    forgotten = await store.forget_ported(msisdn, settings.ported.learned_ttl_s)
    if audit is not None:
        await audit.prepare()
        more = audit.named(msisdn) if msisdn else {}
        await audit.note(actor_of(request), "ported.forget", "one number" if msisdn else "all", **more)
        noted(request)
    return json_answer({"forgotten": forgotten, "imported": carrier})
