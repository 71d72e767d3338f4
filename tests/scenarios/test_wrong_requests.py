"""Commands nobody knows, requests in the wrong bind state, errors without a body: each gets the answer that the
specification asks for, the session lives, every message is settled. What we answer is read from the wire.
"""

from __future__ import annotations

import struct

import pytest

from gateway.simulator.behaviour import Plan
from gateway.simulator.smsc import Link
from gateway.smpp import constants as c
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, receipt_pdu, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer
from tests.support.wire import Wire, answers

NACK = c.GENERIC_NACK
SUBMIT_RESP, DELIVER_RESP = c.SUBMIT_SM_RESP, c.DELIVER_SM | c.RESPONSE_BIT


def pdu(command: int, number: int, body: bytes = b"", status: int = 0) -> bytes:
    return struct.pack(">IIII", 16 + len(body), command, status, number) + body


# What the SMSC sends → what we answer: command, status, number. Two nacks at most: a third would end the session.
REQUESTS = {
    "unknown command": (pdu(0x00000177, 0x7001, b"x" * 40), (NACK, c.RINVCMDID, 0x7001)),
    "submit_sm to an ESME": (pdu(c.SUBMIT_SM, 0x7003, bytes(33)), (SUBMIT_RESP, c.RINVBNDSTS, 0x7003)),
    "bind to an ESME": (
        pdu(c.BIND_TRANSCEIVER, 0x7004, b"a\0b\0\0\x34\0\0\0"),
        (c.BIND_TRANSCEIVER | c.RESPONSE_BIT, c.RINVBNDSTS, 0x7004),
    ),
    "query_sm": (pdu(0x00000003, 0x7005, b"1\0\1\1123\0"), (NACK, c.RINVCMDID, 0x7005)),
}
SILENT = {
    "unknown response": pdu(0x80000177, 0x7101),
    "alert_notification": pdu(c.ALERT_NOTIFICATION, 0x7102, b"\x01\x01123\0\x01\x01456\0"),
    "outbind": pdu(c.OUTBIND, 0x7103, b"smsc\0pw\0"),
    "error to nothing": pdu(SUBMIT_RESP, 0x7104, status=0x08),
}


async def test_each_request_gets_its_answer_and_the_session_lives(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, Wire(smsc.port) as wire:
        async with worker(line_settings([channel_to(smsc, "a", port=wire.port)]), valkey) as w:
            octets = b"".join([octets for octets, _ in REQUESTS.values()] + list(SILENT.values()))
            smsc.send_raw(octets + pdu(c.ENQUIRE_LINK, 0x7FFF))
            await until(lambda: answers(wire.up.seen, c.ENQUIRE_LINK_RESP))
            expected = [answer for _, answer in REQUESTS.values()]
            assert answers(wire.up.seen) == [*expected, (c.ENQUIRE_LINK_RESP, 0, 0x7FFF)]
            ms = [message(w.store) for _ in range(10)]
            await end_as(w.store, await accepted(w.store, ms), D=10)
            assert smsc.counters.binds == wire.connections == 1
            kinds = {"unknown_command": 5, "wrong_state": 2, "unmatched_response": 1}
            for kind, n in kinds.items():
                counted = w.metrics.counter("smpp_faults_total", channel="a", kind=kind)
                await until(lambda counted=counted, n=n: counted.n == n)
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (10, 0)


async def test_a_receipt_to_a_transmitter_is_refused_and_comes_to_the_receiver(valkey: ValkeyServer) -> None:
    async with carrier(receipts=False) as smsc, Wire(smsc.port) as wire:
        settings = line_settings([channel_to(smsc, "a", port=wire.port, bind="transmitter_receiver")])
        async with worker(settings, valkey) as w:
            m = message(w.store)
            await accepted(w.store, [m])
            await end_as(w.store, [m.id], s=1)
            smsc_id = smsc.ledger.submits[0].smsc_id
            transmitter, receiver = sorted(smsc.links, key=lambda link: link.submits, reverse=True)
            transmitter.write_raw(receipt_pdu(smsc_id, m.msisdn, 1, "UNDELIV"))
            await until(lambda: transmitter.session.counters.unmatched_responses == 1)
            await end_as(w.store, [m.id], s=1)
            receiver.write_raw(receipt_pdu(smsc_id, m.msisdn, 2))
            await end_as(w.store, [m.id], D=1)
            await until(lambda: receiver.session.counters.unmatched_responses == 1)
            assert smsc.counters.binds == 2


@pytest.mark.parametrize("body", [b"", b"\0", b"an id nobody needs\0"], ids=["none", "empty id", "an id"])
async def test_an_error_is_an_error_with_or_without_a_body(valkey: ValkeyServer, body: bytes) -> None:
    """SMPP 3.4 §4.4.2: the body of a refused submit_sm's response is left out; many send an empty id all the same."""
    async with carrier() as primary, carrier() as backup, Wire(primary.port) as wire:
        primary.on_submit = lambda link, sm: _answered_by_hand(link, sm.sequence_number, body)
        settings = line_settings([channel_to(primary, "a", port=wire.port), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            ms = [message(w.store) for _ in range(8)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=8)
            for sid in sids:
                r = await record(w.store, sid)
                assert [(a.channel, a.outcome, a.status) for a in r.attempts] == [("a", "next", 0x45), ("b", "sent", 0)]
                assert not r.possible_duplicate
            assert primary.counters.binds == 1
            assert w.dispatcher.claims == 0


def _answered_by_hand(link: Link, number: int, body: bytes) -> Plan:
    link.write_raw(pdu(SUBMIT_RESP, number, body, 0x45))
    return Plan(status=None)
