"""gateway.routing.number_segments and loader: longest prefix, the shipped table of China, bad files."""

from __future__ import annotations

from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.routing.loader import load_all_segments, load_segments
from gateway.routing.number_segments import NumberSegments, Segment

CN_FILE = Path(__file__).parents[2] / "config" / "number_segments" / "cn.csv"
HEADER = "prefix,carrier,kind,sms_capable,note\n"


@pytest.fixture(scope="module")
def china() -> NumberSegments:
    return load_segments(CN_FILE)


def segment(prefix: str) -> Segment:
    return Segment(prefix, f"carrier-{prefix}", "normal", True)


@pytest.mark.parametrize(
    ("prefix", "carrier", "kind", "capable"),
    [
        ("138", "china-mobile", "normal", True),
        ("130", "china-unicom", "normal", True),
        ("189", "china-telecom", "normal", True),
        ("192", "china-broadnet", "normal", True),
        ("1610", "china-broadnet", "normal", True),
        ("161", "", "unassigned", False),
        ("134", "china-mobile", "normal", True),
        ("1349", "china-telecom", "satellite", False),
        ("149", "china-telecom", "data", True),
        ("147", "china-mobile", "data", True),
        ("162", "china-telecom", "mvno", True),
        ("165", "china-mobile", "mvno", True),
        ("167", "china-unicom", "mvno", True),
        ("171", "china-unicom", "mvno", True),
        ("1700", "china-telecom", "mvno", True),
        ("1703", "china-mobile", "mvno", True),
        ("1704", "china-unicom", "mvno", True),
        ("1709", "china-unicom", "mvno", True),
        ("17400", "china-telecom", "satellite", False),
        ("17410", "", "satellite", False),
        ("1440", "china-mobile", "iot", False),
        ("154", "", "unassigned", False),
    ],
)
def test_china(china: NumberSegments, prefix: str, carrier: str, kind: str, capable: bool) -> None:
    number = "86" + (prefix + "80138000")[:11].ljust(11, "1")
    assert china.lookup(number) == Segment(prefix, carrier, kind, capable)


def test_china_is_covered(china: NumberSegments) -> None:
    """Every number from 13 to 19 has a segment, save the two blocks that are carved up: 140-144 and 174."""
    uncovered = {str(p) for p in range(1300, 2000) if china.lookup(f"86{p}0000000") is None}
    assert uncovered == {*(f"140{d}" for d in range(1, 10)), *(f"141{d}" for d in range(1, 10))} | {
        f"144{d}" for d in range(3, 9)
    } | {f"174{d}" for d in range(2, 9)}
    assert china.carriers == {"china-mobile", "china-unicom", "china-telecom", "china-broadnet"}


def test_mobile_prefixes_libphonenumber_has_are_sendable_here(china: NumberSegments) -> None:
    for prefix in range(1300, 2000):
        number = phonenumbers.parse(f"+86{prefix}1234567", None)
        if phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE:
            found = china.lookup(f"86{prefix}1234567")
            assert found is not None
            assert found.sms_capable or found.kind == "satellite"


def test_a_number_in_no_segment() -> None:
    table = NumberSegments("86", [segment("138")])
    assert table.lookup("8613900138000") is None
    assert table.lookup("") is None
    assert NumberSegments("86", []).lookup("8613900138000") is None


_PREFIXES = st.sets(st.text("0123456789", min_size=1, max_size=6), max_size=30)


@given(_PREFIXES, st.lists(st.text("0123456789", max_size=12), max_size=20))
def test_the_longest_prefix_wins(prefixes: set[str], numbers: list[str]) -> None:
    table = NumberSegments("7", map(segment, prefixes))
    for national in [*numbers, *numbers]:  # the second time from memory
        fitting = [prefix for prefix in prefixes if national.startswith(prefix)]
        expected = segment(max(fitting, key=len)) if fitting else None
        assert table.lookup("7" + national) == expected


def test_memory_stays_bounded() -> None:
    table = NumberSegments("1", [segment("0000000")])
    for number in range(70_000):
        assert table.lookup(f"1{number:07}") == (segment("0000000") if number == 0 else None)
    assert len(table._remembered) <= 65_536


@pytest.mark.parametrize("prefixes", [["138", "138"], ["13a"], [""], ["１３８"]])
def test_impossible_prefixes(prefixes: list[str]) -> None:
    with pytest.raises(ValueError, match="prefix"):
        NumberSegments("86", map(segment, prefixes))


@pytest.mark.parametrize(
    ("content", "key", "reason"),
    [
        ("", "", "no number segment"),
        (HEADER, "", "no number segment"),
        ("138,china-mobile,normal,yes,\n", "line 1", "the first line"),
        (HEADER + "138,china-mobile,normal,yes\n", "line 2", "5 columns"),
        ("# c\n" + HEADER + "\n13a,china-mobile,normal,yes,\n", "line 4", "prefix"),
        (HEADER + "138,China Mobile,normal,yes,\n", "line 2", "carrier"),
        (HEADER + "138,china-mobile,,yes,\n", "line 2", "kind"),
        (HEADER + "138,china-mobile,normal,maybe,\n", "line 2", "sms_capable"),
        (HEADER + "138,a,normal,yes,\n138,b,normal,yes,\n", "line 3", "stands twice"),
    ],
)
def test_bad_files_name_the_line(tmp_path: Path, content: str, key: str, reason: str) -> None:
    path = tmp_path / "cn.csv"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_segments(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == ("cn.csv", key)
    assert reason in problem.reason


def test_all_lines_and_files_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "cn.csv").write_text(HEADER + "x,,normal,yes,\n138,a,normal,yes,\n139,a,normal,?,\n")
    (tmp_path / "gb.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "zz.csv").write_text(HEADER + "138,a,normal,yes,\n")
    files = {name: tmp_path / f"{name.lower()}.csv" for name in ("CN", "GB", "ZZ", "FR")}
    with pytest.raises(ConfigError) as caught:
        load_all_segments(files)
    assert [(p.file, p.key) for p in caught.value.problems] == [
        ("cn.csv", "line 2"),
        ("cn.csv", "line 4"),
        ("gb.csv", ""),
        ("zz.csv", ""),
        ("fr.csv", ""),
    ]


def test_a_table_for_another_country(tmp_path: Path) -> None:
    path = tmp_path / "gb.csv"
    path.write_text("# mobile\n" + HEADER + '7911,"vodafone",normal,yes,"a, note"\n')
    assert load_segments(path).lookup("447911123456") == Segment("7911", "vodafone", "normal", True)
