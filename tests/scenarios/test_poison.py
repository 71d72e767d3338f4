"""Records that cannot be read or built: each ends as failed with its reason, and its neighbours do not notice."""

from __future__ import annotations

import asyncio

import pytest

from gateway.smpp import channel
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import body, held_by, message
from tests.support.scenario import accepted, carrier, end_as, record
from tests.support.until import until
from tests.support.valkey import ValkeyServer


async def test_poison_fails_alone(valkey: ValkeyServer, shards: int) -> None:
    bodies = {
        "record_unreadable": b"{not json",
        "cannot_be_encoded": body("\u4e2d" * 5),
    }
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")], shards=shards), valkey) as w:
        bad = {reason: message(w.store, body=raw) for reason, raw in bodies.items()}
        bad["cannot_be_encoded too"] = message(w.store, sender="a sender far too long for any field of SMPP")
        good = [message(w.store) for _ in range(40)]
        await accepted(w.store, [*good[:20], *bad.values(), *good[20:]])
        await end_as(w.store, [m.id for m in good], D=40)
        for reason, m in bad.items():

            async def failed(sid: bytes = m.id) -> bool:
                return (await record(w.store, sid)).state == "F"

            await until(failed)
            assert (await record(w.store, m.id)).reason == reason.removesuffix(" too")
        assert len(smsc.ledger.submits) == 40
        await until(lambda: w.dispatcher.claims == 0)
        for shard in range(shards):
            assert await held_by(w.store, shard) == []
        assert await w.store.waiting() == 0


async def test_a_fault_in_our_encoder_ends_one_message(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_parts = channel.encode_parts

    def failing(text: str, *args: object, **kwargs: object) -> list[bytes]:
        if text == "poison":
            raise IndexError("a fault of ours")
        return encode_parts(text, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(channel, "encode_parts", failing)
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        poison = message(w.store, body=body("poison"), parts=2)
        good = [message(w.store) for _ in range(10)]
        await accepted(w.store, [poison, *good])
        await end_as(w.store, [poison.id], F=1)
        await end_as(w.store, [m.id for m in good], D=10)


async def test_a_fault_in_settling_one_message_does_not_stop_the_rest(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays claimed, hence uncertain when the worker ends, and its parked receipt tells: nothing is lost."""
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a")])
        async with worker(settings, valkey, drain_s=0.0) as w:
            settler = w.dispatcher._settler
            bad, *good = [message(w.store) for _ in range(10)]
            key = settler._submit_key

            def failing(raw: str, id_format: str) -> str:
                if raw == smsc.ledger.to(bad.msisdn)[0].smsc_id:
                    raise ZeroDivisionError("a fault of ours")
                return key(raw, id_format)

            monkeypatch.setattr(settler, "_submit_key", failing)
            await accepted(w.store, [bad])
            await until(lambda: smsc.counters.answered_ok == 1)
            await accepted(w.store, good)
            await end_as(w.store, [m.id for m in good], D=9)
            assert w.dispatcher.claims == 1
            assert len(smsc.ledger.to(bad.msisdn)) == 1
        async with worker(settings, valkey, "worker02") as w:
            await end_as(w.store, [bad.id], D=1)
            assert [a.outcome for a in (await record(w.store, bad.id)).attempts] == ["uncertain", "sent"]
            assert len(smsc.ledger.to(bad.msisdn)) == 1


async def test_a_fault_in_a_periodic_task_does_not_end_it(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrier() as smsc, worker(line_settings([channel_to(smsc, "a")]), valkey) as w:
        due, heartbeat = w.store.due, w.store.heartbeat
        failures = {"due": 0, "heartbeat": 0}

        async def failing_due(shard: int) -> tuple[int, int]:
            failures["due"] += 1
            if failures["due"] == 1:
                raise KeyError("a fault of ours")
            return await due(shard)

        async def failing_heartbeat(*args: object, **kwargs: object) -> object:
            failures["heartbeat"] += 1
            if failures["heartbeat"] == 1:
                raise KeyError("a fault of ours")
            return await heartbeat(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr("gateway.dispatch.timers._RETRY_S", 0.05)
        monkeypatch.setattr(w.store, "due", failing_due)
        monkeypatch.setattr(w.store, "heartbeat", failing_heartbeat)
        w.dispatcher._lease.beat_soon()
        await until(lambda: failures["heartbeat"] == 1)
        w.dispatcher._lease.beat_soon()
        await until(lambda: failures["due"] > 2 and failures["heartbeat"] > 1)
        await end_as(w.store, await accepted(w.store, [message(w.store)]), D=1)
        assert not [t for t in asyncio.all_tasks() if t.get_name() in ("lease", "timers") and t.done()]
