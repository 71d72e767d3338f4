"""The Lua scripts as files: reads them from `lua/`, joins their include, knows their SHA-1.

One atomic move is one file, with its promise, KEYS, ARGV and result in its head. `--@include NAME` puts another file's
text in its place (functions that several moves share); nothing is ever built from arguments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """One move: its name, source and the SHA-1 under which the server keeps it."""

    name: str
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Return the script of that name, ready to be sent."""
    lines: list[str] = []
    for line in (_LUA / f"{name}.lua").read_text(encoding="utf-8").splitlines():
        if line.startswith("--@include "):
            lines.append((_LUA / f"{line.removeprefix('--@include ').strip()}.lua").read_text(encoding="utf-8"))
        else:
            lines.append(line)
    source = "\n".join(lines) + "\n"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """Return the names of all moves (include files begin with an underscore and are none)."""
    return sorted(p.stem for p in _LUA.glob("*.lua") if not p.stem.startswith("_"))
