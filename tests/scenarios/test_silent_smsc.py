"""Carriers that are not there: refused, silent at the bind, half-open, locked out, hanging on one bind of two."""

from __future__ import annotations

import pytest

from gateway.smpp import channel
from tests.support.line import channel_to, line_settings, states, worker
from tests.support.messages import message
from tests.support.scenario import NOTIFICATION, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


@pytest.mark.parametrize("fault", ["refused", "never answers the bind", "refuses the bind"])
async def test_the_backup_serves_and_the_primary_is_asked_again(valkey: ValkeyServer, fault: str) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = line_settings([channel_to(primary, "a", session_init_timer_s=0.3), channel_to(backup, "b")])
        if fault == "refused":
            await primary.stop_listening()
        elif fault == "refuses the bind":
            primary.options.bind_status = 0x0D
        else:
            primary.options.answer_binds = False
        async with worker(settings, valkey, bound=False) as w:
            sids = await accepted(w.store, [message(w.store, category=i % 3) for i in range(30)])
            await end_as(w.store, sids, D=30)
            assert len(backup.ledger.submits) == 30
            assert not w.dispatcher.channels["a"].up

            if fault == "refuses the bind":
                return  # not asked again within a minute, see below
            if fault == "refused":
                await primary.start()
            primary.options.answer_binds = True
            await until(lambda: w.dispatcher.channels["a"].up)
            sids = await accepted(w.store, [message(w.store)])
            await end_as(w.store, sids, D=1)
            assert len(primary.ledger.submits) == 1


async def test_a_half_open_connection_is_noticed_and_nothing_is_stuck(valkey: ValkeyServer) -> None:
    """The peer's machine is gone without a word: enquire_link finds out, and the window is uncertain."""
    async with carrier() as primary, carrier() as backup:
        first = channel_to(primary, "a", enquire_link_s=0.2, response_timer_s=0.4)
        async with worker(line_settings([first, channel_to(backup, "b")]), valkey, drain_s=0.0) as w:
            primary.pause_reading()
            codes = [message(w.store, category=VERIFICATION) for _ in range(2)]
            others = [message(w.store, category=NOTIFICATION) for _ in range(2)]
            sids = await accepted(w.store, codes)
            waiting = await accepted(w.store, others)
            await until(lambda: not w.dispatcher.channels["a"].up)
            await end_as(w.store, sids, D=2)
            assert sorted(backup.ledger.destinations()) == sorted(m.msisdn for m in codes)
            for sid in sids:
                assert (await record(w.store, sid)).possible_duplicate
            await end_as(w.store, waiting, u=2)  # what they wait for may still come
            assert not submits(backup)[others[0].msisdn]
            await end_as(w.store, await accepted(w.store, [message(w.store)]), D=1)


async def test_one_bind_that_hangs_does_not_hold_up_the_other(valkey: ValkeyServer) -> None:
    """The hanging one fills its own window and no more; everything behind goes by the other."""
    async with carrier() as smsc:
        settings = line_settings([channel_to(smsc, "a", binds=2, window=10, response_timer_s=30.0)])
        async with worker(settings, valkey, drain_s=0.0) as w:
            await until(lambda: smsc.counters.sessions == 2)
            smsc.links[0].pause_reading()
            sids = await accepted(w.store, [message(w.store) for _ in range(100)])

            async def all_but_a_window() -> bool:
                seen = await states(w.store, sids)
                return seen.get("D", 0) >= 90 and set(seen) <= {"D", "q"}

            await until(all_but_a_window)


async def test_an_account_that_is_refused_is_not_hammered(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password is tried again after a minute at the earliest (here: 0.4 s), others after parts of one."""
    monkeypatch.setattr(channel, "_AUTH_FIRST_S", 0.4)
    monkeypatch.setattr(channel, "_AUTH_MOST_S", 0.8)
    monkeypatch.setattr(channel, "_BACKOFF_MOST_S", 0.05)
    async with carrier(system_id="acme", password="another") as strict, carrier(bind_status=0x0D) as plain:
        settings = line_settings([channel_to(strict, "a"), channel_to(plain, "b", bind="transmitter_receiver")])
        async with worker(settings, valkey, bound=False, drain_s=0.0) as w:
            await until(lambda: strict.counters.binds_refused == 2)
            assert strict.counters.binds == 0
            sids = await accepted(w.store, [message(w.store)])
            strict.options.password = "secret"
            await end_as(w.store, sids, D=1)


def test_pauses_between_binds() -> None:
    assert [channel.backoff_s(n, 0x0E, 0.0) for n in (1, 2, 9)] == [60.0] * 3
    assert [channel.backoff_s(n, 0x0E, 1.0) for n in (1, 2, 3, 9)] == [120.0, 240.0, 480.0, 900.0]
    assert [channel.backoff_s(n, 0x05, 0.0) for n in (1, 9)] == [5.0, 5.0]
    assert [channel.backoff_s(n, 0x05, 1.0) for n in (1, 9)] == [10.0, 60.0]
    assert channel.backoff_s(30, 0, 1.0) == channel._BACKOFF_MOST_S
    assert channel.backoff_s(0, 0, 0.0) == channel._BACKOFF_FIRST_S / 2
