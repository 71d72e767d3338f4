"""`/admin/v1/inbound`: what handsets wrote, for operators; and the replies that a person has to read.

    GET  …?review=1&account=…&limit=50&before=ID&months=1&full=1   → {"messages": […], "to_review": n}
    POST …/search   {"number", "months", "full"}                   → the same, of one number
    POST …/reviewed {"id", "decision": "dismiss" or "opt_out"}     → {"id", "decision", "scope"}

Without `full` numbers are masked and texts left out; with it the reading stands in the audit. Owns the shapes. An
opt-out by hand lists the number as one by reply does; what waits is ended at its claim, and neither an event nor the
count of opt-outs tells of it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from gateway.admin.blacklist_v1 import shown_scope
from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, read_object, unknown_field
from gateway.dlr.ties import mask_of, scope_of
from gateway.errors import RequestError
from gateway.model import mask_msisdn, store_id
from gateway.routing.msisdn import normalise
from gateway.settings import Settings
from gateway.store.blacklists import TD, Blacklists
from gateway.store.inbox import InboundStore
from gateway.store.store import Store

MOST: Final = 1000
_DIGITS: Final = 9  # int() refuses more than 4,300
_DECISIONS: Final = ("dismiss", "opt_out")
_FLAGS: Final = {"": False, "0": False, "1": True}


@dataclass
class InboundApi:
    """What the endpoints work on."""

    settings: Settings
    store: Store
    inbox: InboundStore = field(init=False)
    lists: Blacklists = field(init=False)

    def __post_init__(self) -> None:
        self.inbox, self.lists = InboundStore(self.store), Blacklists(self.store)
        self._accounts = {account.id: account for account in self.settings.accounts}
        rules = self.settings.inbound
        self._periods = max(rules.keep_months, rules.keep_optout_months) + 2

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        base = "/admin/v1/inbound"
        return [
            web.get(base, self.get_messages),
            web.post(f"{base}/search", self.search),
            web.post(f"{base}/reviewed", self.reviewed),
        ]

    async def get_messages(self, request: web.Request) -> web.Response:
        """List messages, the newest first."""
        query = request.query
        if unknown := sorted(set(query) - {"review", "account", "limit", "before", "months", "full"}):
            raise RequestError("unknown_field", "review, account, limit, before, months and full are known",
                               field=unknown[0] if unknown[0].isidentifier() else None)  # fmt: skip
        flags = {}
        for name in ("review", "full"):
            if query.get(name, "") not in _FLAGS:
                raise RequestError("invalid_field", "0 or 1 is wanted", field=name)
            flags[name] = _FLAGS[query.get(name, "")]
        account, before = query.get("account"), query.get("before", "")
        if before:
            before = _sid(before, "before").hex()  # uuid reads more spellings than the store
        found = await self.inbox.find(
            account=account, review=flags["review"], before=before,
            most=_count(query.get("limit", "50"), "limit", MOST),
            periods=self._periods if flags["review"] else _count(query.get("months", "1"), "months", 120),
        )  # fmt: skip
        return await self._answer(request, found, full=flags["full"])

    async def search(self, request: web.Request) -> web.Response:
        """List what one number wrote."""
        body = await read_object(request)
        unknown_field(body, {"number", "country", "months", "full"})
        raw, country = body.get("number", ""), body.get("country", "")
        if not isinstance(raw, str) or not isinstance(country, str) or not raw:
            raise RequestError("invalid_field", "a number in quotes is wanted", field="number")
        try:
            msisdn = normalise(raw, country.upper()).msisdn
        except RequestError as error:
            raise RequestError(error.code, error.detail, field="number") from None
        full = body.get("full", False)
        if not isinstance(full, bool):
            raise RequestError("invalid_field", "true or false is wanted", field="full")
        months = _count(str(body.get("months", self._periods)), "months", 120)
        return await self._answer(request, await self.inbox.find(msisdn=msisdn, periods=months, most=MOST), full=full)

    async def reviewed(self, request: web.Request) -> web.Response:
        """Take a reply off the list of those to be read; with `opt_out` its number is put on the blacklist as well."""
        body = await read_object(request)
        unknown_field(body, {"id", "decision"})
        sid = _sid(body.get("id"), "id")
        decision = body.get("decision")
        if decision not in _DECISIONS:
            raise RequestError("invalid_field", f"one of {', '.join(_DECISIONS)} is wanted", field="decision")
        event = await self.inbox.get(sid, self._periods)
        if event is None:
            raise RequestError("not_found", "there is no such message", field="id", status=404)
        answer: dict[str, Any] = {"id": body["id"], "decision": decision}
        actor = actor_of(request)
        if decision == "opt_out":
            if not (event["from"].isascii() and event["from"].isdigit()):
                raise RequestError("invalid_field", "it came from no number: none can be listed", field="decision")
            account = self._accounts.get(event["account"])
            sender = ""
            if event["in_reply_to"]:
                answered = await self.store.get(store_id(event["in_reply_to"]))
                sender = answered.sender if answered is not None else ""
            scope = scope_of(account, sender, event["signature"])
            await self.lists.add(event["from"], scope, mask_of(account), TD, source="review", actor=actor)
            answer["scope"] = shown_scope(scope)
        if not await self.inbox.reviewed(sid, actor=actor, decision=decision):
            result = "was not to be read any more"
            await self.inbox.audit.note(actor, "inbound.reviewed", sid.hex(), decision=decision, result=result)
        noted(request)
        return json_answer(answer)

    async def _answer(self, request: web.Request, found: list[dict[str, Any]], *, full: bool) -> web.Response:
        if full and found:
            await self.inbox.audit.note(actor_of(request), "inbound.read", "messages", messages=len(found))
        if not full:
            found = [_masked(event) for event in found]
        return json_answer({"messages": found, "to_review": await self.inbox.waiting_for_review()})


def _masked(event: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in event.items() if key != "text"}
    return {**shown, "from": mask_msisdn(event["from"]), "chars": len(event["text"])}


def _sid(written: Any, name: str) -> bytes:
    try:
        return uuid.UUID(written).bytes
    except (TypeError, ValueError, AttributeError):
        raise RequestError("invalid_field", "a message's id is wanted", field=name) from None


def _count(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not 1 <= int(text) <= most:
        raise RequestError("invalid_field", f"a number from 1 to {most} is wanted", field=name)
    return int(text)
