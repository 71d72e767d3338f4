"""`/admin/v1/templates`: the templates in force, new versions, and what one makes of params.

    GET  /admin/v1/templates                       → {"templates": [{id, version, category, source, in_use, …}]}
    GET  /admin/v1/templates/{id}[?version=N]      → one version in full, and the numbers of all
    PUT  /admin/v1/templates/{id} {category, text, params, …[, version]} → {id, version, new}
    POST /admin/v1/templates/{id}/retire {[version]}                     → {id, retired}
    POST /admin/v1/templates/{id}/preview {params[, version, to, account, sender]}
        → {text, parts, encoding, route, channels: [{id, rank, price, cost, tlvs}]}

A version never changes; the same content put again is the same version. Templates of `templates.toml` are shown here
and changed there. Owns the shape of answers; what a template may be is `templates.load`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, read_object, unknown_field
from gateway.errors import ConfigError, RequestError
from gateway.model import CATEGORY_LABELS
from gateway.routing.msisdn import normalise
from gateway.routing.router import Router
from gateway.routing.table import Route
from gateway.settings import Settings
from gateway.signature import signature_of
from gateway.smpp.text import plan
from gateway.store.audit import DONE, Audit
from gateway.store.templates import TemplateStore
from gateway.templates.load import MAX_VERSION, misfits, read_template
from gateway.templates.model import Param, Template, registration_tlvs
from gateway.templates.params import check_params
from gateway.templates.registry import Known, Templates

MAX_BODY_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TemplatesApi:
    """What the endpoints work on."""

    settings: Settings
    router: Router
    templates: Templates
    store: TemplateStore
    audit: Audit

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        place = "/admin/v1/templates"

        def on(function: Callable[[TemplatesApi, web.Request], Awaitable[web.Response]]) -> Any:
            async def handle(request: web.Request) -> web.Response:
                return await function(self, request)

            return handle

        return [
            web.get(place, on(list_templates)),
            web.get(place + "/{id}", on(get_template)),
            web.put(place + "/{id}", on(put_template)),
            web.post(place + "/{id}/retire", on(retire_template)),
            web.post(place + "/{id}/preview", on(preview_template)),
        ]


async def list_templates(api: TemplatesApi, request: web.Request) -> web.Response:
    """List every version, without its text."""
    del request
    await api.templates.refresh()
    return json_answer({"templates": [_row(known) for known in api.templates.known()]})


async def get_template(api: TemplatesApi, request: web.Request) -> web.Response:
    """Show one version, the latest in use where none is named.

    Raises:
        RequestError: not_found; invalid_field for a version that is no number.
    """
    await api.templates.refresh()
    asked = request.query.get("version", "0")
    if not (asked.isascii() and asked.isdigit()) or len(asked) > 10:
        raise RequestError("invalid_field", "a version's number is wanted", field="version")
    template = _known(api, request, int(asked))
    versions = [known for known in api.templates.known() if known.template.id == template.id]
    one = next(known for known in versions if known.template.version == template.version)
    return json_answer({**_row(one), **_described(template), "versions": [_version(known) for known in versions]})


async def put_template(api: TemplatesApi, request: web.Request) -> web.Response:
    """Keep a new version; messages may use it within a second.

    Raises:
        RequestError: invalid_template with the key that is wrong; template_in_file; version_conflict;
            too_many_templates.
    """
    name = request.match_info["id"]
    body = await read_object(request.clone(client_max_size=MAX_BODY_BYTES))
    version = body.pop("version", 0)
    if version.__class__ is not int or not 0 <= version <= MAX_VERSION:
        raise RequestError("invalid_field", "a version's number is wanted", field="version")
    if body.setdefault("id", name) != name:
        raise RequestError("invalid_field", "another id than in the path", field="id")
    try:
        template = read_template(body)
    except ConfigError as wrong:
        first = wrong.problems[0]
        detail = "; ".join(f"{p.key}: {p.reason}" if p.key else p.reason for p in wrong.problems[:10])
        raise RequestError("invalid_template", detail, field=first.key or None) from None
    for key, reason in misfits(template, api.settings):
        raise RequestError("invalid_template", reason, field=key)
    if api.templates.in_file(name):
        detail = "templates.toml has this id: change it there, or take another id"
        raise RequestError("template_in_file", detail, field="id", status=409)
    content = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    word, number = await api.store.put(name, content, version)
    if word == "conflict":
        detail = f"version {number} is the latest, and versions never change: {number + 1} is the next"
        raise RequestError("version_conflict", detail, field="version", status=409)
    if word == "full":
        raise RequestError("too_many_templates", "the store keeps as many versions as it may", status=409)
    result = DONE if word == "put" else "was there"
    actor, after = actor_of(request), f"version {number}"
    await api.audit.note(actor, "template.put", f"template:{name}", after=after, result=result)
    noted(request)
    await api.templates.refresh()
    return json_answer({"id": name, "version": number, "new": word == "put"})


async def retire_template(api: TemplatesApi, request: web.Request) -> web.Response:
    """Take a version, or the whole template, out of use. What is queued is still sent.

    Raises:
        RequestError: not_found; template_in_file; invalid_field.
    """
    name = request.match_info["id"]
    body = await read_object(request)
    unknown_field(body, {"version", "id"})
    version = _number(body)
    if api.templates.in_file(name):
        raise RequestError("template_in_file", "take it out of templates.toml", field="id", status=409)
    retired = await api.store.retire(name, version)
    if retired < 0:
        raise RequestError("not_found", "there is no such template, or version", status=404)
    what = f"version {version}" if version else "all versions"
    result = DONE if retired else "was retired"
    await api.audit.note(actor_of(request), "template.retire", f"template:{name}", before=what, result=result)
    noted(request)
    await api.templates.refresh()
    return json_answer({"id": name, "retired": retired})


async def preview_template(api: TemplatesApi, request: web.Request) -> web.Response:
    """Make a text of params and say what it would cost; with `to` by the route of that number. Sends and keeps nothing.

    Raises:
        RequestError: as at the posting of such a message; the field says what is wrong.
    """
    body = await read_object(request.clone(client_max_size=MAX_BODY_BYTES))
    unknown_field(body, {"params", "version", "to", "account", "sender"})
    await api.templates.refresh()
    template = _known(api, request, _number(body))
    compiled = api.templates.compiled(template.id, template.version)
    assert compiled is not None
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise RequestError("invalid_field", "an object of params is wanted", field="params")
    text = compiled.render(check_params(template, params))
    view: dict[str, Any] = {
        "id": template.id,
        "version": template.version,
        "category": CATEGORY_LABELS[template.category],
        "text": text,
        "characters": len(text),
    }
    route = None
    if body.get("to"):
        route, view["carrier"] = _route(api, template, body, text)
        view["route"] = route.name
        planned = plan(text, alphabet=route.alphabet, reference_bits=route.reference_bits)
    else:
        planned = plan(text)
    view |= {"parts": planned.parts, "encoding": planned.encoding}
    if route is not None:
        view["channels"] = _channels(api, template, route, view["carrier"], planned.parts)
    return json_answer(view)


def _known(api: TemplatesApi, request: web.Request, version: int) -> Template:
    compiled = api.templates.compiled(request.match_info["id"], version)
    if compiled is None:
        raise RequestError("not_found", "there is no such template in use, or no such version", status=404)
    return compiled.template


def _number(body: dict[str, Any]) -> int:
    version = body.get("version", 0)
    if version.__class__ is not int or not 0 <= version <= MAX_VERSION:
        raise RequestError("invalid_field", "a version's number is wanted", field="version")
    return int(version)


def _route(api: TemplatesApi, template: Template, body: dict[str, Any], text: str) -> tuple[Route, str]:
    """Return the route, or its lane, of a message to the number in the body, and the number's carrier."""
    for field in ("to", "account", "sender"):
        if not isinstance(body.get(field, ""), str):
            raise RequestError("invalid_field", "text in quotes is wanted", field=field)
    asked = body.get("account", "")
    account = next((a for a in api.settings.accounts if a.id == asked), None)
    if asked and account is None:
        raise RequestError("invalid_field", "no such account is configured", field="account")
    number = normalise(body["to"], account.default_country if account else "")
    sender = body.get("sender") or (account.senders[0] if account and account.senders else "")
    decision = api.router.route(number.msisdn, number.country, template.category, asked, sender)
    if decision is None:
        raise RequestError("no_route", "no configured route takes this message", field="to")
    lane = api.router.table.lane(decision.route, signature_of(text))
    if lane is None:
        raise RequestError("signature_not_registered", "no channel of the route carries this signature", field="to")
    return lane, decision.carrier


def _channels(api: TemplatesApi, template: Template, route: Route, carrier: str, parts: int) -> list[dict[str, Any]]:
    known = {channel.id: channel for channel in api.settings.channels}
    return [
        {
            "id": ranked.id,
            "rank": ranked.rank,
            "price": known[ranked.id].price,
            "cost": round(known[ranked.id].price * parts, 6),
            "tlvs": _tlvs(registration_tlvs(template, ranked.id, carrier)),
        }
        for ranked in route.channels
    ]


# --- shapes


def _row(known: Known) -> dict[str, Any]:
    template = known.template
    return {
        "id": template.id,
        "version": template.version,
        "category": CATEGORY_LABELS[template.category],
        "source": template.source,
        "accounts": sorted(template.accounts),
        "about": template.about,
        **_version(known),
    }


def _version(known: Known) -> dict[str, Any]:
    return {
        "version": known.template.version,
        "in_use": not known.retired_at_ms,
        "put_at_ms": known.at_ms or None,
        "retired_at_ms": known.retired_at_ms or None,
    }


def _described(template: Template) -> dict[str, Any]:
    return {
        "text": template.text,
        "params": {param.name: _param(param) for param in template.params},
        "registration": [
            {
                "channels": sorted(entry.channels),
                "carrier": entry.carrier or None,
                "tlvs": _tlvs(entry.tlvs),
                "note": entry.note,
            }
            for entry in template.registrations
        ],
    }


def _param(param: Param) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": param.type, "optional": param.optional}
    if param.default is not None:
        shown["default"] = str(param.default) if param.type == "date" else param.default
    if param.type in ("string", "code"):
        shown |= {"min_length": param.min_length, "max_length": param.max_length}
    if param.type == "url":
        shown |= {"max_length": param.max_length, "domains": list(param.domains)}
    if param.type == "decimal":
        shown["places"] = param.places
    for name, value in (("pattern", param.pattern), ("min", param.least), ("max", param.most)):
        if value:
            shown[name] = value
    if param.enum:
        shown["enum"] = list(param.enum)
    if param.signature:
        shown["signature"] = True
    return shown


def _tlvs(tlvs: tuple[tuple[int, bytes], ...]) -> dict[str, str]:
    """Return TLVs as the file writes them: text where they are, else hex octets."""
    found = {}
    for tag, octets in tlvs:
        text = octets.decode("latin-1")
        plain = text.isascii() and text.isprintable() and not text.startswith("0x")
        found[f"0x{tag:04X}"] = text if plain else f"0x{octets.hex()}"
    return found
