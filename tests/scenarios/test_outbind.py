"""A carrier that calls the gateway: messages and receipts over sessions it opened, shared by two dispatch workers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.model import Secret
from gateway.simulator.smsc import Smsc
from tests.support.gateway import free_port
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def called(smsc: Smsc, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "outbind_listen": ("127.0.0.1", free_port()),
        "outbind_system_id": "theirs",
        "outbind_password": Secret("word"),
    }
    return channel_to(smsc, "a", **(values | changes))


async def call(smsc: Smsc, *workers: Worker) -> None:
    """Call the gateway, as soon as somebody listens, and wait for the bind."""
    channels = [w.dispatcher.channels["a"] for w in workers]
    await until(lambda: any(c.door is not None and c.door.listening for c in channels), timeout_s=20)
    before = smsc.counters.binds
    host, port = channels[0].settings.outbind_listen or ("", 0)
    await smsc.outbind(host, port, b"theirs", b"word")
    await until(lambda: smsc.counters.binds > before)


@pytest.mark.parametrize("bind", ["transceiver", "transmitter_receiver"])
async def test_messages_and_receipts_over_a_session_it_opened(valkey: ValkeyServer, bind: str) -> None:
    async with carrier() as smsc, worker(line_settings([called(smsc, bind=bind)]), valkey, bound=False) as w:
        sids = await accepted(w.store, [message(w.store) for _ in range(20)])
        if bind == "transceiver":
            assert smsc.counters.binds == 0, "nobody connects to it"
            await end_as(w.store, sids, q=20)
        else:
            await end_as(w.store, sids, s=20)
        await call(smsc, w)
        await end_as(w.store, sids, D=20)
        assert set(submits(smsc).values()) == {1}
        # Lost and called again: what came meanwhile goes out, its receipts come in.
        smsc.drop_sessions()
        await until(lambda: not smsc.links)
        more = await accepted(w.store, [message(w.store) for _ in range(20)])
        await call(smsc, w)
        await end_as(w.store, more, D=20)
        assert await w.store.waiting() == 0


async def test_while_it_does_not_call_the_backup_sends(valkey: ValkeyServer) -> None:
    async with carrier() as smsc, carrier() as backup:
        settings = line_settings([called(smsc), channel_to(backup, "b")])
        async with worker(settings, valkey, bound=False) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(5)])
            await end_as(w.store, sids, D=5)
            assert len(backup.ledger.submits) == 5
            await call(smsc, w)
            sids = await accepted(w.store, [message(w.store) for _ in range(5)])
            await end_as(w.store, sids, D=5)
            assert len(smsc.ledger.submits) == 5


async def test_two_workers_hold_a_session_each_and_no_third_is_taken(valkey: ValkeyServer) -> None:
    async with carrier() as smsc:
        settings = line_settings([called(smsc, binds=2)])
        async with (
            worker(settings, valkey, bound=False) as one,
            worker(settings, valkey, "worker02", bound=False) as two,
        ):
            both = (one, two)
            await until(lambda: all(len(w.dispatcher.channels["a"].slots) == 1 for w in both), timeout_s=20)
            await call(smsc, *both)
            await until(lambda: sum(w.dispatcher.channels["a"].up for w in both) == 1)
            await call(smsc, *both)
            await until(lambda: all(w.dispatcher.channels["a"].up for w in both))
            doors = [w.dispatcher.channels["a"].door for w in both]
            await until(lambda: not any(door is not None and door.listening for door in doors))
            host, port = settings.channels[0].outbind_listen or ("", 0)
            with pytest.raises(OSError, match="Connect call failed"):
                await smsc.outbind(host, port, b"theirs", b"word")
            sids = await accepted(one.store, [message(one.store) for _ in range(40)])
            await end_as(one.store, sids, D=40)
            assert len(smsc.ledger.submits) == 40
