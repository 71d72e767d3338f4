"""Sessions that the SMSC opens: outbind in, our bind on the same connection, and every caller that is not let in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.model import Secret
from gateway.simulator.smsc import Link, Smsc
from gateway.smpp import channel as channel_module
from gateway.smpp import constants as c
from gateway.smpp import outbind
from gateway.smpp.channel import Channel
from gateway.smpp.codec import encode
from gateway.smpp.pdu import EnquireLink, Unknown
from tests.support.channel import Heard, make_channel, outbound
from tests.support.gateway import free_port
from tests.support.scenario import carrier
from tests.support.until import until

NAME, PASSWORD = b"their-smsc", b"theirs"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(channel_module, "_BACKOFF_MOST_S", 0.1)
    monkeypatch.setattr(channel_module, "_UNBIND_S", 0.5)
    monkeypatch.setattr(outbind, "_AGAIN_S", 0.05)


class Called:
    """A channel that is called, and the SMSC that calls it."""

    def __init__(self, smsc: Smsc, **settings: Any) -> None:
        self.smsc = smsc
        self.port = free_port()
        self.heard = Heard()
        values = {"outbind_system_id": NAME.decode(), "outbind_password": Secret(PASSWORD.decode())} | settings
        self.channel = make_channel(smsc, self.heard, outbind_listen=("127.0.0.1", self.port), **values)

    async def call(self, system_id: bytes = NAME, password: bytes = PASSWORD) -> Link:
        await until(lambda: self.channel.door is not None and self.channel.door.listening)
        return await self.smsc.outbind("127.0.0.1", self.port, system_id, password)

    async def refused(self) -> bool:
        try:
            link = await self.smsc.outbind("127.0.0.1", self.port, NAME, PASSWORD)
        except OSError:
            return True
        await asyncio.wait_for(link.wait_closed(), 2)
        return not link.system_id

    def count(self, result: str) -> float:
        return self.channel._metrics.counter("binds_total", channel="a", result=result).n

    @property
    def bound(self) -> int:
        return sum(c.session.bound for link in self.channel._links.values() for c in link.connections)


@contextlib.asynccontextmanager
async def called(slots: int = 1, **settings: Any) -> AsyncIterator[Called]:
    async with carrier() as smsc:
        one = Called(smsc, **settings)
        one.channel.set_slots(list(range(slots)))
        try:
            yield one
        finally:
            await one.channel.stop()


async def test_a_call_becomes_a_session_like_any_other() -> None:
    async with called() as it:
        link = await it.call()
        await until(lambda: it.channel.up)
        assert (link.system_id, it.smsc.counters.binds) == (b"acme", 1)
        assert it.channel.submit(outbound(), "m") == 1
        await until(lambda: it.heard.inbound)
        assert it.heard.answers == [("m", 0, "answered", 0, "0000000001")]
        Channel.acknowledge(it.heard.inbound)
        await until(lambda: it.smsc.counters.settled == 1)
        assert it.count("bound") == 1


async def test_after_its_end_the_next_call_is_taken() -> None:
    async with called() as it:
        for n in range(3):
            link = await it.call()
            await until(lambda: it.channel.up)
            assert it.smsc.counters.binds == n + 1
            link.abort()
            await until(lambda: not it.channel.up)


async def test_the_receiver_is_called_while_we_connect_the_transmitter() -> None:
    async with called(bind="transmitter_receiver") as it:
        await until(lambda: it.channel.up)  # the transmitter
        assert it.smsc.counters.binds == 1
        it.channel.submit(outbound(), "m")
        await until(lambda: it.heard.answers)
        assert not it.heard.inbound, "nobody receives yet"
        await it.call()
        await until(lambda: it.heard.inbound)
        assert it.smsc.counters.binds == 2


@pytest.mark.parametrize(
    ("system_id", "password"),
    [
        (b"other", PASSWORD),
        (NAME, b"guessed"),
        (NAME, b""),
        (NAME[:-1], PASSWORD),
        (NAME + b"x", PASSWORD),
        (b"\xff", b"\xff"),
    ],
)
async def test_wrong_credentials_are_cut_and_counted(
    caplog: pytest.LogCaptureFixture, system_id: bytes, password: bytes
) -> None:
    async with called() as it:
        link = await it.call(system_id, password)
        await asyncio.wait_for(link.wait_closed(), 2)
        assert (it.count("outbind_refused"), it.smsc.counters.binds) == (1, 0)
        assert "wrong credentials" in caplog.text
        for secret in (PASSWORD.decode(), "guessed", "secret"):
            assert secret not in caplog.text
        await it.call()
        await until(lambda: it.channel.up)


async def test_without_credentials_configured_anybody_is_taken() -> None:
    async with called(outbind_system_id="", outbind_password=None) as it:
        await it.call(b"whoever", b"")
        await until(lambda: it.channel.up)


async def test_one_who_says_nothing_is_cut_and_keeps_nobody_out() -> None:
    async with called(session_init_timer_s=0.3) as it:
        silent = await it.call(b"")
        chatty = await it.call(b"")
        chatty.write_raw(encode(EnquireLink(0, 1)) + encode(Unknown(c.OUTBIND, b"no end", 0, 2)))
        await it.call()
        await until(lambda: it.channel.up)
        await asyncio.wait_for(asyncio.gather(silent.wait_closed(), chatty.wait_closed()), 2)
        assert it.count("outbind_silent") == 2
        assert it.channel.up
        assert it.smsc.counters.binds == 1


async def test_strangers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbind, "_STRANGERS", 3)
    async with called() as it:
        strangers = [await it.call(b"") for _ in range(3)]
        assert it.channel.door is not None
        await until(lambda: len(it.channel.door._strangers) == 3)  # type: ignore[union-attr]
        one_more = await it.call(b"")
        await asyncio.wait_for(one_more.wait_closed(), 2)
        assert it.count("outbind_refused") == 1
        strangers[0].abort()
        await until(lambda: len(it.channel.door._strangers) == 2)  # type: ignore[union-attr]
        await it.call()
        await until(lambda: it.channel.up)
    await until(lambda: not it.channel.door._strangers)  # type: ignore[union-attr]


async def test_above_its_binds_nobody_is_taken() -> None:
    async with called(slots=2) as it:
        early = await it.call(b"")  # connected while there was room
        await it.call()
        await it.call()
        await until(lambda: it.bound == 2)
        await until(lambda: not it.channel.door.listening)  # type: ignore[union-attr]
        assert await it.refused()
        early.write_raw(encode(Unknown(c.OUTBIND, NAME + b"\0" + PASSWORD + b"\0", 0, 1)))
        await asyncio.wait_for(early.wait_closed(), 2)
        assert it.count("outbind_full") == 1
        assert (it.bound, it.smsc.counters.binds) == (2, 2)


async def test_a_slot_that_is_closed_is_called_no_more() -> None:
    async with called() as it:
        await it.call()
        await until(lambda: it.channel.up)
        await it.channel.close_slot(0)
        assert await it.refused()
        it.channel.set_slots([0])
        await it.call()
        await until(lambda: it.channel.up)


async def test_a_bind_that_is_refused_ends_the_call() -> None:
    async with called() as it:
        it.smsc.options.bind_status = 0x05
        link = await it.call()
        await asyncio.wait_for(link.wait_closed(), 2)
        assert it.count("refused") == 1
        assert not it.channel.up


async def test_a_port_in_use_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with carrier() as busy:
        one = make_channel(busy, Heard(), outbind_listen=("127.0.0.1", busy.port))  # which it does not share
        one.set_slots([0])
        failed = one._metrics.counter("binds_total", channel="a", result="outbind_not_listening")
        await until(lambda: failed.n >= 2)
        assert "cannot listen for an outbind" in caplog.text
        await busy.stop_listening()
        await until(lambda: one.door is not None and one.door.listening)
        await one.stop()


async def test_two_workers_share_the_port_and_the_free_one_is_called() -> None:
    async with called() as it:
        second = Called(it.smsc)
        second.port = it.port
        settings = {"outbind_system_id": NAME.decode(), "outbind_password": Secret(PASSWORD.decode())}
        second.channel = make_channel(it.smsc, second.heard, outbind_listen=("127.0.0.1", it.port), **settings)
        second.channel.set_slots([1])
        try:
            await until(lambda: second.channel.door.listening)  # type: ignore[union-attr]
            await it.call()
            await until(lambda: it.bound + second.bound == 1)
            taken, free = (it, second) if it.bound else (second, it)
            await until(lambda: not taken.channel.door.listening)  # type: ignore[union-attr]
            await free.call()
            await until(lambda: it.bound == second.bound == 1)
            assert await it.refused()
        finally:
            await second.channel.stop()


async def test_another_window_holds_for_the_next_call_too() -> None:
    async with called(window=1) as it:
        await it.call()
        await until(lambda: it.channel.up)
        it.channel.use(replace(it.channel.settings, window=10))
        assert it.channel.free == 10
        (link,) = it.smsc.links
        link.abort()
        await until(lambda: not it.channel.up)
        await it.call()
        await until(lambda: it.channel.up)
        assert it.channel.free == 10
        assert it.channel.submit(outbound("x" * 400), "long") == 0b111, "it would never find room"
