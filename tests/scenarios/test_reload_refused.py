"""F79: files that are not sound change nothing, by signal or by watching; what is wrong is said, and no secret told.

Also what operators do with revisions on a real gateway: edit, look, roll back, write, restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator.behaviour import SimulatorOptions
from gateway.simulator.smsc import Smsc
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "pw-clear"
ENV = {**os.environ, "SMSGW_ADMIN_TOKEN": ADMIN_TOKEN, "SMSC_PASSWORD": "secret"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway whose config folder is a link, with a password typed in clear."""
    directory = tmp_path_factory.mktemp("gw")
    peer = Smsc(SimulatorOptions(receipt_delay_s=0.05, by_number=False))
    await peer.start()
    one = GatewayProcess(directory, {"cm-a": peer.port})
    channels = one.config_dir / "channels.toml"
    channels.write_text(channels.read_text().replace("${env:SMSC_PASSWORD}", PASSWORD))
    one.config_dir.rename(directory / "release-1")
    one.config_dir.symlink_to("release-1")
    try:
        async with one:
            await until(lambda: _runs(one, 1))
            yield one
    finally:
        await peer.stop()


async def _runs(gateway: GatewayProcess, number: int) -> bool:
    """Whether every worker runs this revision."""
    _, found = await gateway.admin("GET", "/admin/v1/config")
    living = [m for m in found["members"] if m["lives"]]
    return found["revision"] == number and len(living) == 3 and all(m["revision"] == number for m in living)


async def _tries(gateway: GatewayProcess) -> float:
    return await gateway.metric("smsgw_config_reloads_total")


async def _signal(gateway: GatewayProcess) -> dict[str, Any]:
    """Reload by SIGHUP; return what came of it."""
    before = (await _in_force(gateway))["last"]
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)

    async def tried() -> Any:
        last = (await _in_force(gateway))["last"]
        return last if last != before else None

    found: dict[str, Any] = await until(tried)
    assert found["by"] == "SIGHUP"
    return found


async def _in_force(gateway: GatewayProcess) -> dict[str, Any]:
    status, found = await gateway.admin("GET", "/admin/v1/config")
    assert status == 200
    return dict(found)


async def _sends(gateway: GatewayProcess) -> bool:
    """Whether messages go on."""
    n = int(asyncio.get_running_loop().time() * 1000) % 10_000_000
    status, _ = await gateway.post({"to": f"+861380{n:07d}", "category": "notification", "text": "hello"})
    return status == 202


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def _smsgw(gateway: GatewayProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "config", *words, "--config", str(gateway.config_dir)]
    return await asyncio.to_thread(
        subprocess.run, command, env=ENV, capture_output=True, text=True, timeout=30, check=False
    )


FAULTS = {
    "bad TOML": ("routes.toml", lambda p: p.write_text(p.read_text() + "\n[[route\n"), ""),
    "unknown key": ("routes.toml", lambda p: _edit(p, "match", "matches"), "route[cn"),
    "bad value": (
        "channels.toml",
        lambda p: _edit(p, 'system_id = "esme"', "system_id = 7"),
        "channel[cm-a].system_id",
    ),
    "duplicate id": ("channels.toml", lambda p: p.write_text(p.read_text() * 2), "channel[cm-a]"),
    "half-written": ("channels.toml", lambda p: p.write_text(p.read_text()[: p.read_text().index(PASSWORD) + 4]), ""),
    "deleted": ("accounts.toml", lambda p: p.unlink(), ""),
}
WATCHED = ("unknown key", "half-written", "deleted")  # each takes the quiet time of a watched folder


@pytest.mark.parametrize("how", ["signal", "watch"])
async def test_what_is_not_sound_changes_nothing(gateway: GatewayProcess, how: str) -> None:
    config = gateway.config_dir
    if how == "watch":
        (config / "gateway.toml").write_text((config / "gateway.toml").read_text() + "[config]\nwatch = true\n")
        assert (await _signal(gateway))["result"] == "applied"
    number = (await _in_force(gateway))["revision"]
    for name in FAULTS if how == "signal" else WATCHED:
        file, spoil, key = FAULTS[name]
        sound = (config / file).read_text()
        refused = await gateway.metric("smsgw_config_reloads_total", result="refused")
        spoil(config / file)
        if how == "signal":
            last = await _signal(gateway)
        else:
            await until(lambda r=refused: _counted(gateway, r))
            last = (await _in_force(gateway))["last"]
            assert last["by"] == "file watch"
        assert (last["result"], last["code"], last["revision"]) == ("refused", "invalid", number), name
        problems = [(p["file"], p["key"]) for p in last["problems"]]
        assert any(f == file and k.startswith(key) for f, k in problems), (name, problems)
        assert await gateway.metric("smsgw_config_reload_success") == 0
        assert await _runs(gateway, number)
        assert await _sends(gateway)
        (config / file).write_text(sound)
    # A link that is swapped to another release: a sound one is taken whole, one that is not changes nothing.
    sound_release = config.resolve()
    for release, wanted in (("bad", "refused"), ("good", "applied")):
        target = config.parent / f"{how}-{release}"
        shutil.copytree(sound_release, target)
        if release == "bad":
            (target / "routes.toml").write_text("route = 1\n")
        else:
            _edit(target / "routes.toml", 'id = "cn', f'id = "cn-{how}')
        link = config.parent / "link"
        link.symlink_to(target.name)
        link.replace(config)
        if how == "signal":
            assert (await _signal(gateway))["result"] == wanted
        else:
            await until(lambda w=wanted: _last_is(gateway, w))
    await until(lambda: _runs(gateway, number + 1))
    assert await gateway.metric("smsgw_config_reload_success") == 1
    await until(lambda: _metric_is(gateway, "smsgw_config_revision", number + 1))  # snapshots come each second
    assert await _sends(gateway)
    assert PASSWORD not in gateway.log()
    assert "routes.toml" in gateway.log()
    assert PASSWORD not in json.dumps(await _in_force(gateway))


async def _metric_is(gateway: GatewayProcess, name: str, value: float) -> bool:
    return await gateway.metric(name) == value


async def _counted(gateway: GatewayProcess, before: float) -> bool:
    return await gateway.metric("smsgw_config_reloads_total", result="refused") > before


async def _last_is(gateway: GatewayProcess, result: str) -> bool:
    return bool((await _in_force(gateway))["last"]["result"] == result)


async def test_operators_look_roll_back_and_write(gateway: GatewayProcess) -> None:
    config = gateway.config_dir
    _edit(config / "gateway.toml", "watch = true", "watch = false")
    done = await _smsgw(gateway, "reload", "--note", "by hand now")
    assert (done.returncode, "is in force" in done.stdout) == (0, True), done.stderr
    number = (await _in_force(gateway))["revision"]
    # A change of the machine's own keys, one of all machines', and a fault.
    _edit(config / "gateway.toml", "[api]\n", "[api]\nidle_timeout_s = 60.0\n")
    _edit(config / "gateway.toml", "workers = 1", "workers = 2")
    dry = await _smsgw(gateway, "reload", "--dry-run", "--json")
    answer = json.loads(dry.stdout)
    assert (dry.returncode, answer["result"], answer["revision"]) == (0, "checked", number)
    assert answer["changes"] == {"settings changed": ["api.idle_timeout_s"]}
    assert answer["needs_restart"] == ["api.workers", "dispatch.workers"]
    diff = await _smsgw(gateway, "diff")
    assert diff.returncode == 1
    assert "+idle_timeout_s = 60.0" in diff.stdout
    accounts = (config / "accounts.toml").read_text()
    (config / "accounts.toml").write_text(f"{accounts}\nnobody = 1\n")
    refused = await _smsgw(gateway, "reload")
    assert refused.returncode == 3
    assert "accounts.toml: account[shop].nobody: unknown key" in refused.stderr
    (config / "accounts.toml").write_text(accounts)
    done = await _smsgw(gateway, "reload")
    assert (done.returncode, f"revision {number + 1} is in force" in done.stdout) == (0, True), done.stderr
    assert "settings changed: api.idle_timeout_s" in done.stdout
    assert "takes a restart of this machine: api.workers, dispatch.workers" in done.stderr
    assert (await _smsgw(gateway, "status")).returncode == 0
    # Back, and into the files: this machine's own keys stay.
    back = await _smsgw(gateway, "rollback", str(number), "--write", "--json")
    answer = json.loads(back.stdout)
    assert (back.returncode, answer["revision"], answer["written"]) == (0, number + 2, ["gateway.toml"])
    text = (config / "gateway.toml").read_text()
    assert "idle_timeout_s" not in text
    assert "workers = 2" in text
    assert "idle_timeout_s = 60.0" in (config / "gateway.toml.bak").read_text()
    assert (await _smsgw(gateway, "diff")).returncode == 0
    assert (await _smsgw(gateway, "rollback", "999")).returncode == 3
    history = json.loads((await _smsgw(gateway, "history", "--json")).stdout)["revisions"]
    assert [one["revision"] for one in history] == list(range(number + 2, 0, -1))
    assert history[2]["note"] == "by hand now"
    shown = await _smsgw(gateway, "show", "1")
    assert 'password = "***"' in shown.stdout
    between = await _smsgw(gateway, "diff", str(number), str(number + 1))
    assert "+idle_timeout_s = 60.0" in between.stdout
    assert PASSWORD not in shown.stdout + between.stdout + gateway.log()
    _, audit = await gateway.admin("GET", "/admin/v1/audit")
    actions = {one["action"] for one in audit["entries"]}
    assert {"config.publish", "config.reload", "config.rollback", "config.write"} <= actions
    assert PASSWORD not in json.dumps(audit)


async def test_a_restart_keeps_a_rollback_and_takes_an_edit(gateway: GatewayProcess) -> None:
    config = gateway.config_dir
    number = (await _in_force(gateway))["revision"]
    assert (await _smsgw(gateway, "rollback", "1")).returncode == 0
    [dispatch] = gateway.workers("dispatch")
    (config / "routes.toml").write_text("half an ed")  # a worker that dies meanwhile must not take it
    dispatch.kill()
    await until(lambda: [p.pid for p in gateway.workers("dispatch")] not in ([], [dispatch.pid]))
    await until(lambda: _runs(gateway, number + 1))
    assert (await _smsgw(gateway, "diff")).returncode == 1
    # In step again, then edited: the restart publishes the edit.
    assert (await _smsgw(gateway, "write")).returncode == 0
    assert "half an ed" in (config / "routes.toml.bak").read_text()
    assert await gateway.terminate() == 0
    _edit(config / "routes.toml", 'id = "cn', 'id = "edited-cn')
    _edit(config / "gateway.toml", "workers = 2", "workers = 1")
    await gateway.start()
    await until(lambda: _runs_route(gateway, number + 2))
    assert await _sends(gateway)


async def _runs_route(gateway: GatewayProcess, number: int) -> bool:
    _, found = await gateway.admin("GET", "/admin/v1/config/revisions/" + str(number))
    return "edited-cn" in str(found) and await _runs(gateway, number)
