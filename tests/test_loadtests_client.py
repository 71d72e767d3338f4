"""The load client: the requests it makes are the API's, and what it books is what it was answered."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.client import BodyMaker, Run, StreamPlan
from tests.support.until import until


class Server(asyncio.Protocol):
    """Answers every post; `script` gives statuses to answer first. Cuts its answers into odd pieces."""

    script: list[int]
    bodies: list[dict[str, Any]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"Content-Length"]):
            return
        self.buffer = b""
        assert fields[b"Authorization"] == b"Bearer key"
        status = self.script.pop(0) if self.script else 202
        if status == 0:
            self.transport.abort()
            return
        request = json.loads(body)
        if status == 202:
            self.bodies.append(request)
        items = request.get("messages", [request])
        results = [{"error": {"code": "capped"}} if m["ref"] == "r-00000013" else {"id": "x" * 36} for m in items]
        refused = sum("error" in r for r in results)
        answer: dict[str, Any] = {
            "accepted": len(items) - refused,
            "rejected": refused,
            "results": results,
        }
        if status != 202:
            answer = {"code": "overloaded"}
        octets = json.dumps(answer, separators=(",", ":")).encode()
        head = b"HTTP/1.1 %d X\r\nRetry-After: 0.05\r\ncontent-length: %d\r\n\r\n" % (status, len(octets))
        whole = head + octets
        for i in range(0, len(whole), 700):
            self.transport.write(whole[i : i + 700])


@pytest.fixture
async def port() -> AsyncIterator[int]:
    Server.script, Server.bodies = [], []
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def run(port: int, out: Path, **stream: Any) -> dict[str, Any]:
    plan = {"host": "127.0.0.1", "port": port, "key": "key", "streams": [stream], "stats": str(out) + ".stats"}
    running = Run(plan)
    await running.run()
    running.write_results(out)
    assert _read(f"{out}.stats")["accepted"] == running.accepted
    return _read(f"{out}.json")["load"]


def _read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.mark.parametrize("batch", [1, 10])
async def test_every_message_is_posted_once_to_a_number_of_its_own(port: int, tmp_path: Path, batch: int) -> None:
    out = tmp_path / "out"
    summary = await run(port, out, count=25, batch=batch, pattern="vnm", first=100, connections=3)
    items = [m for body in Server.bodies for m in body.get("messages", [body])]
    assert sorted(m["to"] for m in items) == [f"+86138{p:08d}" for p in range(100, 125)]
    assert len({m["ref"] for m in items}) == 25
    by_place = {int(m["to"][-8:]): m for m in items}
    # A batch starts its pattern anew.
    expected = "vnm"[(12 % batch if batch > 1 else 12) % 3]
    assert by_place[112]["category"][0] == expected
    assert all("【Acme】" in m["text"] and len(m["text"]) <= 70 for m in items)
    assert (summary["accepted"], summary["rejected"]) == (25, 0)
    requests = array("d")
    requests.frombytes((tmp_path / "out.load.requests").read_bytes())
    assert len(requests) == 3 * (25 if batch == 1 else 3)
    assert all(requests[i + 1] < requests[i + 2] for i in range(0, len(requests), 3))


async def test_refused_items_are_told_apart(port: int, tmp_path: Path) -> None:
    summary = await run(port, tmp_path / "out", count=20, batch=10, first=0, connections=1)
    assert (summary["accepted"], summary["rejected"], summary["codes"]) == (19, 1, {"capped": 1})
    assert (tmp_path / "out.load.accepted").read_bytes() == b"\x01" * 13 + b"\x00" + b"\x01" * 6


async def test_what_was_not_stored_or_unknown_is_repeated(port: int, tmp_path: Path) -> None:
    Server.script = [503, 0, 429]
    summary = await run(port, tmp_path / "out", count=5, batch=5, connections=1)
    assert (summary["accepted"], summary["backpressure"], summary["unknown"]) == (5, 10, 5)
    assert len(Server.bodies) == 1


async def test_a_rate_is_kept(port: int, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await run(port, tmp_path / "out", count=20, batch=1, connections=2, rate_per_s=100)
    assert 0.18 <= loop.time() - began < 2.0


async def test_it_waits_while_too_much_is_outstanding(port: int, tmp_path: Path) -> None:
    feedback = tmp_path / "smsc.json"
    feedback.write_text('{"settled": 0}')
    running = Run(
        {
            "host": "127.0.0.1",
            "port": port,
            "key": "key",
            "feedback": str(feedback),
            "streams": [{"first": 100, "count": 40, "batch": 10, "connections": 1, "max_outstanding": 15}],
        }
    )
    task = asyncio.create_task(running.run())
    await until(lambda: running.accepted == 20)
    await asyncio.sleep(0.1)  # the point is that it stays there
    assert running.accepted == 20
    feedback.write_text('{"settled": 20}')
    await asyncio.wait_for(task, 5)
    assert running.accepted == 40


def test_a_body_is_json_whatever_its_size() -> None:
    plan = StreamPlan(batch=100, pattern="m")
    request = BodyMaker(plan, "h:1", "k").request(99_999_000, 100)
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    messages = json.loads(body)["messages"]
    assert len(messages) == 100
    assert "20% off" in messages[0]["text"]
