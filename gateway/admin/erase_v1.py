"""`POST /admin/v1/erase`: remove what the gateway knows of a number.

    {"number": "+86138…"[, "country": "CN", "cancel": true, "also_blacklist": true, "rewrite": false, "next": "…"]}
        → {"done": true, "erased": {records, number, inbound, parked, events, learned, …, left}, "file": "rewriting"}
        → {"done": false, "next": "walk:…", "wait_s": 0, "erased": {…}}     asked again with that `next`, it goes on

Without `cancel`, messages that are not final refuse it (409 `still_live`, with counts) before anything is removed. The
number is in a body and not in a path, because paths stand in logs; no answer repeats it. Owns the shape; the walk is
the store's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.admin import places
from gateway.admin.problem import json_answer, problem
from gateway.admin.requests import actor_of, noted, number_of, read_object, unknown_field
from gateway.errors import RequestError
from gateway.settings import Settings
from gateway.store.audit import Audit
from gateway.store.erase import NEXT, Eraser, StillLive
from gateway.store.store import Store

_FIELDS: Final = {"number", "country", "cancel", "also_blacklist", "rewrite", "next"}
_SWITCHES: Final = {"cancel": False, "also_blacklist": False, "rewrite": True}


@dataclass(frozen=True, slots=True)
class ErasureApi:
    """What the endpoint works on."""

    settings: Settings
    store: Store
    audit: Audit

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""

        async def handle(request: web.Request) -> web.Response:
            return await post_erase(self, request)

        return [web.post("/admin/v1/erase", handle)]


async def post_erase(api: ErasureApi, request: web.Request) -> web.Response:
    """Erase a number, or go on with it.

    Raises:
        RequestError: the body is not what is wanted; the field says what.
    """
    body = await read_object(request)
    unknown_field(body, _FIELDS)
    msisdn = number_of(body)
    switches = {name: body.get(name, default) for name, default in _SWITCHES.items()}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise RequestError("invalid_field", "true or false is wanted", field=name)
    at = body.get("next", "")
    belongs = ("erase", msisdn)
    if at:
        # One that we gave for this number: else an erasure could begin in the middle, and stand nowhere.
        at = await places.take(api.audit, at, *belongs) if isinstance(at, str) else None
        if at is None or not re.fullmatch(NEXT, at):
            raise RequestError("invalid_field", "what the answer before said is wanted", field="next")
    elif at != "":
        raise RequestError("invalid_field", "what the answer before said is wanted", field="next")
    inbound = api.settings.inbound
    eraser = Eraser(api.store, api.audit, keep_periods=max(inbound.keep_months, inbound.keep_optout_months) + 2)
    try:
        ttl_s, actor = api.settings.ported.learned_ttl_s, actor_of(request)
        done = await eraser.go_on(msisdn, at=at, learned_ttl_s=ttl_s, actor=actor, **switches)
    except StillLive as live:
        detail = f"not all messages to the number are final ({live}); wait, or ask for cancel"
        counts = {"final": live.final, "waiting": live.waiting, "sent": live.sent, "being_sent": live.busy}
        return problem(409, "still_live", detail, field="cancel", counts=counts)
    answer: dict[str, Any] = {"done": not done.next, "erased": done.counts}
    if done.next and not at:  # the end has an entry of its own; one that is never asked for is seen all the same
        await api.audit.prepare()
        number_hash = api.audit.named(msisdn)["number_hash"]
        await api.audit.note(actor, "number.erase_begun", "number", number_hash=number_hash)
    noted(request)
    if done.next:
        answer |= {"next": await places.give(api.audit, done.next, *belongs), "wait_s": done.wait_s}
    elif done.file:
        answer["file"] = done.file
    return json_answer(answer)
