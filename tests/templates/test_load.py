"""`templates.toml`: what is read, and what is wrong with it by file, key and reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.check import check
from gateway.errors import ConfigError
from gateway.model import Category
from gateway.settings import load, packaged_config_dir
from gateway.templates.load import load_templates, read_template
from gateway.templates.model import latest, registration_tlvs
from tests.support.config import ENV, write_config

GOOD = """
[[template]]
id = "login"
version = 2
category = "verification"
accounts = ["shop"]
text = "【Acme】Your code is {{ code }}, valid {{ minutes }} min. {{ link }}"
[template.params.code]
type = "code"
[template.params.minutes]
type = "int"
min = 1
max = 60
[template.params.link]
type = "url"
domains = ["acme.example"]
optional = true
[[template.registration]]
tlvs = { "0x1400" = "entity" }
[[template.registration]]
carrier = "airtel"
tlvs = { "0x1401" = "of-airtel" }
[[template.registration]]
channels = ["a"]
tlvs = { "0x1401" = "0x0102" }
"""


def problems(folder: Path, text: str) -> list[str]:
    write_config(folder)
    (folder / "templates.toml").write_text(text, encoding="utf-8")
    return [str(p) for p in check(folder, ENV).problems]


def test_a_good_one(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "templates.toml").write_text(GOOD, encoding="utf-8")
    (one,) = load_templates(load(tmp_path, ENV))
    assert (one.id, one.version, one.category, one.accounts) == ("login", 2, Category.VERIFICATION, {"shop"})
    assert [(p.name, p.type, p.optional) for p in one.params] == [
        ("code", "code", False), ("minutes", "int", False), ("link", "url", True)
    ]  # fmt: skip
    assert registration_tlvs(one, "a", "airtel") == ((0x1400, b"entity"), (0x1401, b"\x01\x02"))
    assert registration_tlvs(one, "b", "airtel") == ((0x1400, b"entity"), (0x1401, b"of-airtel"))
    assert registration_tlvs(one, "b", "jio") == ((0x1400, b"entity"),)


def test_the_revision_knows_it_and_no_file_is_no_fault(tmp_path: Path) -> None:
    write_config(tmp_path)
    before = load(tmp_path, ENV)
    assert load_templates(before) == ()
    (tmp_path / "templates.toml").write_text(GOOD, encoding="utf-8")
    assert load(tmp_path, ENV).revision != before.revision


def test_the_shipped_example_is_sound(tmp_path: Path) -> None:
    shipped = (packaged_config_dir() / "templates.toml").read_text("utf-8")
    assert load_templates(load(write_config(tmp_path), ENV)) == ()
    lines = shipped[shipped.index("# [[template]]") :].splitlines()
    code = [line.removeprefix("# ") for line in lines if re.match(r"# (\[|[a-z]+ = |channels)", line)]
    text = "\n".join(code).replace('"cm-a"', '"a"')
    assert problems(tmp_path, text) == []
    (one,) = load_templates(load(tmp_path, ENV))
    assert [param.name for param in one.params] == ["code", "minutes", "link"]
    assert [tag for tag, _ in registration_tlvs(one, "a")] == [0x1400, 0x1401]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"verification"', '"codes"'), "templates.toml: template[login].category:"),
        (("minutes]", "minutes]\nlong = 1"), "templates.toml: template[login].params.minutes.long: unknown key"),
        (("{{ code }}", "{{ code }} {{ name }}"), "templates.toml: template[login].text: name: not among the params"),
        (("{{ code }}", "{{ code"), "templates.toml: template[login].text: not a template"),
        (("max = 60", "max = 0"), "templates.toml: template[login].params.minutes: min is above max"),
        (("max = 60", 'pattern = "x"'), "templates.toml: template[login].params.minutes: pattern goes with string"),
        (("max = 60", "default = 0"), "templates.toml: template[login].params.minutes.default: at least 1 is wanted"),
        (('domains = ["acme.example"]', ""), "templates.toml: template[login].params.link: domains"),
        (('accounts = ["shop"]', 'accounts = ["x"]'), "templates.toml: template[login].accounts: no account x"),
        (('channels = ["a"]', 'channels = ["z"]'), "template[login].registration[3].channels: no channel z"),
        (('channels = ["a"]', 'channels = ["a"]\ncarrier = "x"'), "registration[3]: channels or carrier"),
        (('"0x1400"', '"0x0424"'), "templates.toml: template[login].registration[1].tlvs: 0x0424 is set by"),
        (("version = 2", "version = 0"), "templates.toml: template[login].version:"),
        (("[[template]]", "[[template]"), "templates.toml: not valid TOML"),
    ],
)  # fmt: skip
def test_each_fault_is_named(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    found = problems(tmp_path, GOOD.replace(*change, 1))
    assert len(found) == 1, found
    assert expected in found[0]


def test_versions_stand_once_and_side_by_side(tmp_path: Path) -> None:
    assert problems(tmp_path / "a", GOOD + GOOD.replace("version = 2", "version = 1")) == []
    (found,) = problems(tmp_path / "b", GOOD + GOOD)
    assert "template[login].version: 2 stands 2 times" in found


def test_a_body_of_the_admin_api() -> None:
    one = read_template(
        {"id": "x", "category": "marketing", "text": "{{ a }}", "params": {"a": {"type": "string"}}}, version=4
    )
    assert (one.id, one.version, one.source) == ("x", 4, "store")
    with pytest.raises(ConfigError) as wrong:
        read_template({"id": "x", "category": "marketing", "text": "{{ a }}", "params": {"a": {"type": "strin"}}})
    assert wrong.value.problems[0].key == "params.a.type"
    for body in ([], "x", {}, {"id": 5}):
        with pytest.raises(ConfigError):
            read_template(body)


def test_the_latest_in_use() -> None:
    assert latest([1, 2, 3], {3}) == 2
    assert latest([1], {1}) == 0
    assert latest([]) == 0
