"""`GET /admin/v1/stats` and `smsgw stats` on a running admin listener: all accounts, JSON, CSV, words, exit codes."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.model import Secret
from gateway.settings import AccountSettings, AdminSettings, Settings
from gateway.store.statistics import Statistics
from gateway.store.stats_table import US
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


@pytest.fixture
async def address(store: Store, tmp_path: Path) -> AsyncIterator[str]:
    """A listener over a store with one folded hour and one that is open."""
    hour = int(time.time()) // 3_600
    for account, back, n in (("shop", 4, 10), ("shop", 0, 2), ("@bank", 4, 5)):
        for outcome, reason, number in (
            ("accepted", "", n), ("s", "", n), ("$", "", n * 45_000), ("D", "t2", n - 2), ("U", "absent", 2),
        ):  # fmt: skip
            name = US.join((account, "cm", "cn", "", "", "", "1", "a", outcome, reason))
            await store.client.execute("HINCRBY", f"{store.prefixes[0]}stats:{hour - back}", name, number)
    assert await Statistics(store).fold() == 1
    accounts = (AccountSettings(id="shop"), AccountSettings(id="bank"))
    settings = Settings(config_dir=tmp_path, admin=AdminSettings(port=0, token=Secret(TOKEN)), accounts=accounts)
    async with admin_listener(settings, store, tmp_path) as found:
        (tmp_path / "gateway.toml").write_text(f'[admin]\nlisten = "{found}"\ntoken = "${{env:SMSGW_ADMIN_TOKEN}}"\n')
        yield found


async def get(address: str, query: str, token: str = TOKEN, **headers: str) -> tuple[int, Any, str]:
    headers["Authorization"] = f"Bearer {token}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}/admin/v1/stats?{query}", headers=headers) as answer,
    ):
        is_json = "json" in answer.content_type
        return (
            answer.status,
            await answer.json(content_type=None) if is_json else await answer.text(),
            answer.content_type,
        )


async def smsgw(config: Path, *args: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "stats", *args, "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "SMSGW_ADMIN_TOKEN": TOKEN},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def yesterday() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))


async def test_all_accounts_are_shown(address: str) -> None:
    status, found, _ = await get(address, f"from={yesterday()}&by=account")
    assert status == 200
    assert [(r["account"], r["accepted"], r["delivered"], r["cost"]) for r in found["rows"]] == [
        ("@bank", 5, 3, "0.225"),
        ("shop", 12, 8, "0.54"),
    ]
    assert found["total"]["failures"] == [{"state": "undeliverable", "reason": "absent", "n": 6, "share": 1.0}]
    for query in (f"from={yesterday()}", f"from={yesterday()}&by=channel&route=cn"):
        _, found, _ = await get(address, query)
        assert (found["rows"][0]["accepted"], found["total"]["delivered"]) == (17, 11)
    status, text, kind = await get(address, f"from={yesterday()}&by=account&format=csv")
    assert (status, kind) == (200, "text/csv")
    assert [row[:2] for row in csv.reader(text.splitlines())] == [
        ["account", "accepted"],
        ["'@bank", "5"],
        ["shop", "12"],
    ]


async def test_what_is_refused(address: str) -> None:
    for query, field in (("by=number", "by"), ("by=day&by=hour", "by"), ("to=x", "to"), ("x%20y=1", None)):
        status, problem, _ = await get(address, query)
        assert (status, problem["code"], problem.get("field")) == (400, "invalid_parameter", field)
    assert (await get(address, "", token="wrong"))[0] == 401


async def test_the_command(address: str, tmp_path: Path) -> None:
    del address
    file = tmp_path / "out.csv"
    (code, out, err), (plain, raw, _), (wrong, _, said), (twice, _, _) = await asyncio.gather(
        smsgw(tmp_path, "--from", yesterday(), "--by", "account"),
        smsgw(
            tmp_path, "--from", yesterday(), "--by", "account", "--where", "account=shop", "--json", "--csv", str(file)
        ),
        smsgw(tmp_path, "--by", "moon"),
        smsgw(tmp_path, "--where", "account"),
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    (shop,) = [line.split() for line in lines if line.split()[:1] == ["shop"]]
    assert shop == ["shop", "12", "12", "8", "4", "0", "0", "0", "0", "0", "12", "66.7%", "3", "3.9", "0.54"]
    (total,) = [line.split() for line in lines if line.split()[:1] == ["total"]]
    assert total[:5] == ["total", "17", "17", "11", "6"]
    assert lines[-1] == "  absent, undeliverable: 6 (100.0%)"
    assert plain == 0
    assert [row["account"] for row in json.loads(raw)["rows"]] == ["shop"]
    with file.open(newline="") as written:
        assert [row["delivered"] for row in csv.DictReader(written)] == ["8"]
    assert (wrong, "by:" in said) == (4, True)
    assert twice == 2
