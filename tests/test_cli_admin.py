"""`smsgw channels` and `smsgw explain` on a running admin listener: words, JSON, exit codes, no needless secret."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import channels
from gateway.metrics import Metrics, SnapshotWriter
from gateway.model import Secret
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
)
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


@pytest.fixture
async def config(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Path]:
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        channels=(ChannelSettings(id="a", host="h", port=1, system_id="s", password=Secret("p")),),
        routes=(RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0),)),),
        accounts=(AccountSettings(id="shop"),),
    )
    async with admin_listener(own, store, tmp_path, build_router(own)) as address:
        (tmp_path / "gateway.toml").write_text(f'[admin]\nlisten = "{address}"\ntoken = "${{env:SMSGW_ADMIN_TOKEN}}"\n')
        # Another file's secrets are not there, and nobody asks for them.
        (tmp_path / "channels.toml").write_text('[[channel]]\npassword = "${env:NOBODY_HAS_SET_THIS}"\n')
        yield tmp_path


async def smsgw(config: Path, *args: str, token: str | None = TOKEN) -> tuple[int, str, str]:
    env = {k: v for k, v in os.environ.items() if k != "SMSGW_ADMIN_TOKEN"}
    if token is not None:
        env["SMSGW_ADMIN_TOKEN"] = token
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *args, "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_channels_are_shown_and_steered(config: Path, store: Store) -> None:
    assert await smsgw(config, "channels", "list") == (0, "a: not bound, breaker closed, run\n", "")
    assert await smsgw(config, "channels", "pause", "a") == (0, "a: pause\n", "")
    assert (await store.health())["a"].operator == "pause"
    code, out, _ = await smsgw(config, "channels", "resume", "a", "--json")
    assert (code, json.loads(out)["operator"]) == (0, "run")
    worker = Metrics("dispatch", "worker01", "worker01")
    for field in ("tlvs", "validity"):
        worker.gauge("channel_left_out", channel="a", field=field).n = 1
    SnapshotWriter(worker, config).write()
    line = "a: not bound, breaker closed, run, sent without tlvs and validity\n"
    assert await smsgw(config, "channels", "list") == (0, line, "")
    code, _, err = await smsgw(config, "channels", "drain", "b")
    assert (code, "id: no such channel" in err) == (4, True)


async def test_explain_in_words_and_in_json(config: Path, store: Store) -> None:
    await store.heartbeat(0, first=True, channels=["a"])
    ask = ("explain", "--to", "13800138000", "--account", "shop", "--category", "verification")
    code, out, _ = await smsgw(config, *ask)
    assert code == 0
    assert "number    +8613800138000 (CN)" in out
    assert "rank 0  a: takes it" in out
    assert out.endswith("verdict   sent by a\n")
    code, out, _ = await smsgw(config, *ask, "--json")
    assert json.loads(out)["verdict"] == "sent by a"
    code, out, _ = await smsgw(config, *ask, "--signature", "Acme")
    assert "signature 【Acme】 (from: asked)" in out
    code, out, _ = await smsgw(config, *ask, "--text", "hello【Acme】")
    assert "signature 【Acme】 (from: text)" in out
    assert "hello" not in out


async def test_what_goes_wrong_is_said(config: Path) -> None:
    code, _, err = await smsgw(config, "channels", "list", token="wrong")
    assert (code, "token" in err) == (4, True)
    assert "wrong" not in err
    code, _, err = await smsgw(config, "channels", "list", token=None)
    assert (code, "SMSGW_ADMIN_TOKEN" in err) == (3, True)
    listen = '[admin]\nlisten = "127.0.0.1:1"\ntoken = "${env:SMSGW_ADMIN_TOKEN}"\n'
    (config / "gateway.toml").write_text(listen)
    code, _, err = await smsgw(config, "channels", "list")
    assert (code, "does not answer" in err) == (4, True)


def test_states_that_could_not_be_read_are_said_to_be_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: dict[str, Any] = {"channels": [], "stale": ["channels", "statistics"]}
    monkeypatch.setattr(channels, "ask_admin", lambda *asked: shown)
    channels.channels_list()
    assert capsys.readouterr().out == "the store does not answer: so it was when it last did\n"
    shown["stale"] = ["statistics"]
    channels.channels_list()
    assert capsys.readouterr().out == ""
