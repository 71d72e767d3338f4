"""What is said to be wrong, out of facts: each kind comes and goes, and names an alert and a page that exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.facts import Delivery, Facts, Queue
from gateway.admin.figures import OK, Reading
from gateway.admin.gates_v1 import KINDS as KINDS_OF_GATES
from gateway.admin.problems import KINDS, SEVERITIES, Problem, problems
from gateway.metrics import LATENCY_S, Series
from gateway.model import Secret
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
    WebhookSettings,
)
from gateway.store.changes import Sessions, Trouble
from gateway.store.moves import Health
from gateway.store.store import Store
from tests.support.admin import admin_listener

RULES = Path("config/prometheus/rules.yml").read_text(encoding="utf-8")
PAGE = Path("docs/operations.md").read_text(encoding="utf-8")


def calm() -> Facts:
    """Return facts of a gateway with two channels on one route, where nothing is wrong."""
    channels = tuple(
        ChannelSettings(id=name, host="127.0.0.1", port=2775, system_id="x", password=Secret("y"), binds=2)
        for name in ("a", "b")
    )
    route = RouteSettings("r", RouteMatch(country="CN"), (RankedChannel("a", 0), RankedChannel("b", 1)))
    facts = Facts(replace(Settings(config_dir=Path("config")), channels=channels, routes=(route,)))
    facts.sessions = {c.id: Sessions(2, 2, "up", 1_000) for c in channels}
    facts.bound = {"a", "b"}
    grown(facts)
    return facts


def grown(facts: Facts, *, wait: int | None = None, **counters: float) -> None:
    """Count something between two readings a minute apart; names are family__label__label."""
    waits = [0] * (len(LATENCY_S) + 1)
    facts.figures.take(
        Reading.of(0.0, 1_000_000, Series({}, {}, {("accept_to_submit_seconds", ("verification",)): waits}))
    )
    if wait is not None:
        waits = [*waits]
        waits[wait] = 100
    after = {(name.split("__")[0], tuple(name.split("__")[1:])): n for name, n in counters.items()}
    facts.figures.take(
        Reading.of(60.0, 1_060_000, Series(after, {}, {("accept_to_submit_seconds", ("verification",)): waits}))
    )


def gauges(facts: Facts, **values: float) -> None:
    facts.series = Series({}, {(n.split("__")[0], tuple(n.split("__")[1:])): v for n, v in values.items()}, {})


def queued(category: int, oldest_s: float) -> Callable[[Facts], None]:
    return lambda f: f.queues.rows.append(Queue("r", 0, category, 5, oldest_s))


def down(*channels: str) -> Callable[[Facts], None]:
    def apply(facts: Facts) -> None:
        for name in channels:
            facts.bound.discard(name)
            facts.sessions[name] = Sessions(0, 2, "down", 5_000, Trouble("bind_refused", "0x0000000E RINVPASWD", 6, 7))

    return apply


def health(**changes: Any) -> Callable[[Facts], None]:
    return lambda f: f.health.update({"a": Health(**changes)})


def webhook(**changes: Any) -> Callable[[Facts], None]:
    values = {
        "account": "shop", "state": "enabled", "backlog": 0, "oldest_age_s": 0.0, "dead": 0, "dead_reasons": {},
        "last_failure": None, "disabled_by": None,
    }  # fmt: skip
    return lambda f: f.webhooks.append(values | changes)


def config(**changes: Any) -> Callable[[Facts], None]:
    here = {"files_differ": False, "standing": "the files were edited since they were in step"}
    member = {
        "machine": "m", "role": "api", "number": 0, "lives": True, "in_force": True, "revision": 3, "problem": "",
    }  # fmt: skip
    values = {
        "revision": 3,
        "last": changes.get("last"),
        "here": here | changes.get("here", {}),
        "members": [member | changes.get("member", {})],
    }
    return lambda f: f.config.update(values)


REFUSED = {
    "result": "refused", "stands": True, "code": "invalid", "detail": "x", "by": "SIGHUP", "at_ms": 9,
    "problems": [{"file": "routes.toml", "key": "k", "reason": "r"}],
}  # fmt: skip


def ended(**changes: Any) -> Callable[[Facts], None]:
    row = {
        "category": "marketing",
        "channel": "a",
        "route": "r",
        "delivered": 0,
        "failed": 0,
        "expired": 0,
        "unknown": 0,
    }
    return lambda f: setattr(f, "delivery", Delivery(1, 2, [row | changes]))


CASES: list[tuple[Callable[[Facts], Any], str, str, str, str | None]] = [
    # what happens, kind, object, severity, label of the action
    (lambda f: f.reasons.append("store: does not answer"), "store_not_ready", "store", "critical", None),
    (lambda f: gauges(f, store_intake=2), "intake_closed", "store", "critical", None),
    (lambda f: gauges(f, store_intake=1), "intake_reduced", "store", "warning", None),
    (
        lambda f: gauges(f, store_memory_bytes__used=71, store_memory_bytes__limit=100),
        "store_memory", "store", "warning", None,
    ),
    (lambda f: gauges(f, disk_bytes__free=14, disk_bytes__total=100), "disk_low", "disk", "warning", None),
    (lambda f: gauges(f, event_loop_lag_seconds__dispatch=0.6), "worker_late", "dispatch", "warning", None),
    (lambda f: f.stale.add("queues"), "not_read", "overview", "warning", None),
    (lambda f: f.reasons.append("no api worker is ready"), "worker_missing", "api", "critical", None),
    (lambda f: f.reasons.append("draining"), "draining", "gateway", "info", None),
    (lambda f: grown(f, worker_restarts_total__dispatch=1), "worker_restarted", "dispatch", "info", None),
    (lambda f: grown(f, worker_restarts_total__dispatch=3), "worker_restarted", "dispatch", "warning", None),
    (lambda f: grown(f, wait=13), "verification_slow", "verification", "critical", None),
    (queued(0, 11.0), "verification_queued", "r/0/verification", "critical", None),
    (queued(1, 601.0), "queue_old", "r/0/notification", "warning", None),
    (queued(2, 300_000.0), "queue_old", "r/0/marketing", "critical", None),
    (down("a"), "channel_down", "a", "warning", None),
    (down("a", "b"), "all_channels_down", "channels", "critical", None),
    (down("a", "b"), "route_without_channel", "r", "critical", None),
    (
        lambda f: f.sessions.update(a=Sessions(1, 2, "up", 1, Trouble("bind_refused", "x", 1, 1))),
        "channel_partial", "a", "info", None,
    ),
    (health(state="open", since_ms=7, cause="refusals"), "breaker_open", "a", "warning", None),
    (health(state="half", since_ms=7, cause="refusals"), "breaker_open", "a", "warning", None),
    (health(operator="pause"), "channel_paused", "a", "info", "resume_channel"),
    (health(operator="drain"), "channel_draining", "a", "info", "resume_channel"),
    (
        lambda f: grown(f, **{f"submits_total__a__{OK}": 75, "submits_total__a__0x00000058": 25}),
        "submits_refused", "a", "warning", None,
    ),
    (lambda f: grown(f, channel_alarms_total__a__channel=1), "channel_alarm", "a", "warning", None),
    (lambda f: grown(f, unknown_failure_codes_total__a=6), "unknown_failure_codes", "a", "warning", None),
    (lambda f: grown(f, receipts_impossible_total__a=1), "receipts_impossible", "a", "warning", None),
    (lambda f: grown(f, optout_alarms_total__a__block=1), "optout_flood", "a", "warning", None),
    (ended(delivered=79, failed=21), "failures_high", "a", "warning", None),
    (ended(delivered=79, failed=21), "failures_high", "r", "warning", None),
    (webhook(state="disabled", disabled_by="gone"), "webhook_disabled", "shop", "warning", "enable_webhook"),
    (webhook(state="backing_off", backlog=3), "webhook_backing_off", "shop", "warning", None),
    (webhook(backlog=1001), "webhook_backlog", "shop", "warning", None),
    (webhook(dead=2, dead_reasons={"gone": 2}), "webhook_dead_letters", "shop", "warning", "retry_dead_letters"),
    (
        lambda f: f.gates.append({"kind": "campaign", "name": "x", "state": "hold", "held": 3, "closed": 0}),
        "gate_hold", "campaign:x", "warning", "open_gate",
    ),
    (
        lambda f: f.gates.append({"kind": "tag", "name": "x", "state": "closed", "held": 0, "closed": 9}),
        "gate_closed", "tag:x", "info", "open_gate",
    ),
    (config(last=REFUSED), "config_refused", "reload", "warning", None),
    (config(here={"files_differ": True}), "config_files_differ", "files", "info", "reload_config"),
    (config(member={"problem": "no such file"}), "config_not_followed", "m api 0", "warning", None),
    (config(member={"in_force": False, "revision": 2}), "config_behind", "m api 0", "info", None),
    (lambda f: setattr(f, "review", 2), "inbound_review", "inbound", "info", None),
]  # fmt: skip


@pytest.mark.parametrize(("happens", "kind", "object_", "severity", "label"), CASES)
def test_each_kind_is_said_and_only_when_it_is_so(
    happens: Callable[[Facts], Any], kind: str, object_: str, severity: str, label: str | None
) -> None:
    facts = calm()
    assert problems(facts) == []
    happens(facts)
    (found,) = [p for p in problems(facts) if (p.kind, p.object) == (kind, object_)]
    assert found.severity == severity
    assert (found.action["label"] if found.action else None) == label
    if found.alert is not None:
        assert f"- alert: {found.alert}\n" in RULES
        assert f"### {found.alert}\n" in PAGE
        assert found.view(None)["runbook"] == f"docs/operations.md#{found.alert.lower()}"


@pytest.mark.parametrize(
    "happens",
    [
        queued(0, 9.0), queued(1, 500.0), queued(2, 7_000.0), ended(delivered=81, failed=19), ended(failed=99),
        webhook(backlog=900), config(), config(last=REFUSED | {"stands": False}),
        lambda f: gauges(f, store_intake=0, disk_bytes__free=16, disk_bytes__total=100),
        lambda f: grown(f, wait=3, unknown_failure_codes_total__a=5),
        # Only starting: its first bind may still come.
        lambda f: (f.bound.discard("a"), f.sessions.update(a=Sessions(0, 2))),
    ],
)  # fmt: skip
def test_what_is_usual_is_no_problem(happens: Callable[[Facts], Any]) -> None:
    facts = calm()
    happens(facts)
    assert problems(facts) == []


def test_a_down_channel_says_why_and_since_when_and_the_worst_comes_first() -> None:
    facts = calm()
    down("a", "b")(facts)
    health(operator="pause")(facts)
    found = problems(facts)
    ordered = [(SEVERITIES.index(p.severity), KINDS.index(p.kind)) for p in found]
    assert ordered == sorted(ordered)
    (one,) = [p for p in found if p.kind == "channel_down"]
    assert one == Problem(
        "warning",
        "channel_down",
        "channel",
        "b",
        {"cause": "bind_refused", "detail": "0x0000000E RINVPASWD", "sessions": 0, "binds": 2},
        5_000,
        alert="SmsgwChannelDown",
    )
    (route,) = [p for p in found if p.kind == "route_without_channel"]
    assert route.action is not None
    assert route.action["body"] == {"id": "a", "action": "resume"}, "what an operator stopped is the first to try"


def test_no_two_have_one_id() -> None:
    """Pages keep a card by the id: of two with one id the second would never be seen."""
    facts = calm()
    ended(delivered=1, failed=200, channel="r")(facts)
    grown(facts, channel_alarms_total__a__channel=1, channel_alarms_total__a__bug=2,
          optout_alarms_total__a__block=1, optout_alarms_total__a__stop=1)  # fmt: skip
    ids = [p.id for p in problems(facts)]
    assert len(ids) == 6
    assert len(set(ids)) == len(ids)


def test_every_kind_has_its_case() -> None:
    """Pages translate the kinds: a new one must not come unseen."""
    assert {kind for _, kind, *_ in CASES} == set(KINDS)
    assert len(KINDS) == len(set(KINDS))


async def test_every_button_does_what_it_says(settings: Settings, store: Store, tmp_path: Path) -> None:
    """The page sends method, path and body as they stand here: nobody else looks whether an endpoint takes them."""
    hook = WebhookSettings("https://hooks.example/in", (Secret("whsec_" + "A" * 43 + "="),))
    facts = calm()
    own = replace(
        facts.settings,
        admin=AdminSettings(token=Secret("the-token")),
        accounts=(AccountSettings("shop", webhook=hook),),
        store=settings.store,
    )
    for happens, *_ in CASES:
        happens(facts)
    health(operator="pause")(facts)
    config(here={"files_differ": True})(facts)
    for kind in KINDS_OF_GATES:
        # The account and the campaign may be gone since it was closed.
        facts.gates.append({"kind": kind, "name": "verification" if kind == "category" else "gone",
                            "state": "hold", "held": 1, "closed": 0})  # fmt: skip
    calls = {str(p.action): p.action for p in problems(facts) if p.action is not None}
    assert {call["label"] for call in calls.values()} == {
        "resume_channel", "enable_webhook", "retry_dead_letters", "open_gate", "reload_config"
    }  # fmt: skip
    headers = {"Authorization": "Bearer the-token"}
    async with admin_listener(own, store, tmp_path) as address, aiohttp.ClientSession(headers=headers) as session:
        for call in calls.values():
            if call["label"] == "reload_config":
                assert (call["method"], call["path"], call["body"]) == ("POST", "/admin/v1/config/reload", {})
                continue  # tests/scenarios/test_console_figures.py sends it
            async with session.request(call["method"], f"http://{address}{call['path']}", json=call["body"]) as answer:
                assert answer.status == 200, (call, await answer.text())
