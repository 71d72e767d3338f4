"""Secrets by reference: `${env:NAME}` anywhere in a value, `file:PATH` as the whole of it.

Owns the only place that reads the environment or a secret file. What it finds goes back as a value that masks
itself; what it does not find goes back as a problem that names the reference and never a value.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import ConfigProblem

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_SECRET_BYTES = 65_536


class Resolver:
    """Turns references into values; collects problems and warnings instead of raising at the first."""

    def __init__(self, config_dir: Path, env: Mapping[str, str]) -> None:
        self._config_dir = config_dir
        self._env = env
        self.problems: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []

    def secret(self, file: str, key: str, raw: str) -> str | None:
        """Return the secret that `raw` refers to, or None after noting a problem.

        A literal is taken, with a warning: files get copied, committed and shown on screens.
        """
        if raw.startswith("file:"):
            return self._from_file(file, key, raw[5:])
        if raw and not _ENV.search(raw):
            self.warnings.append(
                ConfigProblem(file, key, "a literal secret stands in this file; use ${env:NAME} or file:PATH")
            )
        return self.interpolate(file, key, raw)

    def interpolate(self, file: str, key: str, raw: str) -> str | None:
        """Return `raw` with every `${env:NAME}` replaced, or None after noting which are unset."""
        missing = [name for name in _ENV.findall(raw) if name not in self._env]
        if missing:
            for name in dict.fromkeys(missing):
                self.problems.append(ConfigProblem(file, key, f"environment variable {name} is not set"))
            return None
        return _ENV.sub(lambda match: self._env[match[1]], raw)

    def is_unset(self, raw: str) -> bool:
        """Tell whether `raw` amounts to nothing: empty, or nothing but variables that are unset or empty."""
        return not _ENV.sub(lambda match: self._env.get(match[1], ""), raw)

    def _from_file(self, file: str, key: str, name: str) -> str | None:
        path = self._config_dir / name  # an absolute name stays as it is
        try:
            with path.open("rb") as stream:
                mode = stat.S_IMODE(path.stat().st_mode)
                data = stream.read(_MAX_SECRET_BYTES + 1)
            text = data.decode()
        except UnicodeDecodeError:
            self.problems.append(ConfigProblem(file, key, "the secret's file is not UTF-8 text"))
            return None
        except OSError as exc:
            self.problems.append(ConfigProblem(file, key, f"the secret's file cannot be read: {exc.strerror}"))
            return None
        if len(data) > _MAX_SECRET_BYTES:
            self.problems.append(ConfigProblem(file, key, "the secret's file is larger than 64 KiB"))
            return None
        if mode & 0o007:
            self.warnings.append(ConfigProblem(file, key, "the secret's file is open to every user; chmod 600 it"))
        return text.rstrip("\r\n")
