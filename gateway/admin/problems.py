"""What is wrong now, the worst first: each with its object, since when, the facts, and the one action that helps.

Pure: facts in, list out. Owns the kinds (stable words, which pages translate) and when each is said. Where an alert of
config/prometheus/rules.yml is about the same, `alert` names it and `runbook` is its section of docs/operations.md. The
limits are the alert's, over shorter times: an alert looks back up to an hour and waits some minutes before it wakes
somebody, whoever looks here sees it at once. `failures_high` has its own: nothing here knows a carrier's past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.admin.channel_state import DOWN, DRAINING, HALF, OPEN, PARTIAL, PAUSED, State
from gateway.admin.facts import Facts, ended
from gateway.model import CATEGORY_LABELS, Category
from gateway.smpp.constants import STATUS_NAMES

SEVERITIES: Final = ("critical", "warning", "info")
KINDS: Final = (
    "store_not_ready", "intake_closed", "intake_reduced", "store_memory", "disk_low", "not_read", "worker_missing",
    "worker_restarted", "worker_late", "draining", "verification_slow", "verification_queued", "queue_old",
    "all_channels_down", "channel_down", "channel_partial", "channel_paused", "channel_draining", "breaker_open",
    "route_without_channel", "submits_refused", "channel_alarm", "unknown_failure_codes", "receipts_impossible",
    "optout_flood", "failures_high", "webhook_disabled", "webhook_backing_off", "webhook_backlog",
    "webhook_dead_letters", "gate_hold", "gate_closed", "config_refused", "config_files_differ",
    "config_not_followed", "config_behind", "inbound_review",
)  # fmt: skip
"""Every kind there is, the graver first within a severity: pages have words for each."""
_WAIT_P99_S, _WAIT_N = 1.0, 20
_OLD_S: Final = {"verification": 10.0, "notification": 600.0, "marketing": 7200.0}
_NEAR_TTL: Final = 0.8
_REFUSED_SHARE, _REFUSED_N = 0.2, 100
_FAILED_SHARE, _ENDED_N = 0.2, 100
_UNKNOWN_CODES_N: Final = 5
_BACKLOG, _BACKLOG_AGE_S = 1000, 600.0
_MEMORY_SHARE, _DISK_SHARE = 0.7, 0.15
_LAG_S: Final = 0.5
_RESTARTS: Final = 2

Action = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `here`: on this machine; else on all that share the store."""

    severity: str
    kind: str
    type: str  # what the object is: channel | route | account | gate | worker | store | config | gateway | category
    object: str
    facts: dict[str, Any] = field(default_factory=dict)
    since_ms: int | None = None
    action: Action | None = None
    alert: str | None = None
    here: bool = False
    variant: str = ""
    """What tells it from others of its kind and object."""
    moves: bool = False
    """Whether `since_ms` moves while the problem stays: it began then at the latest."""

    @property
    def id(self) -> str:
        """What stays the same as long as it is the same problem, and is no other's."""
        variant = f":{self.variant}" if self.variant else ""
        return f"{self.kind}:{self.object}{variant}"

    def began(self, seen_ms: int | None, new_ms: int) -> int:
        """Return since when it is so: `seen_ms` as was said last (None: it is new), `new_ms` where nobody knows."""
        if self.since_ms is None:
            return new_ms if seen_ms is None else seen_ms
        return min(seen_ms, self.since_ms) if self.moves and seen_ms else self.since_ms

    def view(self, since_ms: int | None) -> dict[str, Any]:
        """Return it for an answer."""
        return {
            "id": self.id,
            "severity": self.severity,
            "kind": self.kind,
            "object": {"type": self.type, "id": self.object},
            "since_ms": since_ms,
            "facts": self.facts,
            "action": self.action,
            "alert": self.alert,
            "runbook": f"docs/operations.md#{self.alert.lower()}" if self.alert else None,
            "here": self.here,
        }


def problems(facts: Facts) -> list[Problem]:
    """Return everything that is wrong, the worst first."""
    states = facts.states()
    found = [
        *_store(facts),
        *_workers(facts),
        *_waits(facts),
        *_channels(facts, states),
        *_routes(facts, states),
        *_answers(facts),
        *_delivery(facts),
        *_webhooks(facts),
        *_gates(facts),
        *_config(facts),
        *_inbound(facts),
    ]
    return sorted(found, key=lambda p: (SEVERITIES.index(p.severity), KINDS.index(p.kind), p.object))


def action(label: str, method: str, path: str, body: Any = None) -> Action:
    """Return a button: `label` is a word that the page translates."""
    return {"label": label, "method": method, "path": path, "body": body}


# --- the machine and its store


def _store(facts: Facts) -> Iterator[Problem]:
    said = [r.removeprefix("store: ") for r in facts.reasons if r.startswith("store: ")]
    if said:
        yield Problem("critical", "store_not_ready", "store", "store", {"reasons": said}, alert="SmsgwStoreNotReady")
    intake = facts.gauge("store_intake")
    if intake == 2:
        yield Problem("critical", "intake_closed", "store", "store", alert="SmsgwIntakeClosed")
    elif intake == 1:
        yield Problem("warning", "intake_reduced", "store", "store", alert="SmsgwIntakeReduced")
    used, limit = facts.gauge("store_memory_bytes", "used"), facts.gauge("store_memory_bytes", "limit")
    if used and limit and used / limit > _MEMORY_SHARE:
        share = {"used_bytes": int(used), "limit_bytes": int(limit), "share": round(used / limit, 3)}
        yield Problem("warning", "store_memory", "store", "store", share, alert="SmsgwStoreMemory")
    free, total = facts.gauge("disk_bytes", "free"), facts.gauge("disk_bytes", "total")
    if free is not None and total and free / total < _DISK_SHARE:
        share = {"free_bytes": int(free), "total_bytes": int(total), "share": round(free / total, 3)}
        yield Problem("warning", "disk_low", "store", "disk", share, alert="SmsgwDiskLow", here=True)
    if facts.stale:
        yield Problem("warning", "not_read", "gateway", "overview", {"what": sorted(facts.stale)})


def _workers(facts: Facts) -> Iterator[Problem]:
    for reason in facts.reasons:
        if reason.startswith("no ") and reason.endswith(" worker is ready"):
            role = reason.removeprefix("no ").removesuffix(" worker is ready")
            yield Problem("critical", "worker_missing", "worker", role, alert="SmsgwWorkerMissing", here=True)
        elif reason == "draining":
            yield Problem("info", "draining", "gateway", "gateway", here=True)
    seconds, grown = facts.figures.troubles()
    for (name, labels), n in grown.items():
        if name == "worker_restarts_total":
            severity = "warning" if n > _RESTARTS else "info"
            alert = "SmsgwWorkerRestarts" if n > _RESTARTS else None
            what = {"times": n, "seconds": round(seconds)}
            yield Problem(severity, "worker_restarted", "worker", labels[0], what, alert=alert, here=True)
    for (name, labels), lag_s in facts.series.gauges.items():
        if name == "event_loop_lag_seconds" and lag_s > _LAG_S:
            late = {"late_s": round(lag_s, 3)}
            yield Problem("warning", "worker_late", "worker", labels[0], late, alert="SmsgwEventLoopLag", here=True)


# --- what waits


def _waits(facts: Facts) -> Iterator[Problem]:
    wait = facts.figures.wait()
    if wait.p99_s is not None and wait.p99_s > _WAIT_P99_S and wait.n >= _WAIT_N:
        what = {"p99_s": wait.p99_s, "p50_s": wait.p50_s, "n": wait.n}
        yield Problem(
            "critical", "verification_slow", "category", "verification", what, alert="SmsgwVerificationSlow", here=True
        )
    for queue in facts.queues.rows:
        category = CATEGORY_LABELS[queue.category]
        ttl_s = facts.settings.categories[Category(queue.category)].ttl_s
        limit_s = min(_OLD_S[category], ttl_s * _NEAR_TTL)
        if queue.depth and queue.oldest_s > limit_s:
            code = queue.category == Category.VERIFICATION
            severity = "critical" if code or queue.oldest_s > ttl_s * _NEAR_TTL else "warning"
            yield Problem(
                severity,
                "verification_queued" if code else "queue_old",
                "route",
                f"{queue.route}/{queue.rank}/{category}",
                {
                    "route": queue.route,
                    "rank": queue.rank,
                    "category": category,
                    "depth": queue.depth,
                    "oldest_age_s": round(queue.oldest_s, 1),
                    "ttl_s": ttl_s,
                },
                alert="SmsgwVerificationQueued" if code else "SmsgwQueueOld",
            )


# --- channels and routes


def _channels(facts: Facts, states: dict[str, State]) -> Iterator[Problem]:
    if states and all(state.word == DOWN for state in states.values()):
        yield Problem(
            "critical", "all_channels_down", "gateway", "channels", {"channels": len(states)},
            alert="SmsgwAllChannelsDown",
        )  # fmt: skip
    for channel in facts.settings.channels:
        state = states[channel.id]
        cause = state.cause or {"kind": "", "detail": ""}
        sessions = facts.sessions.get(channel.id)
        what: dict[str, Any] = {
            "cause": cause["kind"],
            "detail": cause["detail"],
            "sessions": sessions.bound if sessions is not None else 0,
            "binds": channel.binds,
        }
        resume = action("resume_channel", "PUT", "/admin/v1/channels", {"id": channel.id, "action": "resume"})
        if state.word in (DOWN, PARTIAL):
            kind, severity = ("channel_down", "warning") if state.word == DOWN else ("channel_partial", "info")
            alert = "SmsgwChannelDown" if state.word == DOWN else None
            yield Problem(severity, kind, "channel", channel.id, what, state.since_ms, alert=alert)
        elif state.word in (OPEN, HALF):
            facts_ = {"cause": cause["detail"], "state": "half" if state.word == HALF else "open"}
            yield Problem(
                "warning", "breaker_open", "channel", channel.id, facts_, state.since_ms, alert="SmsgwBreakerOpen",
                moves=True,
            )  # fmt: skip
        elif state.word in (PAUSED, DRAINING):
            kind = "channel_paused" if state.word == PAUSED else "channel_draining"
            yield Problem("info", kind, "channel", channel.id, {}, state.since_ms, resume)


def _routes(facts: Facts, states: dict[str, State]) -> Iterator[Problem]:
    for route in facts.settings.routes:
        words = {c.id: states[c.id].word for c in route.channels if c.id in states}
        usable = [c.id for c in route.channels if c.id in states and states[c.id].usable]
        starting = any(word == "starting" for word in words.values())
        if usable or starting:
            continue
        stopped = [c for c, word in words.items() if word in (PAUSED, DRAINING)]
        one = (
            action("resume_channel", "PUT", "/admin/v1/channels", {"id": stopped[0], "action": "resume"})
            if stopped
            else None
        )
        waits = sum(q.depth for q in facts.queues.rows if q.route == route.id)
        yield Problem(
            "critical", "route_without_channel", "route", route.id, {"channels": words, "waiting": waits},
            action=one, alert="SmsgwVerificationQueued",
        )  # fmt: skip


def _answers(facts: Facts) -> Iterator[Problem]:
    seconds, grown = facts.figures.troubles()
    for channel in facts.settings.channels:
        errors = facts.figures.errors(channel.id)
        if errors["submits"] >= _REFUSED_N and (errors["share"] or 0.0) > _REFUSED_SHARE:
            top = [{**one, "name": status_word(one["status"])} for one in errors["top"]]
            yield Problem(
                "warning", "submits_refused", "channel", channel.id, {**errors, "top": top},
                alert="SmsgwSubmitsRefused", here=True,
            )  # fmt: skip
    for (name, labels), n in grown.items():
        what = {"times": n, "seconds": round(seconds)}
        if name == "channel_alarms_total":
            yield Problem(
                "warning", "channel_alarm", "channel", labels[0], {**what, "outcome": labels[1]},
                alert="SmsgwChannelAlarm", here=True, variant=labels[1],
            )  # fmt: skip
        elif name == "unknown_failure_codes_total" and n > _UNKNOWN_CODES_N:
            yield Problem(
                "warning", "unknown_failure_codes", "channel", labels[0], what,
                alert="SmsgwUnknownFailureCodes", here=True,
            )  # fmt: skip
        elif name == "receipts_impossible_total":
            yield Problem(
                "warning", "receipts_impossible", "channel", labels[0], what,
                alert="SmsgwReceiptsImpossible", here=True,
            )  # fmt: skip
        elif name == "optout_alarms_total":
            yield Problem(
                "warning", "optout_flood", "channel", labels[0], {**what, "cause": labels[1]},
                alert="SmsgwOptOutFlood", here=True, variant=labels[1],
            )  # fmt: skip


def status_word(status: str) -> str:
    """Return a command_status' name, '' for one that SMPP 3.4 has no name for; `status` as metrics spell it."""
    try:
        return STATUS_NAMES.get(int(status, 16), "")
    except ValueError:
        return ""


def _delivery(facts: Facts) -> Iterator[Problem]:
    for type_ in ("channel", "route"):
        sums: dict[str, dict[str, int]] = {}
        for row in facts.delivery.rows:
            if row[type_]:
                by = sums.setdefault(row[type_], {"ended": 0, "delivered": 0, "failed": 0})
                by["delivered"] += row["delivered"]
                by["failed"] += row["failed"]
                by["ended"] += ended(row)
        for name, by in sums.items():
            if by["ended"] >= _ENDED_N and by["failed"] > _FAILED_SHARE * by["ended"]:
                share = round(by["failed"] / by["ended"], 4)
                what = {**by, "share": share, "from_ms": facts.delivery.from_ms}
                yield Problem(
                    "warning", "failures_high", type_, name, what, alert="SmsgwDeliveryRatioDrop", variant=type_
                )


# --- applications, gates, configuration, people


def _webhooks(facts: Facts) -> Iterator[Problem]:
    for one in facts.webhooks:
        account, backlog, age_s = one["account"], one["backlog"], one["oldest_age_s"]
        behind = backlog > _BACKLOG or (backlog and age_s > _BACKLOG_AGE_S)
        alert = "SmsgwWebhookBacklog" if behind else None
        what = {"backlog": backlog, "oldest_age_s": age_s, "last_failure": one["last_failure"]}
        if one["state"] == "disabled":
            enable = action("enable_webhook", "POST", "/admin/v1/webhooks", {"account": account, "action": "enable"})
            what |= {"disabled_by": one["disabled_by"]}
            yield Problem(
                "warning", "webhook_disabled", "account", account, what, action=enable, alert="SmsgwWebhookBacklog"
            )
        elif one["state"] == "backing_off":
            yield Problem("warning", "webhook_backing_off", "account", account, what, alert=alert)
        elif behind:
            yield Problem("warning", "webhook_backlog", "account", account, what, alert=alert)
        if one["dead"]:
            retry = action(
                "retry_dead_letters", "POST", "/admin/v1/webhooks", {"account": account, "action": "retry-dead"}
            )
            dead = {"dead": one["dead"], "reasons": one["dead_reasons"]}
            yield Problem(
                "warning", "webhook_dead_letters", "account", account, dead, action=retry,
                alert="SmsgwWebhookDeadLetters",
            )  # fmt: skip


def _gates(facts: Facts) -> Iterator[Problem]:
    for gate in facts.gates:
        kind, name, held = gate["kind"], gate["name"], gate["held"]
        opens = action("open_gate", "PUT", "/admin/v1/gates", {"kind": kind, "name": name, "state": "open"})
        what = {"kind": kind, "name": name, "held": held, "closed": gate["closed"]}
        word = "gate_hold" if gate["state"] == "hold" else "gate_closed"
        codes = kind == "category" and name == "verification"
        severity = "warning" if held or codes else "info"
        yield Problem(severity, word, "gate", f"{kind}:{name}", what, action=opens)


def _config(facts: Facts) -> Iterator[Problem]:
    config = facts.config
    if not config:
        return
    last, here = config["last"], config["here"]
    if last is not None and last["result"] == "refused" and last["stands"]:
        what = {"code": last["code"], "detail": last["detail"], "by": last["by"], "problems": last["problems"][:5]}
        yield Problem(
            "warning", "config_refused", "config", "reload", what, last["at_ms"], alert="SmsgwConfigReloadFailed"
        )
    if here["files_differ"]:
        edited = here["standing"] == "the files were edited since they were in step"
        reload_ = action("reload_config", "POST", "/admin/v1/config/reload", {}) if edited else None
        yield Problem(
            "info", "config_files_differ", "config", "files", {"standing": here["standing"]}, action=reload_,
            alert="SmsgwConfigFilesDiffer", here=True,
        )  # fmt: skip
    for member in config["members"]:
        who = f"{member['machine']} {member['role']} {member['number']}"
        if member["problem"]:
            what = {"machine": member["machine"], "role": member["role"], "detail": member["problem"]}
            yield Problem("warning", "config_not_followed", "config", who, what, alert="SmsgwConfigRevisions")
        elif member["lives"] and not member["in_force"] and member["revision"]:
            what = {"machine": member["machine"], "role": member["role"], "revision": member["revision"]}
            yield Problem("info", "config_behind", "config", who, what, alert="SmsgwConfigRevisions")


def _inbound(facts: Facts) -> Iterator[Problem]:
    if facts.review:
        yield Problem(
            "info", "inbound_review", "gateway", "inbound", {"waiting": facts.review}, alert="SmsgwReviewWaiting"
        )
