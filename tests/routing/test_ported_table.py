"""gateway.routing.ported_table: what is written is found, damage is refused, a new file is taken while readers read."""

from __future__ import annotations

import os
import random
import threading
from array import array
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.routing.ported_table import HEADER_BYTES, PortedTable, PortedTables, TableWriter

NAMES = ("china-broadnet", "china-mobile", "china-telecom", "china-unicom")


def write(
    path: Path, rows: dict[int, int], *, country: str = "CN", names: tuple[str, ...] = NAMES, pieces: int = 3
) -> int:
    """Write a table of these rows in several pieces, as an import does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = TableWriter(path, country, names)
    ordered = sorted(rows)
    size = max(1, len(ordered) // pieces)
    try:
        for start in range(0, len(ordered), size):
            part = ordered[start : start + size]
            writer.add(array("Q", part).tobytes(), bytes(rows[number] for number in part))
        return writer.finish(1_700_000_000_000)
    finally:
        writer.close()


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, int]]:
    pick = random.Random(20261122)
    rows = {8613_000_000_000 + n: pick.randrange(4) for n in pick.sample(range(7_000_000_000), 1_000_000)}
    path = tmp_path_factory.mktemp("ported") / "cn.bin"
    assert write(path, rows, pieces=7) == 1_000_000
    return path, rows


def test_a_million_rows_against_a_dictionary(million: tuple[Path, dict[int, int]]) -> None:
    path, rows = million
    table = PortedTable(path, "CN")
    assert (table.rows, table.carriers, table.written_at_ms) == (1_000_000, NAMES, 1_700_000_000_000)
    assert all(table.get(str(number)) == NAMES[place] for number, place in rows.items())
    absent = [number + 1 for number in rows if number + 1 not in rows]
    assert len(absent) > 900_000
    assert not any(table.get(str(number)) for number in absent)
    for odd in ("1", "0", "999999999999999", "442079460000"):
        assert table.get(odd) is None
    counted = table.count_by_carrier()
    assert counted == {name: list(rows.values()).count(place) for place, name in enumerate(NAMES)}


def test_the_first_the_last_and_an_only_row(tmp_path: Path) -> None:
    write(tmp_path / "cn.bin", {8613000000000: 0, 8613000000001: 1, 8619999999999: 3})
    table = PortedTable(tmp_path / "cn.bin", "cn")
    assert [table.get(n) for n in ("8613000000000", "8613000000001", "8619999999999")] == [NAMES[0], NAMES[1], NAMES[3]]
    write(tmp_path / "gb.bin", {442079460000: 0}, country="GB", names=("vodafone",))
    assert PortedTable(tmp_path / "gb.bin", "GB").get("442079460000") == "vodafone"


@pytest.mark.parametrize(
    ("at", "octets", "reason"),
    [
        (0, b"X", "not a table"),
        (8, b"\x09", "version 9"),
        (10, b"\x00\x01", "byte order"),
        (20, b"\x07", "header does not fit"),
        (60, b"x", "header does not fit"),
        (HEADER_BYTES + 3, b"\xff", "rows do not fit"),
        (-1, b"\x02", "rows do not fit"),
    ],
)
def test_damage_is_refused_and_named(tmp_path: Path, at: int, octets: bytes, reason: str) -> None:
    path = tmp_path / "cn.bin"
    write(path, {8613000000000 + n: 1 for n in range(100)})
    data = bytearray(path.read_bytes())
    start = at % len(data)
    data[start : start + len(octets)] = octets
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        PortedTable(path, "CN")
    assert reason in str(refused.value)
    assert "ported/cn.bin" in str(refused.value)


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 8, -1])
def test_a_file_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cn.bin"
    write(path, {8613000000000 + n: 1 for n in range(100)})
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    with pytest.raises(ConfigError, match="cut off"):
        PortedTable(path, "CN")


def test_another_countrys_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "gb.bin", {8613000000000: 1})
    with pytest.raises(ConfigError, match="holds the numbers of CN, not of GB"):
        PortedTable(tmp_path / "gb.bin", "GB")


def test_a_damaged_file_leaves_the_old_table_in_use_until_a_sound_one_comes(tmp_path: Path) -> None:
    path, number = tmp_path / "cn.bin", "8613000000000"
    write(path, {int(number): 1})
    tables = PortedTables(tmp_path)
    assert (tables.get("CN", number), tables.refresh()) == ("china-mobile", [])
    bad = tmp_path / "new"
    bad.write_bytes(b"rubbish" * 1000)
    bad.replace(path)
    assert tables.refresh() == ["CN"]
    assert "not a table" in str(tables.problems()[0])
    assert tables.get("CN", number) == "china-mobile"
    assert tables.refresh() == [], "a refused file is not read again and again"
    write(path, {int(number): 2})
    assert tables.refresh() == ["CN"]
    assert (tables.get("CN", number), tables.problems()) == ("china-telecom", [])
    path.unlink()
    assert tables.refresh() == ["CN"]
    assert tables.get("CN", number) is None


def test_only_files_named_by_a_country_count(tmp_path: Path) -> None:
    write(tmp_path / "cn.bin", {8613000000000: 1})
    (tmp_path / ".cn.bin.77.tmp").write_bytes(b"x")
    (tmp_path / "notes.bin").write_bytes(b"x")
    tables = PortedTables(tmp_path)
    assert (list(tables.tables), tables.problems()) == (["CN"], [])
    assert PortedTables(tmp_path / "nothing").tables == PortedTables().tables == {}


def test_a_new_table_while_others_look_up(tmp_path: Path) -> None:
    """Every answer is that of one whole version: all numbers belong to one carrier in each."""
    path = tmp_path / "cn.bin"
    numbers = [8613000000000 + 7 * n for n in range(20_000)]
    write(path, dict.fromkeys(numbers, 0))
    tables = PortedTables(tmp_path)
    seen: list[set[str | None]] = []
    done = threading.Event()

    def look() -> None:
        mine: set[str | None] = set()
        while not done.is_set():
            for number in numbers[::97]:
                mine.add(tables.get("CN", str(number)))
                if tables.get("CN", str(number + 1)) is not None:
                    mine.add("a number that is in no version")
        seen.append(mine)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(1, 25):
            write(path, dict.fromkeys(numbers, turn % 4))
            assert tables.refresh() == ["CN"]
            assert tables.get("CN", str(numbers[-1])) == NAMES[turn % 4]
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert len(seen) == 3
    assert all(mine <= set(NAMES) for mine in seen), seen


def test_a_writer_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "cn.bin", "CN", NAMES)
    writer.add(array("Q", [8613000000000]).tobytes(), b"\x01")
    writer.close()
    assert list(tmp_path.iterdir()) == []
    for names in ((), tuple(f"carrier-{n:04d}" for n in range(256)), ("x" * 4090,)):
        with pytest.raises(ValueError, match="names of carriers"):
            TableWriter(tmp_path / "cn.bin", "CN", names)
