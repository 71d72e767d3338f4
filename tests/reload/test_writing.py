"""A revision written into a machine's files: each whole, its own keys kept, what stood there beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.reload.writing import with_keys_of, write_revision
from gateway.settings.bundle import Bundle
from gateway.settings.loading import parse_toml
from gateway.settings.local_keys import only_local, without_local
from tests.support.config import GATEWAY, ROUTES, write_config

MACHINE = """# this machine's
[api]
workers = 4  # it has cores
listen = "10.0.0.1:8080"

[store]
# on the fast disk
data_dir = "/fast"
shards = 16
"""

SHARED = """# shared by all
[store]
data_dir = "var"

[api]
# where applications post
listen = "127.0.0.1:8080"
idle_timeout_s = 60.0

[admin]
token = "${env:TOKEN}"
listen = "127.0.0.1:8081"

[categories.marketing]
ttl_s = 60
"""


@pytest.mark.parametrize(
    ("shared", "machine"),
    [
        (SHARED, MACHINE),
        (SHARED, ""),
        (SHARED, SHARED),
        ("", MACHINE),
        (MACHINE, SHARED),
        (SHARED.replace("[store]\n", "[store]\nurl = 'redis://h'\n"), MACHINE),
        ("[quality]\nstep = 0.1", '[webhooks]\nworkers = 3\n[dispatch]\nworkers = 2\n[admin]\nlisten = "1.1.1.1:1"'),
    ],
)
def test_both_say_what_they_shall(shared: str, machine: str) -> None:
    text = with_keys_of(shared.encode(), machine.encode())
    tree = parse_toml(text)
    assert without_local(tree) == without_local(parse_toml(shared.encode()))
    assert only_local(tree) == only_local(parse_toml(machine.encode()))


def test_comments_of_the_revision_and_of_the_machines_store_stay() -> None:
    text = with_keys_of(SHARED.encode(), MACHINE.encode()).decode()
    assert "# shared by all" in text
    assert "# where applications post" in text
    assert "# on the fast disk" in text
    assert "workers = 4  # it has cores" in text


@pytest.mark.parametrize(
    "machine", ["api = { workers = 2 }\n", "api.workers = 2\n", '[store]\nurl = """\n[api]\n"""\n', "[broken"]
)
def test_what_cannot_be_brought_together_is_refused(machine: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml: .* cannot be brought together"):
        with_keys_of(SHARED.encode(), machine.encode())


def test_files_are_replaced_whole_and_old_ones_kept(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config")
    (folder / "number_segments").mkdir()
    (folder / "number_segments" / "cn.csv").write_text("old")
    (folder / "routes.toml").chmod(0o600)
    (folder / "notes.txt").write_text("mine")
    real = tmp_path / "accounts-elsewhere.toml"
    (folder / "accounts.toml").replace(real)
    (folder / "accounts.toml").symlink_to(real)
    theirs = write_config(tmp_path / "theirs", routes=ROUTES.replace('"cn"', '"cn2"'), accounts="# none\n")
    (theirs / "templates.toml").write_text("# one\n")
    revision = Bundle.read(theirs)
    changed = write_revision(revision, folder, (folder / "gateway.toml").read_bytes())
    assert changed == ["accounts.toml", "routes.toml", "templates.toml", "number_segments/cn.csv"]
    assert Bundle.read(folder).files == revision.files
    assert (folder / "routes.toml.bak").read_text() == ROUTES
    assert (folder / "routes.toml").stat().st_mode & 0o777 == 0o600
    assert (folder / "number_segments" / "cn.csv.bak").read_text() == "old"
    assert (folder / "accounts.toml").is_symlink()
    assert real.read_text() == "# none\n"
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.rglob(".*"))
    assert write_revision(revision, folder, GATEWAY.encode()) == []


def test_a_folder_without_room_or_rights_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_config(tmp_path / "config")
    before = Bundle.read(folder)
    revision = Bundle.read(write_config(tmp_path / "theirs", routes="# none\n", accounts="# none\n"))
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_revision(revision, folder, GATEWAY.encode())
    assert Bundle.read(folder) == before
    assert sorted(p.name for p in folder.iterdir()) == sorted(before.files)
