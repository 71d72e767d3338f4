"""Why a message was not delivered, from the codes of its receipt, and whether another channel could do better.

Owns the CSV form of `config/failure_codes.csv` and the reading of a receipt's words by it. Refuses to know messages,
channels and what is done with the answer. Asked once a failed receipt, with the answer for each spelling kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.model import State
from gateway.routing.ported_codes import spelt
from gateway.settings.table_file import read_table

REASONS: Final = (
    "invalid-number",
    "out-of-service",
    "powered-off",
    "blacklisted",
    "user-unsubscribed",
    "content-rejected",
    "signature-or-template",
    "frequency-limited",
    "carrier-internal",
    "unknown",
)
_CHANNELS_OWN: Final = frozenset({"carrier-internal", "frequency-limited", "signature-or-template", "unknown"})
"""Reasons that lie with a channel or its contract: another one may pass the same message, even where the same one
never will."""
_COLUMNS = ["code", "carrier", "reason", "temporary", "detail", "source"]
_CODE = re.compile(r"[!-+\--~][ -+\--~]{0,30}[!-+\--~]").fullmatch  # printable ASCII without comma
_FAMILY = re.compile(r"([A-Z]{2}):[0-9]+").fullmatch
_VAGUE: Final = frozenset({"", "UNDELIV", "UNDELIVRD", "REJECTD", "DELETED", "EXPIRED", "UNKNOWN", "SKIPPED"})
"""The specification's own words for a state: they say that it failed, not why."""
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Failure:
    """What one code means."""

    reason: str
    temporary: bool

    @property
    def passes_elsewhere(self) -> bool:
        """Whether another channel may deliver what failed like this."""
        return self.temporary or self.reason in _CHANNELS_OWN


class FailureReasons:
    """All codes of a configuration."""

    def __init__(self, codes: dict[str, Failure] | None = None) -> None:
        """`codes` by spelling; it is normalised here."""
        self._codes = {spelt(code): meaning for code, meaning in (codes or {}).items()}
        self._remembered: dict[str, Failure | None] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def get(self, word: str) -> Failure | None:
        """Return what an err or stat means, by itself or by its family; None for a code that is not listed."""
        try:
            return self._remembered[word]
        except KeyError:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            code = spelt(word)
            found = self._codes.get(code)
            if found is None and (family := _FAMILY(code)) is not None:
                found = self._codes.get(f"{family[1]}:*")
            self._remembered[word] = found
            return found

    def passes_elsewhere(self, state: str, stat: str, *codes: str) -> bool:
        """Return whether another channel may deliver a message whose receipt said this.

        `codes` are its err and network error, the surer first. A word of the specification alone says nothing about the
        cause, so it is not held against the message; an unknown code neither.
        """
        if state == State.DELIVERED:
            return False
        for word in (*codes, stat):
            if word not in _VAGUE and (found := self.get(word)) is not None:
                return found.passes_elsewhere
        return True


def load_reasons(path: Path | None) -> FailureReasons:
    """Read the table.

    Raises:
        ConfigError: with every line that is wrong.
    """
    if path is None:
        return FailureReasons()
    codes: dict[str, Failure] = {}

    def take(cells: list[str]) -> None:
        code, meaning = _row(cells)
        if code in codes:
            raise ValueError(f"the code {code} stands twice")
        codes[code] = meaning

    read_table(path, _COLUMNS, take)
    return FailureReasons(codes)


def _row(cells: list[str]) -> tuple[str, Failure]:
    code, _, reason, temporary, _, _ = cells
    if not _CODE(code):
        raise ValueError("code: 2 to 32 printable ASCII characters without comma are wanted")
    if reason not in REASONS:
        raise ValueError(f"reason: one of {', '.join(REASONS)} is wanted")
    if temporary not in ("yes", "no"):
        raise ValueError("temporary: yes or no is wanted")
    return spelt(code), Failure(reason, temporary == "yes")
