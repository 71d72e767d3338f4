"""Every expression of every panel and rule on a real Prometheus that scrapes a gateway at work, then under faults.

One gateway, five simulated carriers, one webhook and one Prometheus for the whole file; the tests build on each other
in their order. First a mixed load with what happens on any day: no panel may be empty but those of `EMPTY_WHEN_WELL`.
Then the carriers fail, and the alerts concerned must fire. Rules run on a quicker clock (tests/support/prometheus.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from gateway.apikey import new_key
from gateway.demo.world import Carrier
from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc
from tests.support.gateway import GatewayProcess
from tests.support.prometheus import SCRAPE_S, Prometheus, rules, scaled_expression
from tests.support.sink import Sink
from tests.support.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]

DASHBOARDS = Path(__file__).parents[2] / "config" / "grafana" / "dashboards"
HOOK_SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
UNKNOWN_CODE = "ZZ:7777"
OPTED_OUT = [f"86138{n:08d}" for n in range(70_000_000, 70_000_030)]
PROBE = "8613900099999"

EMPTY_WHEN_WELL = {
    ("Store and machines", "Failed calls"): "the store answers",
}
"""Panels that are rightly empty on a healthy machine, and why; the faults fill them."""

FIRED = {
    "SmsgwChannelDown", "SmsgwBreakerOpen", "SmsgwSubmitsRefused", "SmsgwDeliveryRatioDrop", "SmsgwReceiptsMissing",
    "SmsgwParkedReceipts", "SmsgwUnknownFailureCodes", "SmsgwReceiptsImpossible", "SmsgwReceiptsSuspicious",
    "SmsgwChannelAlarm", "SmsgwVerificationQueued", "SmsgwWebhookBacklog", "SmsgwOptOutRate", "SmsgwOptOutFlood",
    "SmsgwReviewWaiting", "SmsgwAccountRefused",
}  # fmt: skip
"""What the faults of the second phase must set off."""


@dataclass
class Line:
    """The gateway with everything around it."""

    gateway: GatewayProcess
    prometheus: Prometheus
    carriers: dict[str, Carrier]
    sink: Sink
    other_key: str
    began_s: float = field(default_factory=time.time)
    seen: set[str] = field(default_factory=set)  # alerts that fired at any time
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10_000_000)))

    def message(self, prefix: str, category: str = "notification", **more: Any) -> dict[str, Any]:
        """Return a message to a number nobody else has."""
        return {"to": f"+86{prefix}{next(self.numbers):08d}", "category": category, "text": "Hello", **more}

    async def post(self, messages: list[dict[str, Any]], key: str = "") -> list[dict[str, Any]]:
        """Post in batches; returns the results."""
        assert self.gateway.session is not None
        results: list[dict[str, Any]] = []
        headers = {"Authorization": f"Bearer {key or self.gateway.key}"}
        url = f"http://127.0.0.1:{self.gateway.api_port}/v1/messages/batch"
        for i in range(0, len(messages), 200):
            body = {"messages": messages[i : i + 200]}
            async with self.gateway.session.post(url, json=body, headers=headers) as answer:
                assert answer.status == 202, await answer.text()
                results += (await answer.json())["results"]
        return results

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Let a little go on while the block runs."""

        async def go_on() -> None:
            while True:
                await self.post([self.message(p, "verification") for p in ("138", "139", "186", "188", "189")])
                await asyncio.sleep(0.2)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def watch(self) -> dict[str, dict[str, Any]]:
        """Look what fires, and remember it."""
        firing = await self.prometheus.firing()
        self.seen |= firing.keys()
        return firing


def configure(gateway: GatewayProcess, sink: Sink) -> str:
    """Give the gateway routes, a webhook, a second account and rules that something can break; returns its key."""
    folder = gateway.config_dir
    (folder / "routes.toml").write_text(
        '[[route]]\nid = "mobile"\nmatch = { prefix = "+86138" }\n'
        'channels = [{ id = "cm-a", rank = 0 }, { id = "cm-b", rank = 1 }]\n'
        + "".join(
            f'[[route]]\nid = "{name}-alone"\nmatch = {{ prefix = "{prefix}" }}\n'
            f'channels = [{{ id = "{name}", rank = 0 }}]\n'
            for name, prefix in (("cm-b", "+86139"), ("cu-a", "+86186"), ("ct-a", "+86189"), ("cx-a", "+86188"))
        )
    )
    key, key_hash = new_key()
    accounts = folder / "accounts.toml"
    accounts.write_text(
        accounts.read_text() + f'[account.webhook]\nurl = "{sink.url}"\nsecret = "${{env:HOOK_SECRET}}"\n'
        f"allow_insecure = true\nallow_private = true\nallow_ports = [{sink.port}]\n"
        f'[[account]]\nid = "other"\nkey_hashes = ["{key_hash}"]\nsenders = ["106900002"]\n'
    )
    (folder / "content_words.csv").write_text("id,word,action,categories,accounts\ngambling-1,jackpot,refuse,all,all\n")
    config = folder / "gateway.toml"
    config.write_text(
        config.read_text() + f'[receipts]\nprobe_numbers = ["+{PROBE}"]\n[inbound]\noptout_alarm_per_hour = 10\n'
        "[categories.verification]\nper_number = []\n[categories.marketing]\nper_number = []\n"
        'send_hours = ""\nrequire_signature = []\nrequire_optout_text = {}\n'
    )
    return key


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """Start everything, once."""
    folder = tmp_path_factory.mktemp("live")
    options = {
        "cm-a": {"failed_rate": 0.04},
        "cm-b": {},
        "cu-a": {"failed_rate": 0.05, "failed_states": (("UNDELIV", "001"), ("REJECTD", "066"), ("EXPIRED", "027"))},
        "ct-a": {},
        "cx-a": {"receipt_delay_s": 0.05},
    }
    async with contextlib.AsyncExitStack() as stack:
        carriers = {}
        for name, more in options.items():
            smsc = Smsc(SimulatorOptions(**{"receipt_delay_s": 0.4, "receipt_jitter_s": 0.3, **more}))
            await smsc.start()
            stack.push_async_callback(smsc.stop, timeout_s=0.5)
            carriers[name] = Carrier(name, smsc)
        sink = await stack.enter_async_context(Sink())
        ports = {name: carrier.smsc.port for name, carrier in carriers.items()}
        gateway = GatewayProcess(
            folder,
            ports,
            channel="window = 200\nmax_tps = 400\nresponse_timer_s = 2.0\nenquire_link_s = 5.0",
            store="check_every_s = 1.0",  # a frozen store is seen by this look, when nobody happens to use it
        )
        key = configure(gateway, sink)
        prometheus = Prometheus(folder / "prometheus", [f"127.0.0.1:{gateway.admin_port}"])
        os.environ["HOOK_SECRET"] = HOOK_SECRET
        stack.callback(os.environ.pop, "HOOK_SECRET", None)
        await stack.enter_async_context(gateway)
        await stack.enter_async_context(prometheus)
        await until(lambda: prometheus.scraped(2), timeout_s=20, every_s=0.2)
        yield Line(gateway, prometheus, carriers, sink, key)


# --- first: any day


async def any_day(line: Line) -> None:
    """A mixed load with failures, receipts of all kinds, refusals, opt-outs, events."""
    gateway = line.gateway
    blocked = line.message("138")
    everything = {"categories": ["verification", "notification", "marketing"]}
    assert gateway.session is not None
    headers = {"Authorization": f"Bearer {gateway.key}"}
    url = f"http://127.0.0.1:{gateway.api_port}/v1"
    async with gateway.session.put(f"{url}/blacklist/{blocked['to']}", headers=headers, json=everything) as answer:
        assert answer.status < 300, await answer.text()
    async with gateway.session.get(f"{url}/messages?to=x", headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == 401
    # Numbers that choose what the carrier does with them (gateway/simulator/behaviour.py).
    odd = {
        "138": ("010", "088", "300", "302", "401", "411"),  # refused, throttled, unanswered, cut: it has a backup
        "139": ("003", "069", "308", "309", "312", "315", "316", "319", "321", "322", "330"),
    }
    mixed: list[dict[str, Any]] = []
    sent = 0
    for turn in range(3):
        mixed += [line.message(p, "verification") for p in ("138", "139", "186", "189") for _ in range(15)]
        mixed += [line.message(p, "marketing") for p in ("138", "139", "186", "189") for _ in range(15)]
        mixed += [line.message(p) for p in ("138", "139", "186", "189") for _ in range(25)]
        mixed += [line.message("188") for _ in range(180)]
        # A copy of a code goes at once, a notification's half a minute later.
        mixed += [{**line.message(p, "verification"), "to": f"+86{p}{turn}0900{rule}"} for p in odd for rule in odd[p]]
        results = await line.post(mixed)
        assert sum("error" not in r for r in results) == len(mixed), [r for r in results if "error" in r][:3]
        mixed = []
        refused = [blocked, line.message("138", text="the jackpot"), {**line.message("138"), "to": "+86100"}]
        answers = await line.post(refused)
        assert [r["error"]["code"] for r in answers] == ["blocked_recipient", "content_rejected", "invalid_number"]
        await line.post([line.message("139", "notification")], key=line.other_key)
        sent += 180
        await until(lambda n=sent: line.carriers["cx-a"].smsc.counters.receipts_acked >= n, timeout_s=15)
        for begun in ("smsgw_failovers_total", "smsgw_possible_duplicates_total"):
            # What a counter begins with is no rate: the next turn is seen above it.
            await until(lambda name=begun: line.prometheus.query(f"sum({name}) > 0"), timeout_s=45, every_s=0.1)
    handset = line.carriers["cm-a"].smsc
    handset.send_mo("8613899990001", "1069", "请不要再发了".encode("utf-16-be"), data_coding=8)
    handset.send_mo("8613899990002", "1069", b"thank you")
    await line.post([{**line.message("139"), "to": f"+{PROBE}"}])


async def well(line: Line) -> bool:
    """Whether what the load led to has been counted and scraped."""
    need = (
        "sum(smsgw_deliveries_total) > 900",
        "sum(smsgw_receipts_impossible_total) > 0",
        "smsgw_inbound_review_waiting > 0",
        "sum(smsgw_receipts_rated) > 500",  # written each ten seconds
        "sum(smsgw_possible_duplicates_total) > 0",
        'sum(smsgw_webhook_deliveries_total{result="delivered"}) > 500',
        "smsgw:delivery_ratio:7d > 0",
        "smsgw:receipt_ratio:7d > 0",
        "smsgw:accepted:increase1h > 0",
    )
    await line.watch()  # an alert of this part lasts as long as its range, which is half a minute here
    missing = [expr for expr in need if not await line.prometheus.query(expr)]
    return not missing


def targets() -> list[tuple[str, str, str, bool]]:
    """Return every query: dashboard, panel, expression, whether it is asked for now alone."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        page = json.loads(path.read_text())
        for panel in page["panels"]:
            for target in panel.get("targets", ()):
                title = page["title"].partition(" · ")[2]
                found.append((title, panel["title"], target["expr"], bool(target["instant"])))
    return found


def as_grafana_asks(expr: str) -> str:
    """Put in what Grafana puts in for variables whose choice is All, for a scrape each second."""
    expr = expr.replace("$__rate_interval", f"{5 * SCRAPE_S}s")
    expr = re.sub(r"\$(job|channel|account)\b", ".*", expr)
    assert "$" not in expr, expr
    return scaled_expression(expr)


async def empty_queries(line: Line) -> dict[tuple[str, str], list[str]]:
    """Return the expressions that have nothing to show, by panel."""
    empty: dict[tuple[str, str], list[str]] = {}
    for page, panel, expr, at_once in targets():
        asked = as_grafana_asks(expr)
        found = await (line.prometheus.query(asked) if at_once else line.prometheus.query_range(asked, line.began_s))
        if not found:
            empty.setdefault((page, panel), []).append(asked)
    return empty


async def test_no_panel_is_empty_after_any_day(line: Line) -> None:
    await any_day(line)
    await until(lambda: well(line), timeout_s=30, every_s=0.5)
    assert len(targets()) > 80
    async with line.traffic():  # some panels ask for the last five minutes alone
        for counted in (
            'sum(rate(smsgw_store_commit_seconds_count{move="accept"}[5s])) > 0',
            'sum(rate(smsgw_accept_to_submit_seconds_count{category="verification"}[5s])) > 0',
        ):
            await until(lambda expr=counted: line.prometheus.query(expr), timeout_s=15, every_s=0.2)
        empty = await empty_queries(line)
    await line.watch()
    assert set(empty) == set(EMPTY_WHEN_WELL), "\n".join(f"{where}: {asked}" for where, asked in empty.items())


async def test_every_rule_can_be_evaluated_and_records_something(line: Line) -> None:
    assert await line.prometheus.sick_rules() == []
    for group in rules()["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                assert await line.prometheus.query_range(rule["record"], line.began_s), rule["record"]
                continue
            # An alert's condition is rightly empty; its metrics must be there all the same.
            for metric in set(re.findall(r"\bsmsgw[_:][\w:]+", rule["expr"])):
                name = metric.removesuffix("_bucket")
                known = await line.prometheus.query(f"count({metric})")
                assert known or name in UNSEEN, f"{rule['alert']}: nobody counts {metric}"


UNSEEN = {"smsgw_store_errors_total"}
"""Counters that begin with the first fault."""


# --- then: faults


async def faults(line: Line) -> None:
    """The carriers fail, each in its own way, and so does the webhook."""
    smsc = {name: carrier.smsc.options for name, carrier in line.carriers.items()}
    smsc["cm-a"].error_rate, smsc["cm-a"].error_codes = 1.0, (0x0A,)
    smsc["cm-b"].missing_rate, smsc["cm-b"].unknown_rate = 1.0, 1.0
    smsc["cx-a"].error_rate, smsc["cx-a"].error_codes = 0.4, (0x0A,)  # too few for its breaker
    smsc["cu-a"].failed_rate, smsc["cu-a"].failed_states = 1.0, (("UNDELIV", UNKNOWN_CODE),)
    line.sink.respond = 500
    await line.carriers["ct-a"].kill()
    for number in OPTED_OUT:
        line.carriers["cx-a"].smsc.send_mo(number, "1069", b"TD")
    await line.post([line.message("189", "verification") for _ in range(40)])


async def one_round(line: Line) -> None:
    """Some traffic more, on every channel."""
    await line.post([line.message(p) for p in ("138", "139", "186", "188") for _ in range(50)])
    await line.post([{**line.message("138"), "to": "+86100"} for _ in range(40)], key=line.other_key)
    # The same few numbers: 0x03 is a fault that an operator should hear of.
    await line.post([{**line.message("186"), "to": "+8618600900003"}])


async def test_the_carriers_faults_set_off_their_alerts(line: Line) -> None:
    await faults(line)
    began = time.monotonic()

    async def all_fired() -> bool:
        await one_round(line)
        await line.watch()
        return line.seen >= FIRED

    try:
        await until(all_fired, timeout_s=50, every_s=1.0)
    except AssertionError:
        raise AssertionError(f"did not fire: {FIRED - line.seen}; did: {sorted(line.seen)}") from None
    assert time.monotonic() - began < 50
    firing = await line.watch()
    for name, alert in firing.items():
        for text in alert["annotations"].values():
            assert "<" not in text, (name, text)  # a template that failed says <no value> or <error …>
            assert "{{" not in text


async def test_a_frozen_store_and_a_dead_gateway_are_seen(line: Line) -> None:
    store = line.gateway.store_process()
    store.suspend()
    try:
        await until(lambda: fired(line, "SmsgwStoreNotReady"), timeout_s=15, every_s=0.5)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            store.resume()
    await until(lambda: line.prometheus.query("smsgw_store_errors_total > 0"), timeout_s=10, every_s=0.5)
    empty = await empty_queries(line)
    assert not set(empty) & set(EMPTY_WHEN_WELL), "the faults fill what was empty before"
    for carrier in line.carriers.values():
        if carrier.alive:
            await carrier.kill()
    await until(lambda: fired(line, "SmsgwAllChannelsDown"), timeout_s=15, every_s=0.5)
    line.gateway.kill_everything()
    await until(lambda: fired(line, "SmsgwDown"), timeout_s=10, every_s=0.5)


async def fired(line: Line, name: str) -> bool:
    """Whether an alert fires."""
    with contextlib.suppress(aiohttp.ClientError):
        return name in await line.watch()
    return False
