"""The SMSC reads slowly: once the kernel's buffers are full nothing more is claimed, memory stays, and all goes on."""

from __future__ import annotations

import socket

from gateway.smpp import connection as connection_module
from tests.support.audit import audit_line
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import VERIFICATION, accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer
from tests.support.wire import Wire

MESSAGES = 4_000
BUFFER_OCTETS = 8 * 1024
CLAIM_OCTETS = 400 * 250
"""The most one claim brings: it was made while there was room."""


async def test_claims_stop_while_the_smsc_does_not_read(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, carrier() as backup, Wire(smsc.port, receive_octets=BUFFER_OCTETS) as wire:
        slow = channel_to(smsc, "a", port=wire.port, window=10_000, response_timer_s=60.0)
        async with worker(line_settings([slow, channel_to(backup, "b")]), valkey) as w:
            (link,) = w.dispatcher.channels["a"]._links.values()
            (connection,) = link.connections
            transport = connection._transport
            assert transport is not None
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_OCTETS)
            wire.up.held = True
            ms = [message(w.store, body=body("x" * 150)) for _ in range(MESSAGES)]
            sids = await accepted(w.store, ms)
            await until(lambda: not connection.writable)
            # Of the last claim a part may have found the way closed: it goes back.
            await until(lambda: _adds_up(w))
            claims = w.dispatcher.claims
            # Far below the window: what stops it is the writing.
            assert claims < MESSAGES / 2
            assert w.dispatcher.channels["a"].free == 0
            assert transport.get_write_buffer_size() <= connection_module.WRITE_HIGH_OCTETS + CLAIM_OCTETS
            code = message(w.store, category=VERIFICATION)
            await accepted(w.store, [code])
            turn = w.dispatcher._claimer._turn
            await until(lambda: w.dispatcher._claimer._turn >= turn + 3)
            assert w.dispatcher.claims == claims, "claimed, though nothing can be written"
            assert await w.store.waiting() == MESSAGES - claims + 1
            assert not backup.ledger.submits  # bound and answering is not broken

            wire.release()
            await end_as(w.store, [*sids, code.id], D=MESSAGES + 1, timeout_s=30)
            assert smsc.counters.binds == wire.connections == 1
            report = await audit_line(w.store, valkey, [*ms, code], [smsc, backup])
            assert (report.submits, report.copies) == (MESSAGES + 1, 0)


async def _adds_up(w: Worker) -> bool:
    """Whether every message is either claimed or waiting."""
    return await w.store.waiting() + w.dispatcher.claims == MESSAGES
