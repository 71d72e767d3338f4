"""`/admin/v1/explain`: what would become of a message now, step by step, without sending one.

    GET ?to=+86138…&category=verification&account=shop[&sender=…][&signature=【Acme】 or &text=…][&tag=…][&zone=…]
        [&local_window=10:00-12:00][&country=CN]
        → {number, carrier, signature, route, channels: [ranked, with their live state and whether and under which
           source_addr they carry the signature], window: {open, opens_at, closes_at, clocks}, caps: [{key, limit,
           window_s, sent, again_s}], scopes, rules: [{rule, effect, why, code, facts}], verdict}
    POST {the same, as texts} → the same, for who wants no number in an address

`country` completes a number without one, in place of the account's. `why` is English; `code` and `facts` are for
pages that say it in another language.

Asks the same router, the same limits, rules and agreed health as the path itself does; owns the words. Writes nothing,
and keeps nothing of the number and the text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import read_object
from gateway.dispatch.quality import read_shares
from gateway.errors import RequestError
from gateway.intake import blacklist_scopes
from gateway.model import CATEGORY_BY_LABEL, CATEGORY_LABELS, Category
from gateway.policy.caps import Cap, CategoryCaps, full
from gateway.policy.content import REFUSE, LinkRule
from gateway.policy.policy import Policy
from gateway.policy.send_window import OPEN
from gateway.policy.texts import MAX_SIGNATURE_CHARS, TextRules
from gateway.routing.msisdn import normalise
from gateway.routing.router import Decision, Router
from gateway.routing.table import Route
from gateway.settings import AccountSettings, ChannelSettings, Settings
from gateway.signature import clean, shown, signature_of
from gateway.smpp.address import own_sender, signed_source
from gateway.store.moves import Health, Recipient
from gateway.store.recipients import Recipients, Shards

Rule = dict[str, Any]
"""{rule, effect: refuse | wait | count, why, code, facts}."""
KEYS: Final = ("to", "category", "account", "sender", "signature", "text", "tag", "zone", "local_window", "country")


class ExplainStore(Shards, Protocol):
    """The part of the store that knows recipients and channels."""

    async def health(self) -> dict[str, Health]: ...
    async def channels_bound(self) -> set[str]: ...
    async def gates(self) -> dict[str, dict[str, Any]]: ...
    async def shares(self) -> dict[str, bytes]: ...


async def get_explain(
    request: web.Request, settings: Settings, router: Router, policy: Policy, store: ExplainStore
) -> web.Response:
    """Explain one message.

    Raises:
        RequestError: a parameter is missing or unknown; the field says which.
    """
    return await _explain(_asked(request.query), settings, router, policy, store)


async def post_explain(
    request: web.Request, settings: Settings, router: Router, policy: Policy, store: ExplainStore
) -> web.Response:
    """Explain one message whose number stands in the body.

    Raises:
        RequestError: as for `get_explain`.
    """
    body = await read_object(request)
    for name, value in body.items():
        if name in KEYS and not isinstance(value, str):
            raise RequestError("invalid_field", "a text is wanted", field=name)
    return await _explain(_asked(body), settings, router, policy, store)


async def _explain(
    asked: dict[str, str], settings: Settings, router: Router, policy: Policy, store: ExplainStore
) -> web.Response:
    account = next((a for a in settings.accounts if a.id == asked["account"]), None)
    if account is None:
        raise RequestError("invalid_field", "no such account is configured", field="account")
    category = CATEGORY_BY_LABEL.get(asked["category"])
    if category is None:
        raise RequestError("invalid_field", f"one of {', '.join(CATEGORY_LABELS)} is wanted", field="category")
    rules: list[Rule] = []
    view: dict[str, Any] = {"category": category.label, "account": account.id}
    sender = _sender(account, asked["sender"], rules)
    signature, view["signature"] = _signature(account, asked, rules)
    if category not in account.categories:
        rules.append(_rule("category", "refuse", f"the account may not send {category.label}", "category_not_allowed"))
    try:
        number = normalise(asked["to"], asked["country"].upper() or account.default_country)
    except RequestError as error:
        rules.append(_rule("number", "refuse", error.detail, error.code))
        return json_answer({**view, "rules": rules, "verdict": "refused: invalid_number"})
    view["number"] = {"e164": f"+{number.msisdn}", "country": number.country}
    decision: Decision | None = None
    try:
        carrier, origin = router.carrier_of(number.msisdn, number.country)
        view["carrier"] = {"name": carrier, "known_from": origin}
        decision = router.route(number.msisdn, number.country, category, account.id, sender)
        if decision is None:
            rules.append(_rule("route", "refuse", "no configured route takes this message", "no_route"))
    except RequestError as error:
        rules.append(_rule("number", "refuse", error.detail, error.code))
    known = signature if len(signature) <= MAX_SIGNATURE_CHARS else ""
    scopes = blacklist_scopes(account.id, sender, known)
    held = CategoryCaps(account, category, settings.categories[category]).of(known, [asked["tag"]])
    recipient = await Recipients(store).of(number.msisdn, scopes)
    rules += _blacklist_rules(category, recipient)
    view |= {"scopes": ["*", *scopes], "caps": _tell_caps(held, category, recipient, account.when_capped, rules)}
    rules += _text_rules(settings, policy, account, category, number.country, signature, asked["text"])
    view["window"] = _window(policy, category, number.country, asked, rules)
    rules += _gate_rules(await store.gates(), account.id, category.label)
    if decision is not None:
        rules += _lane_rules(router, decision.route, account, signature)
        health, bound = await store.health(), await store.channels_bound()
        channels = _channels(settings, decision.route, health, bound, signature, sender)
        view["route"] = decision.route.id
        view["channels"] = channels
        view["order"] = decision.route.order
        view["redeliver_after_s"] = settings.redeliver_after_s(decision.route.id, category)
        lane = router.table.lane(decision.route, signature)
        if lane is not None:
            _tell_shares(view, lane, int(category), decision.carrier, await store.shares())
        if not any(c["takes_it"] for c in channels):
            rules.append(_rule("channels", "wait", "no channel of the route can submit now", "no_channel"))
    return json_answer({**view, "rules": rules, "verdict": _verdict(rules, view)})


def _asked(given: Mapping[str, str]) -> dict[str, str]:
    for name in given:
        if name not in KEYS:
            raise RequestError("unknown_field", f"{', '.join(KEYS)} are the parameters", field=None)
    asked = {name: given.get(name, "") for name in KEYS}
    for name in ("to", "category", "account"):
        if not asked[name]:
            raise RequestError("missing_field", f"{name} is wanted", field=name)
    return asked


def _rule(rule: str, effect: str, why: str, code: str, **facts: str | int) -> Rule:
    return {"rule": rule, "effect": effect, "why": why, "code": code, "facts": facts}


def _sender(account: AccountSettings, asked: str, rules: list[Rule]) -> str:
    if asked and asked not in account.senders:
        rules.append(_rule("sender", "refuse", "not among the account's senders", "sender_not_own"))
    return asked or (account.senders[0] if account.senders else "")


def _signature(account: AccountSettings, asked: dict[str, str], rules: list[Rule]) -> tuple[str, dict[str, str] | None]:
    """Return the signature that is asked about, the account's first where nothing is said, and how it is shown."""
    own = account.signatures
    name, known_from = "", ""
    if asked["signature"]:
        name, known_from = clean(asked["signature"]), "asked"
    elif asked["text"]:
        name, known_from = signature_of(asked["text"]), "text"
    elif own:
        name, known_from = own[0], "account"
    if own and not name:
        rules.append(
            _rule("signature", "refuse", "the text must begin or end with a signature in 【】", "signature_wanted")
        )
    elif own and name not in own:
        rules.append(_rule("signature", "refuse", "not among the account's signatures", "signature_not_own"))
    return name, {"name": shown(name), "known_from": known_from} if name else None


def _lane_rules(router: Router, route: Route, account: AccountSettings, signature: str) -> list[Rule]:
    if not router.table.is_cut(route):
        return []
    if not signature:
        why = "channels of the route list their signatures: the text must begin or end with one in 【】"
        return [] if account.signatures else [_rule("signature", "refuse", why, "signature_wanted")]
    if router.table.lane(route, signature) is None:
        return [
            _rule("signature", "refuse", "it is not registered on any channel of the route", "signature_not_registered")
        ]
    return []


def _blacklist_rules(category: Category, recipient: Recipient) -> list[Rule]:
    rules = []
    for scope, (mask, reason) in recipient.blacklists.items():
        if mask >> category & 1:
            account, _, name = scope.partition("/")
            where = "the list of all accounts" if scope == "*" else f"the list of account {account}"
            why = f"on {where}{f' for {name}' if name else ''}: {reason}"
            rules.append(_rule("blacklist", "refuse", why, "on_list", scope=scope, reason=reason))
    return rules


def _tell_caps(
    held: tuple[Cap, ...], category: Category, recipient: Recipient, when_capped: str, rules: list[Rule]
) -> list[dict[str, Any]]:
    """Return every limit with what counts for it now; those that are used up become rules."""
    now_s = int(time.time())
    told = []
    for cap in held:
        times = recipient.sent.get((category, cap.name), ())
        again = {(most, window_s): max(1, at - now_s) for at, _, most, window_s in full(cap, times, now_s)}
        for most, window_s in cap.limits:
            inside = sum(at > now_s - window_s for at in times)
            again_s = again.get((most, window_s), 0)
            told.append({"key": cap.about, "limit": most, "window_s": window_s, "sent": inside, "again_s": again_s})
            if again_s:
                why = f"{inside} of {most} in {window_s} s; again in {again_s} s"
                effect = "wait" if when_capped == "defer" else "refuse"
                facts = {"sent": inside, "limit": most, "window_s": window_s, "again_s": again_s}
                rules.append(_rule(cap.about, effect, why, "capped", **facts))
    return told


def _text_rules(
    settings: Settings,
    policy: Policy,
    account: AccountSettings,
    category: Category,
    country: str,
    signature: str,
    text: str,
) -> list[Rule]:
    """Return what a text would be refused for; without one only whether a signature is wanted and there is none."""
    rules = []
    of_category = settings.categories[category]
    try:
        if text:
            TextRules(of_category).check(text, signature, country)
            if account.link_domains is not None:
                LinkRule(account.link_domains).check(text)
        elif country in of_category.require_signature and not signature:
            raise RequestError("missing_signature", f"{category.label} to {country} needs a signature in 【】")
    except RequestError as error:
        rules.append(_rule(error.code, "refuse", error.detail, error.code))
    search = policy.words.search(account.id, category) if text else None
    for word in search.hits(text) if search is not None else ():
        effect = "refuse" if word.action == REFUSE else "count"
        rules.append(_rule("content", effect, f"content rule {word.id}", "content_rule", id=word.id))
    return rules


def _window(
    policy: Policy, category: Category, country: str, asked: dict[str, str], rules: list[Rule]
) -> dict[str, Any] | None:
    """Return when it may be sent, None where no rule says so; a closed window becomes a rule."""
    now_ms = time.time_ns() // 1_000_000
    zone, local_window = asked["zone"], asked["local_window"]
    try:
        if local_window and category is Category.VERIFICATION:
            raise RequestError("invalid_field", "a verification takes no local_window")  # as intake says
        window = policy.windows.window(now_ms, category, country, zone, local_window)
    except RequestError as error:
        rules.append(_rule("window", "refuse", error.detail, error.code))
        return None
    if window == OPEN:
        return None
    clocks = policy.windows.clocks(category, country, zone, local_window)
    opens, closes = _local(window.opens_ms, clocks[0]), _local(window.closes_ms, clocks[0])
    if window.opens_ms:
        rules.append(_rule("window", "wait", f"closed until {opens}", "window_closed", opens_at=opens or ""))
    names = [clock.key for clock in clocks]
    return {"open": not window.opens_ms, "opens_at": opens, "closes_at": closes, "clocks": names}


def _local(at_ms: int, clock: ZoneInfo) -> str | None:
    return datetime.fromtimestamp(at_ms / 1000, clock).isoformat(timespec="minutes") if at_ms else None


def _gate_rules(gates: dict[str, dict[str, Any]], account: str, label: str) -> list[Rule]:
    rules = []
    for name in (f"account:{account}", f"category:{label}"):
        gate = gates.get(name)
        if gate is not None:
            effect = "wait" if gate["state"] == "hold" else "refuse"
            facts = {"gate": name, "state": gate["state"]}
            rules.append(_rule("gate", effect, f"{name} is {gate['state']}", "gate", **facts))
    return rules


def _channels(
    settings: Settings, route: Route, health: dict[str, Health], bound: set[str], signature: str, sender: str
) -> list[dict[str, Any]]:
    known = {c.id: c for c in settings.channels}
    found: list[dict[str, Any]] = []
    for ranked in route.channels:
        h = health.get(ranked.id, Health())
        carries = known[ranked.id].carries(signature)
        ready = carries and ranked.id in bound and h.state == "closed" and h.operator == "run"
        why = (
            "the signature is not registered on it" if not carries
            else f"an operator says {h.operator}" if h.operator != "run"
            else f"its breaker is {h.state}: {h.cause}" if h.state != "closed"
            else "" if ranked.id in bound
            else "not bound"
        )  # fmt: skip
        found.append(
            {
                "id": ranked.id, "rank": ranked.rank, "weight": ranked.weight, "price": known[ranked.id].price,
                "bound": ranked.id in bound, "breaker": h.state, "cause": h.cause, "operator": h.operator,
                "takes_it": ready, "why": why, "carries": carries,
                "source_addr": _source_addr(known[ranked.id], signature, sender),
            }
        )  # fmt: skip
    lowest = min((c["rank"] for c in found if c["takes_it"]), default=None)
    for channel in found:
        if channel["takes_it"] and channel["rank"] != lowest:
            channel["takes_it"], channel["why"] = False, "a channel of an earlier rank can submit"
    return found


def _tell_shares(view: dict[str, Any], lane: Route, category: int, carrier: str, published: dict[str, bytes]) -> None:
    """Add to each channel its share of what its rank takes, and where quality decides, from which inputs."""
    shares = read_shares(published) if lane.order == "quality" else {}
    entries = {entry["id"]: entry for entry in view["channels"]}
    for rank in lane.ranks:
        peers = lane.at_rank(rank)
        by_quality = shares.get((lane.id, rank, category, carrier)) or shares.get((lane.id, rank, category, ""))
        if by_quality is not None:
            view["quality"] = {"moving": by_quality.moving, "why": by_quality.why}
        cheapest = min((entries[c.id]["price"] for c in peers), default=0.0)
        total = sum(c.weight for c in peers)
        for c in peers:
            entry = entries[c.id]
            if by_quality is not None:
                entry["share"] = round(by_quality.shares.get(c.id, 0.0), 4)
                entry["rating"] = by_quality.inputs.get(c.id, {})
            elif lane.order == "cost":
                entry["share"] = 1.0 if entry["price"] == cheapest else 0.0
            else:
                entry["share"] = round(c.weight / total, 4)


def _source_addr(channel: ChannelSettings, signature: str, sender: str) -> str | None:
    """Return what would be sent as source_addr ('': the SMSC's default), None where the channel may not carry it."""
    return signed_source(channel, signature, sender) if channel.signatures else own_sender(channel, sender)


def _verdict(rules: list[Rule], view: dict[str, Any]) -> str:
    refused = next((r for r in rules if r["effect"] == "refuse"), None)
    if refused is not None:
        return f"refused: {refused['rule']}"
    waits = next((r for r in rules if r["effect"] == "wait"), None)
    if waits is not None:
        return f"accepted, and waits: {waits['rule']}"
    takers = [c["id"] for c in view["channels"] if c["takes_it"]]
    return f"sent by {' or '.join(takers)}"
