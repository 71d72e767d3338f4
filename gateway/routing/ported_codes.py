"""The receipt codes by which carriers say that a number has been ported away, and how such a code is spelt.

Owns the CSV form of `config/ported_codes.csv` and the spellings (`MB1049`, `mb:1049`, `MB:01049` are one code). Refuses
to know receipts and numbers; asked once a failed receipt, with the answer for each spelling kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gateway.settings.table_file import read_table

ANY = "any"
_COLUMNS = ["code", "carrier", "new_carrier", "source"]
FULL_WIDTH_COLONS = ("：", "\xa3\xba", "\xef\xbc\x9a")
"""As it is, and as the octets of GBK and UTF-8 look in a receipt that was read as Latin-1."""
_FAMILY = re.compile(r"([A-Z]{2}):?([0-9]{4,})(?:_[0-9]+)?").fullmatch
_CODE = re.compile(r"[!-+\--~]{2,32}").fullmatch  # printable ASCII without space and comma
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class PortedCode:
    """What one code says: whose it is ((): any carrier's), and where the number is now ('' where not said)."""

    carriers: tuple[str, ...]
    new_carrier: str


class PortedCodes:
    """All codes of a configuration."""

    def __init__(self, codes: dict[str, PortedCode] | None = None) -> None:
        """`codes` by spelling; it is normalised here."""
        self._codes = {spelt(code): meaning for code, meaning in (codes or {}).items()}
        self._remembered: dict[str, PortedCode | None] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def get(self, word: str) -> PortedCode | None:
        """Return what a receipt's err or stat says about portability; None for every other code."""
        try:
            return self._remembered[word]
        except KeyError:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[word] = self._codes.get(spelt(word))
            return found


def spelt(word: str) -> str:
    """Return a code in the table's spelling: upper case, and XX:nnnn for a family of two letters."""
    word = word.strip()
    if not word.isascii():
        for colon in FULL_WIDTH_COLONS:
            word = word.replace(colon, ":")
    word = word.upper()
    match = _FAMILY(word)
    return f"{match[1]}:{match[2].lstrip('0').zfill(4)}" if match else word


def load_codes(path: Path | None, carriers: Collection[str]) -> PortedCodes:
    """Read the table; `carriers` are all names that the number segments know.

    Raises:
        ConfigError: with every line that is wrong.
    """
    if path is None:
        return PortedCodes()
    codes: dict[str, PortedCode] = {}

    def take(cells: list[str]) -> None:
        code, meaning = _code(cells, carriers)
        if spelt(code) in codes:
            raise ValueError(f"the code {spelt(code)} stands twice")
        codes[spelt(code)] = meaning

    read_table(path, _COLUMNS, take)
    return PortedCodes(codes)


def _code(cells: list[str], known: Collection[str]) -> tuple[str, PortedCode]:
    code, scope, new_carrier, source = cells
    if not _CODE(code):
        raise ValueError("code: 2 to 32 printable ASCII characters without space and comma are wanted")
    carriers = tuple(scope.split())
    if not carriers:
        raise ValueError(f'carrier: names of carriers, or "{ANY}", are wanted')
    if carriers != (ANY,) and not all(name in known for name in carriers):
        raise ValueError("carrier: no number segment belongs to one of them")
    if new_carrier and new_carrier not in known:
        raise ValueError("new_carrier: no number segment belongs to it")
    if not source:
        raise ValueError("source: who says so is wanted")
    return code, PortedCode(() if carriers == (ANY,) else carriers, new_carrier)
