"""The Lua moves as files: reads them from `lua/` and joins them into one library of server functions.

One atomic move is one file, with its promise, KEYS, ARGV and result in its head. Functions and not EVAL, because a
script is run from its first line at every call: defining what the moves share (`_SHARED`) cost 20 µs a call; here it is
done once. The library's name holds its own hash, so gateways of two versions can use one server. Nothing is
ever built from arguments.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_LUA = Path(__file__).parent / "lua"
_SHARED = ("_record", "_counts", "_numbers", "_ends", "_blacklist", "_gates", "_begin")
"""What all moves share, in this order: a name is known to what follows."""
_INCLUDE = "--@include _record\n"
"""A move that begins with this calls `begin` first."""
_FLAGS = re.compile(r"#!lua(?: flags=(\S+))?\n")
LIBRARIES = "smsgw_"
"""What the names of all our libraries begin with."""


@dataclass(frozen=True, slots=True)
class Library:
    """All moves: the library's name and its source."""

    name: str
    source: str


@cache
def bundle() -> Library:
    """Return the library, ready to be loaded."""
    text = "\n".join((_LUA / f"{part}.lua").read_text(encoding="utf-8") for part in _SHARED)
    moves = [(name, (_LUA / f"{name}.lua").read_text(encoding="utf-8")) for name in names()]
    digest = hashlib.sha256("\0".join([text, *(body for _, body in moves)]).encode()).hexdigest()[:12]
    name = f"{LIBRARIES}{digest}"
    parts = [f"#!lua name={name}", text, *(_registered(f"{name}_{move}", body) for move, body in moves)]
    return Library(name, "\n".join(parts))


def _registered(function: str, body: str) -> str:
    """Return the Lua that makes a function of a move's file."""
    head = _FLAGS.match(body)
    assert head is not None, f"{function}: no head"
    flags = ", ".join(f"'{flag}'" for flag in (head[1] or "").split(",") if flag)
    begin = "begin(KEYS[1])\n" if _INCLUDE in body else ""
    return (
        f"redis.register_function{{function_name = '{function}', flags = {{{flags}}}, callback = function(KEYS, ARGV)\n"
        f"{begin}{body[head.end() :]}\nend}}\n"
    )


@cache
def function(name: str) -> str:
    """Return the name under which the server knows a move."""
    return f"{bundle().name}_{name}"


def names() -> list[str]:
    """Return the names of all moves (files that begin with an underscore are none)."""
    return sorted(p.stem for p in _LUA.glob("*.lua") if not p.stem.startswith("_"))
