"""The alerts, by `promtool test rules`: each fires when it must, and does not a little below.

A case gives the series an alert is to see, as promtool writes them (`start+step x times`, a sample a minute), and those
that must leave it silent. All cases go into one file for promtool; the file of rules is the shipped one.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import ROOT, RULES, rules, tool

HOUR, DAY = 60, 24 * 60
QUARTER = 15
Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """`fires` and `quiet` map series to values, looked at after `at` minutes; `labels` are those the alert has then."""

    fires: Series
    quiet: Series
    at: int
    labels: str = 'job="smsgw"'
    every: int = 1  # minutes between two samples, and two evaluations


def rows(name: str, values: dict[str, str]) -> Series:
    """Return series of one metric by the rest of their labels."""
    return {f'{name}{{job="smsgw",instance="gw-1"{"," + labels if labels else ""}}}': v for labels, v in values.items()}


def hist(
    name: str, labels: str, fast_per_min: int, slow_per_min: int, bound: str = "0.1", most: str = "30.0"
) -> Series:
    """Return a histogram with so many observations a minute below `bound`, and so many between it and `most`."""
    total = fast_per_min + slow_per_min
    made = rows(
        f"{name}_bucket",
        {
            f'{labels},le="{bound}"': f"0+{fast_per_min}x20",
            f'{labels},le="{most}"': f"0+{total}x20",
            f'{labels},le="+Inf"': f"0+{total}x20",
        },
    )
    return made | rows(f"{name}_count", {labels: f"0+{total}x20"})


def steady(value: float, minutes: int = 300) -> str:
    """Return a gauge that stays."""
    return f"{value}+0x{minutes}"


def deliveries(delivered: str, failed: str) -> Series:
    """Return the ends of one channel and category."""
    of = 'channel="cm-a",category="marketing",state='
    return rows("smsgw_deliveries_total", {f'{of}"delivered"': delivered, f'{of}"undeliverable"': failed})


def receipts(taken: str, came: str) -> Series:
    """Return submits and receipts of one channel."""
    return rows("smsgw_submits_total", {'channel="cm-a",status="0x00000000"': taken}) | rows(
        "smsgw_receipts_total", {'channel="cm-a",state="delivered"': came}
    )


def signs(rated: float, ratio: float, fast: float) -> Series:
    """Return the signs of receipts that were made up."""
    return (
        rows("smsgw_receipts_rated", {'channel="cm-a"': steady(rated)})
        | rows("smsgw_receipts_delivered_ratio", {'channel="cm-a"': steady(ratio)})
        | rows("smsgw_receipts_fast_share", {'channel="cm-a"': steady(fast)})
    )


def gauge(name: str, labels: str, loud: float, low: float, at: int, seen: str) -> Case:
    """Return the case of a gauge that is compared with a limit."""
    return Case(rows(name, {labels: steady(loud)}), rows(name, {labels: steady(low)}), at, seen)


def counter(name: str, labels: str, loud: str, low: str, at: int, seen: str) -> Case:
    """Return the case of a counter whose increase is compared with a limit."""
    return Case(rows(name, {labels: loud}), rows(name, {labels: low}), at, seen)


WEEK = 7 * DAY
BEFORE = 6 * HOUR
"""What the mean of a week knows in these cases: promtool evaluates all rules each minute."""
MACHINE = 'job="smsgw",instance="gw-1"'
CHANNEL = 'job="smsgw",channel="cm-a"'
ACCOUNT = 'job="smsgw",account="shop"'

CASES: dict[str, Case] = {
    "SmsgwDown": Case({"up" + f"{{{MACHINE}}}": "1 1 0 0 0 0"}, {"up" + f"{{{MACHINE}}}": "1 1 1 1 1 1"}, 4, MACHINE),
    "SmsgwWorkerMissing": Case(
        rows("smsgw_worker_ready", {'role="api",worker="0"': "1 1 0 0 0 0 0", 'role="dispatch",worker="0"': "1+0x9"})
        | rows("smsgw_worker_up", {'role="api",worker="0"': "1+0x9", 'role="dispatch",worker="0"': "1+0x9"}),
        rows("smsgw_worker_ready", {'role="api",worker="0"': "1 1 0 1 1 1 1", 'role="dispatch",worker="0"': "1+0x9"})
        | rows("smsgw_worker_up", {'role="api",worker="0"': "1+0x9", 'role="dispatch",worker="0"': "1+0x9"}),
        6,
        f'{MACHINE},role="api"',
    ),
    "SmsgwWorkerRestarts": counter(
        "smsgw_worker_restarts_total", 'role="api"', "0+1x20", "0x10 1x10", 15, f'{MACHINE},role="api"'
    ),
    "SmsgwEventLoopLag": gauge(
        "smsgw_event_loop_lag_seconds", 'role="api"', 0.9, 0.2, 8, f'{MACHINE},role="api"'
    ),
    "SmsgwOpenFiles": Case(
        rows("smsgw_worker_open_files", {'role="api",worker="0"': steady(900)})
        | rows("smsgw_worker_open_files_limit", {'role="api",worker="0"': steady(1024)}),
        rows("smsgw_worker_open_files", {'role="api",worker="0"': steady(700)})
        | rows("smsgw_worker_open_files_limit", {'role="api",worker="0"': steady(1024)}),
        8,
        f'{MACHINE},role="api"',
    ),
    "SmsgwFaults": counter(
        "smsgw_dispatch_errors_total", 'where="claim"', "0+2x20", "0+1x20", 16, f'{MACHINE},where="claim"'
    ),
    "SmsgwIntakeClosed": gauge("smsgw_store_intake", "", 2, 1, 3, 'job="smsgw"'),
    "SmsgwIntakeReduced": gauge("smsgw_store_intake", "", 1, 0, 5, 'job="smsgw"'),
    "SmsgwRefusing": counter(
        "smsgw_messages_total",
        'category="notification",route="",state="refused",reason="overloaded"',
        "0+60x20",
        "0+3x20",
        10,
        'job="smsgw",reason="overloaded"',
    ),
    "SmsgwAccountRefused": Case(
        rows("smsgw_account_messages_total", {
            'account="shop",result="accepted"': "0+5x40", 'account="shop",result="invalid_number"': "0+9x40",
        }),
        rows("smsgw_account_messages_total", {
            'account="shop",result="accepted"': "0+20x40", 'account="shop",result="invalid_number"': "0+9x40",
        }),
        30,
        ACCOUNT,
    ),
    "SmsgwNoTraffic": Case(  # a sample a quarter of an hour
        rows("smsgw_account_messages_total", {'account="shop",result="accepted"': f"0+50x{WEEK // 15 + 8} 34000+0x16"}),
        rows("smsgw_account_messages_total", {'account="shop",result="accepted"': f"0+2x{WEEK // 15 + 8} 1360+0x16"}),
        WEEK + 5 * HOUR,
        ACCOUNT,
        every=QUARTER,
    ),
    "SmsgwVerificationSlow": Case(
        hist("smsgw_accept_to_submit_seconds", 'category="verification"', 90, 10),
        hist("smsgw_accept_to_submit_seconds", 'category="verification"', 100, 0),
        15,
        'job="smsgw",category="verification"',
    ),
    "SmsgwVerificationQueued": gauge(
        "smsgw_queue_oldest_age_seconds", 'route="cn",rank="0",category="verification"', 12, 3, 2,
        'job="smsgw",route="cn"',
    ),
    "SmsgwQueueOld": gauge(
        "smsgw_queue_oldest_age_seconds", 'route="cn",rank="0",category="marketing"', 9000, 3600, 8,
        'job="smsgw",route="cn",category="marketing"',
    ),
    "SmsgwPossibleDuplicates": Case(
        rows("smsgw_possible_duplicates_total", {'cause="lost"': "0+3x90"}) | receipts("0+100x90", "0+100x90"),
        rows("smsgw_possible_duplicates_total", {'cause="lost"': "0+3x90"}) | receipts("0+900x90", "0+900x90"),
        80,
        'job="smsgw",cause="lost"',
    ),
    "SmsgwChannelDown": gauge("smsgw_channel_up", 'channel="cm-a"', 0, 1, 3, CHANNEL),
    "SmsgwAllChannelsDown": Case(
        rows("smsgw_channel_up", {'channel="cm-a"': "0+0x9", 'channel="cm-b"': "0+0x9"}),
        rows("smsgw_channel_up", {'channel="cm-a"': "0+0x9", 'channel="cm-b"': "1+0x9"}),
        3,
    ),
    "SmsgwBreakerOpen": gauge("smsgw_channel_breaker", 'channel="cm-a"', 2, 0, 4, CHANNEL),
    "SmsgwBreakerFlapping": Case(  # two workers: each counts an opening
        rows("smsgw_breaker_opened_total", {'channel="cm-a"': "0 2 2 2 4 4 4 6 6 6 8 8 8 8 8"})
        | rows("smsgw_worker_up", {'role="dispatch",worker="0"': "1+0x20", 'role="dispatch",worker="1"': "1+0x20"}),
        rows("smsgw_breaker_opened_total", {'channel="cm-a"': "0 2 2 2 4 4 4 4 4 4 4 4 4 4 4"})
        | rows("smsgw_worker_up", {'role="dispatch",worker="0"': "1+0x20", 'role="dispatch",worker="1"': "1+0x20"}),
        14,
        CHANNEL,
    ),
    "SmsgwSubmitsRefused": Case(
        rows("smsgw_submits_total", {
            'channel="cm-a",status="0x00000000"': "0+70x30", 'channel="cm-a",status="0x00000008"': "0+30x30",
        }),
        rows("smsgw_submits_total", {
            'channel="cm-a",status="0x00000000"': "0+95x30", 'channel="cm-a",status="0x00000008"': "0+5x30",
        }),
        20,
        CHANNEL,
    ),
    "SmsgwChannelAlarm": counter(
        "smsgw_channel_alarms_total", 'channel="cm-a",outcome="bug"', "0x5 1x10", "0x15", 12,
        f'{CHANNEL},outcome="bug"',
    ),
    "SmsgwDeliveryRatioDrop": Case(
        deliveries(f"0+9x{BEFORE} {9 * BEFORE}+3x120", f"0+1x{BEFORE} {BEFORE}+7x120"),
        deliveries(f"0+9x{BEFORE} {9 * BEFORE}+8x120", f"0+1x{BEFORE} {BEFORE}+2x120"),
        BEFORE + 100,
        f'{CHANNEL},category="marketing"',
    ),
    "SmsgwReceiptsMissing": Case(
        receipts(f"0+10x{BEFORE + 120}", f"0+9x{BEFORE} {9 * BEFORE}+1x120"),
        receipts(f"0+10x{BEFORE + 120}", f"0+9x{BEFORE} {9 * BEFORE}+8x120"),
        BEFORE + 100,
        CHANNEL,
    ),
    "SmsgwParkedReceipts": gauge("smsgw_parked_receipts", 'channel="cm-a"', 150, 60, 8, CHANNEL),
    "SmsgwUnknownFailureCodes": counter(
        "smsgw_unknown_failure_codes_total", 'channel="cm-a"', "0+1x90", "0x30 5x60", 60, CHANNEL
    ),
    "SmsgwReceiptsImpossible": counter(
        "smsgw_receipts_impossible_total", 'channel="cm-a"', "0x5 1x10", "0x15", 12, CHANNEL
    ),
    "SmsgwReceiptsSuspicious": Case(signs(2000, 0.999, 0.97), signs(2000, 0.999, 0.4), 40, CHANNEL),
    "SmsgwOptOutRate": Case(
        rows("smsgw_inbound_read_total", {'channel="cm-a",what="stop"': "0+1x90"}) | deliveries("0+10x90", "0x90"),
        rows("smsgw_inbound_read_total", {'channel="cm-a",what="stop"': "0+1x90"}) | deliveries("0+100x90", "0x90"),
        80,
        CHANNEL,
    ),
    "SmsgwOptOutFlood": counter(
        "smsgw_optout_alarms_total", 'channel="cm-a",cause="block"', "0x5 3x10", "0x15", 12,
        f'{CHANNEL},cause="block"',
    ),
    "SmsgwComplaints": counter(
        "smsgw_blacklist_entries", 'reason="complaint"', "500+1x90", "500x30 505x60", 80, 'job="smsgw"'
    ),
    "SmsgwReviewWaiting": gauge("smsgw_inbound_review_waiting", "", 3, 0, 5 * HOUR - 10, 'job="smsgw"'),
    "SmsgwWebhookBacklog": Case(
        rows("smsgw_webhook_backlog", {'account="shop"': steady(40)})
        | rows("smsgw_webhook_oldest_age_seconds", {'account="shop"': steady(900)}),
        rows("smsgw_webhook_backlog", {'account="shop"': steady(400)})
        | rows("smsgw_webhook_oldest_age_seconds", {'account="shop"': steady(30)}),
        8,
        ACCOUNT,
    ),
    "SmsgwWebhookDeadLetters": counter(
        "smsgw_webhook_deliveries_total", 'account="shop",result="dead"', "0x5 2x10", "0x15", 12, ACCOUNT
    ),
    "SmsgwStoreNotReady": gauge("smsgw_store_ready", "", 0, 1, 3, MACHINE),
    "SmsgwStoreRestarted": counter("smsgw_store_restarts_total", "", "0x5 1x10", "0x15", 12, MACHINE),
    "SmsgwStoreSlow": Case(
        hist("smsgw_store_commit_seconds", 'move="accept"', 90, 10, bound="0.05", most="0.5"),
        hist("smsgw_store_commit_seconds", 'move="accept"', 100, 0, bound="0.05", most="0.5"),
        15,
        'job="smsgw",move="accept"',
    ),
    "SmsgwStoreErrors": counter(
        "smsgw_store_errors_total", 'move="accept",kind="unknown"', "0+3x20", "0x5 4x15", 16,
        'job="smsgw",kind="unknown"',
    ),
    "SmsgwStoreMemory": Case(
        rows("smsgw_store_memory_bytes", {'kind="used"': steady(75), 'kind="limit"': steady(100)}),
        rows("smsgw_store_memory_bytes", {'kind="used"': steady(50), 'kind="limit"': steady(100)}),
        8,
    ),
    "SmsgwDiskLow": Case(
        rows("smsgw_disk_bytes", {'kind="free"': steady(12), 'kind="total"': steady(100)}),
        rows("smsgw_disk_bytes", {'kind="free"': steady(40), 'kind="total"': steady(100)}),
        8,
        MACHINE,
    ),
    "SmsgwDiskFilling": Case(
        rows("smsgw_disk_bytes", {'kind="free"': "4000-20x90", 'kind="total"': steady(10_000)}),
        rows("smsgw_disk_bytes", {'kind="free"': "4000-2x90", 'kind="total"': steady(10_000)}),
        85,
        MACHINE,
    ),
    "SmsgwStatisticsBehind": counter(
        "smsgw_statistics_fold_failures_total", "", "0+1x90", "0x5 1x85", 60, 'job="smsgw"'
    ),
    "SmsgwConfigReloadFailed": gauge("smsgw_config_reload_success", "", 0, 1, 2, MACHINE),
    "SmsgwConfigFilesDiffer": gauge("smsgw_config_files_differ", "", 1, 0, 20, MACHINE),
    "SmsgwConfigRevisions": Case(
        rows("smsgw_config_revision_info", {'revision="7"': steady(1), 'revision="8"': steady(1)}),
        rows("smsgw_config_revision_info", {'revision="7"': steady(1)}),
        8,
    ),
}  # fmt: skip


def alerts() -> dict[str, dict[str, Any]]:
    """Return the shipped alerts by name."""
    return {rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == set(alerts())


def own(text: str, name: str, fires: bool) -> str:
    """Put a series or labels into an installation of its own, so that all cases stand side by side."""
    if name == "SmsgwDown":  # it asks for this job
        return text.replace("gw-1", "gw-1" if fires else "gw-2")
    return text.replace('job="smsgw"', f'job="{name} {"fires" if fires else "is silent"}"')


@pytest.mark.parametrize("every", [1, QUARTER])
def test_promtool_sees_each_alert_fire_and_stay_silent(tmp_path: Path, every: int) -> None:
    found = alerts()
    inputs, expected = [], []
    for name, case in CASES.items():
        if case.every != every:
            continue
        severity = found[name]["labels"]["severity"]
        for fires, series in ((True, case.fires), (False, case.quiet)):
            inputs += [{"series": own(s, name, fires), "values": v} for s, v in series.items()]
            labels = f'{own(case.labels, name, fires)},alertname="{name}",alertstate="firing"'
            sample = {"labels": f'ALERTS{{{labels},severity="{severity}"}}', "value": 1}
            expected.append(
                {"expr": f"ALERTS{{{labels}}}", "eval_time": f"{case.at}m", "exp_samples": [sample] if fires else []}
            )
    assert expected
    test = {"interval": f"{every}m", "input_series": inputs, "promql_expr_test": expected}
    file = tmp_path / "rules_test.yml"
    whole = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{every}m",
        "group_eval_order": [group["name"] for group in rules()["groups"]],  # what is recorded comes first
        "tests": [test],
    }
    file.write_text(yaml.safe_dump(whole))
    done = subprocess.run([tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("rules", "rules.yml"), ("config", "prometheus.yml")])
def test_promtool_accepts_the_files(arguments: tuple[str, str]) -> None:
    done = subprocess.run(
        [tool("promtool"), "check", arguments[0], str(ROOT / "config" / "prometheus" / arguments[1])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_help_stands() -> None:
    table = (ROOT / "docs" / "dashboards.md").read_text()
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}, name
        assert notes["runbook"] == f"docs/operations.md#{name.lower()}"
        assert notes["description"].endswith("."), name
        assert re.search(rf"^\| `{name}` \|", table, re.MULTILINE), f"{name} is not in docs/dashboards.md"


def test_no_rule_asks_for_a_metric_that_nobody_makes() -> None:
    from gateway.metrics import FAMILIES

    made = set(FAMILIES)
    made |= {f"{name}_{end}" for name in FAMILIES for end in ("bucket", "count", "sum")}
    recorded = {rule["record"] for group in rules()["groups"] for rule in group["rules"] if "record" in rule}
    for group in rules()["groups"]:
        for rule in group["rules"]:
            for name in re.findall(r"\bsmsgw[\w:]+", re.sub(r'"[^"]*"', "", rule["expr"])):
                assert name in recorded or name.removeprefix("smsgw_") in made, name
