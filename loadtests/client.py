"""The load client: raw HTTP/1.1 on `asyncio.Protocol`, so that what is measured is the gateway and not its
caller.

A client library costs more CPU a message than the gateway's own intake; this one formats a whole batch with a
single `%` and reads of an answer only its status and its counts. It knows the public HTTP API and nothing of
the gateway's inside. One *stream* is a set of connections that post messages of given categories, in batches
or one by one, as fast as answers come or at a fixed rate; several streams run side by side (a marketing flood
and verification probes).

Message `n` of a run goes to its own number (`+86138` and eight digits) and carries its own `ref`, so the
three ledgers (client, SMSC, records) join on the number alone. Results are one JSON summary and binary arrays
for `bench.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop

NUMBER_PREFIX = "+86138"
"""A China Mobile prefix; eight digits follow, so one run can name 100 million distinct recipients."""
CATEGORIES = ("verification", "notification", "marketing")
TEXTS = {
    "verification": "【Acme】Your code is %06d, valid for five minutes. Order %08d.",
    "notification": "【Acme】Parcel %06d has left the warehouse. Order %08d.",
    "marketing": "【Acme】Sale %06d: 20%% off this week only. 拒收请回复R %08d",
}
"""One short message each (UCS-2, at most 70 characters); the last number is the message's place in the run.
"""
FEEDBACK_EVERY_S = 0.05
RETRY_CAP_S = 1.0


@dataclass(slots=True)
class StreamPlan:
    """What one stream posts: `count` messages from place `first` on, `batch` a request (1: one message a
    request).

    `pattern` gives the categories in turn (`"vnnm"`); `rate_per_s` 0 sends as fast as answers come. With
    `max_outstanding` the stream pauses while accepted minus settled (from the simulator's stats file) is
    above it: otherwise a closed loop only measures how fast a queue can grow.
    """

    name: str = "load"
    pattern: str = "n"
    first: int = 0
    count: int = 1_000_000
    batch: int = 100
    connections: int = 8
    rate_per_s: float = 0.0
    start_s: float = 0.0
    duration_s: float = 0.0
    max_outstanding: int = 0
    run: str = "r"
    rules: bool = False  # fields that more rules look at: tags, consent

    @classmethod
    def of(cls, raw: dict[str, Any]) -> StreamPlan:
        return cls(**raw)


@dataclass(slots=True)
class StreamResult:
    """What one stream saw. Times are `time.monotonic()`, which all processes of one machine share.

    `requests` holds three numbers for each decided request: first place (from the stream's start), sent at,
    answered at.
    """

    requests: array[float] = field(default_factory=lambda: array("d"))
    accepted: bytearray = field(default_factory=bytearray)
    accepted_n: int = 0
    rejected_n: int = 0
    unknown_n: int = 0
    backpressure_n: int = 0
    codes: dict[str, int] = field(default_factory=dict)


class BodyMaker:
    """Formats request bytes: the batch's template is made once, a batch is one `%` over a tuple of places."""

    def __init__(self, plan: StreamPlan, host: str, key: str) -> None:
        self.plan = plan
        self._head = (
            f"POST {'/v1/messages/batch' if plan.batch > 1 else '/v1/messages'} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        letters = {c[0]: c for c in CATEGORIES}
        self._items = [self._item(letters[letter]) for letter in plan.pattern]
        self._full = self._wrap([self._items[i % len(self._items)] for i in range(plan.batch)])

    def _item(self, category: str) -> bytes:
        text = json.dumps(TEXTS[category], ensure_ascii=False)
        # `run` keeps refs of two runs against one store apart; the two numbers of the text are the place and
        # its ref.
        more = ""
        if self.plan.rules:
            more = ',"tags":["bench"],"origin":{"campaign":"spring","variant":"a"}'
            more += ',"consent":true' if category == "marketing" else ""
        return (
            f'{{"to":"{NUMBER_PREFIX}%08d","category":"{category}","text":{text},"ref":"{self.plan.run}-%08d"{more}}}'
        ).encode()

    def _wrap(self, items: Sequence[bytes]) -> bytes:
        return b'{"messages":[' + b",".join(items) + b"]}" if self.plan.batch > 1 else items[0]

    def request(self, first: int, n: int) -> bytes:
        """Return the bytes of one request for the messages at places `first` … `first + n - 1` of the run."""
        if self.plan.batch == 1:
            template = self._items[(first - self.plan.first) % len(self._items)]
        elif n == self.plan.batch:
            template = self._full
        else:
            template = self._wrap([self._items[i % len(self._items)] for i in range(n)])
        body = template % tuple([v for p in range(first, first + n) for v in (p, p % 1_000_000, p, p)])
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


class HttpLink(asyncio.Protocol):
    """One keep-alive connection with at most one request open; answers go to `on_answer(status, headers,
    body)`.

    Reads just enough of HTTP/1.1 for a server that sends Content-Length; anything else ends the run with an
    error.
    """

    def __init__(self, on_answer: Callable[[int, bytes, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""
        self._need = 0
        self.transport: asyncio.Transport | None = None
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if len(buffer) < self._need:
            self._buffer = buffer
            return
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        head = buffer[:end]
        at = head.lower().find(b"\r\ncontent-length:")
        if at < 0:
            raise RuntimeError("the server's answer has no Content-Length")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        need = end + 4 + length
        if len(buffer) < need:
            self._need, self._buffer = need, buffer
            return
        self._need, self._buffer = 0, b""
        self._on_answer(int(head[9:12]), head, buffer[end + 4 : need])

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.closing:
            self._on_lost()

    def close(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.close()


class Feedback:
    """Reads the simulator's stats file now and then: how many messages have their receipt acknowledged."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self.settled = 0

    def poll(self) -> None:
        """Take the newest count; a file not yet there, or just being replaced, changes nothing."""
        if self._path is None:
            return
        try:
            stats = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return
        self.settled = int(stats["settled"])


class Stream:
    """Runs one StreamPlan: a worker a connection, each sending its next request when the last is answered."""

    def __init__(self, plan: StreamPlan, host: str, port: int, key: str, feedback: Feedback) -> None:
        self.plan = plan
        self.result = StreamResult(accepted=bytearray(plan.count))
        self.on_accepted: Callable[[int], None] = lambda n: None
        self.outstanding: Callable[[], int] = lambda: 0
        self._host, self._port = host, port
        self._maker = BodyMaker(plan, f"{host}:{port}", key)
        self._feedback = feedback
        self._next = 0
        self._stopping = False
        self._began = 0.0

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        """Post until the count, the duration or `stop()` ends it, and every open request is answered."""
        if self.plan.start_s:
            await asyncio.sleep(self.plan.start_s)
        self._began = time.monotonic()
        await asyncio.gather(*(self._worker() for _ in range(self.plan.connections)))

    async def _worker(self) -> None:
        """Own one connection: take the next places, post them, wait for the answer; repeat what was not
        stored.
        """
        loop = asyncio.get_running_loop()
        link: HttpLink | None = None
        waiter: asyncio.Future[tuple[int, bytes, bytes]] | None = None

        def answered(status: int, head: bytes, body: bytes) -> None:
            if waiter is not None and not waiter.done():
                waiter.set_result((status, head, body))

        def lost() -> None:
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionResetError("the gateway closed the connection"))

        while True:
            taken = await self._take()
            if taken is None:
                break
            first, n = taken
            request = self._maker.request(self.plan.first + first, n)
            while True:
                waiter = loop.create_future()
                sent_at = time.monotonic()
                try:
                    if link is None or link.transport is None:
                        link = HttpLink(answered, lost)
                        await loop.create_connection(partial(_same, link), self._host, self._port)
                    link.send(request)
                    status, head, body = await waiter
                except OSError:
                    # The refs make the repeat safe: what was stored is answered again with its first id.
                    self.result.unknown_n += n
                    if self._stopping:
                        break
                    await asyncio.sleep(0.1)
                    continue
                pause_s = self._record(first, n, sent_at, status, head, body)
                if not pause_s or self._stopping:
                    break
                await asyncio.sleep(pause_s)
        if link is not None:
            link.close()

    async def _take(self) -> tuple[int, int] | None:
        """Return the next places (offset, count), waiting for the rate and for the outstanding limit; None at
        the end.
        """
        plan = self.plan
        while True:
            if self._stopping or self._next >= plan.count:
                return None
            now = time.monotonic()
            if plan.duration_s and now - self._began >= plan.duration_s:
                return None
            if plan.max_outstanding and self.outstanding() > plan.max_outstanding:
                await asyncio.sleep(FEEDBACK_EVERY_S / 2)
                continue
            first = self._next
            n = min(plan.batch, plan.count - first)
            if plan.rate_per_s:
                wait_s = self._began + first / plan.rate_per_s - now
                if wait_s > 0.0005:
                    await asyncio.sleep(min(wait_s, 0.2))
                    continue
            self._next = first + n
            return first, n

    def _record(self, first: int, n: int, sent_at: float, status: int, head: bytes, body: bytes) -> float:
        """Book one answer; return the seconds to wait before repeating it, 0 when it is decided."""
        now = time.monotonic()
        result = self.result
        if status in (429, 503):
            result.backpressure_n += n
            return min(RETRY_CAP_S, _retry_after_s(head))
        if self.plan.batch == 1:
            ok = status == 202
            flags = b"\x01" if ok else b"\x00"
        elif status == 202 and _count(body, b'"accepted":') == n:
            ok, flags = True, b"\x01" * n
        else:
            flags = self._item_flags(status, n, body)
            ok = 1 in flags
        if not ok and self.plan.batch == 1:
            self._count_code(_problem_code(status, body), 1)
        accepted = flags.count(1)
        result.accepted[first : first + n] = flags
        result.accepted_n += accepted
        result.rejected_n += n - accepted
        result.requests.extend((first, sent_at, now))
        self.on_accepted(accepted)
        return 0.0

    def _item_flags(self, status: int, n: int, body: bytes) -> bytes:
        """Decide a batch that was not accepted whole, item by item."""
        if status != 202:
            self._count_code(_problem_code(status, body), n)
            return bytes(n)
        flags = bytearray(n)
        for i, item in enumerate(json.loads(body)["results"]):
            error = item.get("error")
            flags[i] = error is None
            if error is not None:
                self._count_code(str(error.get("code")), 1)
        return bytes(flags)

    def _count_code(self, code: str, n: int) -> None:
        self.result.codes[code] = self.result.codes.get(code, 0) + n


def _same(link: HttpLink) -> HttpLink:
    return link


def _count(body: bytes, name: bytes) -> int:
    at = body.find(name)
    if at < 0:
        return -1
    digits = body[at + len(name) : at + len(name) + 8]
    return int(digits.split(b",", 1)[0].split(b"}", 1)[0])


def _retry_after_s(head: bytes) -> float:
    at = head.lower().find(b"\r\nretry-after:")
    if at < 0:
        return 0.2
    return max(0.05, float(head[at + 14 :].split(b"\r\n", 1)[0]))


def _problem_code(status: int, body: bytes) -> str:
    try:
        return f"{status} {json.loads(body).get('code')}"
    except ValueError:
        return str(status)


class Run:
    """All streams of one plan, sharing one feedback file and one count of what is outstanding."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.feedback = Feedback(plan.get("feedback"))
        self.accepted = 0
        self.streams = [
            Stream(StreamPlan.of(raw), plan["host"], plan["port"], plan["key"], self.feedback)
            for raw in plan["streams"]
        ]
        for stream in self.streams:
            stream.on_accepted = self._on_accepted
            stream.outstanding = lambda: self.accepted - self.feedback.settled
        self._stats = Path(plan["stats"]) if plan.get("stats") else None

    def _on_accepted(self, n: int) -> None:
        self.accepted += n

    async def run(self) -> None:
        polling = asyncio.create_task(self._poll())
        try:
            await asyncio.gather(*(stream.run() for stream in self.streams))
        finally:
            polling.cancel()
            self._write_stats()

    def stop(self) -> None:
        for stream in self.streams:
            stream.stop()

    async def _poll(self) -> None:
        while True:
            self.feedback.poll()
            self._write_stats()
            await asyncio.sleep(FEEDBACK_EVERY_S)

    def _write_stats(self) -> None:
        """Replace the stats file: what bench reads at the two ends of its steady window."""
        if self._stats is None:
            return
        stats = {
            "at": time.monotonic(),
            "accepted": self.accepted,
            "by_stream": {s.plan.name: s.result.accepted_n for s in self.streams},
        }
        scratch = self._stats.with_suffix(".new")
        scratch.write_text(json.dumps(stats))
        scratch.replace(self._stats)

    def write_results(self, out: Path) -> None:
        """Write `<out>.json` (summaries) and for each stream `<out>.<name>.{requests,accepted}`."""
        summary: dict[str, Any] = {}
        for stream in self.streams:
            plan, result = stream.plan, stream.result
            summary[plan.name] = {
                "first": plan.first,
                "batch": plan.batch,
                "pattern": plan.pattern,
                "offered": stream._next,
                "accepted": result.accepted_n,
                "rejected": result.rejected_n,
                "unknown": result.unknown_n,
                "backpressure": result.backpressure_n,
                "codes": result.codes,
            }
            for suffix, data in (
                ("requests", result.requests.tobytes()),
                ("accepted", bytes(result.accepted[: stream._next])),
            ):
                Path(f"{out}.{plan.name}.{suffix}").write_bytes(data)
        out.with_suffix(".json").write_text(json.dumps(summary))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a plan file (written by bench.py) to its end; SIGTERM stops sending, then open requests are
    answered.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", required=True, type=Path, help="JSON: host, port, key, streams, feedback, stats, out")
    args = parser.parse_args(argv)
    plan = json.loads(args.plan.read_text())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(plan))
    return 0


async def _main(plan: dict[str, Any]) -> None:
    run = Run(plan)
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, run.stop)
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    await run.run()
    run.write_results(Path(plan["out"]))


if __name__ == "__main__":
    sys.exit(main())
