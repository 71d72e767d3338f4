"""`smsgw ported` as an operator meets it: a file imported, named, looked up; exit codes, JSON, and no number shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.model import Secret
from gateway.routing.learned import Fact, Learned
from gateway.routing.loader import build_router
from gateway.settings import AdminSettings, load, load_without_secrets
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.config import ACCOUNTS, ENV, GATEWAY, write_config
from tests.support.valkey import ValkeyServer
from tests.test_cli import smsgw

NUMBER = "13800138000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gateway = GATEWAY.replace('data_dir = "var"', f'data_dir = "{tmp_path}/var"')
    return write_config(tmp_path / "config", gateway=gateway)


def csv(folder: Path, *rows: str) -> str:
    path = folder.parent / "in.csv"
    path.write_text("\n".join(["number,carrier", *rows]) + "\n")
    return str(path)


def test_import_info_and_lookup(folder: Path) -> None:
    at = ("-c", str(folder))
    done = smsgw("ported", "info", *at, env=ENV)
    assert (done.returncode, done.stdout) == (0, "no table of ported numbers is in use\n")
    source = csv(folder, f"{NUMBER},china-telecom", "13800138001,china-unicom", f"{NUMBER},china-unicom")
    done = smsgw("ported", "import", source, "--country", "CN", *at, env=ENV)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CN: 2 numbers in the table; 3 rows read, 1 replaced by later ones, 0 bad; ")
    assert "3 rows read (100 %)" in done.stderr
    done = smsgw("ported", "info", "--json", *at, env=ENV)
    (table,) = json.loads(done.stdout)["tables"]
    assert (table["country"], table["numbers"], table["carriers"]["china-unicom"]) == ("CN", 2, 2)
    done = smsgw("ported", "lookup", f"+86{NUMBER}", "--json", *at, env=ENV)
    assert json.loads(done.stdout) == {
        "country": "CN", "carrier": "china-unicom", "origin": "imported", "segment": "china-mobile",
        "imported": "china-unicom", "learned": None,
    }  # fmt: skip
    done = smsgw("ported", "lookup", NUMBER, "--country", "cn", *at, env=ENV)
    assert done.stdout.splitlines()[0] == "carrier: china-unicom (imported)"
    assert smsgw("check", *at, env=ENV).returncode == 0


def test_bad_rows_exit_1_and_are_named_by_line(folder: Path) -> None:
    source = csv(folder, f"{NUMBER},china-unicom", "1380013800x,china-unicom", *["1,china-unicom"] * 25)
    done = smsgw("ported", "import", source, "--country", "CN", "-c", str(folder), env=ENV)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in lines] == [f"line {n}" for n in range(3, 23)]
    assert "… and 6 more bad rows" in done.stderr
    assert "1380013800" not in done.stdout + done.stderr
    done = smsgw("ported", "import", source, "--country", "CN", "--json", "-c", str(folder), env=ENV)
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert (answer["rows"], answer["numbers"], answer["bad_rows"], len(answer["bad"])) == (27, 1, 26, 20)


def test_refusals(folder: Path) -> None:
    at = ("-c", str(folder))
    done = smsgw("ported", "import", csv(folder, f"{NUMBER},cmcc"), "--country", "CN", *at, env=ENV)
    assert done.returncode == 4
    assert "line 2: carrier: no number segment of CN belongs to cmcc (china-broadnet, china-mobile" in done.stderr
    assert not list((folder.parent / "var" / "ported").iterdir())
    assert smsgw("ported", "import", "nothing.csv", *at, env=ENV).returncode == 2
    done = smsgw("ported", "lookup", "12345", *at, env=ENV)
    assert (done.returncode, done.stdout) == (2, "")
    assert smsgw("ported", "info", "-c", str(folder.parent), env=ENV).returncode == 3


def test_a_damaged_table_and_a_wrong_code_are_named(folder: Path) -> None:
    (folder.parent / "var" / "ported").mkdir(parents=True)
    (folder.parent / "var" / "ported" / "cn.bin").write_bytes(b"x" * 10_000)
    done = smsgw("ported", "info", "-c", str(folder), env=ENV)
    assert done.returncode == 1
    assert "ported/cn.bin: not a table of ported numbers" in done.stderr
    (folder / "ported_codes.csv").write_text("code,carrier,new_carrier,source\nX,any,,me\n")
    done = smsgw("check", "-c", str(folder), env=ENV)
    assert done.returncode == 3
    assert "ported_codes.csv: line 2: code: " in done.stderr
    assert "ported/cn.bin: not a table of ported numbers" in done.stderr


def test_lookup_asks_the_store_for_what_was_learned(folder: Path, valkey: ValkeyServer) -> None:
    text = (folder / "gateway.toml").read_text()
    (folder / "gateway.toml").write_text(text.replace("[store]", f'[store]\nurl = "{valkey.url}"'))

    async def learn() -> None:
        store = await Store.open(load(folder, ENV), valkey.url)
        await store.learn_ported([(f"86{NUMBER}", "china-mobile", "china-unicom"), ("8613800138001", "x", "")], 1000.0)
        await store.close()

    asyncio.run(learn())
    done = smsgw("ported", "lookup", f"+86{NUMBER}", "--json", "-c", str(folder), env=ENV)
    answer = json.loads(done.stdout)
    assert (answer["carrier"], answer["origin"]) == ("china-unicom", "learned")
    assert answer["learned"] == {"not": ["china-mobile"], "carrier": "china-unicom"}


def test_import_info_and_lookup_ask_for_no_password(folder: Path) -> None:
    accounts = ACCOUNTS + 'webhook = { url = "https://example.com/in", secret = "${env:HOOK_SECRET}" }\n'
    (folder / "accounts.toml").write_text(accounts)
    channels = (folder / "channels.toml").read_text()
    (folder / "channels.toml").write_text(f'{channels}tls = true\ntls_ca = "only-root-may-read.pem"\n')
    at = ("-c", str(folder))
    assert smsgw("check", *at).returncode == 3, "the rest needs them"
    assert smsgw("ported", "import", csv(folder, f"{NUMBER},china-unicom"), "--country", "CN", *at).returncode == 0
    assert smsgw("ported", "info", *at).stdout.startswith("CN: 1 numbers")
    done = smsgw("ported", "lookup", f"+86{NUMBER}", *at)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "carrier: china-unicom (imported)")
    settings = load_without_secrets(folder, {})
    assert settings.admin.token is None
    assert not any(c.password.reveal() for c in settings.channels)
    # What is wrong otherwise is still said.
    (folder / "channels.toml").write_text(channels.replace("2776", "99999"))
    assert "channel[b].port" in smsgw("ported", "info", *at).stderr


def test_only_lookup_asks_for_the_stores_address(folder: Path) -> None:
    text = (folder / "gateway.toml").read_text()
    (folder / "gateway.toml").write_text(text.replace("[store]", '[store]\nurl = "redis://:${env:NOT_SET}@h"'))
    at = ("-c", str(folder))
    assert smsgw("ported", "import", csv(folder, f"{NUMBER},china-unicom"), "--country", "CN", *at).returncode == 0
    assert smsgw("ported", "info", *at).returncode == 0
    done = smsgw("ported", "lookup", f"+86{NUMBER}", *at)
    assert done.returncode == 3
    assert "store.url: environment variable NOT_SET is not set" in done.stderr


# --- forgetting what was learned


@dataclass
class Running:
    """A configuration folder with an admin listener at work on a store."""

    folder: Path
    store: Store

    async def smsgw(self, *args: str) -> tuple[int, str, str]:
        command = ("ported", "forget", *args, "-c", str(self.folder))
        done = await asyncio.to_thread(smsgw, *command, env={"TOKEN": "t" * 20})
        return done.returncode, done.stdout, done.stderr

    async def left(self) -> set[str]:
        """Return the numbers that a worker which reads it all now would know."""
        learned = Learned(1000.0, 1000)
        for shard in range(self.store.shards):
            now_ms, facts = await self.store.ported_since(shard, 0)
            learned.add([(m, Fact(left, joined), at) for m, left, joined, at in facts], now_ms)
        return {m for m in LEARNED if learned.get(m) is not None}


LEARNED = [f"86{int(NUMBER) + i}" for i in range(5)]


@pytest.fixture
async def running(folder: Path, valkey: ValkeyServer) -> AsyncIterator[Running]:
    settings = load(folder, ENV)
    settings = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret("t" * 20)),
        store=replace(settings.store, shards=3),
        ported=replace(settings.ported, learned_ttl_s=1000.0),
    )
    store = await Store.open(settings, valkey.url)
    await store.learn_ported([(m, "china-mobile", "") for m in LEARNED], 1000.0)
    await store.learn_ported([(LEARNED[0], "", "china-unicom")], 1000.0)
    async with admin_listener(settings, store, folder.parent / "run", build_router(settings)) as address:
        text = (folder / "gateway.toml").read_text()
        text = text.replace('[admin]\nlisten = "127.0.0.1:0"', f'[admin]\nlisten = "{address}"')
        (folder / "gateway.toml").write_text(text)
        yield Running(folder, store)
    await store.close()


async def test_one_number_is_forgotten(running: Running) -> None:
    assert await running.left() == set(LEARNED)
    assert await running.smsgw(f"+{LEARNED[0]}") == (0, "2 learned facts forgotten\n", "")
    assert await running.left() == set(LEARNED[1:])
    assert await running.smsgw(f"+{LEARNED[0]}") == (0, "nothing had been learned\n", "")
    code, out, _ = await running.smsgw(LEARNED[1][2:], "--country", "cn", "--json")
    assert (code, json.loads(out)) == (0, {"forgotten": 1, "imported": None})
    # What comes after it holds, within the hour in which a fact is not noted twice.
    assert await running.store.learn_ported([(LEARNED[0], "china-mobile", "")], 1000.0) == 1
    assert await running.left() == {LEARNED[0], *LEARNED[2:]}


async def test_an_imported_number_is_said_to_be_in_the_table(running: Running) -> None:
    source = csv(running.folder, f"{NUMBER},china-unicom")
    done = await asyncio.to_thread(smsgw, "ported", "import", source, "--country", "CN", "-c", str(running.folder))
    assert done.returncode == 0, done.stderr
    code, out, err = await running.smsgw(f"+86{NUMBER}")
    assert (code, err) == (0, "")
    assert out == (
        "2 learned facts forgotten\nthe imported table has it with china-unicom; only another import changes that\n"
    )
    _, out, _ = await running.smsgw(f"+86{NUMBER}", "--json")
    assert json.loads(out) == {"forgotten": 0, "imported": "china-unicom"}


async def test_all_that_was_learned_is_forgotten(running: Running) -> None:
    assert await running.smsgw("--all-learned") == (0, "6 learned facts forgotten\n", "")
    assert await running.left() == set()
    assert await running.smsgw("--all-learned") == (0, "nothing had been learned\n", "")


async def test_what_cannot_be_forgotten(running: Running) -> None:
    assert (await running.smsgw())[0] == 2
    assert (await running.smsgw(f"+{LEARNED[0]}", "--all-learned"))[0] == 2
    code, out, err = await running.smsgw("12345")
    assert (code, out) == (4, "")
    assert "number: " in err
    assert "12345" not in err
    assert await running.left() == set(LEARNED)
