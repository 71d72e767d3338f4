"""gateway.signature: where a signature stands in a text, and when two spellings are one."""

from __future__ import annotations

import pytest

from gateway.model import Secret
from gateway.settings import AccountSettings, ChannelSettings, SignatureSettings
from gateway.signature import ANY, clean, shown, signature_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("【A】x", "A"),
        ("x【A】", "A"),
        ("【A】", "A"),
        ("【A】x【B】", "A"),
        ("【】x【B】", "B"),
        ("【 A 】x", "A"),
        ("【ＡＢＣ】x", "ABC"),
        ("x【甲】乙】", "甲】乙"),
        ("", ""),
        ("x", ""),
        ("【】x", ""),
        ("x【】", ""),
        ("【　】x", ""),
        ("a【A】b", ""),
        ("【A", ""),
        ("A】", ""),
        ("】【", ""),
        ("[A]x", ""),
    ],
)
def test_the_signature_of_a_text(text: str, expected: str) -> None:
    assert signature_of(text) == expected


def test_brackets_and_width_do_not_matter() -> None:
    assert clean("【Acme】") == clean("Acme") == clean("【Ａｃｍｅ】") == clean(" Acme ") == "Acme"
    assert clean("acme") != clean("Acme")
    assert (shown("Acme"), shown(ANY)) == ("【Acme】", "any other signature")


def channel(*names: str) -> ChannelSettings:
    listed = tuple(SignatureSettings(name) for name in names)
    return ChannelSettings("a", "h", 1, "s", Secret("p"), signatures=listed)


def test_what_a_channel_carries() -> None:
    for signature in ("A", "B", ""):
        assert channel().carries(signature)
    assert [channel("A").carries(s) for s in ("A", "B", "")] == [True, False, False]
    assert [channel("A", ANY).carries(s) for s in ("A", "B", "")] == [True, True, False]
    both = channel(ANY, "A")
    assert [both.registration(s) for s in ("A", "B", "")] == [both.signatures[1], both.signatures[0], None]


def test_an_accounts_signatures() -> None:
    assert AccountSettings("x").signatures == ()
    assert AccountSettings("x", signature="【A】").signatures == ("A",)
    assert AccountSettings("x", signature=("【B】", "A", "【Ｂ】")).signatures == ("B", "A")
