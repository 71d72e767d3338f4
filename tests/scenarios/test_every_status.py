"""Every command_status of the delivery contract (§1.7), on both bind types, through a primary and a backup: tries here
and there, attempts used, state, what is on record and what is counted.

The rows stand here as the contract has them, not as the code does.
"""

from __future__ import annotations

import pytest

from gateway.dispatch import dispatcher, health, outcome
from gateway.reasons import of_status
from gateway.simulator.behaviour import Plan, ReceiptPlan
from gateway.simulator.smsc import Link
from gateway.smpp import constants as c
from gateway.smpp.codec import encode_header
from gateway.smpp.pdu import SubmitSm
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import NOTIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

PERMANENT = (0x01, 0x65, 0x66, 0x101)
SAME = {0x08: 2, 0x64: 2, 0xFE: 1, 0xFF: 1}  # status → how often it is tried again on the same channel
SLOW = (0x14, 0x58)
NEXT = (0x0A, 0x0B, 0x45, 0x102)
VENDOR = (0x400, 0x401, 0x40A, 0x4FF)
UNKNOWN = (0x09, 0x10, 0x12, 0x35, 0x5A, 0x94, 0xC5, 0xFD, 0x113, 0x3FF, 0x500, 0x12345, 0x5F5E0FF)
CHANNEL, CHANNEL_AUTH = (0x04, 0x05, 0x67), (0x0D, 0x0E, 0x0F, 0x53)
BUG = (
    *(0x02, 0x03, 0x06, 0x07, 0x0C, 0x11, 0x13, 0x15, 0x33, 0x34, 0x40, 0x42, 0x43, 0x44, 0x48, 0x49, 0x4A, 0x4B),
    *(0x50, 0x51, 0x54, 0x55, 0x61, 0x62, 0x63, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0x100, *range(0x103, 0x113)),
)
ALARM = (0x01, *VENDOR, *BUG)  # an operator must hear of these; of the channel's own faults as well
SLOW_TIMES = 2

BIND = pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])


def number(status: int) -> str:
    """A number of its own for every status: the carrier reads the status from its end."""
    return f"86130{status:08d}"


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "SAME_DELAYS_MS", (20, 40))
    monkeypatch.setattr(outcome, "SLOW_FIRST_MS", 20)
    monkeypatch.setattr(health, "MIN_ANSWERS", 10**9)  # what the breaker does is another file's subject


@pytest.mark.parametrize(
    ("bind", "answer"),
    [
        ("transceiver", "submit_sm_resp"),
        ("transmitter_receiver", "submit_sm_resp"),
        ("transceiver", "generic_nack"),
    ],
)
async def test_every_answer_about_a_message(valkey: ValkeyServer, bind: str, answer: str) -> None:
    """A generic_nack with a known sequence number means what its status says."""
    seen: dict[str, int] = {}

    def refuse(link: Link, pdu: SubmitSm) -> Plan:
        digits = pdu.destination_addr.decode()
        status = int(digits[5:])
        seen[digits] = seen.get(digits, 0) + 1
        if status in SLOW and seen[digits] > SLOW_TIMES:
            return Plan(receipts=(ReceiptPlan(0.01),))
        return Plan(status=status, as_generic_nack=answer == "generic_nack")

    async with carrier() as primary, carrier() as backup:
        primary.on_submit = refuse
        # Without validity_period and TLVs of ours there is no field that could be left out after 0x61, 0x62, 0xC0-0xC4.
        first = channel_to(primary, "a", bind=bind, validity="none")
        settings = line_settings([first, channel_to(backup, "b", bind=bind)])
        async with worker(settings, valkey) as w:
            others = (*SAME, *SLOW, *NEXT, *VENDOR, *UNKNOWN, *BUG)
            rows = {s: message(w.store, number(s), category=NOTIFICATION) for s in (*PERMANENT, *others)}
            await accepted(w.store, rows.values())
            await end_as(w.store, [rows[s].id for s in PERMANENT], F=len(PERMANENT))
            await end_as(w.store, [rows[s].id for s in others], D=len(others), timeout_s=20)
            there, behind = submits(primary), submits(backup)
            for status, m in rows.items():
                r = await record(w.store, m.id)
                tries = (there[m.msisdn], behind[m.msisdn])
                log = [(a.number, a.channel, a.outcome, a.status) for a in r.attempts]
                assert not r.possible_duplicate
                if status in PERMANENT:
                    assert (r.reason, r.carrier_code, tries) == (of_status(status)[0], f"0x{status:08X}", (1, 0))
                    assert log == [(1, "a", "permanent", status)]
                elif status in SAME:
                    here = SAME[status] + 1
                    assert tries == (here, 1)
                    assert log == [*((n + 1, "a", "same", status) for n in range(here)), (here + 1, "b", "sent", 0)]
                elif status in SLOW:
                    assert tries == (SLOW_TIMES + 1, 0)
                    assert log == [(1, "a", "sent", 0)]  # no attempt used
                else:
                    word = "bug" if status in BUG else "next"
                    assert (tries, log) == ((1, 1), [(1, "a", word, status), (2, "b", "sent", 0)]), hex(status)
                count = w.metrics.counter("submits_total", channel="a", status=f"0x{status:08X}").n
                assert count == sum(1 for row in primary.ledger.to(m.msisdn) if row.status == status)
            alarms = {
                o: w.metrics.counter("channel_alarms_total", channel="a", outcome=o).n
                for o in ("permanent", "next", "bug")
            }
            assert alarms == {"permanent": 1, "next": len(VENDOR), "bug": len(BUG)}
            assert sum(alarms.values()) == len(ALARM)
            assert primary.counters.binds == (1 if bind == "transceiver" else 2)
            assert w.dispatcher.claims == 0
            report = await audit_line(w.store, valkey, rows.values(), [primary, backup])
            assert report.states == {"delivered": len(others), "failed": len(PERMANENT)}


@BIND
@pytest.mark.parametrize("status", [*CHANNEL, *CHANNEL_AUTH], ids=hex)
async def test_every_answer_about_the_channel(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, bind: str, status: int
) -> None:
    """The message leaves by the backup without an attempt used; the channel is bound anew, an account's fault later."""
    monkeypatch.setattr(dispatcher, "_FAULT_FIRST_S", 0.1)
    monkeypatch.setattr(dispatcher, "_AUTH_FIRST_S", 0.4)
    async with carrier(error_rate=1.0, error_codes=(status,), latency_s=0.1) as primary, carrier() as backup:
        first = channel_to(primary, "a", bind=bind, window=5)
        async with worker(line_settings([first, channel_to(backup, "b", bind=bind)]), valkey) as w:
            binds = 1 if bind == "transceiver" else 2
            await until(lambda: primary.counters.binds == binds)
            ms = [message(w.store, category=i % 3) for i in range(12)]
            sids = await accepted(w.store, ms)
            await end_as(w.store, sids, D=12)
            refused_at = primary.ledger.submits[0].at
            for sid in sids:
                r = await record(w.store, sid)
                assert r.attempt == 1
                assert not r.possible_duplicate
                assert [a.channel for a in r.attempts if a.outcome == "sent"] == ["b"]
            assert 1 <= len(primary.ledger.submits) <= 5, "what was under way when it said so"
            alarms = w.metrics.counter("channel_alarms_total", channel="a", outcome="channel").n
            assert alarms == len(primary.ledger.submits)
            primary.options.error_rate = 0.0

            def bound_anew() -> bool:
                w.dispatcher._lease.beat_soon()  # slots are shared at each beat, two seconds apart
                return primary.counters.binds == 2 * binds

            await until(bound_anew, every_s=0.05)
            waited_s = min(link.session._opened_at for link in primary.links) - refused_at
            assert waited_s >= (0.4 if status in CHANNEL_AUTH else 0.1)
            report = await audit_line(w.store, valkey, ms, [primary, backup])
            assert (report.copies, report.states) == (0, {"delivered": 12})


@BIND
async def test_a_nack_without_a_known_number_is_nobodys_answer(valkey: ValkeyServer, bind: str) -> None:
    async with carrier() as smsc:
        async with worker(line_settings([channel_to(smsc, "a", bind=bind)]), valkey) as w:
            smsc.links[0].write_raw(encode_header(c.GENERIC_NACK, 0x7FFF0000, 0x08))
            ms = [message(w.store) for _ in range(5)]
            await end_as(w.store, await accepted(w.store, ms), D=5)
            counted = w.metrics.counter("smpp_faults_total", channel="a", kind="unmatched_nack")
            await until(lambda: counted.n == 1)
            report = await audit_line(w.store, valkey, ms, [smsc])
            assert (report.submits, report.copies) == (5, 0)
