"""docs/command_line.md against the program, completion by the shells' own protocol, and errors that say what to do."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli import app
from gateway.commands import common
from tests.support.config import ENV, write_config

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
PROCESSES = {"run", "api", "dispatch", "events", "admin", "simulate", "bench"}
"""Commands that run something and answer nothing."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command with the words that call it."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield " ".join(path), command
    for name, below in (subcommands or {}).items():
        yield from leaves(below, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))
EXAMPLES = [
    line.partition("smsgw ")[2].partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if "smsgw " in line
]


def command_of(example: str) -> str | None:
    """Return the command that an example calls, by its longest match."""
    words = shlex.split(example)
    for n in (2, 1):
        if (name := " ".join(words[:n])) in COMMANDS:
            return name
    return None


def test_every_command_has_an_example() -> None:
    assert set(COMMANDS) == {name for example in EXAMPLES if (name := command_of(example))}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_would_be_taken(example: str) -> None:
    name = command_of(example)
    if name is None:
        assert example.startswith("--"), f"{example}: no such command"
        return
    words = shlex.split(example)[len(name.split()) :]
    if name in ("simulate", "bench"):
        return  # options of programs of their own
    known = {word for param in COMMANDS[name].params for word in (*param.opts, *param.secondary_opts)}
    assert {word for word in words if word.startswith("-") and word != "-"} <= known
    if "--json" not in words:
        # The parser itself, without a call: files need not be there, values must fit.
        context = COMMANDS[name].make_context(name, [w for w in words if w], resilient_parsing=True)
        assert context.params


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - PROCESSES))
def test_every_command_that_prints_has_json(name: str) -> None:
    assert any("--json" in param.opts for param in COMMANDS[name].params)


def test_exit_codes_are_those_of_the_page() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)}
    assert codes == {0, common.EXIT_NOT_WELL, common.EXIT_USE, common.EXIT_CONFIG, common.EXIT_STOPPED}


# --- the program itself


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", **env}
    return subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", *arguments],
        capture_output=True, text=True, check=False, timeout=30, env=environment,
    )  # fmt: skip


async def many(*calls: tuple[str, ...], **env: str) -> list[subprocess.CompletedProcess[str]]:
    return list(await asyncio.gather(*[asyncio.to_thread(run, *call, **env) for call in calls]))


async def test_what_goes_wrong_says_what_to_do(tmp_path: Path) -> None:
    config = ("--config", str(write_config(tmp_path / "config")))
    unknown, folder, nobody, no_token, two, none = await many(
        ("chanels", "list"),
        ("queues", "--config", str(tmp_path / "nowhere")),
        ("queues", *config),
        ("top", "--once", "--config", str(tmp_path / "config")),
        ("gate", "hold", "--tag", "a", "--gate", "b", *config),
        ("gate", "hold", *config),
        **ENV,
    )
    assert unknown.returncode == 2
    assert "channels" in unknown.stderr
    assert folder.returncode == 3
    assert "no such folder" in folder.stderr
    assert "smsgw config init" in folder.stderr
    for one in (nobody, no_token):
        assert one.returncode == 4
        assert "does not answer" in one.stderr
        assert "admin.listen" in one.stderr
    for one in (two, none):
        assert (one.returncode, "one of --gate" in one.stderr) == (2, True)


def complete(shell: str, line: str) -> dict[str, str]:
    """Return the environment by which a shell asks a program of typer's what may follow."""
    name = "_SMSGW_COMPLETE"
    words = line.split(" ")
    if shell == "bash":
        return {name: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    rest = {"_TYPER_COMPLETE_ARGS": line}
    if shell == "fish":
        rest |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1]}
    return {name: f"complete_{shell}", **rest}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_knows_commands_and_ids_without_a_network(tmp_path: Path, shell: str) -> None:
    folder = write_config(tmp_path)
    lines = {
        "smsgw chan": {"channels"},
        "smsgw gate ": {"list", "hold", "close", "open"},
        f"smsgw channels pause --config {folder} ": {"a", "b"},
        f"smsgw gate close --config {folder} --account s": {"shop"},
        f"smsgw routes --config {folder / 'nowhere'} c": set(),
    }
    found = await asyncio.gather(*[asyncio.to_thread(_completed, shell, line) for line in lines])
    for (line, wanted), words in zip(lines.items(), found, strict=True):
        assert words == wanted, line


def _completed(shell: str, line: str) -> set[str]:
    environment = complete(shell, line)
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['smsgw']; from gateway.cli import main; main()"],
        capture_output=True, text=True, check=False, timeout=30,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    if shell == "zsh":
        return set(re.findall(r'(?:\(\(|\n)\s*"([^"]+)"', done.stdout))
    return {line.split("\t")[0].strip() for line in done.stdout.splitlines() if line.strip()}
