"""`smsgw codes` on a running admin listener: words, JSON, exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.model import Secret
from gateway.settings import AdminSettings, ChannelSettings, Settings
from gateway.store.receipt_notes import ReceiptNotes
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


@pytest.fixture
async def config(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Path]:
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        failure_codes_file=Path("config/failure_codes.csv"),
        channels=(ChannelSettings(id="a", host="h", port=1, system_id="s", password=Secret("p")),),
    )
    async with admin_listener(own, store, tmp_path) as address:
        (tmp_path / "gateway.toml").write_text(f'[admin]\nlisten = "{address}"\ntoken = "${{env:SMSGW_ADMIN_TOKEN}}"\n')
        yield tmp_path


async def smsgw(config: Path, *args: str) -> Result:
    """Run a command in a thread: the listener that it asks is this test's own."""
    runner = CliRunner(env={"SMSGW_ADMIN_TOKEN": TOKEN})
    return await asyncio.to_thread(runner.invoke, app, [*args, "--config", str(config)])


async def test_what_a_code_means(config: Path) -> None:
    found = await smsgw(config, "codes", "explain", "mk0001")
    assert found.exit_code == 0
    assert found.output.startswith(
        "MK:0001: invalid-number, permanent, safe enough to mark the number; found as code mk0001\n  "
    )
    found = await smsgw(config, "codes", "explain", "gsm:27", "--channel", "a")
    assert "powered-off, not permanent, another channel may deliver it; found as number gsm:27" in found.output
    found = await smsgw(config, "codes", "explain", "000", "--stat", "MBBLACK", "--json")
    assert json.loads(found.output)["reason"] == "blacklisted"
    found = await smsgw(config, "codes", "explain", "QQ:9")
    assert (found.exit_code, found.output) == (1, "QQ:9: nobody knows it; unknown, not permanent\n")
    found = await smsgw(config, "codes", "explain", "QQ:9", "--channel", "nobody")
    assert "channel: no such channel" in str(found.exception)


async def test_codes_that_nobody_knows(config: Path, store: Store) -> None:
    assert (await smsgw(config, "codes", "unknown")).output == "no unknown codes\n"
    await ReceiptNotes(store).add(1, {("a", "QQ:9"): 4}, {})
    found = await smsgw(config, "codes", "unknown", "--channel", "a")
    assert found.output.startswith("a: QQ:9, 4 times, last 20")
    listed = json.loads((await smsgw(config, "codes", "unknown", "--json")).output)["unknown"]
    assert [(one["code"], one["count"]) for one in listed] == [("QQ:9", 4)]
