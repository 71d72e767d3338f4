"""A bundle: the text of every file that a configuration folder contributes, secrets still references.

Owns how such a folder is read whole, which two bundles mean the same (the effective digest), how a bundle travels
through the store and how it lies in a folder again, since settings name tables by their path. Refuses to know whether
what it says is sound: `loading` tells that. Tables of the shipped configuration are not part of it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, ConfigProblem
from gateway.settings.loading import (
    FILES,
    GATEWAY,
    MAX_FILE_BYTES,
    MAX_TABLE_BYTES,
    SEGMENTS,
    TABLES,
    TEMPLATES,
    parse_toml,
)
from gateway.settings.local_keys import without_local

MAX_ENCODED_BYTES: Final = 2 << 20
"""What a revision may take in the store, compressed; its history keeps a hundred of them (`store.revisions`)."""
_MAX_BYTES: Final = 64 << 20
_READS: Final = 5
_KEPT: Final = 8
_KEPT_S: Final = 600.0
_HEAD: Final = b"smsgw-config 1\n"
_DIGEST_DIGITS: Final = 32
_TOML: Final = (*FILES, TEMPLATES)


@dataclass(frozen=True)
class Bundle:
    """The files of one configuration, by their names in the folder (`number_segments/cn.csv`)."""

    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Return what a folder holds, read again while somebody writes to it.

        Raises:
            ConfigError: a file is missing or cannot be read.
        """
        for _ in range(_READS):
            before = signature(folder)
            problems: list[ConfigProblem] = []
            bundle = cls(_read(folder, problems))
            if signature(folder) == before:
                break
        if problems:
            raise ConfigError(problems)
        return bundle

    @classmethod
    def read_what_is_there(cls, folder: Path) -> Bundle:
        """Return the files of a folder that can be read, whatever is wrong with the others: for people to look at."""
        return cls(_read(folder, []))

    @staticmethod
    def names(folder: Path) -> set[str]:
        """Return which files of a configuration a folder has."""
        return {str(path.relative_to(folder)) for path in _paths(folder) if path.exists()}

    @cached_property
    def trees(self) -> dict[str, dict[str, Any] | None]:
        """Name → parsed TOML, None for a file that is none."""
        found: dict[str, dict[str, Any] | None] = {}
        for name in _TOML:
            if name in self.files:
                try:
                    found[name] = parse_toml(self.files[name])
                except ValueError:
                    found[name] = None
        return found

    @cached_property
    def digest(self) -> str:
        """The effective digest: the same for two bundles that say the same to every machine.

        Comments, the order of keys and a machine's own keys make no difference; a table counts byte by byte.
        """
        canonical: dict[str, Any] = {}
        for name, data in self.files.items():
            tree = self.trees.get(name)
            if tree is None:
                canonical[name] = hashlib.sha256(data).hexdigest()
            else:
                canonical[name] = without_local(tree) if name == GATEWAY else tree
        spelt = json.dumps(canonical, sort_keys=True, ensure_ascii=False, default=_spell)
        return hashlib.sha256(spelt.encode()).hexdigest()[:_DIGEST_DIGITS]

    @cached_property
    def folder_name(self) -> str:
        """Where it lies below `run/config`: by its digest, and by its exact text, which also has the machine's keys."""
        exact = hashlib.sha256()
        for name, data in sorted(self.files.items()):
            exact.update(b"%s\0%d\0" % (name.encode(), len(data)) + data)
        return f"{self.digest}-{exact.hexdigest()[:8]}"

    # --- through the store

    def encode(self) -> bytes:
        """Return it compressed, for the store.

        Raises:
            ConfigError: it is larger than a revision may be; names the largest file.
        """
        text = {name: _as_text(data) for name, data in sorted(self.files.items())}
        encoded = _HEAD + zlib.compress(json.dumps(text, ensure_ascii=False).encode(), 6)
        if len(encoded) > MAX_ENCODED_BYTES:
            largest = max(self.files, key=lambda name: len(self.files[name]))
            reason = (
                f"the configuration takes {len(encoded) >> 10} KiB compressed, of which a revision may take "
                f"{MAX_ENCODED_BYTES >> 10}; this is its largest file"
            )
            raise ConfigError([ConfigProblem(largest, "", reason)])
        return encoded

    @classmethod
    def decode(cls, encoded: bytes) -> Bundle:
        """Return the bundle that `encode` made.

        Raises:
            ConfigError: it is of another version of the gateway, or damaged.
        """
        try:
            if not encoded.startswith(_HEAD):
                raise ValueError
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(encoded[len(_HEAD) :], _MAX_BYTES)
            if not unpacker.eof:
                raise ValueError
            files = {str(name): _as_bytes(value) for name, value in json.loads(raw).items()}
        except (ValueError, zlib.error, AttributeError, TypeError):
            raise ConfigError([ConfigProblem("revision", "", "the store's copy cannot be read here")]) from None
        if wrong := [name for name in files if not is_ours(name)]:
            raise ConfigError([ConfigProblem("revision", "", f"{len(wrong)} files in it are unknown here")])
        return cls(files)

    # --- as a folder

    def materialise(self, data_dir: Path, keep: Iterable[str] = ()) -> Path:
        """Write it to a folder below `data_dir`, whole or not at all, and return that; old ones go.

        `keep` names folders that stay in any case.

        Raises:
            OSError: it cannot be written.
        """
        home = revisions_dir(data_dir)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / self.folder_name
        if not self._lies_in(path):
            # What lies there was cut off by a crash; it is moved away, since a folder is not replaced by a rename.
            with contextlib.suppress(OSError):
                path.rename(home / f"tmp-{os.urandom(6).hex()}")
            temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir=home))
            for name, data in self.files.items():
                place = temporary / name
                place.parent.mkdir(mode=0o700, exist_ok=True)
                place.write_bytes(data)
            try:
                temporary.rename(path)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                if not self._lies_in(path):  # else: another process was faster
                    raise
        with contextlib.suppress(OSError):
            os.utime(path)
        _prune(home, {path.name, *keep})
        return path

    def _lies_in(self, path: Path) -> bool:
        try:
            return Bundle.read(path).files == self.files
        except ConfigError:
            return False


def revisions_dir(data_dir: Path) -> Path:
    """Return where bundles lie as folders."""
    return data_dir / "run" / "config"


def is_ours(name: str) -> bool:
    """Tell whether a configuration has a file of this name (so that none from elsewhere leads out of the folder)."""
    folder, slash, last = name.rpartition("/")
    if slash:
        return folder == SEGMENTS and last.endswith(".csv") and len(last) > 4 and last[:-4].isalnum()
    return name in _TOML or name in TABLES


def signature(folder: Path) -> tuple[tuple[str, int, int, int, int], ...]:
    """Return what tells that a folder's files changed, without reading them: (name, time, size, inode, device).

    Links are followed, so a folder or a file that is swapped by a link shows.
    """
    found = []
    for path in _paths(folder):
        with contextlib.suppress(OSError):
            s = path.stat()
            found.append((path.name, s.st_mtime_ns, s.st_size, s.st_ino, s.st_dev))
    return tuple(found)


def _paths(folder: Path) -> list[Path]:
    singles = [folder / name for name in (*_TOML, *TABLES)]
    return [*singles, *sorted((folder / SEGMENTS).glob("*.csv"))]


def _read(folder: Path, problems: list[ConfigProblem]) -> dict[str, bytes]:
    """Return the files by name; what cannot be read is noted in `problems`."""
    files: dict[str, bytes] = {}
    for path in _paths(folder):
        name = str(path.relative_to(folder))
        most = MAX_TABLE_BYTES if name.startswith(SEGMENTS) else MAX_FILE_BYTES
        if not is_ours(name):
            problems.append(ConfigProblem(name, "", "the name must be a country's two letters, as in cn.csv"))
            continue
        try:
            with path.open("rb") as stream:
                data = stream.read(most + 1)
        except FileNotFoundError as exc:
            if name in FILES:
                problems.append(ConfigProblem(name, "", f"cannot be read: {exc.strerror}"))
            continue
        except OSError as exc:
            problems.append(ConfigProblem(name, "", f"cannot be read: {exc.strerror or type(exc).__name__}"))
            continue
        if len(data) > most:
            problems.append(ConfigProblem(name, "", f"larger than {most >> 20} MiB"))
        files[name] = data
    return files


def _spell(value: Any) -> str:
    """Spell what TOML has and JSON has not: dates and times."""
    return f"{type(value).__name__}:{value}"


def _as_text(data: bytes) -> str | dict[str, str]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _as_bytes(value: Any) -> bytes:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else str(value).encode()


def _prune(home: Path, keep: set[str]) -> None:
    """Remove all but the latest folders; none that was used within the last minutes."""
    found: list[tuple[float, Path]] = []
    for path in home.iterdir():
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, path))
    found.sort(reverse=True)
    old = time.time() - _KEPT_S
    for at, path in found[_KEPT:]:
        if at < old and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
