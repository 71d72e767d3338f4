"""One row of a blacklist's CSV: number[,categories[,reason]], read or refused with a reason that repeats nothing of it.

Owns the form of rows in imports and exports. Refuses to know files and the store. Pure: used by the endpoint for every
row of an import, and by nobody on a message's path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.errors import RequestError
from gateway.model import CATEGORY_BY_LABEL, Category
from gateway.routing.msisdn import normalise
from gateway.store.blacklists import REASONS, Listed, Row, mask_of

COLUMNS: Final = ("number", "categories", "reason")
EXPORT_COLUMNS: Final = (*COLUMNS, "since", "source")
_MASKS: Final = {label: mask_of([category]) for label, category in CATEGORY_BY_LABEL.items()}


class BadRow(ValueError):
    """A row that cannot be used; its words hold nothing of the row."""


def read_row(cells: Sequence[Any], country: str, mask: int, reason: str) -> Row:
    """Return a row; `mask` and `reason` hold where its cells are empty, `country` completes national numbers.

    Raises:
        BadRow: it is not usable.
    """
    if not 1 <= len(cells) <= len(EXPORT_COLUMNS) or not all(isinstance(cell, str) for cell in cells):
        raise BadRow("number, categories and reason are wanted")
    number = cells[0].strip().removeprefix("'")  # spreadsheets mark text so, and our own exports might be edited there
    if not country and number[:1] != "+":
        number = f"+{number}"
    try:
        msisdn = normalise(number, country).msisdn
    except RequestError as exc:
        raise BadRow(exc.detail) from None
    if len(cells) > 1 and (written := cells[1].split()):
        mask = 0
        for label in written:
            if label not in _MASKS:
                raise BadRow(f"categories: some of {', '.join(_MASKS)} are wanted, with spaces between")
            mask |= _MASKS[label]
    if len(cells) > 2 and cells[2].strip():
        reason = cells[2].strip()
        if reason not in REASONS:
            raise BadRow(f"reason: one of {', '.join(REASONS)} is wanted")
    return msisdn, mask, reason


def written_row(number: str, entry: Listed, since: str) -> list[str]:
    """Return an entry as an export writes it; `read_row` reads it back.

    The number without '+': a spreadsheet takes a cell that begins with it for a formula.
    """
    return [number, labels(entry.categories), entry.reason, since, entry.source]


def labels(categories: Sequence[Category]) -> str:
    """Return categories as a cell writes them."""
    return " ".join(category.label for category in categories)
