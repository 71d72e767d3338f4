"""The form that most data tables of `config/` share: CSV with a head, comments from #, every wrong line named.

Owns the reading and the collecting of problems. Refuses to know what a line means: that is the caller's `take`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.errors import ConfigError, ConfigProblem


def read_table(path: Path, columns: Sequence[str], take: Callable[[list[str]], None]) -> None:
    """Give each line's cells (stripped, as many as `columns`) to `take`, whose ValueError says what is wrong with it.

    Raises:
        ConfigError: with every line that is wrong.
    """
    problems: list[ConfigProblem] = []
    header_seen = False
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
            if not header_seen:
                header_seen = True
                if cells != list(columns):
                    raise ValueError(f"the first line must be {','.join(columns)}")
            elif len(cells) != len(columns):
                raise ValueError(f"{len(columns)} columns are wanted")
            else:
                take(cells)
        except (ValueError, csv.Error) as exc:
            problems.append(ConfigProblem(path.name, f"line {number}", str(exc)))
    if problems:
        raise ConfigError(problems)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(path.name, "", "not UTF-8")]) from None
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror or type(exc).__name__}"
        raise ConfigError([ConfigProblem(path.name, "", reason)]) from exc
