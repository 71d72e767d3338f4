"""A channel as `GET /admin/v1/channels` and its stream show it: state and why, sessions, rate, answers, receipts.

Pure. Owns the shape's newer fields, beside those of `channels_v1.plain_view`:

    state       up | partial | starting | down | paused | draining | breaker_open | breaker_half
    state_cause {kind, detail} | null; kind: one of smpp.trouble.KINDS, or breaker, operator, no_worker
    state_since_ms  since when, null where nobody knows
    trouble     {kind, detail, since_ms, at_ms} | null: the latest of any session that should be there and is not
    sessions    bound and able to submit, over all machines;  binds: how many there should be
    window_used, window_total, tps (answers a second), tps_limit (in force: what the carrier takes at present),
    errors      {seconds, submits, share, top: [{status, name, n, share}]} of five minutes
    receipt_delay {seconds, n, p50_s, p95_s} of a quarter of an hour                     (all these: this machine)
    delivery    {from_ms, delivered, failed, expired, unknown, ratio, reasons: [{reason, n, share}]}   (all machines)
    price, carrier, host, bind, tls, categories, signatures (the first five names), signatures_total,
    routes      [{route, rank, weight}]

and beside the list `stale`: `channels` where states, sessions and breakers, `statistics` where delivery could not be
read lately; what is shown is how it was.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.admin.channel_state import State, trouble_view
from gateway.admin.channels_v1 import plain_view
from gateway.admin.facts import ENDS, Facts, ratio
from gateway.admin.problems import status_word
from gateway.settings import ChannelSettings
from gateway.store.changes import Sessions
from gateway.store.moves import Health

_PARTS: Final = frozenset({"channels", "statistics"})
"""What of the parts that are read apart is shown here."""
_REASONS: Final = 5
_SIGNATURES: Final = 5


def channels_view(facts: Facts) -> dict[str, Any]:
    """Return all configured channels."""
    left_out = [labels for (name, labels), value in facts.series.gauges.items() if name == "channel_left_out" and value]
    states, tps, routes = facts.states(), facts.figures.submits_per_s(), _routes(facts)
    delivery = _delivery(facts)
    views = []
    for channel in facts.settings.channels:
        plain = plain_view(channel, facts.health.get(channel.id, Health()), facts.bound, left_out)
        sessions = facts.sessions.get(channel.id, Sessions())
        views.append(
            plain
            | _state(states[channel.id], sessions)
            | _work(facts, channel, sessions, tps.get(channel.id, 0.0))
            | {"delivery": delivery.get(channel.id), "routes": routes.get(channel.id, [])}
            | _contract(channel)
        )
    return {"channels": views, "stale": sorted(facts.stale & _PARTS)}


def _state(state: State, sessions: Sessions) -> dict[str, Any]:
    return {
        "state": state.word,
        "state_cause": state.cause,
        "state_since_ms": state.since_ms,
        "sessions": sessions.bound,
        "trouble": trouble_view(sessions),
    }


def _work(facts: Facts, channel: ChannelSettings, sessions: Sessions, tps: float) -> dict[str, Any]:
    errors = facts.figures.errors(channel.id)
    errors["top"] = [{**one, "name": status_word(one["status"])} for one in errors["top"]]
    limit = facts.tps_limit(channel)
    return {
        "window_used": int(facts.gauge("channel_window_used", channel.id) or 0),
        "window_total": channel.window * sessions.bound,
        "tps": tps,
        "tps_limit": limit,
        "throttled": limit < channel.max_tps * 0.99,
        "errors": errors,
        "receipt_delay": facts.figures.receipts(channel.id),
    }


def _contract(channel: ChannelSettings) -> dict[str, Any]:
    return {
        "price": channel.price,
        "carrier": channel.carrier or None,
        "host": f"{channel.host}:{channel.port}",
        "bind": channel.bind,
        "tls": channel.tls,
        "categories": [c.label for c in sorted(channel.categories)],
        "signatures": [s.name for s in channel.signatures[:_SIGNATURES]],
        "signatures_total": len(channel.signatures),
    }


def _routes(facts: Facts) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for route in facts.settings.routes:
        for one in route.channels:
            found.setdefault(one.id, []).append({"route": route.id, "rank": one.rank, "weight": one.weight})
    return found


def _delivery(facts: Facts) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for row in facts.delivery.rows:
        if not row["channel"]:
            continue
        sums = found.setdefault(
            row["channel"],
            {"from_ms": facts.delivery.from_ms, **dict.fromkeys(ENDS, 0)},
        )
        for name in ENDS:
            sums[name] += row[name]
        by = reasons.setdefault(row["channel"], {})
        for failure in row["failures"]:
            by[failure["reason"]] = by.get(failure["reason"], 0) + failure["n"]
    for channel, sums in found.items():
        sums["ratio"] = ratio(sums)
        sums["reasons"] = shares(reasons[channel])[:_REASONS]
    return found


def shares(by: dict[str, int]) -> list[dict[str, Any]]:
    """Return numbers by reason with the share of each, the most frequent first."""
    total = sum(by.values())
    ordered = sorted(((reason, n) for reason, n in by.items() if n > 0), key=lambda item: (-item[1], item[0]))
    return [{"reason": reason, "n": n, "share": round(n / total, 4)} for reason, n in ordered]
