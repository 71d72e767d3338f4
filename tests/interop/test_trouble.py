"""A foreign SMSC that throttles, refuses, answers late, unbinds or says odd things: nothing is lost, copies flagged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway.reasons import of_status
from tests.interop.peer import Peer
from tests.support.gateway_process import AuditedGateway
from tests.support.until import until

pytestmark = pytest.mark.needs_peer

WINDOW = 20


@pytest.mark.parametrize("status", [0x58, 0x14], ids=["throttled", "queue-full"])
async def test_what_is_throttled_goes_again_and_uses_no_attempt(tmp_path: Path, status: int) -> None:
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}) as gateway:
        await peer.rules(status=status, times=15)
        sent = await gateway.send_batch([gateway.message() for _ in range(15)])
        assert {answer.status for answer in sent} == {202}
        assert await gateway.until_final() == {"delivered": 15}
        report = await gateway.audit([peer])
        assert Counter(row["status"] for row in peer.ledger.submits()) == {status: 15, 0: 15}
        assert (report.accepted, report.copies) == (15, 0)
        for answer in sent:
            _, shown = await gateway.get(f"/v1/messages/{answer.id}")
            assert [(a["number"], a["command_status"]) for a in shown["attempts"]] == [(1, "0x00000000")]
        assert len(peer.binds()) == 1


async def test_what_is_refused_ends_as_failed_with_its_status(tmp_path: Path) -> None:
    """Statuses of 3.4, of 5.0 and of a vendor; the library's error answers have no body."""
    statuses = [0x01, 0x0A, 0x0B, 0x45, 0x54, 0x65, 0x66, 0xC4, 0x101, 0x102, 0x400, 0x4FF, 0x7777]
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}) as gateway:
        bodies = [gateway.message() for _ in (*statuses, 0)]
        by_number = {body["to"][1:]: {"status": s} for body, s in zip(bodies, statuses, strict=False)}
        await peer.rules(by_number=by_number)
        sent = await gateway.send_batch(bodies)
        assert await gateway.until_final() == {"failed": len(statuses), "delivered": 1}
        report = await gateway.audit([peer])
        assert (report.accepted, report.live, report.submits) == (len(bodies), 0, len(bodies))
        for answer, status in zip(sent, statuses, strict=False):
            _, shown = await gateway.get(f"/v1/messages/{answer.id}")
            assert [a["command_status"] for a in shown["attempts"]] == [f"0x{status:08X}"]
            assert shown["reason"]["code"] == of_status(status)[0]


async def test_answers_in_any_order_find_their_messages(tmp_path: Path) -> None:
    channel = f"window = {WINDOW}"
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        await peer.rules(hold=True)
        sent = await gateway.send_batch([gateway.message("verification") for _ in range(3 * WINDOW)])
        await until(lambda: len(peer.ledger.submits()) == WINDOW)
        assert (await gateway.states())["delivered"] == 0
        while len(peer.ledger.all("answer")) < 3 * WINDOW:
            # The window is full, so no more comes until these are answered.
            expected = len(peer.ledger.submits())
            assert await peer.release() == WINDOW
            await until(lambda at=expected: len(peer.ledger.submits()) == min(at + WINDOW, 3 * WINDOW))
        assert await gateway.until_final() == {"delivered": 3 * WINDOW}
        assert (await gateway.audit([peer])).submits == 3 * WINDOW
        ids = {"+" + row["to"]: row["smsc_id"] for row in peer.ledger.submits()}
        for answer in sent:
            _, shown = await gateway.get(f"/v1/messages/{answer.id}")
            assert shown["attempts"][0]["smsc_ids"] == [ids[shown["to"]]]


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
@pytest.mark.parametrize("rude", [False, True], ids=["answered", "unanswered"])
async def test_unbind_under_load(tmp_path: Path, bind: str, rude: bool) -> None:
    """It binds again and nothing is lost; only what the SMSC left without an answer is sent twice, and flagged."""
    unbinds = 3
    channel = f'bind = "{bind}"\nbinds = 2\nwindow = {WINDOW}'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        await until(lambda: len(peer.binds()) == (2 if bind == "transceiver" else 4))
        before = len(peer.binds())
        async with gateway.traffic(every_s=0.01, mix=["verification"]) as traffic:
            for turn in range(unbinds):
                at = traffic.accepted
                await peer.rules(unbind_after=30, rude=rude)
                await until(lambda n=turn + 1: peer.replies("unbind")["unbind_resp", 0] == n)
                await until(lambda n=before + turn + 1: len(peer.binds()) == n)
                await until(lambda n=at: traffic.accepted >= n + 100)
        states = await gateway.until_final()
        report = await gateway.audit([peer], copies_allowed=unbinds * WINDOW if rude else 0)
        assert states == {"delivered": report.accepted}
        assert report.accepted == report.final >= 300
        assert report.submits == report.accepted + report.copies
        unanswered = sum(row["status"] is None for row in peer.ledger.submits())
        assert report.copies == unanswered
        assert (unanswered >= unbinds) if rude else (unanswered == 0)
        flagged = sum(record.possible_duplicate for record in await gateway.records())
        assert flagged == unanswered


async def test_a_receiver_that_is_unbound_comes_back_for_its_receipts(tmp_path: Path) -> None:
    channel = 'bind = "transmitter_receiver"'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        await until(lambda: len(peer.binds()) == 2)
        assert await peer.unbind("receiver") == 1
        sent = await gateway.send_batch([gateway.message() for _ in range(20)])
        assert {answer.status for answer in sent} == {202}
        assert await gateway.until_final() == {"delivered": 20}
        assert (await gateway.audit([peer])).submits == 20
        assert Counter(row["bind"] for row in peer.binds()) == {"transmitter": 1, "receiver": 2}


async def test_odd_but_legal_pdus_leave_the_session_alone(tmp_path: Path) -> None:
    """alert_notification and outbind are not answered, what nobody knows gets a generic_nack, queries are refused."""
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}) as gateway:
        for _ in range(5):
            await peer.send("alert_notification", source_addr="8613800138000", esme_addr="106900001")
            await peer.send("outbind", system_id="npm", password="secret")
            await peer.send("vendor_check")
            await peer.send("query_sm", message_id="1", source_addr="106900001")
            await peer.send("submit_sm", destination_addr="8613800138000", short_message="not for an ESME")
        sent = [await gateway.send(gateway.message()) for _ in range(5)]
        assert {answer.status for answer in sent} == {202}
        assert await gateway.until_final() == {"delivered": 5}
        assert (await gateway.audit([peer])).submits == 5
        await until(lambda: sum(peer.replies("submit_sm").values()) == 5)
        assert peer.replies("vendor_check") == {("generic_nack", 0x03): 5}
        assert peer.replies("query_sm") == {("generic_nack", 0x03): 5}
        assert peer.replies("submit_sm") == {("submit_sm_resp", 0x04): 5}
        assert not peer.replies("alert_notification")
        assert not peer.replies("outbind")
        assert len(peer.binds()) == 1
        assert not peer.ledger.all("close")
