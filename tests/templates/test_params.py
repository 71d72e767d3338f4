"""What an application sends for a param: taken or refused by name, whatever it is."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.model import Category
from gateway.templates.model import Param, Template
from gateway.templates.params import check_params
from gateway.templates.render import compile_template

JSON = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300), st.lists(st.integers()))


def template(*params: Param) -> Template:
    text = " ".join(f"{{{{ {param.name} }}}}" for param in params)
    return Template("t", 1, Category.VERIFICATION, text, params)


def check(param: Param, value: Any) -> Any:
    return check_params(template(param), {param.name: value})[param.name]


def refusal(param: Param, value: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        check(param, value)
    return refused.value


@settings(max_examples=60, deadline=None)
@given(JSON, st.sampled_from(["string", "code", "int", "decimal", "date", "url"]))
def test_a_value_is_taken_or_refused_by_name(value: Any, kind: str) -> None:
    """And what is taken is printed as it is, on one line: no value is read as a template."""
    param = Param("p", kind, max_length=200, domains=("acme.example",))
    taken, refused = None, None
    try:
        taken = check(param, value)
    except RequestError as error:
        refused = error
    if refused is not None:
        assert (refused.code, refused.field) == ("invalid_param", "params.p")
        assert not isinstance(value, str) or len(value) < 4 or value not in refused.detail
        return
    printed = compile_template(Template("t", 1, Category.MARKETING, "<{{ p }}>", (param,))).render({"p": taken})
    assert printed == f"<{taken}>"
    assert "\n" not in printed
    assert "【" not in printed


@pytest.mark.parametrize(
    "text", ["{{ p }}", "{% assign p = 1 %}", "{{", "%}", "{% raw %}", "{{ 'x' | upcase }}", "$(id)", "%s%n"]
)
def test_what_looks_like_a_template_is_text(text: str) -> None:
    one = template(Param("p", "string"))
    assert compile_template(one).render(check_params(one, {"p": text})) == text


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [
        (Param("p", "string", max_length=3), ["abc", "äöü", "你好吗"], ["", "abcd", 5, None, True]),
        (Param("p", "string"), ["a b"], ["a\nb", "a\tb", "a\x00", "a\x1bb", "a\u2028b", "a\u202eb", "a\x85"]),
        (Param("p", "string"), ["[Acme]"], ["【Bank】 hi", "】", "a【"]),
        (Param("p", "string", signature=True), ["【Bank】 hi"], []),
        (Param("p", "string", pattern="[A-Z]{2}[0-9]+"), ["AB12"], ["AB12x", "xAB12", "ab12"]),
        (Param("p", "string", enum=("red", "blue")), ["red"], ["Red", "green"]),
        (Param("p", "code", min_length=4, max_length=6), ["0042", "123456"], ["123", "1234567", "12a4", 1234, "１２"]),
        (Param("p", "int", least="1", most="5"), [1, 5, "1"], [0, 6, 1.0, "6", True]),
        (Param("p", "int"), [-(10**14), "-12", "0"], [None, "x", "", "007", "-0", "1.0", "１", "1" * 5000]),
        (Param("p", "decimal", least="0", most="10"), ["9.99", 10, 0.5], ["10.01", "-0.01", "1.234", "1e1", "", "NaN"]),
        (Param("p", "decimal"), [12.5], [float("inf"), float("nan"), 1e300, "1,5", True]),
        (Param("p", "date"), ["2026-12-01"], ["2026-13-01", "20261201", "2026-W01-1", 20261201, "2026-12-01T00:00:00"]),
    ],
)  # fmt: skip
def test_types_and_limits(param: Param, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check(param, value)
    for value in bad:
        assert (refusal(param, value).code, refusal(param, value).field) == ("invalid_param", "params.p")


@pytest.mark.parametrize(
    ("link", "taken"),
    [
        ("https://acme.example/a?b=1#c", True),
        ("http://www.acme.example", True),
        ("https://ACME.example/x", True),
        ("https://acme.example./x", False),
        ("https://evilacme.example", False),
        ("https://acme.example.evil.example", False),
        ("https://acme.example@evil.example/", False),
        ("https://evil.example/acme.example", False),
        ("https://evil.example?acme.example", False),
        ("https://acme.example:8443/", False),
        ("https://evil.example\\@acme.example/", False),
        ("https://acme.example/ evil", False),
        ("https://acme.example/\n", False),
        ("https://acme.example/【x】", False),
        ("javascript:alert(1)//acme.example", False),
        ("//acme.example", False),
        ("https://аcme.example", False),  # a Cyrillic а
    ],
)
def test_links_lead_to_the_domains_named(link: str, taken: bool) -> None:
    param = Param("p", "url", max_length=100, domains=("acme.example",))
    if taken:
        assert check(param, link) == link
    else:
        refusal(param, link)


def test_missing_unknown_optional_and_default() -> None:
    one = template(
        Param("a", "string"), Param("b", "int", optional=True), Param("c", "string", optional=True, default="x"),
        Param("d", "date", optional=True, default=date(2026, 1, 2)),
    )  # fmt: skip
    assert check_params(one, {"a": "1"}) == {"a": "1", "b": None, "c": "x", "d": date(2026, 1, 2)}
    with pytest.raises(RequestError) as refused:
        check_params(one, {"b": 1})
    assert (refused.value.code, refused.value.field) == ("missing_param", "params.a")
    with pytest.raises(RequestError) as refused:
        check_params(one, {"a": "1", "e": 1})
    assert (refused.value.code, refused.value.field) == ("unknown_param", "params.e")
    with pytest.raises(RequestError) as refused:
        check_params(one, {"a": "1", "not a name 13800138000": 1})
    assert (refused.value.code, refused.value.field) == ("unknown_param", "params")
    assert "138" not in refused.value.detail
    assert check(Param("p", "decimal"), "1.50") == Decimal("1.50")
