"""gateway.routing.ported_import: CSV in, table out; every bad row named by its line, never by its number."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.routing import ported_import
from gateway.routing.loader import load_segments
from gateway.routing.number_segments import NumberSegments, Segment
from gateway.routing.ported_import import ImportRefused, ImportReport, import_file
from gateway.routing.ported_table import PortedTable

CN = load_segments(Path(__file__).parents[2] / "config" / "number_segments" / "cn.csv")
SEGMENTS = {"CN": CN, "GB": NumberSegments("44", [Segment("7", "vodafone", "normal", True)])}
HEADER = "number,carrier\n"


def run(folder: Path, text: str | bytes, country: str = "", **more: int) -> ImportReport:
    source = folder / "in.csv"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    return import_file(source, folder / "ported", SEGMENTS, country, now_ms=1, **more)


def table(folder: Path, country: str = "cn") -> PortedTable:
    return PortedTable(folder / "ported" / f"{country}.bin", country)


def test_national_and_international_spellings(tmp_path: Path) -> None:
    cells = ["13800138000,china-unicom", "+8613800138001,china-telecom", "8613800138002,china-broadnet"]
    rows = "\n".join([*cells, " 13800138003 , china-unicom ", ""])
    report = run(tmp_path, HEADER + rows, "cn")
    assert (report.country, report.rows, report.numbers, report.bad_rows) == ("CN", 4, 4, 0)
    found = table(tmp_path)
    assert [found.get(f"861380013800{n}") for n in range(5)] == [
        "china-unicom", "china-telecom", "china-broadnet", "china-unicom", None
    ]  # fmt: skip


def test_without_a_country_the_first_row_says_it(tmp_path: Path) -> None:
    rows = "447400123456,vodafone\n+447400123457,vodafone\n+8613800138000,china-mobile\n"
    report = run(tmp_path, HEADER + rows)
    assert (report.country, report.numbers) == ("GB", 2)
    assert report.bad == [(4, "number: of CN, in a file for GB")]
    assert table(tmp_path, "gb").get("447400123457") == "vodafone"


def test_columns_in_any_order_comments_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    lines = ["\ufeff# from the clearing house", "", "Carrier,since,Number", '"china-unicom","2026-01-01","13800138000"']
    report = run(tmp_path, "\r\n".join([*lines, "", "china-telecom,,13800138001"]), "CN")
    assert (report.rows, report.numbers, report.bad_rows) == (2, 2, 0)


def test_the_last_of_several_rows_with_one_number_wins_also_across_runs(tmp_path: Path) -> None:
    pick = random.Random(7)
    names = sorted(CN.carriers)
    expected: dict[str, str] = {}
    lines = []
    for _ in range(30_000):
        number, carrier = f"138{pick.randrange(9000):08d}", pick.choice(names)
        lines.append(f"{number},{carrier}")
        expected[f"86{number}"] = carrier
    report = run(tmp_path, HEADER + "\n".join(lines), "CN", run_rows=1000)
    assert (report.rows, report.numbers, report.duplicates) == (30_000, len(expected), 30_000 - len(expected))
    found = table(tmp_path)
    assert {number: found.get(number) for number in expected} == expected
    assert found.get("8613800009000") is None


def test_many_runs_and_sparse_samples_keep_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ported_import, "_SAMPLE_EVERY", 16)
    pick = random.Random(8)
    numbers = pick.sample(range(10**8), 5_000)
    report = run(tmp_path, HEADER + "".join(f"138{n:08d},china-unicom\n" for n in numbers), "CN", run_rows=64)
    found = table(tmp_path)
    assert report.numbers == found.rows == 5_000
    assert all(found.get(f"86138{n:08d}") == "china-unicom" for n in numbers)


def test_bad_rows_are_counted_and_the_first_twenty_named_without_their_numbers(tmp_path: Path) -> None:
    bad = ["12345", "hello", "", "138001380001", "＋8613800138000", "+442079460000", "13800138000;", "1e9"]
    lines = [f"{cell},china-unicom" for cell in bad] + ["13800138000", "13800138000,", "x" * 10_000]
    text = HEADER + "\n".join(lines) + "\n" + "13900139000,china-telecom\n" + "no,china-mobile\n" * 30
    report = run(tmp_path, text, "CN")
    assert (report.rows, report.numbers, report.bad_rows) == (42, 1, 41)
    assert [line for line, _ in report.bad] == [*range(2, 13), *range(14, 23)]
    reasons = dict(report.bad)
    assert reasons[7] == "number: of GB, in a file for CN"
    assert (reasons[10], reasons[11]) == ("2 columns are wanted", "carrier: missing")
    for reason in reasons.values():
        assert not any(cell and cell in reason for cell in bad)
        assert "13800138000" not in reason


def test_octets_that_are_no_text_are_a_bad_row(tmp_path: Path) -> None:
    report = run(tmp_path, HEADER.encode() + b"\xff\xfe1380,china-unicom\n13800138000,china-unicom\n", "CN")
    assert (report.numbers, [line for line, _ in report.bad]) == (1, [2])


@pytest.mark.parametrize(
    ("text", "country", "words"),
    [
        ("", "CN", "must name the columns"),
        ("msisdn,carrier\n", "CN", "line 1: the first line must name the columns"),
        (HEADER, "CN", "no usable row among 0"),
        (HEADER + "1,china-mobile\n", "CN", "no usable row among 1 (line 2: number: "),
        (HEADER + "13800138000,china-mobile\n", "FR", "no number segments for FR"),
        (HEADER + "+33612345678,orange\n", "", "(line 2: number: there are no number segments for FR"),
        (HEADER + "13800138000,china-mobile\n13800138001,CMCC\n", "CN", "line 3: carrier: no number segment"),
    ],
)  # fmt: skip
def test_a_file_that_is_refused_leaves_the_table_as_it_was(tmp_path: Path, text: str, country: str, words: str) -> None:
    run(tmp_path, HEADER + "13800138000,china-unicom\n", "CN")
    before = (tmp_path / "ported" / "cn.bin").stat()
    with pytest.raises(ImportRefused) as refused:
        run(tmp_path, text, country)
    assert words in str(refused.value)
    assert isinstance(refused.value, GatewayError)
    assert (tmp_path / "ported" / "cn.bin").stat() == before
    assert [path.name for path in (tmp_path / "ported").iterdir()] == ["cn.bin"], "nothing is left lying about"


def test_exchanged_columns_do_not_show_a_number(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused) as refused:
        run(tmp_path, "number,carrier\n13800138000,13900139000\n", "CN")
    assert "139" not in str(refused.value)
    assert "belongs to it" in str(refused.value)


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ported_import, "PROGRESS_ROWS", 100)
    source = tmp_path / "in.csv"
    source.write_text(HEADER + "".join(f"138{n:08d},china-unicom\n" for n in range(250)))
    heard: list[tuple[int, int]] = []
    import_file(source, tmp_path / "p", SEGMENTS, "CN", now_ms=1, progress=lambda rows, at: heard.append((rows, at)))
    assert [rows for rows, _ in heard] == [100, 200, 250]
    assert heard[-1][1] == source.stat().st_size
