"""What a machine remembers of the configuration, and what it starts with: its files, or the revision in force.

Owns `<data_dir>/config.json` (by configuration folder: what runs, and when the files were last in step with it) and the
rules that say whose turn it is. Refuses to talk to the store: whoever starts without a memory may hand in a question.
A machine that was in step starts from its own disk, whether the store answers or not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, ConfigProblem
from gateway.settings import Settings, load, load_local
from gateway.settings.bundle import Bundle, revisions_dir

ENV_STARTED: Final = "SMSGW_CONFIG_STARTED"
"""Under a supervisor: the folder with the files as they were at its start, which have the machine's own keys."""
_MOST_FOLDERS: Final = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """A configuration: the number of its revision (0: files that are not published yet) and its effective digest."""

    number: int
    digest: str
    folder: str = ""  # its name below `run/config`

    def is_same(self, number: int, digest: str) -> bool:
        return (self.number, self.digest) == (number, digest)

    def holds(self, number: int, digest: str) -> bool:
        """Tell whether it says what is in force (number 0: nothing else is)."""
        return not number or self.digest == digest


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered for one configuration folder."""

    base: Mark | None = None  # the revision with which the files were last in step
    running: Mark | None = None
    pending: bool = False  # the files run, and wait to be published
    started: str = ""  # folder of the files as they were at the start


class Standing(Enum):
    """How a machine's files stand to the revision in force."""

    FIRST = "no revision was ever published"
    IN_STEP = "the files say what is in force"
    EDITED = "the files were edited since they were in step"
    BEHIND = "the files are as they were, and a newer revision is in force"
    STALE = "the files are not based on the revision in force"


def standing(files: str, base: Mark | None, number: int, digest: str) -> Standing:
    """Return how files of an effective digest stand to the revision in force (0: none).

    The base must have been the revision in force itself, number and digest: a store that was emptied counts anew.
    """
    if not number:
        return Standing.FIRST
    if files == digest:
        return Standing.IN_STEP
    if base is not None and base.is_same(number, digest):
        return Standing.EDITED
    if base is not None and files == base.digest:
        return Standing.BEHIND
    return Standing.STALE


def based_on(base: Mark | None, number: int) -> str:
    """Say why files are not published over a revision they do not know, and what to do."""
    what = f"based on revision {base.number}" if base is not None else "never in step with a revision"
    return (
        f"the files here are {what}, revision {number} is in force: see `smsgw config diff`; "
        f"`smsgw config write` takes it over, --force publishes the files all the same"
    )


class MachineFile:
    """`config.json` of one data directory, as one configuration folder sees it."""

    def __init__(self, data_dir: Path, config_dir: Path) -> None:
        self.data_dir = data_dir
        self._path = data_dir / "config.json"
        self._key = os.path.abspath(config_dir)

    def read(self) -> Memory:
        """Return what is remembered; nothing where the file is missing or damaged."""
        return _memory(self._all().get(self._key))

    def update(self, **changes: Any) -> Memory:
        """Change what is remembered (`base`, `running`, `pending`, `started`), and return all of it.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock():
            known = self._all()
            mine = replace(_memory(known.pop(self._key, None)), **changes)
            kept = list(known.items())[-_MOST_FOLDERS + 1 :]
            _write(self._path, {"version": 1, "folders": {**dict(kept), self._key: asdict(mine)}})
        return mine

    def folders_in_use(self) -> set[str]:
        """Return the names of the folders below `run/config` that somebody may start with."""
        names: set[str] = set()
        for raw in self._all().values():
            memory = _memory(raw)
            names |= {memory.started, memory.running.folder if memory.running else ""}
        return names - {""}

    def stamp(self) -> int:
        """Return a number that changes when the file does; 0: there is none."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        folders = found.get("folders") if isinstance(found, dict) else None
        return dict(folders) if isinstance(folders, dict) else {}

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.data_dir / "run" / "config.lock").open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _memory(raw: Any) -> Memory:
    try:
        marks = {name: Mark(**raw[name]) if raw[name] is not None else None for name in ("base", "running")}
        return Memory(**marks, pending=bool(raw["pending"]), started=str(raw["started"]))
    except (TypeError, KeyError):
        return Memory()


def _write(path: Path, value: Any) -> None:
    """Replace a file by a whole one that is on disk."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


# --- the start


@dataclass(frozen=True, slots=True)
class Start:
    """What a process starts with."""

    settings: Settings
    mark: Mark
    pending: bool  # these are the files, and the store has not been asked yet whether they may be
    started: Path  # folder of the files as they were then
    warnings: tuple[str, ...] = ()


Question = Callable[[Settings], tuple[int, Bundle] | None]
"""Asks the store of these settings for the revision in force; None: there is none, or no answer in time."""


def begin(config_dir: Path, env: Mapping[str, str] = os.environ, ask: Question | None = None) -> Start:
    """Decide what a machine (or a role that runs alone) starts with, and remember it.

    Raises:
        ConfigError: what is to run cannot be used, or its data directory cannot be written to.
    """
    config_dir = Path(config_dir)
    local = load_local(config_dir, env)
    files = Bundle.read(config_dir)
    memory_file = MachineFile(Path(local.store.data_dir), config_dir)
    memory = memory_file.read()
    warnings: list[str] = []
    running: Mark | None = None
    settings: Settings | None = None
    try:
        memory_file.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (memory_file.data_dir / "run").mkdir(mode=0o700, exist_ok=True)
        started = files.materialise(memory_file.data_dir, memory_file.folders_in_use())
        if _starts_with_files(files.digest, memory):
            found = ask(local) if ask is not None and memory.running is None else None
            if found is not None:
                number, bundle = found
                folder = bundle.materialise(memory_file.data_dir, {started.name})
                running = Mark(number, bundle.digest, folder.name)
        elif _lies_there(memory_file.data_dir, memory.running):
            running = memory.running
        if running is not None:
            folder = revisions_dir(memory_file.data_dir) / running.folder
            settings = load(config_dir, env, source=folder, local=local)
            warnings += _differences(files.digest, memory, running)
        else:
            settings = load(config_dir, env, source=started)
            running = Mark(0, files.digest, started.name)
        pending = running.number == 0
        memory_file.update(running=running, pending=pending, started=started.name)
    except OSError as exc:
        reason = f"{memory_file.data_dir} cannot be used: {exc.strerror}"
        raise ConfigError([ConfigProblem("gateway.toml", "store.data_dir", reason)]) from exc
    return Start(settings, running, pending, started, tuple(warnings))


def resume(config_dir: Path, started: Path, env: Mapping[str, str] = os.environ) -> Start:
    """Return what this machine runs, for a worker that its supervisor starts; `started` is its folder of that time.

    Raises:
        ConfigError: it cannot be used.
    """
    local = load_local(config_dir, env, source=started)
    data_dir = Path(local.store.data_dir)
    memory = MachineFile(data_dir, config_dir).read()
    if memory.running is not None and _lies_there(data_dir, memory.running):
        folder = revisions_dir(data_dir) / memory.running.folder
        settings = load(config_dir, env, source=folder, local=local)
        return Start(settings, memory.running, memory.pending, started)
    settings = load(config_dir, env, source=started)
    return Start(settings, Mark(0, Bundle.read(started).digest, started.name), memory.pending, started)


def _starts_with_files(files: str, memory: Memory) -> bool:
    """Tell whether the files are what is wanted, as far as this machine can know without the store.

    So they are where nothing was ever published from here, and where they were edited since they were in step: whoever
    edits and restarts expects the edit to hold.
    """
    running, base = memory.running, memory.base
    if running is None or not running.number:
        return True
    if base is None or files in (running.digest, base.digest):
        return False
    return base.is_same(running.number, running.digest)


def _lies_there(data_dir: Path, mark: Mark | None) -> bool:
    """Tell whether a revision lies in its folder as it was (a crash may have left empty files)."""
    if mark is None or not mark.folder:
        return False
    try:
        return Bundle.read(revisions_dir(data_dir) / mark.folder).digest == mark.digest
    except ConfigError:
        return False


def _differences(files: str, memory: Memory, running: Mark) -> list[str]:
    how = standing(files, memory.base, running.number, running.digest)
    if how is Standing.BEHIND:
        return [f"revision {running.number} is in force here, and not what the files say (`smsgw config diff`)"]
    return [based_on(memory.base, running.number)] if how is Standing.STALE else []
