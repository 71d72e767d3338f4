"""The command line as a user meets it: words, files written, exit codes; each command in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.apikey import key_hash, new_key
from gateway.settings import load, packaged_config_dir
from tests.support.api_peer import ApiPeer
from tests.support.config import CHANNELS, ENV, write_config

ROOT = Path(__file__).resolve().parent.parent


def smsgw(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    command = [sys.executable, "-m", "gateway", *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)


def test_check_names_every_problem_and_exits_3(tmp_path: Path) -> None:
    write_config(tmp_path, channels=CHANNELS.replace("port = 2775", "port = 0"), routes="x = 1\n")
    done = smsgw("check", "--config", str(tmp_path), env=ENV)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "channels.toml: channel[a].port: greater than or equal to 1",
        "routes.toml: x: unknown key",
    ]


def test_check_of_a_sound_folder_exits_0(tmp_path: Path) -> None:
    done = smsgw("check", "-c", str(write_config(tmp_path)), env=ENV)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "sound, revision" in done.stdout
    assert "2 channels, 1 routes, 1 accounts" in done.stdout


def test_check_compiles_the_routes_with_the_number_segments(tmp_path: Path) -> None:
    routes = (
        '[[route]]\nid = "cn"\nmatch = { country = "CN", carrier = "china-mobil" }\n'
        'channels = [{ id = "a", rank = 0 }, { id = "b", rank = 1 }]\n'
    )
    done = smsgw("check", "-c", str(write_config(tmp_path, routes=routes)), env=ENV)
    assert done.returncode == 3
    assert "routes.toml: route[cn].match.carrier: " in done.stderr


@pytest.mark.parametrize("command", ["run", "api", "dispatch", "admin"])
def test_no_process_starts_on_a_wrong_configuration(tmp_path: Path, command: str) -> None:
    done = smsgw(command, "-c", str(write_config(tmp_path, accounts="[[account]]\n")), env=ENV)
    assert done.returncode == 3
    assert "accounts.toml: account[1].id: missing" in done.stderr


@pytest.mark.parametrize("command", ["run", "admin"])
def test_the_admin_listener_needs_its_token(tmp_path: Path, command: str) -> None:
    env = {name: value for name, value in ENV.items() if name != "TOKEN"}
    done = smsgw(command, "-c", str(write_config(tmp_path)), env=env)
    assert done.returncode == 3
    assert "gateway.toml: admin.token: not set" in done.stderr


def test_config_init_writes_the_shipped_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "config"
    done = smsgw("config", "init", str(target))
    assert done.returncode == 0
    shipped = packaged_config_dir()
    names = sorted(path.relative_to(shipped) for path in shipped.rglob("*.*"))
    assert names == sorted(path.relative_to(target) for path in target.rglob("*.*"))
    passwords = re.findall(r"\$\{env:([A-Z_]+)\}", (target / "channels.toml").read_text())
    assert load(target, dict.fromkeys(passwords, "x")).channels
    again = smsgw("config", "init", str(target))
    assert again.returncode == 2
    assert "not an empty folder" in again.stderr


def test_key_new_prints_a_key_and_its_line() -> None:
    lines = smsgw("key", "new").stdout.splitlines()
    key = lines[0].rpartition(" ")[2]
    assert re.fullmatch(r"sg_live_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", key)
    assert lines[1] == f'key_hashes = ["sha256:{hashlib.sha256(key.encode()).hexdigest()}"]'


def test_keys_differ_and_hash_as_accounts_toml_wants() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(hash_ == key_hash(key) and len(hash_) == 71 for key, hash_ in keys)


async def test_send_posts_a_file_and_tells_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("to,text\n+8613800138000,hello\n,nobody\n")
    async with ApiPeer() as peer:
        arguments = ["send", str(file), "--category", "notification", "--url", peer.url]
        done = await asyncio.to_thread(smsgw, *arguments, env={"SMSGW_API_KEY": "k"})
        assert done.returncode == 1
        assert "2 rows: 1 accepted" in done.stdout
        assert [message["category"] for message in peer.stored.values()] == ["notification"]
        done = await asyncio.to_thread(smsgw, *arguments, env={"SMSGW_API_KEY": "k"})
        assert done.returncode == 0
        assert "2 settled earlier" in done.stdout
    assert (tmp_path / "f.csv.result.csv").exists()


def test_send_wants_a_key_and_a_usable_file(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("number\n1\n")
    done = smsgw("send", str(file))
    assert done.returncode == 2
    assert "SMSGW_API_KEY" in done.stderr
    done = smsgw("send", str(file), env={"SMSGW_API_KEY": "k"})
    assert done.returncode == 4
    assert 'one of them "to"' in done.stderr


def test_help_and_version() -> None:
    assert smsgw("--version").stdout == "smsgw 0.1.0\n"
    listed = smsgw("--help").stdout
    for command in (
        "run",
        "api",
        "dispatch",
        "admin",
        "demo",
        "check",
        "send",
        "simulate",
        "bench",
        "key",
        "config",
    ):
        assert re.search(rf"^\W*{command}\s", listed, re.MULTILINE), command
