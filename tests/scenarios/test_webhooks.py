"""A whole gateway tells an application: posted, sent, receipt, event; the events worker killed after the 2xx (F06)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.gateway_process import GatewayProcess
from tests.support.outbox import SECRET
from tests.support.scenario import carrier
from tests.support.sink import Call, Sink
from tests.support.until import until


async def test_from_the_post_to_the_event_and_again_after_a_kill(tmp_path: Path) -> None:
    killed: list[int] = []
    gateway: GatewayProcess | None = None

    def respond(call: Call) -> int:
        if gateway is not None and kill and not killed:
            (worker,) = gateway.workers("events")
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)  # it never learns that the call was taken
        return 200

    kill = False
    async with carrier() as smsc, Sink(respond) as sink:
        gateway = GatewayProcess(tmp_path, {"cm-a": smsc.port})
        accounts = gateway.config_dir / "accounts.toml"
        accounts.write_text(
            accounts.read_text() + f'[account.webhook]\nurl = "{sink.url}"\nsecret = "${{env:HOOK_SECRET}}"\n'
            f"allow_insecure = true\nallow_private = true\nallow_ports = [{sink.port}]\n"
            'events = ["message.submitted", "message.delivered"]\n'
        )
        os.environ["HOOK_SECRET"] = SECRET
        try:
            async with gateway:
                status, body = await gateway.post(
                    {"to": "+8613800138000", "category": "notification", "text": "canary 482913", "ref": "r-1"}
                )
                assert status == 202
                mine = body["id"]
                await until(lambda: len(sink.calls) >= 2)
                assert [call.id for call in sink.calls] == [f"{mine}.submitted.1", f"{mine}.delivered"]
                assert sink.calls[1].body["data"]["ref"] == "r-1"

                kill = True
                status, body = await gateway.post(
                    {"to": "+8613800138001", "category": "notification", "text": "canary 482913"}
                )
                mine = body["id"]
                await until(lambda: [c.id for c in sink.calls].count(f"{mine}.delivered") >= 1, timeout_s=30)
                ids = [call.id for call in sink.calls[2:]]
                assert killed
                assert ids.count(f"{mine}.submitted.1") == 2  # the killed worker's, and its heir's: the same id
                assert ids[-1] == f"{mine}.delivered"

                await until(lambda: _nothing_left(gateway))
                await until(lambda: _counted(gateway, 2))  # the heir's; what the killed one counted last is lost
                assert await gateway.terminate() == 0
            log = gateway.log()
            everything = log + "".join(call.raw.decode() for call in sink.calls)
            for canary in ("482913", "13800138000", SECRET[6:]):
                assert canary not in everything
        finally:
            del os.environ["HOOK_SECRET"]


async def _nothing_left(gateway: GatewayProcess) -> bool:
    status, found = await gateway.admin("GET", "/admin/v1/webhooks")
    assert status == 200
    return bool(found["webhooks"][0]["backlog"] == 0)


async def _counted(gateway: GatewayProcess, n: int) -> bool:
    return await gateway.metric("smsgw_webhook_deliveries_total", account="shop", result="delivered") >= n
