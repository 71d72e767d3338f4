"""`smsgw ported` as an operator meets it: a file imported, named, looked up; exit codes, JSON, and no number shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.settings import load
from gateway.store.store import Store
from tests.support.config import ENV, GATEWAY, write_config
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
