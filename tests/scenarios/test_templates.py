"""Templates on a whole gateway: put while it runs, used within a second, on the wire with what carriers registered."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

OF_FILE = """
[[template]]
id = "sale"
category = "notification"
text = "Sale at {{ place }}: {{ link }}"
[template.params.place]
type = "string"
[template.params.link]
type = "url"
domains = ["acme.example"]
[[template.registration]]
channels = ["cm-a"]
tlvs = { "0x1400" = "entity", "0x1401" = "of-the-file" }
"""
OTP = """
id = "otp"
category = "verification"
text = "Code {{ code }}"
[params.code]
type = "code"
[[registration]]
tlvs = { "0x1400" = "entity", "0x1401" = "version-1" }
"""
ITEM = {"to": "+8613800000001", "category": "verification", "template": "otp", "params": {"code": "482913"}}


async def smsgw(gateway: AuditedGateway, *args: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *args, "--config", str(gateway.config_dir),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_put_used_and_retired_while_it_runs(tmp_path: Path) -> None:
    async with carrier() as smsc:
        gateway = AuditedGateway(
            tmp_path, {"cm-a": smsc.port}, channel='tlvs = { "0x1400" = "channel", "0x3000" = "x" }'
        )
        (gateway.config_dir / "templates.toml").write_text(OF_FILE)
        async with gateway:
            link = "https://acme.example/s"
            body = {"to": "+8613800000009", "category": "notification", "template": "sale"}
            status, answer = await gateway.post({**body, "params": {"place": "Main St", "link": link}})
            assert status == 202, answer
            assert (await gateway.post({**ITEM}))[1]["code"] == "unknown_template"

            (tmp_path / "otp.toml").write_text(OTP)
            code, said = await smsgw(gateway, "templates", "put", str(tmp_path / "otp.toml"))
            put_at = time.monotonic()
            assert (code, said) == (0, "otp version 1: kept\n")

            async def taken() -> Any:
                return (await gateway.post(ITEM))[0] == 202

            await until(taken, every_s=0.05)
            assert time.monotonic() - put_at < 2.0  # 0.8 s, the request itself, and a busy machine

            second = {
                "text": "【Acme】{{ code }} is it",
                "registration": [{"carrier": "china-mobile", "tlvs": {"0x1401": "v2"}}],
            }
            version2 = {"category": "verification", "params": {"code": {"type": "code"}}, **second}
            assert (await gateway.admin("PUT", "/admin/v1/templates/otp", version2))[1]["version"] == 2
            assert (await gateway.admin("POST", "/admin/v1/templates/otp/retire", {"version": 1}))[1]["retired"] == 1
            third = {**ITEM, "to": "+8613800000002", "template_version": 2}

            async def second_taken() -> Any:
                return (await gateway.post(third))[0] == 202

            await until(second_taken, every_s=0.05)
            status, problem = await gateway.post({**third, "template_version": 1})
            assert (status, problem["code"]) == (422, "template_retired")
            plain = {"to": "+8613800000003", "category": "notification", "text": "none", "origin": {"campaign": "c"}}
            assert (await gateway.post(plain))[0] == 202
            await gateway.until_final()

            rows = {row.destination: row for row in smsc.ledger.submits}
            own = {0x1400: b"channel", 0x3000: b"x"}
            sent = {number: row.tlvs for number, row in rows.items()}
            assert sent["8613800000009"] == {0x3000: b"x", 0x1400: b"entity", 0x1401: b"of-the-file"}
            assert sent["8613800000001"] == {0x3000: b"x", 0x1400: b"entity", 0x1401: b"version-1"}
            assert sent["8613800000002"] == {**own, 0x1401: b"v2"}
            assert sent["8613800000003"] == own
            assert rows["8613800000009"].short_message.decode("ascii") == f"Sale at Main St: {link}"
            assert rows["8613800000002"].short_message.decode("utf-16-be") == "【Acme】482913 is it"

            code, said = await smsgw(
                gateway, "templates", "preview", "otp", "-p", "code=4829", "--to", "+8613800000001", "--json"
            )
            assert code == 0, said
            assert json.loads(said)["channels"][0]["tlvs"] == {"0x1401": "v2"}
            code, said = await smsgw(gateway, "templates", "list")
            assert [line.split(":")[0] for line in said.splitlines()] == [
                "sale version 1",
                "otp version 1",
                "otp version 2",
            ]
            assert "retired" in said.splitlines()[1]
            code, said = await smsgw(gateway, "templates", "show", "otp", "--version", "1")
            assert (code, "Code {{ code }}" in said) == (0, True)
            assert await gateway.metric("smsgw_templates") == 3
            assert "482913" not in gateway.log()
