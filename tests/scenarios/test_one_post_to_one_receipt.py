"""The main job over real processes: a post becomes one submit_sm and one receipt on record; counted in all ledgers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.model import CATEGORY_LABELS, shard_of_id
from gateway.simulator.smsc import Smsc
from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_post_becomes_one_receipt_on_record(tmp_path: Path, shards: int) -> None:
    async with carrier() as smsc, AuditedGateway(tmp_path, {"cm-a": smsc.port}, shards=shards) as gateway:
        await _one_message(gateway, smsc)

        async with gateway.traffic(every_s=0.01) as traffic:
            await until(lambda: traffic.accepted >= 300)
        await gateway.until_final()
        report = await gateway.audit([smsc])
        assert report.states == {"delivered": report.accepted}
        assert report.submits == report.accepted >= 301
        stored = await gateway.records()
        assert {r.category for r in stored} == set(range(len(CATEGORY_LABELS)))
        assert {shard_of_id(r.id) for r in stored} == set(range(shards))


async def _one_message(gateway: AuditedGateway, smsc: Smsc) -> None:
    """The whole way of one message, as its application and its carrier see it."""
    body = gateway.message("verification", text="【Acme】Your code is 482913", ref="login-7781", tags=["login"])
    answer = await gateway.send(body)
    assert answer.status == 202
    assert (answer.body["state"], answer.body["route"], answer.body["durability"]) == ("queued", "cn", "fsync")
    assert (answer.body["parts"], answer.body["encoding"]) == (1, "ucs2")

    async def delivered() -> dict[str, object] | None:
        _, shown = await gateway.get(f"/v1/messages/{answer.id}")
        return shown if shown["state"] == "delivered" else None

    shown = await until(delivered)
    [attempt] = shown["attempts"]
    [submit] = smsc.ledger.submits
    assert (attempt["number"], attempt["channel"], attempt["command_status"]) == (1, "cm-a", "0x00000000")
    assert attempt["smsc_ids"] == [submit.smsc_id]
    assert f"+{submit.destination}" == body["to"] == shown["to"]
    assert submit.short_message.decode("utf-16-be") == body["text"]
    assert (shown["final"], shown["ref"], shown["tags"]) == (True, "login-7781", ["login"])
    assert body["text"] not in str(shown)  # a code is for its recipient
    _, found = await gateway.get(f"/v1/messages?to=%2B{submit.destination}&ref=login-7781")
    assert [m["id"] for m in found["messages"]] == [answer.id]
    record = await gateway.record(answer.id)
    assert record is not None
    assert (record.state, len(record.attempts), len(record.receipts)) == ("D", 1, 1)
