"""A channel answers with its own fault in the moment in which bind slots are shared: it stays closed all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.dispatch import dispatcher
from gateway.store.store import Store
from tests.support.audit import audit_line
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as
from tests.support.until import until
from tests.support.valkey import ValkeyServer

WINDOW = 5


async def test_a_fault_while_slots_are_shared(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password (0x0E) closes it for a minute; bound again at once, it would be asked all that time."""
    monkeypatch.setattr(dispatcher, "_AUTH_FIRST_S", 30.0)
    sharing, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    bind_slots = Store.bind_slots

    async def held_up(self: Store, channel: str, *rest: Any) -> Any:
        found = await bind_slots(self, channel, *rest)
        if channel == "a" and sharing_now:
            sharing.set()
            await go_on.wait()
        elif channel == "b" and go_on.is_set():
            done.set()  # the next channel's turn: what was done with the slots of "a" is done
        return found

    sharing_now = False
    monkeypatch.setattr(Store, "bind_slots", held_up)
    async with carrier(error_rate=1.0, error_codes=(0x0E,), latency_s=0.1) as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a", window=WINDOW), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            sharing_now = True
            ms = [message(w.store) for _ in range(30)]
            sids = await accepted(w.store, ms)
            w.dispatcher._lease.beat_soon()
            await asyncio.wait_for(sharing.wait(), 5)
            a = w.dispatcher.channels["a"]
            await until(lambda: primary.counters.answered_error and not a.slots and not a.closing)
            sharing_now = False
            go_on.set()
            await asyncio.wait_for(done.wait(), 5)
            assert a.slots == [], "bound again while it is closed"
            await end_as(w.store, sids, D=30)
            await audit_line(w.store, valkey, ms, [primary, backup])
            assert primary.counters.binds == 1
            assert len(primary.ledger.submits) <= WINDOW
