"""Ends by channel and category, and the counters that stand at 0 from the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.dlr.deliveries import Deliveries
from gateway.metrics import Metrics
from gateway.model import Category, Secret
from gateway.settings import AccountSettings, ChannelSettings, Settings
from gateway.zeros import begin_at_zero


def counts(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {tuple(labels): n for family, labels, n in metrics.snapshot()["cells"] if family == name}


def test_ends_that_a_receipt_or_its_absence_decided_are_counted() -> None:
    metrics = Metrics("dispatch", "0")
    deliveries = Deliveries(metrics)
    for channel, state, reason, n in (
        ("cm-a", "D", "t2", 5),
        ("cm-a", "D", "t3", 2),
        ("cm-a", "D", "late_correction", 1),
        ("cm-a", "U", "MK:0001", 3),
        ("cm-a", "K", "no_receipt", 1),
        ("cm-a", "F", "no_channel", 9),  # refused: no carrier delivered badly
        ("", "E", "expired", 9),  # never left
    ):
        deliveries.count(channel, Category.NOTIFICATION, state, reason, n)
    deliveries.count("cm-a", Category.VERIFICATION, "D", "t0", 4)
    assert counts(metrics, "deliveries_total") == {
        ("cm-a", "notification", "delivered"): 7,
        ("cm-a", "notification", "corrected"): 1,
        ("cm-a", "notification", "undeliverable"): 3,
        ("cm-a", "notification", "unknown"): 1,
        ("cm-a", "verification", "delivered"): 4,
    }


def test_what_alerts_ask_the_increase_of_is_there_before_its_first_event(tmp_path: Path) -> None:
    channel = ChannelSettings(id="cm-a", host="h", port=1, system_id="s", password=Secret("p"))
    codes_only = replace(channel, id="cm-b", categories=frozenset({Category.VERIFICATION}))
    account = AccountSettings(id="shop", key_hashes=("sha256:" + "0" * 64,))
    settings = Settings(config_dir=tmp_path, channels=(channel, codes_only), accounts=(account,))
    found = {}
    for role in ("api", "dispatch", "events", "admin"):
        metrics = Metrics(role, "0")
        begin_at_zero(metrics, role, settings)
        found[role] = metrics
    assert counts(found["api"], "account_messages_total") == {("shop", "accepted"): 0}
    assert counts(found["dispatch"], "receipts_impossible_total") == {("cm-a",): 0, ("cm-b",): 0}
    made = counts(found["dispatch"], "deliveries_total")
    assert len(made) == 3 * 5 + 5
    assert set(made.values()) == {0}
    assert ("cm-b", "marketing", "delivered") not in made
    assert not counts(found["events"], "webhook_deliveries_total"), "no account has a webhook"
    assert not counts(found["admin"], "deliveries_total")
