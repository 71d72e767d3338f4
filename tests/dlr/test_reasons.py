"""Which failures may pass on another channel, from the shipped table and from tables that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.dlr.reasons import REASONS, Failure, FailureReasons, load_reasons
from gateway.errors import ConfigError

SHIPPED = load_reasons(Path("config/failure_codes.csv"))
HEAD = "code,carrier,reason,temporary,detail,source\n"


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ("MK:0001", "invalid-number"),
        ("MK0001", "invalid-number"),
        ("mk:00001", "invalid-number"),
        ("DB:0144", "blacklisted"),
        ("MBBLACK", "blacklisted"),
        ("IB:0008", "carrier-internal"),
        ("MA:7654", "carrier-internal"),  # by its family
        ("MK:0115", "content-rejected"),
    ],
)
def test_codes_of_the_shipped_table(codes: str, reason: str) -> None:
    found = SHIPPED.get(codes)
    assert found is not None
    assert found.reason == reason


def test_the_shipped_table_is_whole() -> None:
    assert len(SHIPPED) > 700
    assert SHIPPED.get("000") is None
    assert SHIPPED.get("ZZ:9999") is None


@pytest.mark.parametrize(
    ("state", "stat", "codes", "passes"),
    [
        ("U", "UNDELIV", ("MK:0001",), False),  # no such number, whoever sends
        ("U", "UNDELIV", ("", "DB:0144"), False),
        ("U", "MBBLACK", ("000",), False),
        ("U", "UNDELIV", ("IB:0008",), True),
        ("U", "UNDELIV", ("MI:0084",), True),  # not reachable for now
        ("R", "REJECTD", ("TX:2001",), True),  # this channel's signature
        ("U", "UNDELIV", ("000",), True),  # failed, and nobody says why
        ("E", "EXPIRED", (), True),
        ("D", "DELIVRD", ("IB:0008",), False),
    ],
)
def test_what_another_channel_may_deliver(state: str, stat: str, codes: tuple[str, ...], passes: bool) -> None:
    assert SHIPPED.passes_elsewhere(state, stat, *codes) is passes


def test_without_a_table_no_failure_is_the_messages_own() -> None:
    assert load_reasons(None).passes_elsewhere("U", "UNDELIV", "MK:0001")
    assert FailureReasons({"X:*": Failure(REASONS[0], False)}).get("X1") is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("MK:0001,any,no-such-reason,no,,me", "line 2: reason: "),
        ("MK:0001,any,unknown,perhaps,,me", "line 2: temporary: "),
        ("MK:0001,any,unknown,no,me", "line 2: 6 columns"),
        ("\x07,any,unknown,no,,me", "line 2: code: "),
        ("AB:0001,any,unknown,no,,me\nab0001,any,unknown,no,,me", "line 3: the code AB:0001 stands twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "failure_codes.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_reasons(path)
    assert why in str(caught.value)


def test_a_wrong_head_and_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "failure_codes.csv"
    path.write_text("code,reason\n")
    with pytest.raises(ConfigError, match="the first line must be"):
        load_reasons(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_reasons(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_reasons(tmp_path / "none.csv")
