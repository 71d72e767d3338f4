"""What a whole gateway tells of single messages: a log record each change, and one trace each, across its processes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings, load
from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Smsc
from tests.support.collector import Collector, Span
from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import CATEGORIES, AuditedGateway
from tests.support.scenario import carrier
from tests.support.sink import Sink
from tests.support.until import until

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Telling(AuditedGateway):
    """A gateway that logs every change and traces every message."""

    def __init__(self, directory: Path, channels: dict[str, int], collector: Collector, sink: Sink) -> None:
        told = (
            '[log]\nmessages = "all"\nmessages_per_s = 0\n'
            f'[tracing]\nsample = 1.0\nendpoint = "{collector.url}"\nheaders = {{ X-Key = "${{env:COLLECTOR_KEY}}" }}\n'
            'service_name = "sms-test"\ntraceparent = "join"\n'
        )
        super().__init__(directory, channels, categories=CATEGORIES + told)
        accounts = self.config_dir / "accounts.toml"
        accounts.write_text(
            accounts.read_text() + f'[account.webhook]\nurl = "{sink.url}"\nsecret = "${{env:HOOK}}"\n'
            f"allow_insecure = true\nallow_private = true\nallow_ports = [{sink.port}]\n"
        )

    def settings(self) -> Settings:
        return load(self.config_dir, {**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"})

    def told(self, message: str) -> list[dict[str, Any]]:
        """Return the records of a message, in the order of its life."""
        return [one for one in self.events("") if one.get("source") == "messages" and one.get("id") == message]

    async def until_told(self, message: str, last: str) -> list[dict[str, Any]]:
        async def so() -> list[dict[str, Any]] | None:
            found = self.told(message)
            return found if any(one["event"] == last for one in found) else None

        return sorted(await until(so, timeout_s=20), key=lambda one: one["at"])


async def test_each_change_of_a_message_is_logged_and_its_trace_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "a-collectors-key")
    monkeypatch.setenv("HOOK", "whsec_" + "A" * 43 + "=")
    async with (
        carrier() as first,
        carrier() as second,
        Collector() as collector,
        Sink() as sink,
        Telling(tmp_path, {"cm-a": first.port, "cm-b": second.port}, collector, sink) as gateway,
    ):
        await plain(gateway, collector)
        await failed_over(gateway, collector, first)
        await of_two_parts(gateway)
        await undelivered(gateway, collector, first, second)
        await not_sent(gateway)
        assert {one["X-Key"] for one in collector.headers} == {"a-collectors-key"}
        assert "a-collectors-key" not in gateway.log()

        async def counted() -> bool:  # workers write their metrics once a second
            spans = await gateway.metric("smsgw_trace_spans_total", result="exported")
            return spans >= 20 and await gateway.metric("smsgw_message_records_total") >= 20

        await until(counted)


async def test_a_full_log_is_counted_and_the_service_goes_on(tmp_path: Path) -> None:
    full = '[log]\nfile = "/dev/full"\nmessages = "all"\nmessages_per_s = 0\n'
    async with (
        carrier() as smsc,
        AuditedGateway(tmp_path, {"cm-a": smsc.port}, categories=CATEGORIES + full) as gateway,
    ):
        answers = await gateway.send_batch([gateway.message() for _ in range(200)])
        assert {answer.status for answer in answers} == {202}
        await gateway.until_final()
        report = await gateway.audit([smsc])
        assert report.states == {"delivered": 200}

        async def counted() -> bool:
            return await gateway.metric("smsgw_log_suppressed_total", source="writer") >= 400

        await until(counted)


async def plain(gateway: Telling, collector: Collector) -> None:
    """From the post to its receipt and its webhook: one record a step, four spans that hang together."""
    assert gateway.session is not None
    headers = {"Authorization": f"Bearer {gateway.key}", "traceparent": CALLER}
    url = f"http://127.0.0.1:{gateway.api_port}/v1/messages"
    async with gateway.session.post(url, json=gateway.message("verification"), headers=headers) as answer:
        message = (await answer.json())["id"]
    told = await gateway.until_told(message, "webhook_delivered")
    assert [one["event"] for one in told] == ["accepted", "submitted", "delivered", "webhook_delivered"]
    assert [one["process"] for one in told] == ["api-0", "dispatch-0", "dispatch-0", "events-0"]
    accepted, submitted, delivered, hook = told
    assert {one["account"] for one in told} == {"shop"}
    assert (accepted["category"], accepted["route"], accepted["parts"]) == ("verification", "cn", 1)
    assert (submitted["channel"], submitted["attempt"]) == ("cm-a", 1)
    assert 0 <= submitted["wait_ms"] < 20_000
    assert (delivered["by"], delivered["channel"], delivered["attempt"]) == ("receipt", "cm-a", 1)
    assert (hook["type"], hook["attempt"]) == ("message.delivered", 1)

    spans = await trace(collector, message, 4)
    assert [span.name for span in spans] == ["accept", "claim", "submit", "receipt"]
    assert [span.parent for span in spans] == ["", *(span.id for span in spans[:3])]
    assert [span.process for span in spans] == ["api-0", *["dispatch-0"] * 3]
    assert {span.service for span in spans} == {"sms-test"}
    assert spans[2].attributes["smsgw.channel"] == "cm-a"
    assert spans[3].attributes["smsgw.state"] == "delivered"
    assert not any(span.error for span in spans)
    assert all(span.start_ns <= span.end_ns for span in spans)
    # The caller's own trace has a span of the request, which names ours; ours names the caller's.
    _, theirs, parent, _ = CALLER.split("-")
    assert spans[0].links == ((theirs, parent),)
    [request] = [span for span in collector.spans if span.trace == theirs]
    assert (request.parent, request.links) == (parent, ((spans[0].trace, spans[0].id),))


async def failed_over(gateway: Telling, collector: Collector, first: Smsc) -> None:
    """A refusal by the first carrier: two submit spans under their own claims, and a record that says why."""
    first.on_submit = lambda link, pdu: Plan(status=0x45)
    message = (await gateway.send(gateway.message())).id
    told = await gateway.until_told(message, "delivered")
    assert [one["event"] for one in told][:4] == ["accepted", "failed_over", "submitted", "delivered"]
    _, moved, sent, arrived = told[:4]
    assert (moved["channel"], moved["code"], moved["level"]) == ("cm-a", "0x00000045", "warning")
    assert [(one["channel"], one["attempt"]) for one in (sent, arrived)] == [("cm-b", 2), ("cm-b", 2)]
    spans = await trace(collector, message, 6)
    by_step = {(span.name, span.attributes.get("smsgw.attempt", 0)): span for span in spans}
    assert set(by_step) == {("accept", 0), ("claim", 1), ("submit", 1), ("claim", 2), ("submit", 2), ("receipt", 2)}
    for n in (1, 2):
        assert by_step["claim", n].parent == by_step["accept", 0].id
        assert by_step["submit", n].parent == by_step["claim", n].id
    assert by_step["receipt", 2].parent == by_step["submit", 2].id
    assert [by_step["submit", n].error for n in (1, 2)] == [True, False]
    assert by_step["submit", 1].attributes["smsgw.command_status"] == "0x00000045"
    first.on_submit = None


async def of_two_parts(gateway: Telling) -> None:
    """A long message's first receipt is a part's."""
    message = (await gateway.send(gateway.message(text="Long " * 50))).id
    told = await gateway.until_told(message, "delivered")
    assert sorted(one["event"] for one in told if not one["event"].startswith("webhook")) == [
        "accepted", "delivered", "part_receipt", "submitted",
    ]  # fmt: skip
    assert {one["parts"] for one in told if "parts" in one} == {2}


async def undelivered(gateway: Telling, collector: Collector, first: Smsc, second: Smsc) -> None:
    """A receipt of failure, and a refusal for good."""
    first.on_submit = lambda link, pdu: Plan(receipts=(ReceiptPlan(0.0, "UNDELIV", "001"),))
    message = (await gateway.send(gateway.message())).id
    told = await gateway.until_told(message, "undeliverable")
    [end] = [one for one in told if one["event"] == "undeliverable"]
    assert (end["level"], end["by"], end["channel"], end["code"]) == ("warning", "receipt", "cm-a", "001")
    assert end["reason"]
    spans = await trace(collector, message, 4)
    assert spans[-1].error
    first.on_submit = second.on_submit = lambda link, pdu: Plan(status=0x0B)
    message = (await gateway.send(gateway.message())).id
    await gateway.until_final()
    told = await gateway.until_told(message, "failed")
    [end] = [one for one in told if one["event"] == "failed"]
    assert (end["level"], end["code"]) == ("warning", "0x0000000B")
    first.on_submit = second.on_submit = None


async def not_sent(gateway: Telling) -> None:
    """What never goes out: cancelled, expired, closed by a gate."""
    answer = await gateway.send(gateway.message(send_at=_in(3600)))
    assert answer.status == 202
    assert gateway.session is not None
    url = f"http://127.0.0.1:{gateway.api_port}/v1/messages/{answer.id}"
    async with gateway.session.delete(url, headers={"Authorization": f"Bearer {gateway.key}"}) as gone:
        assert gone.status == 200
    told = await gateway.until_told(answer.id, "cancelled")
    assert [one["event"] for one in told][:2] == ["scheduled", "cancelled"]
    assert 3_000_000 < told[0]["due_in_ms"] <= 3_600_000

    status, _ = await gateway.admin("PUT", "/admin/v1/gates", {"kind": "tag", "name": "spring", "state": "closed"})
    assert status == 200
    message = (await gateway.send(gateway.message(tags=["spring"]))).id
    told = await gateway.until_told(message, "cancelled")
    [end] = [one for one in told if one["event"] == "cancelled"]
    assert (end["reason"], end["by"], end["level"]) == ("gate_closed", "gateway", "warning")


async def trace(collector: Collector, message: str, n: int) -> list[Span]:
    await until(lambda: len(collector.trace(message)) >= n, timeout_s=20)
    return collector.trace(message)


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
