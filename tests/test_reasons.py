"""The list of reasons: documented whole; statuses and the gateway's own ends become words of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.dispatch.outcome import TABLE, Outcome
from gateway.reasons import (
    BY_CARRIERS,
    BY_GATEWAY,
    BY_STATUS,
    REASONS,
    ended,
    of_status,
    overrides,
    permanent_as_a_rule,
)

LUA = Path("gateway/store/lua")


def test_the_document_says_the_same() -> None:
    text = Path("docs/reasons.md").read_text("utf-8")
    said = re.findall(r"^\| `([a-z_-]+)` \| ([a-z ]+) \| (.+) \|$", text, re.MULTILINE)
    words = {None: "by code", True: "as a rule", False: "never"}
    exceptions = {"powered-off": "by code"}
    carriers = [(name, exceptions.get(name, words[one.permanent]), one.says) for name, one in BY_CARRIERS.items()]
    own = [(name, "yes" if one.permanent else "no", one.says) for name, one in BY_GATEWAY.items()]
    assert said == carriers + own


def test_every_word_that_a_script_ends_a_message_with_is_listed() -> None:
    source = "\n".join(path.read_text("utf-8") for path in LUA.glob("*.lua"))
    words = set(re.findall(r"finalise\(r, [^\n]*?'[DUREFCBK]', '([a-z_]+)'", source))
    words |= set(re.findall(r"finalise\(r, r\.worst, '([a-z_]+)'", source))
    assert {"expired", "no_receipt", "gate_closed", "blacklisted", "attempts_exhausted"} <= words
    assert words <= set(BY_GATEWAY)


@pytest.mark.parametrize("status", [*TABLE, 0x94, 0x400, 0x4FF, 0x500, 0xFFFFFFFF])
def test_every_status_has_a_reason_of_the_list(status: int) -> None:
    reason, permanent = ended("refused", status)
    assert reason in REASONS
    if permanent:
        assert TABLE.get(status) is None or TABLE[status].outcome in (Outcome.PERMANENT, Outcome.NEXT, Outcome.BUG)


@pytest.mark.parametrize(
    ("word", "status", "expected"),
    [
        ("refused", 0x0B, ("invalid-number", True)),
        ("refused", 0x66, ("content-rejected", True)),
        ("partly_refused", 0x0A, ("signature-or-template", True)),
        ("refused", 0x45, ("carrier-internal", False)),
        ("refused", None, ("carrier-internal", False)),
        ("attempts_exhausted", 0x08, ("attempts_exhausted", False)),
        ("cannot_be_encoded", None, ("cannot_be_encoded", True)),
        ("no_response", None, ("no_response", False)),
        ("something_new", 0x08, ("something_new", False)),
    ],
)
def test_how_dispatch_ends_a_message(word: str, status: int | None, expected: tuple[str, bool]) -> None:
    assert ended(word, status) == expected


def test_a_channels_own_statuses_win() -> None:
    own = overrides(
        (("0x0000040A", "blacklisted", None), ("0x0000000B", "carrier-internal", True), ("MK:1", "unknown", None))
    )
    assert of_status(0x40A, own) == ("blacklisted", True)
    assert of_status(0x0B, own) == ("carrier-internal", True)
    assert of_status(0x66, own) == BY_STATUS[0x66]
    assert own["MK:1"] == ("unknown", False)


def test_what_is_permanent_as_a_rule() -> None:
    assert {reason for reason in REASONS if permanent_as_a_rule(reason)} == {
        "invalid-number", "blacklisted", "user-unsubscribed", "content-rejected", "signature-or-template",
    }  # fmt: skip
