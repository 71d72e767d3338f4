"""The simulator against an ESME that shares no line with it: smpplib's own client on a blocking socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import smpplib.client
import smpplib.consts
import smpplib.gsm

from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc

TEXT = "Grüße, 你好: a message long enough for several parts. " * 6


def run_client(port: int) -> dict[str, Any]:
    """Bind, send a short and a long message and one to a refused number, take the receipts, unbind."""
    seen: dict[str, Any] = {"answers": [], "receipts": []}
    client = smpplib.client.Client("127.0.0.1", port, timeout=5)
    client.set_message_sent_handler(lambda pdu: seen["answers"].append((pdu.status, pdu.message_id)))

    def received(pdu: Any) -> int:
        seen["receipts"].append((pdu.receipted_message_id, pdu.message_state, pdu.short_message))
        return 0

    client.set_message_received_handler(received)
    # smpplib raises on an error status unless it is told what to do with one.
    client.set_error_pdu_handler(lambda pdu: seen["answers"].append((pdu.status, None)))
    client.connect()
    client.bind_transceiver(system_id="acme", password="secret")
    for text in ("hello", TEXT):
        parts, data_coding, esm_class = smpplib.gsm.make_parts(text)
        for part in parts:
            client.send_message(
                source_addr_ton=smpplib.consts.SMPP_TON_ALNUM,
                source_addr="Acme",
                dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
                destination_addr="8613800000001",
                short_message=part,
                data_coding=data_coding,
                esm_class=esm_class,
                registered_delivery=True,
            )
    client.send_message(
        source_addr_ton=smpplib.consts.SMPP_TON_ALNUM,
        source_addr="Acme",
        dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
        destination_addr="8613800900011",
        short_message=b"x",
        registered_delivery=True,
    )
    seen["sent"] = len(parts) + 2
    while len(seen["answers"]) < seen["sent"] or len(seen["receipts"]) < seen["sent"] - 1:
        client.read_once()
    client.unbind()
    client.disconnect()
    return seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_smpplibs_client_understands_the_simulator() -> None:
    smsc = Smsc(SimulatorOptions(system_id="acme", password="secret", receipt_delay_s=0.05, id_format="hex"))
    port = await smsc.start()
    try:
        seen = await asyncio.wait_for(asyncio.to_thread(run_client, port), 20)
    finally:
        await smsc.stop()
    assert [status for status, _ in seen["answers"]].count(0) == seen["sent"] - 1
    assert (0x0B, None) in seen["answers"]
    ids = {message_id for status, message_id in seen["answers"] if status == 0}
    assert {message_id for message_id, _, _ in seen["receipts"]} == ids
    assert all(state == smpplib.consts.SMPP_MESSAGE_STATE_DELIVERED for _, state, _ in seen["receipts"])
    assert all(b"stat:DELIVRD" in text for _, _, text in seen["receipts"])
    parts = [s.part() for s in smsc.ledger.submits if s.esm_class & 0x40]
    assert [(total, number) for _, total, number in parts] == [(len(parts), i + 1) for i in range(len(parts))]
    assert len(parts) > 1
    text = b"".join(s.short_message[6:] for s in smsc.ledger.submits if s.esm_class & 0x40)
    assert text.decode("utf-16-be") == TEXT
    assert smsc.counters.settled == len(ids)
