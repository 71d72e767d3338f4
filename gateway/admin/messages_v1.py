"""`/admin/v1/messages`: one message as it stands, what happened to it, and what an operator may do with it.

    GET  …/{id}?full=1                          → the message
    POST …/find {"to", "country"?, "account"?, "ref"?, "full"?}
                                                → {"messages": [the message, …]}, newest first, at most 16
    POST …/{id} {"action": "cancel" | "resend"} → {"id", "action", "result", "state"}

The message: id, state, final, reason {code, permanent, carrier_code}, account, category, to, sender, signature, ref,
route, rank, carrier, template, campaign, variant, gate, tags, test, parts, parts_accepted, parts_delivered, encoding,
cost, attempt, possible_duplicate, late_correction, accepted_at, send_at, expires_at, state_at, window_until, worker,
origin, contact, meta, text_kept, `timeline`: [{at, what, …}], what = accepted | due | attempt | receipt | feedback |
state, and `waiting`: None, or what it waits for now {why, what, since, until, also} (`gateway.admin.waiting`).
The number is masked (in what applications wrote, as a ref, too) and the text left out unless `full` is asked for, which
is written to the audit; a text is shown as long as it is kept. A number goes in a body, so that no log has it. `resend`
sends at once what waits for its next attempt, or is uncertain (as a possible duplicate); what is final stays so. Owns
the shapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway import journal
from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, number_of, read_object, unknown_field
from gateway.admin.waiting import Waits
from gateway.errors import RequestError
from gateway.intake import ref_mark
from gateway.model import CATEGORY_LABELS, STATE_LABELS, iso, mask_msisdn, message_id, route_name, store_id
from gateway.settings import Settings
from gateway.smpp.constants import STATUS_NAMES
from gateway.statistics import decimal_text
from gateway.store.audit import DONE, Audit
from gateway.store.moves import ALL_PARTS
from gateway.store.records import Record
from gateway.store.store import Store

ACTIONS: Final = ("cancel", "resend")
_REFUSED: Final = {
    "already": "it was cancelled before",
    "too_late": "it is claimed for sending, or a carrier may have it",
    "waits": "it waits in its queue and leaves by itself",
    "sent": "a carrier has it",
    "final": "it is final, and what is final stays so: send a new message",
    "late": "its time is over",
    "exhausted": "it has no attempt left: it waits for a late receipt, then ends as unknown",
}


@dataclass
class MessagesApi:
    """What the endpoints work on."""

    store: Store
    audit: Audit
    settings: Settings

    def __post_init__(self) -> None:
        self._waits = Waits(self.settings, self.store)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        return [
            web.post("/admin/v1/messages/find", self.find),
            web.get("/admin/v1/messages/{id}", self.get),
            web.post("/admin/v1/messages/{id}", self.act),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """Show one message."""
        record = await self._record(request)
        full = request.query.get("full", "") == "1"
        if full:
            await self._note(request, "message.read_full", record)
        waits = await self._waits.of([record])
        return json_answer(_view(record, full, waits.get(record.id)))

    async def find(self, request: web.Request) -> web.Response:
        """Show the latest messages to a number, or the one with a ref.

        Raises:
            RequestError: the body is not what is wanted; the field says what.
        """
        body = await read_object(request)
        unknown_field(body, {"to", "country", "account", "ref", "full"})
        msisdn = _number(body)
        account, ref = _text(body, "account"), _text(body, "ref")
        if ref and not account:
            raise RequestError("missing_field", "a ref is one of an account", field="account")
        if ref:
            found = await self.store.find_ref(msisdn, ref_mark(account, ref, msisdn))
            records = [found] if found is not None and found.account == account else []
        else:
            records = await self.store.find(msisdn, account)
        full = body.get("full", False)
        if not isinstance(full, bool):
            raise RequestError("invalid_field", "true or false is wanted", field="full")
        if full:
            for record in records:
                await self._note(request, "message.read_full", record)
        waits = await self._waits.of(records)
        return json_answer({"messages": [_view(record, full, waits.get(record.id)) for record in records]})

    async def act(self, request: web.Request) -> web.Response:
        """Cancel a message, or send it again.

        Raises:
            RequestError: there is no such message, or its state does not allow it (409).
        """
        body = await read_object(request)
        unknown_field(body, {"action"})
        action = body.get("action")
        if action not in ACTIONS:
            raise RequestError("invalid_field", f"one of {', '.join(ACTIONS)} is wanted", field="action")
        record = await self._record(request)
        if action == "cancel":
            result = await self.store.cancel(record.id, record.account)
        else:
            result = await self.store.resend(record.id)
        if result == "not_found":
            raise _missing()
        if result in _REFUSED and result != "already":
            noted(request)
            await self._note(request, f"message.{action}", record, f"refused: 409 {result}")
            why = _REFUSED[result]
            now = await self.store.get(record.id) if result == "too_late" else None
            if now is not None and now.state.isupper():
                why = f"it has ended: {STATE_LABELS[now.state]}"
            raise RequestError(result, why, field="action", status=409)
        noted(request)
        if journal.on and result == "cancelled":
            journal.cancelled(record.id, record.account, by="operator")
        await self._note(request, f"message.{action}", record, DONE if result != "already" else "was cancelled before")
        after = await self.store.get(record.id)
        state = STATE_LABELS[after.state] if after is not None else ""
        return json_answer({"id": message_id(record.id), "action": action, "result": result, "state": state})

    async def _record(self, request: web.Request) -> Record:
        try:
            sid = store_id(request.match_info["id"])
        except ValueError:
            raise RequestError("invalid_field", "a message id is wanted, as the 202 gave it", field="id") from None
        record = await self.store.get(sid)
        if record is None:
            raise _missing()
        return record

    async def _note(self, request: web.Request, action: str, record: Record, result: str = DONE) -> None:
        await self.audit.note(actor_of(request), action, message_id(record.id), account=record.account, result=result)


def _missing() -> RequestError:
    return RequestError("not_found", "no such message is kept (its retention may be over)", field="id", status=404)


def _number(body: dict[str, Any]) -> str:
    try:
        return number_of({"number": body.get("to", ""), "country": body.get("country", "")})
    except RequestError as error:
        field = "to" if error.field == "number" else error.field
        raise RequestError(error.code, error.detail, field=field) from None


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > 128:
        raise RequestError("invalid_field", "a text of at most 128 characters is wanted", field=name)
    return value


def _view(record: Record, full: bool, waiting: dict[str, Any] | None) -> dict[str, Any]:
    reason = None
    if record.reason:
        reason = {
            "code": record.reason, "permanent": record.permanent, "carrier_code": record.carrier_code or None
        }  # fmt: skip
    view: dict[str, Any] = {
        "id": message_id(record.id),
        "state": STATE_LABELS[record.state],
        "final": record.final,
        "reason": reason,
        "account": record.account,
        "category": CATEGORY_LABELS[record.category],
        "to": f"+{record.msisdn}" if full else mask_msisdn(record.msisdn),
        "sender": record.sender,
        "signature": record.signature,
        "ref": record.ref,
        "route": route_name(record.route),
        "rank": record.rank,
        "carrier": record.carrier,
        "template": record.template,
        "campaign": record.campaign,
        "variant": record.variant,
        "gate": record.gate,
        "tags": list(record.tags),
        "test": record.test,
        "parts": record.parts,
        "parts_accepted": record.accepted.bit_count(),
        "parts_delivered": record.parts_delivered,
        "encoding": record.encoding,
        "cost": decimal_text(record.cost, 6),
        "attempt": record.attempt,
        "possible_duplicate": record.possible_duplicate,
        "late_correction": record.late_correction,
        "accepted_at": iso(record.accepted_at_ms),
        "send_at": iso(record.send_at_ms) if record.send_at_ms else None,
        "expires_at": iso(record.expires_at_ms),
        "state_at": iso(record.state_at_ms or record.accepted_at_ms),
        "window_until": iso(record.window_until_ms) if record.window_until_ms else None,
        "worker": record.incarnation.strip("-"),
        "origin": record.carried.get("o"),
        "contact": record.carried.get("c"),
        "meta": record.carried.get("m") if full else None,
        "text_kept": bool(record.text),
        "timeline": _timeline(record),
        "waiting": waiting,
    }
    if full:
        view["text"] = record.text or None
        return view
    return {k: v if k in ("id", "to") else _without_number(v, record.msisdn) for k, v in view.items()}


_DIGITS: Final = re.compile(r"[0-9]{7,}")
_LEAST: Final = 7


def _without_number(value: Any, msisdn: str) -> Any:
    """Return what applications and carriers wrote (refs, tags, ids, codes) without the recipient's own number in it."""
    if isinstance(value, dict):
        return {k: v if k == "command_status" else _without_number(v, msisdn) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_number(one, msisdn) for one in value]
    if not isinstance(value, str):
        return value
    return _DIGITS.sub(lambda m: "****" if _is_number(m[0], msisdn) else m[0], value)


def _is_number(digits: str, msisdn: str) -> bool:
    """Tell whether digits are a number, or what a country's people write of it; a few of them in a row are not."""
    bare = digits.lstrip("0")
    return msisdn in digits or (len(bare) >= _LEAST and bare in msisdn)


def _timeline(record: Record) -> list[dict[str, Any]]:
    """Return what happened, in the order of time; what is now comes last."""
    found: list[tuple[int, dict[str, Any]]] = [(record.accepted_at_ms, {"what": "accepted"})]
    if record.send_at_ms:
        why = "deferred" if record.deferred else "scheduled"
        found.append((record.send_at_ms, {"what": "due", "why": why}))
    for a in record.attempts:
        status = None if a.status is None else f"0x{a.status:08X}"
        ids = [{"part": _part(part), "smsc_id": a.smsc_ids[part]} for part in sorted(a.smsc_ids)]
        found.append(
            (a.at_ms, {"what": "attempt", "number": a.number, "channel": a.channel, "outcome": a.outcome,
                       "command_status": status, "status_name": STATUS_NAMES.get(a.status or 0) if status else None,
                       "parts": ids, "price": decimal_text(a.price, 6)})
        )  # fmt: skip
    for r in record.receipts:
        found.append(
            (r.at_ms, {"what": "receipt", "part": _part(r.part), "channel": r.channel,
                       "state": STATE_LABELS.get(r.state, r.state), "reason": r.reason or None,
                       "carrier_code": r.carrier_code or None, "permanent": r.permanent})
        )  # fmt: skip
    for told in record.feedback:
        found.append((told.at_ms, {"what": "feedback", "outcome": told.outcome, "event_id": told.event_id}))
    found.sort(key=lambda item: item[0])
    state_at_ms = record.state_at_ms or record.accepted_at_ms
    found.append((state_at_ms, {"what": "state", "state": STATE_LABELS[record.state], "final": record.final}))
    return [{"at": iso(at_ms), **what} for at_ms, what in found]


def _part(part: int) -> int | None:
    """Return a part as people count (from 1); None: all of them in one."""
    return None if part == ALL_PARTS else part + 1
