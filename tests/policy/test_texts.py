"""gateway.policy.texts: signatures and opt-out wordings that a country's marketing needs."""

from __future__ import annotations

import pytest

from gateway.errors import RequestError
from gateway.model import Category
from gateway.policy.texts import TextRules, spelt
from gateway.settings.values import default_categories
from gateway.signature import signature_of

RULES = TextRules(default_categories()[Category.MARKETING])


def refusal(text: str, country: str = "CN") -> str:
    try:
        RULES.check(text, signature_of(text), country)
    except RequestError as error:
        return f"{error.field}: {error.code}"
    return ""


@pytest.mark.parametrize(
    "ending",
    [
        "拒收请回复R", "拒收请回复 r", "拒收请回复Ｒ", "拒收，请回复“R”", "退订回T", "退订回TD", "回T退订",
        "回 TD 退订", "退订回N", "拒\u200b收请回复R", "退订请回复:T",
    ],
)  # fmt: skip
def test_wordings_that_count(ending: str) -> None:
    assert refusal(f"【Acme】周末八折，{ending}") == ""
    assert refusal(f"周末八折，{ending}。回头见【Acme】") == ""


@pytest.mark.parametrize("text", ["周末八折", "周末八折 R", "回复即可退货", "reply STOP", "拒收"])
def test_a_text_without_one(text: str) -> None:
    assert refusal(f"【Acme】{text}") == "text: missing_optout_text"


@pytest.mark.parametrize(
    "text",
    ["周末八折 拒收请回复R", "【】周末 拒收请回复R", "[Acme]周末 拒收请回复R", "【" + "长" * 33 + "】拒收请回复R"],
)
def test_a_text_without_signature(text: str) -> None:
    assert refusal(text) == "text: missing_signature"


@pytest.mark.parametrize("country", ["GB", "US", ""])
def test_other_countries_ask_for_nothing(country: str) -> None:
    assert refusal("sale", country) == ""


@pytest.mark.parametrize("category", [Category.VERIFICATION, Category.NOTIFICATION])
def test_other_categories_ask_for_nothing(category: Category) -> None:
    assert not TextRules(default_categories()[category]).countries


@pytest.mark.parametrize(
    ("written", "compared"),
    [("F.r-e  E!", "free"), ("ＦＲＥＥ", "free"), ("fréé", "free"), ("fre\u0301e", "free"), ("ⓕⓡⓔⓔ", "free"),
     ("f\u200bree", "free"), ("Straße", "strasse"), ("网 上·赌.场", "网上赌场"), ("가나", "가나"), ("😀", "")],
)  # fmt: skip
def test_how_texts_are_compared(written: str, compared: str) -> None:
    assert spelt(written) == spelt(compared)
    assert spelt(spelt(written)) == spelt(written)
