"""A bundle: which two mean the same, how it travels, how it lies in a folder, and what belongs to the machine alone."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import random
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import Settings, load, load_local
from gateway.settings import bundle as bundles
from gateway.settings.bundle import Bundle, is_ours, revisions_dir, signature
from gateway.settings.loading import parse_toml
from gateway.settings.local_keys import needs_restart, only_local, with_local, without_local
from tests.support.config import ACCOUNTS, ENV, GATEWAY, ROUTES, write_config

LOCAL = """
[store]
data_dir = "elsewhere"
shards = 4
[api]
listen = "127.0.0.1:9000"
workers = 7
[admin]
listen = "127.0.0.1:9001"
token = "${env:TOKEN}"
[dispatch]
workers = 3
[webhooks]
workers = 2
"""


def digest(folder: Path, **files: str) -> str:
    return Bundle.read(write_config(folder, **files)).digest


def test_comments_order_and_a_machines_own_keys_make_no_difference(tmp_path: Path) -> None:
    first = digest(tmp_path)
    assert digest(tmp_path, routes=f"# a comment\n{ROUTES}") == first
    assert digest(tmp_path, gateway=LOCAL) == first
    assert digest(tmp_path, accounts='[[account]]\nkey_hashes = ["sha256:' + "0" * 64 + '"]\nid = "shop"\n') == first
    assert digest(tmp_path, routes=ROUTES.replace('"cn"', '"cn2"')) != first
    assert digest(tmp_path, gateway=GATEWAY + "[quality]\nmin_sample = 60\n") != first
    assert digest(tmp_path, gateway=GATEWAY.replace("[api]", "[api]\nidle_timeout_s = 60.0")) != first


def test_tables_and_templates_of_the_folder_count_and_shipped_ones_do_not(tmp_path: Path) -> None:
    first = digest(tmp_path)
    for name in ("number_segments/cn.csv", "quiet_hours.csv", "templates.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("# x\n")
        assert digest(tmp_path) != first
        path.unlink()
    (tmp_path / "notes.txt").write_text("nobody's")
    (tmp_path / "routes.toml.bak").write_text("old")
    assert digest(tmp_path) == first


def test_a_file_that_is_no_toml_has_a_digest_too(tmp_path: Path) -> None:
    broken = digest(tmp_path, routes="[[route")
    assert broken not in (digest(tmp_path), digest(tmp_path, routes="[[route]"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "channels.toml").unlink()
    with pytest.raises(ConfigError) as wrong:
        Bundle.read(tmp_path)
    assert [p.file for p in wrong.value.problems] == ["channels.toml"]
    assert "routes.toml" in Bundle.read_what_is_there(tmp_path).files


def test_it_travels_whole_and_within_a_bound(tmp_path: Path) -> None:
    folder = write_config(tmp_path)
    (folder / "content_words.csv").write_bytes(b"id,word\n\xff\xfe")  # not UTF-8: it goes as it is
    bundle = Bundle.read(folder)
    again = Bundle.decode(bundle.encode())
    assert again == bundle
    assert again.digest == bundle.digest
    noise = random.Random(1).randbytes(bundles.MAX_ENCODED_BYTES)
    with pytest.raises(ConfigError, match=r"number_segments/cn\.csv: the configuration takes .* KiB"):
        Bundle({**bundle.files, "number_segments/cn.csv": noise}).encode()


@pytest.mark.parametrize("text", [b"", b"something else", bundles._HEAD + b"\0\0", bundles._HEAD])
def test_what_is_damaged_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot be read here"):
        Bundle.decode(text)


def test_no_name_leads_out_of_the_folder() -> None:
    assert is_ours("number_segments/cn.csv")
    assert not any(
        map(is_ours, ("../x.csv", "number_segments/../a.csv", "/etc/passwd", "number_segments/.csv", "x/cn.csv"))
    )
    with pytest.raises(ConfigError, match="1 files in it are unknown here"):
        Bundle.decode(Bundle({"../gateway.toml": b""}).encode())


def test_as_a_folder_it_is_whole_whoever_writes_it_at_once(tmp_path: Path) -> None:
    bundle = Bundle.read(write_config(tmp_path / "config"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: bundle.materialise(tmp_path / "var"), range(32)))
    (path,) = paths
    assert path.parent == revisions_dir(tmp_path / "var")
    assert Bundle.read(path) == bundle
    assert [p for p in path.parent.iterdir() if p != path] == []
    (path / "routes.toml").write_bytes(b"")  # as after a power cut
    assert Bundle.read(bundle.materialise(tmp_path / "var")) == bundle


def test_old_folders_go_but_for_those_in_use(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "config")
    made = []
    for n in range(bundles._KEPT + 4):
        write_config(folder, routes=ROUTES.replace('"cn"', f'"cn{n}"'))
        path = Bundle.read(folder).materialise(tmp_path / "var", keep={made[0].name} if made else ())
        os.utime(path, (n, n))
        made.append(path)
    left = set(revisions_dir(tmp_path / "var").iterdir())
    assert made[0] in left
    assert made[1] not in left
    assert made[-1] in left
    assert len(left) <= bundles._KEPT + 2


def test_a_signature_sees_content_links_and_what_is_gone(tmp_path: Path) -> None:
    one, two = write_config(tmp_path / "one"), write_config(tmp_path / "two")
    link = tmp_path / "config"
    link.symlink_to(one)
    first = signature(link)
    assert signature(link) == first
    other = tmp_path / "link"
    other.symlink_to(two)
    other.replace(link)
    assert signature(link) != first
    second = signature(link)
    (two / "routes.toml").unlink()
    assert signature(link) != second


# --- read from a folder of its own


def test_a_revision_is_read_with_this_machines_secrets_and_keys(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", gateway=LOCAL)
    (config / "a.secret").write_text("of-this\n")
    (config / "a.secret").chmod(0o600)
    local = load_local(config, ENV)
    theirs = write_config(
        tmp_path / "theirs", gateway=GATEWAY.replace("[store]", '[store]\nurl = "redis://${env:NOT_HERE}@h"')
    )
    text = (theirs / "channels.toml").read_text().replace("${env:A_PASSWORD}", "file:a.secret")
    (theirs / "channels.toml").write_text(text)
    folder = Bundle.read(theirs).materialise(tmp_path / "var")
    settings = load(config, ENV, source=folder, local=local)
    assert settings.channels[0].password.reveal() == "of-this"
    assert settings.store == local.store
    assert (settings.api.port, settings.api.workers, settings.admin.port) == (9000, 7, 9001)
    assert (settings.dispatch.workers, settings.webhooks.workers) == (3, 2)
    assert settings.admin.token is not None
    assert settings.config_dir == config


def test_a_machines_keys_alone_need_nothing_else_of_the_files(tmp_path: Path) -> None:
    config = write_config(tmp_path, gateway=LOCAL.replace('token = "${env:TOKEN}"', "unknown = 1"), routes="broken [")
    assert load_local(config, {}).store.shards == 4
    write_config(tmp_path, gateway=LOCAL.replace("workers = 7", 'workers = "7"'))
    with pytest.raises(ConfigError, match=r"gateway\.toml: api\.workers"):
        load_local(config, {})


def test_local_and_shared_keys_are_all_keys() -> None:
    tree = parse_toml(LOCAL.encode())
    assert without_local(tree) == {"admin": {"token": "${env:TOKEN}"}}
    assert only_local(tree) == {
        "store": {"data_dir": "elsewhere", "shards": 4},
        "api": {"listen": "127.0.0.1:9000", "workers": 7},
        "admin": {"listen": "127.0.0.1:9001"},
        "dispatch": {"workers": 3},
        "webhooks": {"workers": 2},
    }


def test_which_keys_take_a_restart(tmp_path: Path) -> None:
    running = Settings(config_dir=tmp_path)
    files = load(write_config(tmp_path, gateway=LOCAL), ENV)
    found = needs_restart(files, running)
    assert found == [
        "admin.listen", "api.listen", "api.workers", "dispatch.workers", "store.data_dir", "store.shards",
        "webhooks.workers",
    ]  # fmt: skip
    assert needs_restart(with_local(files, running), running) == []
    other = dataclasses.replace(files, quality=dataclasses.replace(files.quality, min_sample=9))
    assert needs_restart(other, files) == []
    assert ACCOUNTS  # what is not local is in no list
