"""The receivers of docs/examples, on real sockets: signed calls are taken once, others are refused."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from wsgiref.simple_server import WSGIRequestHandler, make_server

import aiohttp
import pytest
from aiohttp import web

from gateway.dlr import events
from gateway.dlr.webhook_sign import Signer

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("SMSGW_WEBHOOK_SECRETS", SECRET)
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def served(module: ModuleType) -> AsyncIterator[str]:
    if module.__name__ == "webhooks_aiohttp":
        runner = web.AppRunner(module.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/sms"
        await runner.cleanup()
        return

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with make_server("127.0.0.1", 0, module.application, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/sms"
        await asyncio.to_thread(server.shutdown)
        thread.join()


@pytest.mark.parametrize("name", ["webhooks_aiohttp", "webhooks_wsgi"])
async def test_signed_calls_are_taken_and_others_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example(name, monkeypatch)
    failed = {"ref": "r1", "state": "undeliverable", "reason": {"code": "absent", "permanent": False}}
    told = [
        events.Event("a.delivered", events.DELIVERED, 1, {"ref": "r0", "state": "delivered"}),
        events.Event("b.failed", events.FAILED, 1, failed),
        events.Event("c.inbound", events.INBOUND, 1, {"text": "hi"}),
    ]
    batch_id, body = events.batch(told, 1)
    headers = Signer([SECRET]).headers(batch_id, int(time.time()), body)
    one = told[0].body()
    async with served(module) as url, aiohttp.ClientSession() as session:

        async def post(content: bytes, sent: dict[str, str]) -> int:
            async with session.post(url, data=content, headers=sent) as answer:
                return answer.status

        assert await post(body, headers) == 204
        assert await post(one, Signer([SECRET]).headers("a.delivered", int(time.time()), one)) == 204
        assert await post(body + b" ", headers) == 401
        assert await post(body, {}) == 401
        assert await post(body, {**headers, "webhook-timestamp": "1"}) == 401
    assert list(module.SEEN) == ["a.delivered", "b.failed", "c.inbound"]
    if name == "webhooks_aiohttp":
        assert module.SEEN["b.failed"] == "r1 undeliverable: absent"
