"""Templates as they are compiled and rendered: what they may say, and that none can run away."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.model import Category
from gateway.templates.model import MAX_TEXT, Param, Template
from gateway.templates.params import check_params
from gateway.templates.render import TemplateFault, compile_template

STRING = Param("a", "string", max_length=MAX_TEXT)


def render(text: str, *params: Param, **values: Any) -> str:
    template = Template("t", 1, Category.VERIFICATION, text, params or (STRING,))
    return compile_template(template).render(check_params(template, values))


def fault(text: str, *params: Param) -> str:
    with pytest.raises(TemplateFault) as wrong:
        compile_template(Template("t", 1, Category.VERIFICATION, text, params or (STRING,)))
    return str(wrong.value)


def failure(text: str, *params: Param, **values: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as refused:
        render(text, *params, **values)
    for value in values.values():
        assert str(value) not in refused.value.detail or len(str(value)) < 2
    return refused.value.code, refused.value.field


def test_what_a_template_can_say() -> None:
    params = (
        Param("n", "int"), Param("who", "string", optional=True), Param("day", "date"), Param("sum", "decimal"),
    )  # fmt: skip
    text = (
        "{% if who %}{{ who | capitalize | truncate: 8 }}, {% endif %}{{ n }} item{% if n != 1 %}s{% endif %}"
        "{% case n %}{% when 1 %} (one){% else %} (many){% endcase %}, {{ sum | times: n }} on "
        "{{ day | date: '%-d.%m.%y' }}"
    )
    assert render(text, *params, n=2, day="2026-03-09", sum="1.25") == "2 items (many), 2.50 on 9.03.26"
    assert render(text, *params, n=1, who="zhang san feng", day="2026-12-31", sum=3).startswith("Zhang...,")
    assert render("{{ p | divided_by: 8 | round: 2 }}", Param("p", "decimal"), p="10.1") == "1.26"
    assert render("{{ p | divided_by: 10 }}", Param("p", "decimal"), p="1000") == "100"
    assert render("{{ n | divided_by: 3 }}", Param("n", "int"), n=10) == "3"
    assert render("{{ p | times: 0.1 | plus: 0.2 }}", Param("p", "decimal"), p=1) == "0.3"
    assert render("{% for i in (1..n) %}{{ i }}{% endfor %}", Param("n", "int"), n=3) == "123"
    assert render("{% raw %}{{ b }}{% endraw %}{{ a }}", a="x") == "{{ b }}x"
    assert render("第一行\n{{ a }}", a="码") == "第一行\n码"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ b }}{{ a }}", "b: not among the params"),
        ("{{ a | no_such }}", "no_such"),
        ("{{ a | split: ',' | join: 'x' }}", "join, split"),
        ("{% include 'x' %}{{ a }}", "include"),
        ("{% render 'x' %}{{ a }}", "render"),
        ("{% tablerow i in (1..2) %}{{ a }}{% endtablerow %}", "tablerow"),
        ("{% liquid assign b = a %}{{ a }}", "liquid"),
        ("{{ a", "end of file"),
        ("{% if a %}x", "if"),
        ("nothing is printed", "a: declared and never"),
        ("{{ a }}\t", "control characters"),
        ("{{ a }}\x1b", "control characters"),
        ("{{ a }}" + "x" * 4000, "4000 characters"),
        ("{% if a %}" * 40 + "{{ a }}" + "{% endif %}" * 40, ""),
    ],
)
def test_what_is_refused_when_it_is_compiled(text: str, says: str) -> None:
    assert says in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in (1..1000000000) %}{{ a }}{% endfor %}",
        "{% for i in (1..150) %}{% for j in (1..150) %}{% endfor %}{% endfor %}{{ a }}",
        "{% for i in (1..200) %}{{ a }}{{ a }}{{ a }}{% endfor %}",
        "{{ a }}{% assign x = 7 %}{% for i in (1..200) %}{% assign x = x | times: x %}{% endfor %}{{ x }}",
        "{% assign x = a %}{% for i in (1..200) %}{% assign x = x | append: x %}{% endfor %}{{ x }}",
        "{{ a " + "| replace: 'x', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'" * 20 + " }}",
        "{{ a }}{% assign r = (1..1000000000) %}{{ r | slice: 0, 900000000 | size }}",
        "{{ a }}{{ 9 " + "| times: 999999999999999999 " * 60 + "}}",
        "{% capture c %}{% for i in (1..200) %}{{ a }}{% endfor %}{% endcapture %}{{ c }}{{ c }}{{ c }}",
        "{{ a }}{% for i in (1..1000000000) reversed %}{% break %}{% endfor %}",
        "{{ a }}{% for i in (1..1000000000) offset: 999999990 %}x{% endfor %}",
        "{% assign r = (1..1000000000) %}{% if r contains a %}x{% endif %}",
        "{{ a }}{% assign r = (1..1000000000) %}{% if r contains 2.5 %}x{% endif %}",
    ],
)
def test_bombs_do_not_go_off(text: str) -> None:
    began = time.perf_counter()
    code, field = failure(text, a="x" * 100)
    assert time.perf_counter() - began < 0.5
    assert (code, field) in [("template_failed", "template"), ("text_too_long", "params")]


def test_failures_name_no_value() -> None:
    number = Param("a", "string")
    assert failure("{{ a | plus: 1 }}", number, a="482913") == ("template_failed", "template")
    assert failure("{{ a | size | divided_by: 0 }}", number, a="482913") == ("template_failed", "template")
    assert failure("{{ a | date: '%Y' }}", number, a="482913") == ("template_failed", "template")
    assert failure("{{ d | date: '%9999999d' }}", Param("d", "date"), d="2026-01-01") == ("template_failed", "template")
    assert failure("{{ a.b.c }}", number, a="482913") == ("template_failed", "template")
    assert failure("{% if a == 'y' %}{% assign q = 1 %}{% endif %}{{ q }}", number, a="482913")[0] == "template_failed"
    assert failure("{% if a == 'y' %}text{% endif %}", number, a="482913") == ("template_failed", "template")
    assert failure("{{ a }}{{ a }}", a="z" * 1000) == ("text_too_long", "params")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_source_compiles_or_says_why(source: str, value: str) -> None:
    try:
        compiled = compile_template(Template("t", 1, Category.MARKETING, source + "{{ a }}", (STRING,)))
    except TemplateFault:
        return
    code, text = "", ""
    try:
        text = compiled.render({"a": value})
    except RequestError as refused:
        code = refused.code
    assert code in ("", "template_failed", "text_too_long")
    assert len(text) <= MAX_TEXT
