"""From the store to the carrier and back: submit, response, receipt, on real sockets."""

from __future__ import annotations

from gateway.model import State
from tests.support.line import Worker, channel_to, line_settings, smsc, states, worker
from tests.support.messages import accept, message
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def all_delivered(w: Worker, sids: list[bytes]) -> None:
    async def done() -> bool:
        return await states(w.store, sids) == {State.DELIVERED: len(sids)}

    await until(done)


async def test_messages_are_submitted_once_and_delivered(valkey: ValkeyServer, shards: int) -> None:
    carrier = smsc()
    await carrier.start()
    settings = line_settings([channel_to(carrier, "a", binds=2)], shards=shards)
    async with worker(settings, valkey) as w:
        ms = [message(w.store, category=i % 3) for i in range(300)]
        assert set(await accept(w.store, *ms)) == {"accepted"}
        await all_delivered(w, [m.id for m in ms])
        assert sorted(carrier.ledger.destinations()) == sorted(m.msisdn for m in ms)
        assert w.dispatcher.claims == 0
        assert await w.store.waiting() == 0
    await carrier.stop()


async def test_a_receipt_before_its_response_finds_its_message(valkey: ValkeyServer) -> None:
    carrier = smsc(latency_s=0.05, early_rate=1.0)
    await carrier.start()
    async with worker(line_settings([channel_to(carrier, "a")]), valkey) as w:
        ms = [message(w.store) for _ in range(30)]
        await accept(w.store, *ms)
        await all_delivered(w, [m.id for m in ms])
    await carrier.stop()
