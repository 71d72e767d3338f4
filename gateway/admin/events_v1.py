"""`GET /admin/v1/events?topics=overview,channels`: what the two show, as it changes, by Server-Sent Events.

One sampler looks for all streams (`live`), each topic is encoded once, and the same octets go to everybody. An event is
named as its topic, its data is the topic's answer; of `history.points` it has the latest few, so a page asks the
overview once and appends what is newer. What did not change is not sent, but twice a minute; `event: beat` says every
15 s at least that the stream lives (pages hear no comments). Before it ends it says why: `event: end`, data
{"why": "reload" | "stopping"}; with the session that opened it it just ends (`door.Door.watched`).

Owns how many streams there are (where there are no more, whoever has the most gives one up) and what waits for one:
of each topic the newest alone; one that takes nothing for WRITE_S is cut. Refuses to know what is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin.live import Live
from gateway.admin.problem import SAFE_HEADERS, problem
from gateway.admin.requests import operator_of
from gateway.errors import RequestError

TOPICS: Final = ("overview", "channels")
MOST: Final = 64
HEARTBEAT_S: Final = 15.0
LOOK_S: Final = 5.0
"""So often a stream with nothing to say looks whether its peer is there and a heartbeat due."""
WRITE_S: Final = 10.0
AGAIN_S: Final = 30.0
POINTS: Final = 12
RETRY_MS: Final = 3000
RETRY_FULL_S: Final = 15
_HEADERS: Final = {**SAFE_HEADERS, "X-Accel-Buffering": "no"}  # nginx would keep events back
_CLOCKS: Final = frozenset({"at_ms", "to_ms", "seconds", "history"})
"""Fields that change although nothing happened."""


class _Stream:
    """One reader."""

    def __init__(self, topics: frozenset[str], transport: asyncio.Transport | None, who: str) -> None:
        self.topics = topics
        self.who = who
        self.ending = ""
        self._transport = transport
        self._waiting: dict[str, bytes] = {}  # by topic: of each the newest alone, so nobody is ever far behind
        self._woken = asyncio.Event()

    def put(self, topic: str, event: bytes) -> None:
        """Have an event sent, in place of one of its topic that waits yet: many that connect at once cut nobody."""
        self._waiting.pop(topic, None)
        self._waiting[topic] = event
        self._woken.set()

    def end(self, why: str) -> None:
        """Have the stream end, and say why."""
        self.ending = self.ending or why
        self._woken.set()

    def cut(self) -> None:
        """End it without a word: its peer takes none."""
        self.end("cut")
        if self._transport is not None:
            self._transport.abort()

    async def next(self, timeout_s: float) -> bytes:
        """Return what is to be sent, b"" where nothing came in time."""
        if not self._waiting and not self.ending:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._woken.wait()
        if not self._waiting or self.ending:
            return b""
        return self._waiting.pop(next(iter(self._waiting)))


class EventStreams:
    """All streams of one admin worker, across reloads."""

    def __init__(self, live: Live, *, most: int = MOST) -> None:
        self._live = live
        self._most = most
        self._streams: dict[_Stream, None] = {}  # the oldest first
        self._boot = secrets.token_hex(4)
        self._number = 0
        self._last: dict[str, bytes] = {}  # topic → event
        self._shown: dict[str, tuple[bytes, float]] = {}  # topic → what of it counts as a change, and when it was sent
        live.on_look = self.publish
        live.watched = lambda: bool(self._streams)

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.get("/admin/v1/events", self.get, allow_head=False)]

    def __len__(self) -> int:
        return len(self._streams)

    def end(self, why: str) -> None:
        """End all streams; their readers connect again."""
        for stream in self._streams:
            stream.end(why)

    def publish(self, overview: dict[str, Any], channels: dict[str, Any]) -> None:
        """Send what changed to everybody."""
        now = asyncio.get_running_loop().time()
        wanted = {topic for stream in self._streams for topic in stream.topics}
        for topic, body in (("overview", overview), ("channels", channels)):
            if topic in wanted and (event := self._event(topic, body, now)):
                for stream in self._streams:
                    if topic in stream.topics:
                        stream.put(topic, event)

    def _event(self, topic: str, body: dict[str, Any], now: float) -> bytes:
        """Encode a topic; b"" where it says what it said last, a short while ago."""
        counts = orjson.dumps(_without_clocks(body))
        shown, at = self._shown.get(topic, (b"", 0.0))
        if counts == shown and now - at < AGAIN_S:
            return b""
        self._shown[topic] = (counts, now)
        self._number += 1
        data = orjson.dumps(_short(body))
        event = b"event: %s\nid: %s-%d\ndata: %s\n\n" % (topic.encode(), self._boot.encode(), self._number, data)
        self._last[topic] = event
        return event

    def _make_room(self, who: str) -> bool:
        """Cut the oldest stream of whoever has the most, where that is more than `who` will have: nobody takes all."""
        by = Counter(stream.who for stream in self._streams)
        most = max(by, key=by.__getitem__, default=who)
        if by[most] <= by[who] + 1:
            return False
        oldest = next(stream for stream in self._streams if stream.who == most)
        del self._streams[oldest]
        oldest.cut()
        return True

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Stream the overview and the channels as they change (Server-Sent Events)."""
        topics = _topics(request.query.get("topics", ",".join(TOPICS)))
        operator = operator_of(request)
        who = operator.name if operator is not None else ""
        if len(self._streams) >= self._most and not self._make_room(who):
            more = {"Retry-After": str(RETRY_FULL_S)}
            return problem(503, "too_many_streams", f"{self._most} streams are open already", headers=more)
        stream = _Stream(topics, request.transport, who)
        answer = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        answer.force_close()
        self._streams[stream] = None
        try:
            await answer.prepare(request)
            await self._begin(stream)
            # It may end at any moment: the peer goes, or does not read.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._serve(request, stream, answer)
                if stream.ending != "cut":
                    async with asyncio.timeout(WRITE_S):
                        await answer.write(b'event: end\ndata: {"why":"%s"}\n\n' % stream.ending.encode())
                        await answer.write_eof()
        finally:
            self._streams.pop(stream, None)
            if stream.ending in ("", "cut"):
                stream.cut()
        return answer

    async def _begin(self, stream: _Stream) -> None:
        """Show what is known: as it is now, also where nobody has looked for a while."""
        stream.put("", b"retry: %d\n\n" % RETRY_MS)
        self.publish(*await self._live.both())  # to all: to the next look it is no news any more
        for topic in TOPICS:
            if topic in stream.topics:
                stream.put(topic, self._last[topic])
        self._live.look_soon()

    async def _serve(self, request: web.Request, stream: _Stream, answer: web.StreamResponse) -> None:
        loop = asyncio.get_running_loop()
        written_at = loop.time()
        while not stream.ending:
            event = await stream.next(LOOK_S)
            now = loop.time()
            if request.transport is None or request.transport.is_closing():
                stream.end("cut")
                return
            if not event and now - written_at >= HEARTBEAT_S - LOOK_S / 2:
                event = b"event: beat\ndata: {}\n\n"
            if event:
                written_at = now
                try:
                    async with asyncio.timeout(WRITE_S):
                        await answer.write(event)
                except TimeoutError:
                    stream.cut()
                    return


def _topics(text: str) -> frozenset[str]:
    topics = frozenset(text.split(","))
    if not topics or not topics <= set(TOPICS):
        raise RequestError("invalid_field", f"some of {', '.join(TOPICS)} are wanted", field="topics")
    return topics


def _short(body: dict[str, Any]) -> dict[str, Any]:
    """Return an overview with the latest points of its history alone."""
    history = body.get("history")
    return {**body, "history": {**history, "points": history["points"][-POINTS:]}} if history else body


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_clocks(one) for name, one in value.items() if name not in _CLOCKS}
    if isinstance(value, list):
        return [_without_clocks(one) for one in value] if value and isinstance(value[0], (dict, list)) else value
    return value
