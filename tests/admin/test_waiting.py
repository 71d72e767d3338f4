"""What a message waits for now: told in the order in which it must change, as claims would meet it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.admin.waiting import Waits
from gateway.commands.message import _waits
from gateway.model import Secret, State
from gateway.settings import ChannelSettings, RankedChannel, RouteMatch, RouteSettings, Settings
from gateway.store.moves import Settlement
from gateway.store.store import Store
from tests.support.messages import accept, claim, message


@pytest.fixture
def own(settings: Settings) -> Settings:
    return replace(
        settings,
        channels=(
            ChannelSettings("ch", "127.0.0.1", 2775, "esme", Secret("x")),
            ChannelSettings("cm-b", "127.0.0.1", 2776, "esme", Secret("x")),
        ),
        routes=(RouteSettings("r", RouteMatch(country="CN"), (RankedChannel("ch", 0), RankedChannel("cm-b", 1))),),
    )


async def told(store: Store, own: Settings, sid: bytes) -> dict[str, Any]:
    record = await store.get(sid)
    assert record is not None
    return (await Waits(own, store).of([record]))[sid]


async def test_a_queued_message_says_that_no_channel_can_take_it_and_why(store: Store, own: Settings) -> None:
    m = message(store)
    await accept(store, m)
    await store.health([("ch", "pause", 0)])
    found = await told(store, own, m.id)
    assert (found["why"], found["what"]) == ("channels", "r")
    assert [(c["id"], c["rank"], c["why"]) for c in found["channels"]] == [
        ("ch", 0, "paused"),
        ("cm-b", 1, "not_bound"),
    ]
    assert "  ch, rank 0: paused by an operator" in _waits(found)
    assert "  cm-b, rank 1: not bound" in _waits(found)
    (gone,) = (await Waits(replace(own, routes=()), store).of([_known(await store.get(m.id))])).values()
    assert (gone["why"], gone["what"]) == ("route", "r")


async def test_a_gate_is_told_before_it_holds_and_while_it_does(store: Store, own: Settings) -> None:
    m = message(store, tags=("sale",), campaign="spring")
    await accept(store, m)
    await store.set_gate("tag", "sale", "hold")
    found = await told(store, own, m.id)
    assert (found["why"], found["what"], found["state"]) == ("gate", "tag:sale", "hold")
    assert [one["why"] for one in found["also"]] == ["channels"]
    assert await claim(store) == []
    record = _known(await store.get(m.id))
    assert record.state == State.HELD
    found = await told(store, own, m.id)
    assert (found["why"], found["what"]) == ("gate", "tag:sale")
    assert found["since"] is not None
    await store.set_gate("campaign", "spring", "closed")
    found = await told(store, own, m.id)
    assert (found["what"], found["state"]) == ("campaign:spring", "closed")
    assert _waits(found)[0].startswith("the gate campaign:spring is closed and will end it")


async def test_times_attempts_and_receipts(store: Store, own: Settings) -> None:
    at_ms = int(time.time() * 1000) + 3_600_000
    timed = message(store, send_at_ms=at_ms, state=State.SCHEDULED)
    window = message(store, send_at_ms=at_ms, state=State.DEFERRED, window_until_ms=at_ms + 60_000)
    sent, tried = message(store), message(store)
    await accept(store, timed, window, sent, tried)
    claims = {c.id: c for c in await claim(store)}
    found = await told(store, own, sent.id)
    assert (found["why"], found["what"]) == ("sending", "ch")
    for m, verb, outcome in ((sent, "s", "0"), (tried, "r", "throttled")):
        log = f"1\x1fch\x1f{'58' if verb == 'r' else '0'}\x1f{outcome}\x1f"
        await store.settle(0, [Settlement(claims[m.id].claim, 1, verb, "ch", delay_ms=60_000, log=log)], [])
    found = await told(store, own, timed.id)
    assert (found["why"], found["until"][:19]) == (
        "time",
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms / 1000)),
    )
    assert (await told(store, own, window.id))["why"] == "window"
    found = await told(store, own, tried.id)
    assert (found["why"], found["what"]) == ("retry", "ch")
    assert found["until"] > found["since"]
    found = await told(store, own, sent.id)
    assert (found["why"], found["what"]) == ("receipt", "ch")


async def test_what_is_final_waits_for_nothing(store: Store, own: Settings) -> None:
    m = message(store)
    await accept(store, m)
    await store.cancel(m.id, "shop")
    assert await Waits(own, store).of([_known(await store.get(m.id))]) == {}
    assert _waits(None) == []


def _known(record: Any) -> Any:
    assert record is not None
    return record
