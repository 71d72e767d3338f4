"""Keyword rules: how words compare, and which of several rules wins."""

from __future__ import annotations

import pytest

from gateway.policy.keywords import KeywordRules
from gateway.settings import KeywordSettings

JOIN = KeywordSettings(("JOIN", "加入"), account="club", tag="join")
HERE = KeywordSettings(("join",), to="1069", tag="here")
INFO = KeywordSettings(("info",), match="starts-with", tag="info")
LONG = KeywordSettings(("information",), match="starts-with", tag="long")
NO = KeywordSettings(("N",), account="shop", tag="no")
RULES = KeywordRules((JOIN, HERE, INFO, LONG, NO))


@pytest.mark.parametrize(
    ("text", "to", "account", "found"),
    [
        ("join", "", "", JOIN),
        (" Ｊoin！ ", "5", "", JOIN),
        ("加入", "", "club", JOIN),
        ("join", "1069", "", HERE),
        ("join", "", "shop", None),
        ("join us", "", "", None),
        ("info please", "", "", INFO),
        ("information please", "", "", LONG),
        ("in", "", "", None),
        ("", "", "", None),
        ("n", "", "shop", NO),
    ],
)
def test_which_rule(text: str, to: str, account: str, found: KeywordSettings | None) -> None:
    assert RULES.find(text, to, account) is found


def test_answers_of_an_account() -> None:
    assert RULES.answers("shop") == ("N",)
    assert RULES.answers("bank") == ()
    assert KeywordRules(()).find("join", "") is None
