"""A carrier whose octets cannot be true: its session ends or goes on as it must, the other channel does not notice."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.settings import RankedChannel, RouteMatch, RouteSettings
from gateway.simulator.smsc import Smsc
from gateway.smpp import constants as c
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, receipt_pdu
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@contextlib.asynccontextmanager
async def two_channels(valkey: ValkeyServer, **changes: object) -> AsyncIterator[tuple[Worker, Smsc, Smsc]]:
    """A worker with route `r` on the carrier that misbehaves and route `r2` on a sound one."""
    async with carrier(receipts=False) as bad, carrier() as good:
        settings = line_settings([channel_to(bad, "a", **changes), channel_to(good, "b")])
        routes = tuple(
            RouteSettings(name, RouteMatch(country="CN"), (RankedChannel(id, 0),))
            for name, id in (("r", "a"), ("r2", "b"))
        )
        async with worker(replace(settings, routes=routes), valkey) as w:
            yield w, bad, good


async def both_work(w: Worker, bad: Smsc, good: Smsc) -> None:
    before = len(good.ledger.submits)
    await until(lambda: w.dispatcher.channels["a"].up)
    there = await accepted(w.store, [message(w.store) for _ in range(3)])
    here = await accepted(w.store, [message(w.store, route="r2") for _ in range(3)])
    await end_as(w.store, there, s=3)
    await end_as(w.store, here, D=3)
    assert len(good.ledger.submits) == before + 3
    assert good.counters.binds == 1


@pytest.mark.parametrize("length", [0, 3, 15, 0x10001, 0x7FFFFFFF, 0xFFFFFFFF])
async def test_an_impossible_length_ends_the_session_at_once(valkey: ValkeyServer, length: int) -> None:
    async with two_channels(valkey) as (w, bad, good):
        link = bad.links[0]
        bad.send_raw(struct.pack(">IIII", length, c.DELIVER_SM, 0, 1))
        await until(lambda: link.session.counters.unmatched_nacks == 1, timeout_s=1)  # generic_nack 0x02
        await until(lambda: link.session.closed, timeout_s=1)
        await both_work(w, bad, good)
        assert bad.counters.binds == 2


async def test_pdus_that_are_only_odd_leave_the_session_alone(valkey: ValkeyServer) -> None:
    async with two_channels(valkey) as (w, bad, good):
        link = bad.links[0]
        odd = [
            (0x00000177, 0, b"x" * 40),  # unknown command: generic_nack 0x03
            (0x80000177, 0, b""),  # unknown response: ignored
            (c.SUBMIT_SM_RESP, 0, b"stray\0"),  # to nothing we sent
            (c.SUBMIT_SM_RESP, 8, b""),
            (c.ENQUIRE_LINK_RESP, 0, b""),
            (c.ALERT_NOTIFICATION, 0, b"\x01\x01123\0\x01\x01456\0"),
            (c.SUBMIT_SM, 0, bytes(33)),  # not ours to serve: 0x04
            (c.DELIVER_SM, 0, b"\0" * 16 + b"\xff"),  # sm_length beyond the end: a dead letter
        ]
        link.write_raw(
            b"".join(struct.pack(">IIII", 16 + len(b), id_, st, 0x7000 + i) + b for i, (id_, st, b) in enumerate(odd))
        )
        await until(lambda: link.session.counters.unmatched_nacks == 1)
        await until(lambda: link.session.counters.unmatched_responses >= 2)
        await both_work(w, bad, good)
        assert bad.counters.binds == 1


async def test_a_receipt_on_a_transmitter_is_refused(valkey: ValkeyServer) -> None:
    async with two_channels(valkey, bind="transmitter_receiver") as (w, bad, good):
        m = message(w.store)
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], s=1)
        for link in bad.links:
            link.write_raw(receipt_pdu(bad.ledger.submits[0].smsc_id, m.msisdn, 1))
        await end_as(w.store, [m.id], D=1)  # by the receiver
        await until(lambda: sum(x.session.counters.unmatched_responses for x in bad.links) == 2)
        delivered = w.metrics.counter("receipts_total", channel="a", state="delivered")
        assert delivered.n == 1
        await both_work(w, bad, good)
        assert bad.counters.binds == 2


@pytest.mark.parametrize("seed", range(4))
async def test_garbage_and_mutated_pdus(valkey: ValkeyServer, seed: int) -> None:
    """Whatever comes, the process lives, binds again and loses nothing; half a PDU before a cut as well."""
    rng = random.Random(seed)
    sound = receipt_pdu("4711", "8613800138000", 1) + struct.pack(">IIII", 16, c.ENQUIRE_LINK, 0, 2)
    async with two_channels(valkey) as (w, bad, good):
        for _ in range(15):
            await until(lambda: w.dispatcher.channels["a"].up)
            octets = bytearray(sound)
            for _ in range(rng.randrange(1, 6)):
                octets[rng.randrange(len(octets))] = rng.randrange(256)
            if rng.random() < 0.3:
                octets = bytearray(rng.randbytes(rng.randrange(1, 400)))
            elif rng.random() < 0.3:
                del octets[rng.randrange(1, len(octets)) :]
            bad.send_raw(bytes(octets))
            if rng.random() < 0.5:
                bad.drop_sessions()
        bad.drop_sessions()  # what hangs on half a PDU would wait for its rest
        await both_work(w, bad, good)
        assert not w.lost


async def test_a_stream_cut_into_single_octets(valkey: ValkeyServer) -> None:
    """One octet at a time, and many PDUs at once, are the same conversation."""
    async with two_channels(valkey) as (w, bad, good):
        m = message(w.store)
        await accepted(w.store, [m])
        await end_as(w.store, [m.id], s=1)
        for octet in receipt_pdu(bad.ledger.submits[0].smsc_id, m.msisdn, 1):
            bad.send_raw(bytes((octet,)))
            await until(lambda: True)
        await end_as(w.store, [m.id], D=1)
        await both_work(w, bad, good)
        assert bad.counters.binds == 1
