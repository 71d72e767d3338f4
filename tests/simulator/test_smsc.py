"""The simulated SMSC on real sockets: what it is told to do is what an ESME sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from gateway.simulator.behaviour import Plan, SimulatorOptions
from gateway.simulator.ledger import Tally
from gateway.simulator.smsc import Link, Smsc
from gateway.smpp.events import CloseReason, PeerNack, UnboundByPeer
from gateway.smpp.pdu import SubmitSm
from gateway.smpp.session import BindType
from tests.simulator.esme import Esme
from tests.support.until import until

NORMAL = "8613800000001"


def magic(rule: int) -> str:
    return f"8613800900{rule:03d}"


Start = Callable[..., Awaitable[Smsc]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[Smsc] = []

    async def make(*, tally: Tally | None = None, **options: Any) -> Smsc:
        smsc = Smsc(SimulatorOptions(**{"receipt_delay_s": 0.01} | options), tally=tally)
        await smsc.start()
        running.append(smsc)
        return smsc

    yield make
    for smsc in running:
        await smsc.stop(timeout_s=0.5)


async def bind(smsc: Smsc, **config: Any) -> Esme:
    esme = await Esme.bind(smsc.port, **config)
    await until(lambda: esme.bound)
    return esme


async def submit(smsc: Smsc, destination: str, **fields: Any) -> Esme:
    """Bind, submit one message and wait for its answer."""
    esme = await bind(smsc)
    esme.submit(destination, **fields)
    await until(lambda: destination in esme.answers)
    return esme


async def test_a_message_is_answered_and_its_receipt_comes(start: Start) -> None:
    smsc = await start()
    esme = await submit(smsc, NORMAL)
    answer = esme.answers[NORMAL]
    assert (answer.status, answer.message_id) == (0, b"0000000001")
    await until(lambda: esme.delivered)
    assert esme.texts()[0].startswith("id:0000000001 ")
    assert "stat:DELIVRD" in esme.texts()[0]
    await until(lambda: smsc.counters.settled == 1)
    (row,) = smsc.ledger.submits
    assert (row.destination, row.source, row.short_message) == (NORMAL, "106900001", b"hello")
    assert (row.status, row.smsc_id, row.system_id) == (0, "0000000001", "acme")
    assert [(r.smsc_id, r.ack) for r in smsc.ledger.receipts] == [("0000000001", 0)]


async def test_no_receipt_without_registered_delivery(start: Start) -> None:
    smsc = await start()
    esme = await submit(smsc, NORMAL, registered_delivery=0)
    esme.submit(magic(312))
    await until(lambda: len(esme.delivered) == 2)
    assert all("id:0000000002" in text for text in esme.texts())


async def test_the_cheap_way_gives_the_same_as_the_careful_one(start: Start) -> None:
    tally = Tally(1000)
    plain = await start(by_number=False, keep_ledger=False, latency_s=0.002, tally=tally)
    careful = await start(latency_s=0.002)
    for smsc in (plain, careful):
        esme = await bind(smsc)
        for i in range(50):
            esme.submit(f"86138{i:08d}")
        await until(lambda esme=esme: len(esme.delivered) == 50)
        assert len(esme.answers) == 50
        ids = {a.message_id for a in esme.answers.values()}
        assert {text.split()[0][3:].encode() for text in esme.texts()} == ids
        await until(lambda smsc=smsc: smsc.counters.settled == 50)
        assert smsc.counters.answered_ok == smsc.counters.submits == smsc.counters.receipts_sent == 50
    assert plain.ledger.submits == []
    assert list(tally.counts[:51]) == [1] * 50 + [0]


@pytest.mark.parametrize(("rule", "status"), [(88, 0x58), (20, 0x14), (11, 0x0B), (255, 0xFF), (510, 0x40A)])
async def test_a_status_by_number(start: Start, rule: int, status: int) -> None:
    smsc = await start()
    esme = await submit(smsc, magic(rule))
    assert (esme.answers[magic(rule)].status, smsc.counters.answered_error) == (status, 1)
    assert smsc.ledger.submits[0].status == status


async def test_latency_and_late_answers(start: Start) -> None:
    smsc = await start(latency_s=0.05, late_response_s=0.15)
    esme = await bind(smsc)
    esme.submit(magic(301))
    esme.submit(NORMAL)
    await until(lambda: len(esme.answered) == 2)
    assert esme.answered == [NORMAL, magic(301)]
    normal, late = esme.answers[NORMAL], esme.answers[magic(301)]
    assert normal.now - normal.sent_at >= 0.05
    assert late.now - late.sent_at >= 0.15


async def test_silence_by_number_and_by_option(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc, response_timer_s=0.2)
    esme.submit(magic(300))
    esme.submit(NORMAL)
    await until(lambda: esme.timed_out)
    assert (esme.answered, esme.timed_out) == ([NORMAL], [magic(300)])
    smsc.options.silence = True
    esme.submit("8613800000002")
    await until(lambda: len(esme.timed_out) == 2)
    assert smsc.counters.unanswered == 2
    assert [s.status for s in smsc.ledger.submits] == [None, 0, None]


async def test_half_a_window_is_answered(start: Start) -> None:
    smsc = await start(answer_first=5)
    esme = await bind(smsc, window=10)
    for i in range(10):
        esme.submit(f"86138{i:08d}", i)
    await until(lambda: len(smsc.ledger.submits) == 10 and len(esme.answered) == 5)
    smsc.drop_sessions()
    await until(lambda: esme.closed)
    assert esme.closed is not None
    assert (esme.answered, esme.closed.lost) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])


async def test_above_the_tps_it_throttles(start: Start) -> None:
    smsc = await start(max_tps=20)
    esme = await bind(smsc)
    for i in range(60):
        esme.submit(f"86138{i:08d}", i)
    await until(lambda: len(esme.answers) == 60)
    statuses = [a.status for a in esme.answers.values()]
    # The sixty may fall on either side of a second's end.
    assert statuses.count(0) in (20, 40)
    assert set(statuses) == {0, 0x58}


async def test_answers_out_of_order(start: Start) -> None:
    smsc = await start(shuffle=True)
    esme = await bind(smsc)
    for i in range(20):
        esme.submit(f"86138{i:08d}", i)
    await until(lambda: len(esme.answered) == 20)
    assert esme.answered != sorted(esme.answered)
    assert sorted(esme.answered) == list(range(20))


@pytest.mark.parametrize("rule", [302, 303])
async def test_cut_by_number(start: Start, rule: int) -> None:
    smsc = await start()
    esme = await bind(smsc)
    esme.submit(magic(rule))
    await until(lambda: esme.closed)
    assert esme.closed is not None
    assert (magic(rule) in esme.answers) == (rule == 303)
    assert esme.closed.lost == ([magic(302)] if rule == 302 else [])
    await until(lambda: smsc.links == [])
    assert smsc.counters.cuts == 1


async def test_unbind_by_number_and_by_count(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    esme.submit(magic(306))
    await until(lambda: esme.closed)
    assert magic(306) in esme.answers
    assert any(isinstance(e, UnboundByPeer) for e in esme.events)
    smsc.options.unbind_after = 3
    esme = await bind(smsc)
    for i in range(3):
        esme.submit(f"86138{i:08d}", i)
    await until(lambda: esme.closed)
    assert esme.answered == [0, 1, 2]


async def test_odd_answers(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    for rule in (304, 305, 307, 308):
        esme.submit(magic(rule), rule)
    esme.submit(NORMAL)
    await until(lambda: NORMAL in esme.answers)
    assert (esme.answers[304].status, esme.answers[304].message_id) == (0, b"")
    assert esme.answers[305].status == 8
    assert sorted(k for k in esme.answered if isinstance(k, int)) == [304, 305, 307, 308]
    assert esme.connection.session.counters.unmatched_responses == 2
    assert not any(isinstance(e, PeerNack) for e in esme.events), "the nack answered a known sequence number"


async def test_the_first_attempts_fail_and_then_it_works(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    for i in range(3):
        esme.submit(magic(402), i)
    await until(lambda: len(esme.answers) == 3)
    assert [esme.answers[i].status for i in range(3)] == [0x58, 0x58, 0]


async def test_a_receipt_before_the_answer(start: Start) -> None:
    smsc = await start(latency_s=0.1)
    esme = await bind(smsc)
    esme.submit(magic(310))
    await until(lambda: esme.delivered)
    assert esme.answers == {}
    await until(lambda: esme.answers)
    assert esme.texts()[0].split()[0][3:].encode() == esme.answers[magic(310)].message_id


@pytest.mark.parametrize(("rule", "n"), [(312, 2), (313, 5)])
async def test_receipts_more_than_once_on_all_sessions(start: Start, rule: int, n: int) -> None:
    smsc = await start()
    first, second = await bind(smsc), await bind(smsc)
    first.submit(magic(rule))
    await until(lambda: len(first.delivered) + len(second.delivered) == n)
    assert len(set(first.texts() + second.texts())) == 1
    assert first.delivered
    assert second.delivered


async def test_odd_receipts(start: Start) -> None:
    smsc = await start(receipt_delay_s=0.005, late_receipt_s=0.3)
    esme = await bind(smsc)
    for rule in (311, 314, 315, 316, 317, 326, 327, 329, 309):
        esme.submit(magic(rule), rule)
    await until(lambda: len(esme.delivered) == 8)
    assert "id:0000000001" in esme.texts()[-1], "the late one is last"
    by_source: dict[bytes, Any] = {pdu.source_addr: pdu for pdu in esme.delivered}
    assert magic(314).encode() not in by_source
    ids = {a.message_id for a in esme.answers.values()}
    assert by_source[magic(315).encode()].short_message.split()[0][3:] not in ids
    assert b"8613800900000" in by_source
    assert b"id:" + b"%X" % int(esme.answers[317].message_id) + b" " in b"".join(
        by_source[magic(317).encode()].short_message.partition(b" ")[:2]
    )
    assert b"id:" not in by_source[magic(326).encode()].short_message
    assert by_source[magic(327).encode()].short_message == b""
    assert b"err:MK:0001" in by_source[magic(329).encode()].short_message
    assert 309 not in esme.answers
    assert magic(309).encode() in by_source


async def test_intermediate_and_contradicting_receipts(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    esme.submit(magic(318))
    await until(lambda: len(esme.delivered) == 2)
    esme.submit(magic(319))
    await until(lambda: len(esme.delivered) == 4)
    states = [text.split("stat:")[1].split()[0] for text in esme.texts()]
    assert states == ["ENROUTE", "DELIVRD", "DELIVRD", "UNDELIV"]


async def test_the_recipient_answers(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    esme.submit(magic(330))
    await until(lambda: len(esme.delivered) == 2)
    assert esme.delivered[1].short_message == b"TD"
    assert esme.delivered[1].esm_class == 0
    assert esme.delivered[1].source_addr == magic(330).encode()
    smsc.send_mo("8613800000009", "106900001", "退订".encode("utf-16-be"), data_coding=8)
    await until(lambda: len(esme.delivered) == 3)
    assert esme.delivered[2].short_message.decode("utf-16-be") == "退订"
    await until(lambda: smsc.counters.mo_acked == 2)


async def test_a_receipt_that_was_refused_comes_again(start: Start) -> None:
    smsc = await start(redeliver_s=0.05)
    esme = await bind(smsc)
    esme.ack = 0x08
    esme.submit(NORMAL)
    await until(lambda: len(esme.delivered) >= 2)
    esme.ack = 0
    await until(lambda: smsc.counters.settled == 1)
    assert smsc.ledger.receipts[0].ack == 0x08
    assert smsc.ledger.receipts[-1].ack == 0


async def test_a_receipt_not_acknowledged_comes_again_on_the_next_session(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    esme.ack = None
    esme.submit(NORMAL)
    await until(lambda: esme.delivered)
    smsc.drop_sessions()
    await until(lambda: smsc.counters.sessions == 0)
    again = await bind(smsc)
    await until(lambda: smsc.counters.settled == 1)
    assert again.texts()[0].split()[0] == esme.texts()[0].split()[0]


async def test_receipts_wait_while_nobody_is_bound_and_keep_to_the_window(start: Start) -> None:
    smsc = await start(receipt_window=5)
    transmitter = await bind(smsc, bind_type=BindType.TRANSMITTER)
    for i in range(20):
        transmitter.submit(f"86138{i:08d}", i)
    await until(lambda: len(transmitter.answered) == 20)
    receiver = await Esme.bind(smsc.port, bind_type=BindType.RECEIVER)
    receiver.ack = None
    await until(lambda: len(receiver.delivered) == 5)
    assert smsc.stats()["receipts_waiting"] == 15
    receiver.ack = 0
    receiver.connection.respond_delivers([pdu.sequence_number for pdu in receiver.delivered])
    await until(lambda: smsc.counters.settled == 20)
    assert transmitter.delivered == []


async def test_rates_by_option(start: Start) -> None:
    smsc = await start(error_rate=0.2, error_codes=(0x08, 0x14), double_rate=0.5, missing_rate=0.2, unknown_rate=0.3)
    esme = await bind(smsc, window=300)
    for i in range(300):
        esme.submit(f"86138{i:08d}", i)
    await until(lambda: len(esme.answers) == 300)
    ok = sum(a.status == 0 for a in esme.answers.values())
    assert 200 < ok < 280
    assert {a.status for a in esme.answers.values()} == {0, 0x08, 0x14}
    await until(lambda: smsc.counters.settled == smsc.counters.receipts_sent > ok)


async def test_binds_are_refused_for_their_reasons(start: Start) -> None:
    smsc = await start(system_id="acme", password="secret", max_sessions=1)

    async def status(**config: Any) -> int | None:
        esme = await Esme.bind(smsc.port, **config)
        await until(lambda: esme.closed or esme.bound)
        return esme.refused

    assert await status(password="wrong") == 0x0E
    assert await status(system_id="other") == 0x0F
    await bind(smsc)
    assert await status() == 0x05
    smsc.options.bind_status = 0x0D
    assert await status() == 0x0D
    assert (smsc.counters.binds, smsc.counters.binds_refused) == (1, 4)


async def test_a_bind_that_is_never_answered(start: Start) -> None:
    smsc = await start(answer_binds=False)
    esme = await Esme.bind(smsc.port, session_init_timer_s=0.2)
    await until(lambda: esme.closed)
    assert esme.closed is not None
    assert esme.closed.reason is CloseReason.BIND_TIMEOUT


async def test_a_hanging_smsc_answers_nothing_until_it_goes_on(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    smsc.pause_reading()
    esme.submit(NORMAL)
    await asyncio.sleep(0.1)  # the point is that nothing happens
    assert smsc.counters.submits == 0
    smsc.pause_reading(False)
    await until(lambda: NORMAL in esme.answers)


async def test_raw_octets_reach_the_esme(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    assert smsc.send_raw(b"\xff\xff\xff\xff" * 4) == 1
    await until(lambda: esme.closed)
    assert esme.closed is not None
    assert esme.closed.reason is CloseReason.FRAMING


async def test_a_test_decides_for_itself(start: Start) -> None:
    smsc = await start()
    seen: list[tuple[int, bytes]] = []

    def decide(link: Link, pdu: SubmitSm) -> Plan | None:
        seen.append((link.number, pdu.destination_addr))
        return Plan(status=0x45) if len(seen) == 1 else None

    smsc.on_submit = decide
    esme = await bind(smsc)
    esme.submit(NORMAL, "a")
    esme.submit(NORMAL, "b")
    await until(lambda: len(esme.answers) == 2)
    assert (esme.answers["a"].status, esme.answers["b"].status) == (0x45, 0)


async def test_stop_listening_refuses_and_start_listens_again_on_the_same_port(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    port = smsc.port
    await smsc.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        await Esme.bind(port)
    esme.submit(NORMAL)
    await until(lambda: NORMAL in esme.answers)
    assert await smsc.start() == port
    await bind(smsc)


async def test_stop_unbinds(start: Start) -> None:
    smsc = await start()
    esme = await bind(smsc)
    await smsc.stop()
    await until(lambda: esme.closed)
    assert esme.closed is not None
    assert esme.closed.reason is CloseReason.UNBOUND_BY_PEER
    with suppress(OSError):
        await Esme.bind(smsc.port)
    assert smsc.links == []
