"""One status, two meanings: "invalid destination" of a whole network, and a full queue that is one recipient's."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dispatch import outcome
from gateway.dispatch.destinations import MIN_ANSWERS
from gateway.simulator.behaviour import Plan
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def refusing(status: int, *beginnings: str) -> Any:
    def plan(link: object, pdu: Any) -> Plan | None:
        return Plan(status=status) if pdu.destination_addr.decode().startswith(beginnings) else None

    return plan


async def test_a_network_the_account_may_not_reach_goes_by_the_other_channel(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        primary.on_submit = refusing(0x0B, "86138")
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")])
        async with worker(settings, valkey) as w:
            early = await accepted(w.store, [message(w.store) for _ in range(MIN_ANSWERS + 20)])
            await end_as(w.store, early, D=len(early))
            later = await accepted(w.store, [message(w.store) for _ in range(20)])
            others = await accepted(w.store, [message(w.store, f"86189{i:08d}") for i in range(20)])
            await end_as(w.store, [*later, *others], D=40)
            for sid in later:
                attempts = (await record(w.store, sid)).attempts
                assert [(a.number, a.channel, a.outcome) for a in attempts] == [(1, "a", "next"), (1, "b", "sent")]
            for sid in others:
                assert [a.channel for a in (await record(w.store, sid)).attempts] == ["a"]
            assert w.dispatcher._health.of("a").state == "closed", "its other networks are none the worse"
            assert w.dispatcher.channels["a"].up
            assert w.metrics.counter("channel_alarms_total", channel="a", outcome="next").n >= 20


@pytest.mark.parametrize("channels", [1, 2])
async def test_a_network_that_nobody_reaches_is_refused_for_good(valkey: ValkeyServer, channels: int) -> None:
    async with carrier() as primary, carrier() as backup:
        for one in (primary, backup):
            one.on_submit = refusing(0x0B, "86138")
        settings = line_settings([channel_to(primary, "a"), channel_to(backup, "b")][:channels])
        async with worker(settings, valkey) as w:
            sids = await accepted(w.store, [message(w.store) for _ in range(2 * MIN_ANSWERS + 20)])
            await end_as(w.store, sids, F=len(sids))
            assert {len((await record(w.store, sid)).attempts) for sid in sids} == {channels}


async def test_a_wrong_number_here_and_there_is_a_wrong_number(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        wrong = tuple(f"861381111{i:04d}" for i in range(5))
        for one in (primary, backup):
            one.on_submit = refusing(0x0B, *wrong)
        async with worker(line_settings([channel_to(primary, "a"), channel_to(backup, "b")]), valkey) as w:
            right = await accepted(w.store, [message(w.store) for _ in range(40)])
            bad = await accepted(w.store, [message(w.store, number) for number in wrong])
            await end_as(w.store, [*right, *bad], D=40, F=5)
            assert {len((await record(w.store, sid)).attempts) for sid in bad} == {2}


@pytest.mark.parametrize("category", [0, 1])
async def test_one_recipients_full_queue_does_not_slow_the_channel(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, category: int
) -> None:
    monkeypatch.setattr(outcome, "ONE_QUEUE_MS", (1_000, 1_200))
    async with carrier() as smsc:
        smsc.on_submit = refusing(0x14, "8613899999999")
        settings = line_settings([channel_to(smsc, "a", max_tps=1000)])
        async with worker(settings, valkey) as w:
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(20)]), D=20)
            (full,) = await accepted(w.store, [message(w.store, "8613899999999", category=category)])
            await until(lambda: submits(smsc)["8613899999999"] == 1)
            await end_as(w.store, await accepted(w.store, [message(w.store) for _ in range(20)]), D=20)
            assert w.dispatcher._claimer.rates()["a"] == 1000
            smsc.on_submit = None
            await end_as(w.store, [full], D=1)
            assert [a.number for a in (await record(w.store, full)).attempts] == [1]
