"""docs/operations.md and docs/tuning.md against the program: alerts, commands, keys, metrics and links that they name.

Owns the reading of the two pages. Whether an advice is good no test can tell; that it can be followed this one does:
every alert has its section under the anchor of its runbook link, every command is taken by the command line, every
configuration key and metric exists, and every link leads somewhere.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from gateway.cli import app
from gateway.metrics import FAMILIES, PREFIX
from gateway.settings import schema

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("operations", "tuning")
TEXTS = {name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}
RULES = yaml.safe_load((ROOT / "config" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
ALERTS = {
    rule["alert"]: rule["annotations"]["runbook"]
    for group in RULES["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
ON_ANY_PAGE = pytest.mark.parametrize("page", PAGES)

FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
KEY = re.compile(r"[a-z]+(?:_[a-z]+)*(?:\.[a-z]+(?:_[a-z]+)*)*")
NOT_OURS = {
    "command_status": "SMPP",
    "aof_last_write_status": "a field of the server's INFO",
    "store_unavailable": "the code of a refusal",
    "credentials_file": "Prometheus' own",
    "config.json": "a file of data_dir",
    "store.log": "a file of data_dir",
    "store.lock": "a file of data_dir",
    "vm.swappiness": "the kernel's",
}
NO_CONFIG = {"config init", "key new", "send", "demo", "simulate", "bench"}
"""Commands without `--config`: the shell function of the page must not be used for them."""


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", TEXTS[page])


def inline(page: str) -> list[str]:
    """Return what stands between single backticks, on one line each."""
    return [" ".join(found.split()) for found in INLINE.findall(prose(page))]


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(path: Path) -> list[str]:
    """Return the anchors of a page's headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return [anchor(heading) for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)]


# --- alerts


def test_every_alert_has_its_section_where_its_link_leads() -> None:
    there = anchors(ROOT / "docs" / "operations.md")
    assert len(ALERTS) > 40
    assert {name: link for name, link in ALERTS.items() if link != f"docs/operations.md#{name.lower()}"} == {}
    assert {name for name in ALERTS if there.count(name.lower()) != 1} == set()


def test_every_section_is_an_alert_and_says_what_to_do() -> None:
    sections = dict(re.findall(r"^### (Smsgw\w+)\n(.*?)(?=^##|\Z)", TEXTS["operations"], re.DOTALL | re.MULTILINE))
    assert list(sections) == list(ALERTS), "as many as rules.yml has, in its order"
    for name, text in sections.items():
        for part in ("* **Means**", "* **Do**", "* **Over when**"):
            assert part in text, f"{name}: {part}"


def test_every_panel_named_exists() -> None:
    titles: set[str] = set()
    for path in (ROOT / "config" / "grafana" / "dashboards").glob("*.json"):
        titles |= {panel["title"] for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]}
    short = {title.partition(" (")[0].partition(", ")[0] for title in titles} | titles
    runbooks = TEXTS["operations"].partition("## When an alert fires")[2]
    # `*Panel*`, single asterisks; "Targets" is a page of Prometheus itself.
    named = {" ".join(found.split()) for found in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", runbooks)} - {"Targets"}
    assert named
    assert {name for name in named if name not in titles and name.partition(", ")[0] not in short} == set()


# --- commands


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command, and every group, with the words that call it."""
    if path:
        yield " ".join(path), command
    for name, below in (getattr(command, "commands", None) or {}).items():
        yield from leaves(below, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def examples(page: str) -> list[str]:
    """Return every `smsgw …` of a page, without its first word."""
    lines = [line for language, block in BLOCKS.findall(TEXTS[page]) if language == "sh" for line in block.splitlines()]
    found = [re.sub(r"^\S*/bin/smsgw ", "smsgw ", text) for text in (*inline(page), *lines)]
    return [
        re.split(r" # |\s{2,}#| \| | > ", text)[0].removeprefix("smsgw ")
        for text in found
        if re.match("smsgw [a-z]", text)
    ]


@ON_ANY_PAGE
def test_every_command_is_taken_by_the_command_line(page: str) -> None:
    found = examples(page)
    assert found
    for example in found:
        words = shlex.split(example.replace("…", "x"))
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS), None)
        assert name is not None, f"smsgw {example}: no such command"
        if name in ("simulate", "bench"):
            continue  # options of programs of their own
        command = COMMANDS[name]
        if getattr(command, "commands", None):
            assert words == name.split(), f"smsgw {example}: no such command of {name}"
            continue
        known = {word for param in command.params for word in (*param.opts, *param.secondary_opts)} | {"--help"}
        given = {word for word in words if word.startswith("-") and word != "-"}
        assert given <= known, f"smsgw {example}: {given - known}"
        most = sum(1 if param.nargs > 0 else 9 for param in command.params if param.param_type_name == "argument")
        if not given:
            assert len(words) - len(name.split()) <= most, f"smsgw {example}: too many words"


def test_the_shell_function_fits_every_command_it_is_used_for() -> None:
    without = {
        name for name, command in COMMANDS.items() if not any("--config" in param.opts for param in command.params)
    }
    groups = {name for name, command in COMMANDS.items() if getattr(command, "commands", None)}
    assert without - groups == NO_CONFIG
    for name in NO_CONFIG:
        assert f"`smsgw {name}`" in TEXTS["operations"].partition("## Install")[0]


# --- keys, metrics, links


def keys() -> tuple[set[str], set[str]]:
    """Return every name of a configuration key, and every key of gateway.toml with its sections."""
    names: set[str] = set()
    dotted: set[str] = set()

    def walk(model: type[BaseModel], above: str) -> None:
        for name, field in model.model_fields.items():
            names.add(name)
            dotted.add(f"{above}{name}")
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, f"{above}{name}.")

    walk(schema.GatewayFile, "")
    for model in vars(schema).values():
        if isinstance(model, type) and issubclass(model, BaseModel):
            names |= set(model.model_fields)
    return names, dotted


@ON_ANY_PAGE
def test_every_key_exists(page: str) -> None:
    names, dotted = keys()
    sections = set(schema.GatewayFile.model_fields)
    looked_at = 0
    for text in inline(page):
        key, equals, _ = text.partition(" = ")
        key = key.removeprefix("[log] ")
        if not KEY.fullmatch(key) or key in NOT_OURS or key.startswith(PREFIX) or (ROOT / "config" / key).exists():
            continue
        if "." in key and key.partition(".")[0] in sections:
            assert key in dotted, f"{key}: no such key in gateway.toml"
        elif equals or "_" in key:
            assert key in names, f"{key}: no such key"
        else:
            continue
        looked_at += 1
    assert looked_at > 10


@ON_ANY_PAGE
def test_every_metric_exists(page: str) -> None:
    found = set(re.findall(rf"\b{PREFIX}(\w+)", TEXTS[page]))
    assert found
    assert {
        name for name in found if name not in FAMILIES and re.sub("_(bucket|count|sum)$", "", name) not in FAMILIES
    } == set()


@ON_ANY_PAGE
def test_every_link_leads_somewhere(page: str) -> None:
    here = ROOT / "docs" / f"{page}.md"
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        name, _, part = link.partition("#")
        target = (here.parent / name).resolve() if name else here
        assert target.exists(), link
        assert not part or part in anchors(target), link


def test_the_readme_leads_to_both() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"(docs/{page}.md)" in readme for page in PAGES)
