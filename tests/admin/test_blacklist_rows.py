"""Rows of a blacklist's CSV: what is written is read back; what is wrong is refused without repeating it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.blacklist_rows import BadRow, read_row, written_row
from gateway.store.blacklists import REASONS, Listed

NUMBERS = st.integers(10**8, 10**9 - 1).map(lambda i: f"8613{i:09d}")


@given(NUMBERS, st.integers(1, 7), st.sampled_from(REASONS), st.text("abc.-0123456789", max_size=20))
def test_an_export_is_read_back(number: str, mask: int, reason: str, source: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow(written_row(number, Listed("*", mask, reason, 1, source), "2026-01-01T00:00:00Z"))
    cells = next(csv.reader([out.getvalue().strip()]))
    assert not cells[0].startswith(("+", "=", "-", "@")), "no formula to a spreadsheet"
    assert read_row(cells, "", 4, "operator") == (number, mask, reason)
    assert read_row(cells[:3], "CN", 4, "operator") == (number, mask, reason)


@given(st.lists(st.one_of(st.text(max_size=30), st.none(), st.integers()), max_size=7))
def test_any_row_is_read_or_refused(cells: list[object]) -> None:
    refusal = ""
    try:
        number, mask, reason = read_row(cells, "CN", 4, "operator")
    except BadRow as exc:
        refusal = str(exc)
    if refusal:
        assert not any(isinstance(cell, str) and cell.isdigit() and len(cell) > 3 and cell in refusal for cell in cells)
    else:
        assert number.isdigit()
        assert 1 <= mask <= 7
        assert reason in REASONS


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (["+8613800138000"], ("8613800138000", 4, "td")),
        (["'+8613800138000", ""], ("8613800138000", 4, "td")),
        ([" 13800138000 ", " marketing  notification ", " operator "], ("8613800138000", 6, "operator")),
        (["8613800138000", "verification", ""], ("8613800138000", 1, "td")),
    ],
)
def test_rows(cells: list[str], row: tuple[str, int, str]) -> None:
    assert read_row(cells, "CN", 4, "td") == row


@pytest.mark.parametrize("cells", [[], [""], ["12"], ["8613800138000", "adverts"], ["8613800138000", "", "x"], [1]])
def test_bad_rows(cells: list[str]) -> None:
    with pytest.raises(BadRow):
        read_row(cells, "CN", 4, "td")
