"""The demonstration itself, small, and the folder that `make run` works on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp

from gateway.apikey import new_key
from gateway.demo.world import copy_shipped_config, free_port, secret_environment
from gateway.settings import load
from tests.support.until import until

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_demonstration_loses_nothing_while_a_carrier_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--messages", "600", "--json"]
    env = {**ENV, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "carrier cm-a killed" in done.stderr
    assert re.search(r"accepted\W+598\b", done.stderr)
    assert re.search(r"\blost\W+0\b", done.stderr)
    report = json.loads(done.stdout)
    assert (report["well"], report["posted"], report["accepted"], report["lost"]) == (True, 600, 598, 0)
    assert report["folder"] is None
    failed = sum(one["messages"] for one in report["failed"])
    assert report["states"]["delivered"] + failed + report["uncertain"] == report["accepted"]
    assert set(report["latency"]["verification"]) == {"count", "p50_s", "p99_s", "worst_s"}
    assert list(tmp_path.iterdir()) == []


def test_the_copied_folder_is_sound_with_made_up_secrets(tmp_path: Path) -> None:
    copy_shipped_config(tmp_path, "sha256:" + "0" * 64)
    env = secret_environment(tmp_path, {"CM_A_PASSWORD": "mine"})
    assert env["CM_A_PASSWORD"] == "mine"
    assert "SHOP_WEBHOOK_SECRET" not in env
    settings = load(tmp_path, env)
    assert settings.admin.token is not None
    assert settings.accounts[0].key_hashes == ("sha256:" + "0" * 64,)
    assert all(channel.host == "127.0.0.1" for channel in settings.channels)


async def test_make_run_serves_the_curl_it_prints(tmp_path: Path) -> None:
    key, key_hash = new_key()
    copy_shipped_config(tmp_path / "var" / "config", key_hash)
    for file, ports in (("gateway", r"808[01]"), ("channels", r"277[5-9]|278[01]")):
        path = tmp_path / "var" / "config" / f"{file}.toml"
        # One pass, whole numbers: a free port such as 42776 holds the digits of the next one's old port.
        path.write_text(re.sub(rf"\b({ports})\b", lambda _: str(free_port()), path.read_text()))
    (tmp_path / "var" / "api-key").write_text(key)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--serve", cwd=tmp_path, env=ENV, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        printed = ""
        async with asyncio.timeout(40):
            while "Metrics:" not in printed:
                line = await process.stdout.readline()
                assert line, printed
                printed += line.decode()
        assert f'API key of account "shop": {key}' in printed
        setup = (tmp_path / "var" / "console-setup-token").read_text().strip()
        assert f"Set-up token of the console: {setup}" in printed
        assert re.search(r"In a browser: http://127.0.0.1:\d+/console/\n", printed)
        (url,) = set(re.findall(r"(http://127.0.0.1:\d+)/v1", printed))
        headers = {"Authorization": f"Bearer {key}"}
        document = {"to": "+8613800138000", "category": "notification", "text": "【Acme】Hello from smsgw"}
        async with aiohttp.ClientSession(url, headers=headers) as session:
            async with session.post("/v1/messages", json=document) as response:
                assert response.status == 202
                message_id = (await response.json())["id"]

            async def delivered() -> bool:
                async with session.get(f"/v1/messages/{message_id}") as response:
                    return bool((await response.json())["state"] == "delivered")

            await until(delivered, timeout_s=10)
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 45) == 0
