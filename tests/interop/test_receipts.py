"""Receipts and messages as a foreign SMSC writes them: by text, by TLV, by data_sm, and what a handset sends."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peer import Peer
from tests.support.gateway_process import AuditedGateway
from tests.support.inbound import messages
from tests.support.until import until

pytestmark = pytest.mark.needs_peer

FORMS = ("text", "ucs2", "tlv", "both", "data_sm", "data_sm_text")
ENDS = {
    "DELIVRD": "delivered",
    "UNDELIV": "undeliverable",
    "EXPIRED": "expired",
    "REJECTD": "rejected",
    "DELETED": "undeliverable",
    "UNKNOWN": "unknown",
}


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_every_form_of_every_state_is_understood(tmp_path: Path, bind: str) -> None:
    channel = f'bind = "{bind}"'
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}, channel=channel) as gateway:
        cases = {gateway.message()["to"]: case for case in itertools.product(FORMS, ENDS)}
        await peer.rules(by_number={to[1:]: {"receipts": form, "stat": stat} for to, (form, stat) in cases.items()})
        sent = await gateway.send_batch([{"to": to, "category": "notification", "text": "Hello"} for to in cases])
        ids = dict(zip(cases, (answer.id for answer in sent), strict=True))
        await gateway.until_final()
        report = await gateway.audit([peer])
        assert (report.accepted, report.final, report.submits) == (len(cases), len(cases), len(cases))

        ended: dict[tuple[str, str], tuple[str, Any]] = {}
        for to, case in cases.items():
            _, shown = await gateway.get(f"/v1/messages/{ids[to]}")
            ended[case] = (shown["state"], shown["reason"])
        assert {case: state for case, (state, _) in ended.items()} == {(f, s): ENDS[s] for f, s in cases.values()}
        # Whatever the form; a network_error_code (absent subscriber) is surer than the text's err (no such facility).
        for (form, _), (state, reason) in ended.items():
            by_tlv = form in ("tlv", "both", "data_sm")
            said = ("powered-off", "gsm:27") if by_tlv else ("out-of-service", "021")
            assert state == "delivered" or (reason["code"], reason["carrier_code"]) == said, form

        acks = {row["n"]: (row["command"], row["status"]) for row in peer.ledger.all("ack")}
        receipts = peer.ledger.all("receipt")
        assert len(receipts) == len(cases), "each one was sent once"
        for row in receipts:
            command = "data_sm_resp" if row["form"].startswith("data_sm") else "deliver_sm_resp"
            assert acks[row["n"]] == (command, 0)


async def test_each_part_of_a_long_message_has_its_receipt(tmp_path: Path) -> None:
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}) as gateway:
        await peer.rules(receipts="tlv")
        sent = [await gateway.send(gateway.message(text="验" * 200)) for _ in range(10)]
        assert await gateway.until_final() == {"delivered": 10}
        assert (await gateway.audit([peer])).submits == 30
        for answer in sent:
            _, shown = await gateway.get(f"/v1/messages/{answer.id}")
            assert (shown["parts"], shown["parts_delivered"], len(shown["attempts"][0]["smsc_ids"])) == (3, 3, 3)


async def test_what_a_handset_sends_is_kept(tmp_path: Path) -> None:
    """As the library encodes them: UCS-2, its GSM alphabet, and a text in message_payload."""
    texts = ("退订 😀", "STOP {now} €", "T" * 300)
    async with Peer(tmp_path) as peer, AuditedGateway(tmp_path, {"cm-a": peer.port}) as gateway:
        handset = {"source_addr_ton": 1, "source_addr_npi": 1, "source_addr": "8613800138000"}
        for fields in (
            {"data_coding": 8, "short_message": texts[0]},
            {"data_coding": 0, "short_message": texts[1]},
            {"data_coding": 0, "message_payload": texts[2]},
        ):
            assert await peer.send("deliver_sm", destination_addr="106900001", **handset, **fields) == 1
        await until(lambda: peer.replies("deliver_sm")["deliver_sm_resp", 0] == 3)
        async with gateway.store() as store:
            kept = await messages(store)
        assert {(row["from"], row["to"], row["channel"]) for row in kept} == {("8613800138000", "106900001", "cm-a")}
        assert {row["text"] for row in kept} == set(texts)
