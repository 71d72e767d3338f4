"""CSV rows: cells become fields, refs follow the content, a bad row spoils no other."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.send.rows import BadFile, Row, read_rows


def rows(content: str, run: str = "", **defaults: str) -> list[Row]:
    return list(read_rows(io.StringIO(content, newline=""), defaults=defaults, run=run))


def test_cells_become_fields() -> None:
    header = "to,category,text,sender,ref,ttl_s,tags,test,origin.campaign,origin.ordinal,params.code,meta\n"
    (row,) = rows(header + '+8613800138000,marketing,"hi, you",106900001,r1,60,a; b ;,yes,may,3,77,m\n')
    assert row.message is not None
    assert (row.line, row.ref) == (2, "r1")
    assert row.message.to_json() == {
        "to": "+8613800138000",
        "category": "marketing",
        "text": "hi, you",
        "sender": "106900001",
        "ref": "r1",
        "ttl_s": 60,
        "tags": ["a", "b"],
        "test": True,
        "origin": {"campaign": "may", "ordinal": 3},
        "params": {"code": "77"},
        "meta": "m",
    }


def test_templates_have_columns() -> None:
    header = "to,category,template,template_version,params.code,params.n,zone,local_window,consent\n"
    (row,) = rows(header + "+8613800138000,marketing,code,2,0042,7,Asia/Shanghai,10:00-12:00,yes\n")
    assert row.message is not None
    sent = row.message.to_json()
    assert sent.pop("ref")
    assert sent == {
        "to": "+8613800138000",
        "category": "marketing",
        "template": "code",
        "template_version": 2,
        "params": {"code": "0042", "n": "7"},
        "zone": "Asia/Shanghai",
        "local_window": "10:00-12:00",
        "consent": True,
    }
    (bad,) = rows("to,template,template_version\n1,code,two\n")
    assert (bad.message, bad.field) == (None, "template_version")


def test_defaults_fill_empty_cells() -> None:
    first, second = rows("to,text\n1,own\n2,\n", category="notification", text="default")
    assert first.message is not None
    assert second.message is not None
    assert (first.message.text, second.message.text) == ("own", "default")
    assert first.message.category == "notification"


def test_refs_follow_content_not_lines() -> None:
    before = rows("to,text\n1,a\n2,b\n3,c\n")
    after = rows("text,to\n\nnew,9\nb,2\nc,3\na,1\n")
    assert {row.to: row.ref for row in before} == {row.to: row.ref for row in after if row.to != "9"}
    assert len({row.ref for row in before}) == 3
    assert {row.ref for row in rows("to,text\n1,a\n", run="again")}.isdisjoint(row.ref for row in before)


def test_equal_rows_are_two_messages() -> None:
    first, second, third = rows("to,text\n1,a\n1,a\n1,a\n")
    assert len({first.ref, second.ref, third.ref}) == 3
    assert second.ref == first.ref + "-2"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (",text,", "to"),
        ("1", ""),
        ("1,2,3,4", ""),
        ("1,a,x", "ttl_s"),
        ("1,a,-1", "ttl_s"),
        ("1,a,9999999999999", "ttl_s"),
        ('1,"a"b,3', ""),
        ("1,\udcff,3", "text"),
    ],
)
def test_a_bad_row_spoils_no_other(line: str, field: str) -> None:
    before, bad, after = rows(f"to,text,ttl_s\n1,first,1\n{line}\n3,last,3\n")
    assert before.message is not None
    assert after.message is not None
    assert bad.message is None
    assert bad.problem
    assert bad.field == field
    assert (before.line, bad.line, after.line) == (2, 3, 4)


def test_a_quote_that_never_closes_is_a_bad_row() -> None:
    found = rows("to,text\n1,a\n" + '2,"b\n' + "x,y\n" * 20_000)
    assert found[0].message is not None
    bad = next(row for row in found if row.message is None)
    assert bad.line == 3
    assert "lines 3 to " in bad.problem
    assert found[-1].message is not None


@pytest.mark.parametrize("text", ["", "\n", "text\n", "to,txt\n", "to,to\n", 'to,"x\n' + "y" * 40_000], ids=range(6))
def test_a_file_without_usable_columns(text: str) -> None:
    with pytest.raises(BadFile):
        rows(text)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_no_text_makes_it_raise(lines: list[str]) -> None:
    for row in rows("to,text,ttl_s\n" + "\n".join(lines)):
        assert (row.message is None) == bool(row.problem)
