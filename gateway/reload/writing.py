"""Writing a revision into a machine's files: each whole, the old one beside it as .bak, the machine's own keys kept.

Owns the text of gateway.toml where two machines' versions of it meet: it is put together line by line, so that comments
stay, and taken only when parsing it again shows exactly what is wanted. Refuses to guess where that fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, ConfigProblem
from gateway.settings.bundle import Bundle
from gateway.settings.loading import GATEWAY, parse_toml
from gateway.settings.local_keys import SINGLE_KEYS, WHOLE_SECTIONS, only_local, without_local

_HEADER = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.\"'-]+)\s*\]{1,2}\s*(?:#.*)?")
_NEW_FILE_MODE: Final = 0o640


def write_revision(revision: Bundle, folder: Path, machine: bytes) -> list[str]:
    """Make a folder's files say what a revision says, and return the names of those that changed.

    `machine` is the gateway.toml whose machine's keys are kept. What a revision does not have is moved to .bak.

    Raises:
        ConfigError: the two cannot be brought together in gateway.toml.
        OSError: a file cannot be written; each file is the old or the new one, whole.
    """
    wanted = dict(revision.files)
    if GATEWAY in wanted:
        wanted[GATEWAY] = with_keys_of(wanted[GATEWAY], machine)
    there = Bundle.names(folder)
    changed = sorted(name for name, data in wanted.items() if name not in there or (folder / name).read_bytes() != data)
    gone = sorted(there - wanted.keys())
    temporary: dict[str, Path] = {}
    try:
        for name in changed:  # all that can fail for want of room or rights comes before the first file is touched
            temporary[name] = _beside(_target(folder, name), wanted[name])
        for name in (*changed, *gone):
            target = _target(folder, name)
            if target.exists():
                _beside(target, target.read_bytes()).replace(target.with_name(f"{target.name}.bak"))
        for name in changed:
            temporary.pop(name).replace(_target(folder, name))
        for name in gone:
            (folder / name).unlink(missing_ok=True)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return [*changed, *gone]


def _target(folder: Path, name: str) -> Path:
    """Return the file itself where a link stands in the folder."""
    return (folder / name).resolve()


def _beside(target: Path, data: bytes) -> Path:
    """Write a file that stands beside another, with its mode and owner; returns its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        path.chmod(_NEW_FILE_MODE)
        if target.exists():
            shutil.copymode(target, path)
            owner = target.stat()
            with contextlib.suppress(PermissionError):
                os.chown(path, owner.st_uid, owner.st_gid)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


# --- gateway.toml


def with_keys_of(shared: bytes, machine: bytes) -> bytes:
    """Return a revision's gateway.toml with the machine's keys that `machine` has.

    Raises:
        ConfigError: they cannot be brought together, as where a key is written in an unusual way.
    """
    try:
        want, own = parse_toml(shared), parse_toml(machine)
        if only_local(want) == only_local(own):
            return shared
        text = "\n".join(_joined(_sections(shared.decode()), _sections(machine.decode()), own))
        got = parse_toml(text.encode())
        if only_local(got) == only_local(own) and without_local(got) == without_local(want):
            return text.encode()
    except ValueError:
        pass
    reason = (
        "the revision's text and this machine's own keys (store, listen, workers) cannot be brought together by "
        "themselves; take it over by hand (`smsgw config show`)"
    )
    raise ConfigError([ConfigProblem(GATEWAY, "", reason)])


_Sections = list[tuple[str, list[str]]]


def _sections(text: str) -> _Sections:
    """Cut a text at its table headers: (name, lines with the header)."""
    found: _Sections = [("", [])]
    for line in text.split("\n"):
        header = _HEADER.fullmatch(line)
        if header is not None:
            found.append((header[1], [line]))
        else:
            found[-1][1].append(line)
    return found


def _joined(shared: _Sections, machine: _Sections, own: dict[str, Any]) -> list[str]:
    mine = dict(machine)
    lines: list[str] = []
    seen: set[str] = set()
    for name, body in shared:
        seen.add(name)
        if name in WHOLE_SECTIONS:
            lines += mine.get(name, [])
        else:
            lines += _with_keys(name, body, mine.get(name, []))
    for name in own:
        if name not in seen:
            wanted = (
                mine.get(name, []) if name in WHOLE_SECTIONS else _with_keys(name, [f"[{name}]"], mine.get(name, []))
            )
            lines += wanted
    return lines


def _with_keys(section: str, body: list[str], mine: list[str]) -> list[str]:
    """Return a section's lines with the machine's single keys in place of the revision's."""
    result = list(body)
    for table, key in SINGLE_KEYS:
        if table != section:
            continue
        at = _line_of(result, key)
        theirs = _line_of(mine, key)
        if at is not None:
            result[at : at + 1] = [mine[theirs]] if theirs is not None else []
        elif theirs is not None:
            result.insert(1, mine[theirs])
    return result


def _line_of(lines: list[str], key: str) -> int | None:
    return next((i for i, line in enumerate(lines) if re.match(rf"\s*{key}\s*=", line)), None)
