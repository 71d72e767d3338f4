"""`GET /admin/v1/overview`: how the gateway is now, in one answer. What is wrong stands in `problems`, the worst first.

    {"at_ms", "machine", "here": [fields that are of this machine alone],
     "rates": {seconds, total: FLOW, categories: {verification: FLOW, …}},      FLOW: {accepted, submitted, delivered,
     "verification_wait": {seconds, n, p50_s, p99_s},   null: none was sent            failed}, messages a second
     "history": {step_s, columns, points: [[at_ms, …], …]},     a quarter of an hour, about a point each step_s
     "queues": {waiting, timed, held, in_flight, uncertain,
         rows: [{route, rank, category, depth, oldest_age_s, ttl_s}]},
     "delivery": {from_ms, to_ms, total: ENDS, categories: {verification: ENDS, …},    ENDS: {accepted, submitted,
         reasons: [{state, reason, n, share}]},                             delivered, failed, expired, unknown, ratio}
     "channels": [{id, state, cause, since_ms, sessions, binds, window_used, window, tps, tps_limit, max_tps}],
     "webhooks": {backlog, dead, rows: [{account, state, backlog, oldest_age_s, dead, last_failure}]},
     "gates": [{kind, name, state, held, closed, sweep?}],
     "store": {ready, reasons, intake, memory_used_bytes, memory_limit_bytes, disk_free_bytes, disk_total_bytes},
     "workers": [{role, up, ready}], "config": {revision, files_differ, in_step}, "stale": [parts that are old],
     "problems": [{id, severity, kind, object: {type, id}, since_ms, facts, alert, runbook, here,
         action: {label, method, path, body} | null}]}

Times are epoch ms. `timed` waits for a time (scheduled, deferred, to be retried, uncertain); `in_flight` are parts that
carriers have not answered; `uncertain` and `delivery` are of the last half to one and a half hours, over all machines
(statistics are kept by hours: `from_ms` says since when). Rows of webhooks are those with something to tell. `cause` of
a channel and the words of its state: `channels_view`. Owns the shape; pure but for the endpoint.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from aiohttp import web

from gateway.admin.channels_view import shares
from gateway.admin.facts import ENDS, Facts, ratio
from gateway.admin.figures import COLUMNS, FLOWS, STEP_S, WAIT_S
from gateway.admin.problem import json_answer
from gateway.model import CATEGORY_LABELS, Category
from gateway.store.changes import Sessions

_HERE: Final = (
    "rates", "verification_wait", "history", "queues.in_flight", "channels.window_used", "channels.tps", "workers",
    "store.disk_free_bytes", "store.disk_total_bytes",
)  # fmt: skip
_INTAKE: Final = {0: "open", 1: "verification", 2: "closed"}
_SUMS: Final = ("accepted", "submitted", *ENDS)


class LiveView(Protocol):
    """Whoever reads the figures."""

    async def overview(self) -> dict[str, Any]:
        """Return the overview."""

    async def channels(self) -> dict[str, Any]:
        """Return the channels."""

    def look_soon(self) -> None:
        """Look at once: something was changed."""


class OverviewApi:
    """The endpoint over one sampler."""

    def __init__(self, live: LiveView) -> None:
        self._live = live

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/overview", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """Show how the gateway is now, and what is wrong."""
        del request
        return json_answer(await self._live.overview())


def overview(facts: Facts, found: list[dict[str, Any]], machine: str) -> dict[str, Any]:
    """Return the answer; `found` are the problems as they are shown."""
    figures = facts.figures
    assert figures.now is not None
    wait = figures.wait()
    return {
        "at_ms": figures.now.at_ms,
        "machine": machine,
        "here": list(_HERE),
        "rates": _rates(facts),
        "verification_wait": {"seconds": int(WAIT_S), "n": wait.n, "p50_s": wait.p50_s, "p99_s": wait.p99_s},
        "history": {"step_s": int(STEP_S), "columns": list(COLUMNS), "points": list(figures.points)},
        "queues": _queues(facts),
        "delivery": _delivery(facts),
        "channels": _channels(facts),
        "webhooks": _webhooks(facts),
        "gates": facts.gates,
        "store": _store(facts),
        "workers": facts.workers(),
        "config": _config(facts),
        "stale": sorted(facts.stale),
        "problems": found,
    }


def _rates(facts: Facts) -> dict[str, Any]:
    seconds, flows = facts.figures.flows()
    n = len(FLOWS)
    rows = [flows[i * n : (i + 1) * n] for i in range(len(CATEGORY_LABELS))]
    shown = [dict(zip(FLOWS, (round(x, 2) for x in row), strict=True)) for row in rows]
    total = {flow: round(sum(row[i] for row in rows), 2) for i, flow in enumerate(FLOWS)}
    return {"seconds": round(seconds, 1), "total": total, "categories": dict(zip(CATEGORY_LABELS, shown, strict=True))}


def _queues(facts: Facts) -> dict[str, Any]:
    queues, rules = facts.queues, facts.settings.categories
    in_flight = sum(v for (name, _), v in facts.series.gauges.items() if name == "channel_window_used")
    return {
        "waiting": queues.messages,
        "timed": queues.timed,
        "held": sum(gate["held"] for gate in facts.gates),
        "in_flight": int(in_flight),
        "uncertain": sum(row["uncertain"] for row in facts.delivery.rows),
        "rows": [
            {
                "route": q.route,
                "rank": q.rank,
                "category": CATEGORY_LABELS[q.category],
                "depth": q.depth,
                "oldest_age_s": round(q.oldest_s, 1),
                "ttl_s": rules[Category(q.category)].ttl_s,
            }
            for q in queues.rows
        ],
    }


def _delivery(facts: Facts) -> dict[str, Any]:
    total, by = dict.fromkeys(_SUMS, 0), {label: dict.fromkeys(_SUMS, 0) for label in CATEGORY_LABELS}
    states: dict[str, dict[str, int]] = {}
    for row in facts.delivery.rows:
        for sums in (total, by.get(row["category"], {})):
            for name in sums:
                sums[name] += row[name]
        for failure in row["failures"]:
            of_state = states.setdefault(failure["reason"], {})
            of_state[failure["state"]] = of_state.get(failure["state"], 0) + failure["n"]
    reasons = shares({reason: sum(by_state.values()) for reason, by_state in states.items()})
    return {
        "from_ms": facts.delivery.from_ms,
        "to_ms": facts.delivery.to_ms,
        "total": {**total, "ratio": ratio(total)},
        "categories": {label: {**sums, "ratio": ratio(sums)} for label, sums in by.items()},
        "reasons": [{"state": _most(states[one["reason"]]), **one} for one in reasons],
    }


def _most(by_state: dict[str, int]) -> str:
    return max(sorted(by_state), key=lambda state: by_state[state])


def _channels(facts: Facts) -> list[dict[str, Any]]:
    tps = facts.figures.submits_per_s()
    states = facts.states()
    shown = []
    for channel in facts.settings.channels:
        state, sessions = states[channel.id], facts.sessions.get(channel.id, Sessions())
        shown.append(
            {
                "id": channel.id,
                "state": state.word,
                "cause": state.cause,
                "since_ms": state.since_ms,
                "sessions": sessions.bound,
                "binds": channel.binds,
                "window_used": int(facts.gauge("channel_window_used", channel.id) or 0),
                "window": channel.window * sessions.bound,
                "tps": tps.get(channel.id, 0.0),
                "tps_limit": facts.tps_limit(channel),
                "max_tps": channel.max_tps,
            }
        )
    return shown


def _webhooks(facts: Facts) -> dict[str, Any]:
    names = ("account", "state", "backlog", "oldest_age_s", "dead", "last_failure")
    telling = [one for one in facts.webhooks if one["backlog"] or one["dead"] or one["state"] != "enabled"]
    return {
        "backlog": sum(one["backlog"] for one in facts.webhooks),
        "dead": sum(one["dead"] for one in facts.webhooks),
        "rows": [{name: one[name] for name in names} for one in telling],
    }


def _store(facts: Facts) -> dict[str, Any]:
    reasons = [r.removeprefix("store: ") for r in facts.reasons if r.startswith("store: ")]
    return {
        "ready": not reasons,
        "reasons": reasons,
        "intake": _INTAKE.get(int(facts.gauge("store_intake") or 0), "open"),
        "memory_used_bytes": _whole(facts.gauge("store_memory_bytes", "used")),
        "memory_limit_bytes": _whole(facts.gauge("store_memory_bytes", "limit")),
        "disk_free_bytes": _whole(facts.gauge("disk_bytes", "free")),
        "disk_total_bytes": _whole(facts.gauge("disk_bytes", "total")),
    }


def _config(facts: Facts) -> dict[str, Any] | None:
    config = facts.config
    if not config:
        return None
    living = [member for member in config["members"] if member["lives"]]
    return {
        "revision": config["revision"],
        "files_differ": config["here"]["files_differ"],
        "in_step": all(member["in_force"] for member in living),
    }


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None else None
