"""Streams: everybody gets the same octets, who stalls is cut, and nobody costs twice."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.admin import events_v1, live
from gateway.model import Secret
from gateway.settings import AdminSettings, ChannelSettings, OperatorSettings, Settings
from gateway.store.store import Store
from tests.support.live import desk, reading
from tests.support.until import until

ADMIN = AdminSettings(token=Secret("the-token-of-tests"))


def with_channels(settings: Settings, n: int) -> Settings:
    channels = tuple(
        ChannelSettings(id=f"ch-{i:03d}", host="127.0.0.1", port=2775, system_id="x", password=Secret("y"))
        for i in range(n)
    )
    return replace(settings, admin=ADMIN, channels=channels)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes seconds takes tenths of them."""
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    monkeypatch.setattr(live, "ASKED_S", 0.3)
    monkeypatch.setattr(live, "SOON_S", 0.1)
    monkeypatch.setattr(live, "SHARE", 0)
    monkeypatch.setattr(events_v1, "LOOK_S", 0.1)
    monkeypatch.setattr(events_v1, "HEARTBEAT_S", 0.3)


async def test_two_readers_get_the_same_octets_and_changes_as_they_come(
    settings: Settings, store: Store, tmp_path: Path, soon: None
) -> None:
    async with desk(with_channels(settings, 3), store, tmp_path) as d:
        async with reading(d.address) as one, reading(d.address) as two, reading(d.address, "channels") as some:
            await until(lambda: one.named("channels") and two.named("channels"))
            assert (one.status, one.headers["Content-Type"]) == (200, "text/event-stream")
            assert one.headers["Cache-Control"] == "no-store"
            assert one.raw.startswith(b"retry: 3000\n\n")
            status, channel = await d.put("/admin/v1/channels", {"id": "ch-001", "action": "pause"})
            assert (status, channel["operator"]) == (200, "pause")
            await until(lambda: all(_state(r, "ch-001") == "paused" for r in (one.last, two.last)))
            await until(lambda: some.named("channels")[-1]["channels"][1]["operator"] == "pause")
            assert not some.named("overview")
            seen = {number: data for _, number, data in one.seen}
            both = [(number, data) for _, number, data in two.seen if number in seen]
            assert len(both) >= 2
            assert all(seen[number] == data for number, data in both), "an id is an event, for everybody"
            (problem,) = [p for p in one.last["problems"] if p["kind"] == "channel_paused"]
            call = problem["action"]
            assert (await d.put(call["path"], call["body"]))[0] == 200
            await until(lambda: _state(one.last, "ch-001") != "paused")
            # Nothing happens any more: nothing is sent but the heartbeat.
            before = len(one.seen)
            beats = one.raw.count(b"event: beat\ndata: {}\n\n")
            await until(lambda: one.raw.count(b"event: beat\ndata: {}\n\n") >= beats + 2)
            assert len([event for event in one.seen[before:] if event[0] != "beat"]) <= 1
            d.streams.end("reload")
            await until(lambda: one.ended and two.ended and some.ended)
            assert one.seen[-1][::2] == ("end", {"why": "reload"})
        await until(lambda: not len(d.streams))


def _state(overview: dict[str, list[dict[str, str]]], channel: str) -> str:
    return next(c["state"] for c in overview["channels"] if c["id"] == channel)


async def test_a_reader_that_stalls_is_cut_and_the_others_go_on(
    settings: Settings, store: Store, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_v1, "WRITE_S", 1.0)
    async with desk(with_channels(settings, 200), store, tmp_path) as d:
        host, _, port = d.address.partition(":")
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(port)))
        stalled.sendall(b"GET /admin/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-token-of-tests\r\n\r\n")
        async with reading(d.address) as other:
            await until(lambda: len(d.streams) == 2 and other.last)
            for turn in range(400):
                # Each turn is another overview of some 100 KB.
                d.metrics.counter("submits_total", channel="ch-000", status="0x00000000").n += 1 + turn
                action = ("pause", "resume")[turn % 2]
                await store.health([(f"ch-{n:03d}", action, 0) for n in range(0, 200, 2)])
                seen = len(other.seen)
                await until(lambda seen=seen: len(other.seen) > seen)
                if len(d.streams) == 1:
                    break
            assert len(d.streams) == 1, "the one that reads is left"
            assert not other.ended
        stalled.close()


async def test_no_more_streams_than_allowed_and_wrong_topics(settings: Settings, store: Store, tmp_path: Path) -> None:
    async with desk(with_channels(settings, 1), store, tmp_path, most=1) as d:
        async with reading(d.address) as one:
            await until(lambda: one.last)
            async with reading(d.address) as two:
                assert two.status == 503
                assert int(two.headers["Retry-After"]) > 0
        await until(lambda: not len(d.streams))
        async with reading(d.address) as again:
            await until(lambda: again.last)
            d.streams.end("stopping")
            await until(lambda: again.ended)
    async with desk(with_channels(settings, 1), store, tmp_path) as d:
        assert (await d.get("/admin/v1/events?topics=overview,money"))[1]["field"] == "topics"
        async with reading(d.address, headers={"Authorization": "Bearer of-somebody-else"}) as nobody:
            assert nobody.status == 401


async def test_nobody_takes_the_streams_of_all(settings: Settings, store: Store, tmp_path: Path) -> None:
    operators = (OperatorSettings("wu", Secret("the-token-of-wu"), "viewer"),)
    both = replace(with_channels(settings, 1), admin=replace(ADMIN, operators=operators))
    wu = {"Authorization": "Bearer the-token-of-wu"}
    async with desk(both, store, tmp_path, most=4) as d, AsyncExitStack() as stack:
        taken = [await stack.enter_async_context(reading(d.address, headers=wu)) for _ in range(4)]
        await until(lambda: all(one.last for one in taken))
        assert (await stack.enter_async_context(reading(d.address, headers=wu))).status == 503
        mine = [await stack.enter_async_context(reading(d.address)) for _ in range(2)]
        await until(lambda: all(one.last for one in mine))
        assert [one.ended for one in taken] == [True, True, False, False], "the oldest make room"
        # Half and half: neither takes from the other.
        assert (await stack.enter_async_context(reading(d.address))).status == 503
        assert (await stack.enter_async_context(reading(d.address, headers=wu))).status == 503
        assert not any(one.ended for one in (*mine, *taken[2:]))


async def test_nobody_looks_so_nothing_is_read_but_the_counters(
    settings: Settings, store: Store, tmp_path: Path, soon: None
) -> None:
    async with desk(with_channels(settings, 1), store, tmp_path) as d:
        async with reading(d.address) as one:
            await until(lambda: d.live.looks >= 5)
            assert one.last
        await until(lambda: not len(d.streams))
        await asyncio.sleep(live.ASKED_S + 0.3)  # the end of a question's time is what is waited for
        looks = d.live.looks
        await asyncio.sleep(1.0)  # the silence is the subject
        assert d.live.looks == looks
        assert (await d.get("/admin/v1/overview"))[1]["machine"] == "test"
        assert d.live.looks == looks + 1


async def test_many_that_connect_at_once_cut_nobody() -> None:
    # Each that begins has what it is shown first sent to all: of what waits, the newest of each topic counts.
    stream = events_v1._Stream(frozenset(events_v1.TOPICS), None, "li")
    stream.put("", b"retry")
    for n in range(50):
        for topic in events_v1.TOPICS:
            stream.put(topic, f"{topic} {n}".encode())
    assert not stream.ending
    assert [await stream.next(0.01) for _ in range(4)] == [b"retry", b"overview 49", b"channels 49", b""]
