"""The field table: its checks and its OpenAPI document say the same; each refusal names the field."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import schema
from gateway.errors import RequestError
from gateway.model import ValidMessage

NOW_MS = 1_790_000_000_000
PLAIN = {"to": "+8613800138000", "category": "verification", "text": "hello"}


def validate(given: Any, defaults: dict[str, Any] | None = None) -> ValidMessage:
    return schema.validate_message(given, NOW_MS, defaults)


def refusal(given: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as refused:
        validate(given)
    assert refused.value.status == 422
    return refused.value.code, refused.value.field


def at(seconds: float) -> str:
    return (datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_full_message_is_converted() -> None:
    message = validate(
        {
            **PLAIN,
            "sender": "106900001", "ref": "r-1", "ttl_s": 300, "send_at": "2026-12-01T10:00:00+08:00",
            "not_after": "2026-12-01T02:00:00.250Z", "tags": ["a", "登录"],
            "origin": {"campaign": "c", "run": "1", "step": "s", "variant": "B", "ordinal": 7},
            "contact": "p-9", "gate": "run/7", "ext": "01", "meta": "m", "test": True,
        }
    )  # fmt: skip
    assert message.send_at_ms == 1_796_090_400_000
    assert message.not_after_ms == message.send_at_ms + 250
    assert (message.category, message.ttl_s, message.test, message.ext) == ("verification", 300, True, "01")
    assert message.origin["ordinal"] == 7
    assert message.tags == ["a", "登录"]


def test_what_was_not_sent_has_its_default() -> None:
    message = validate(PLAIN)
    assert (message.sender, message.ttl_s, message.send_at_ms, message.tags, message.test) == ("", 0, 0, (), False)
    assert message.origin.get("campaign") is None


@pytest.mark.parametrize("name", ["to", "category", "text"])
def test_required_fields(name: str) -> None:
    given = {k: v for k, v in PLAIN.items() if k != name}
    assert refusal(given) == ("missing_field", name)


BAD: list[tuple[str, Any, str]] = [
    ("to", 13800138000, "invalid_field"),
    ("to", "", "invalid_field"),
    ("to", "1" * 33, "invalid_number"),
    ("to", "+86138\x00", "invalid_field"),
    ("category", "otp", "invalid_field"),
    ("category", ["verification"], "invalid_field"),
    ("text", "", "invalid_field"),
    ("text", None, "invalid_field"),
    ("text", "x" * 1531, "text_too_long"),
    ("text", "a\x00b", "invalid_field"),
    ("text", "a\tb", "invalid_field"),
    ("text", "a\x1bb", "invalid_field"),
    ("text", "a\x85b", "invalid_field"),
    ("sender", "a\r\nb", "invalid_field"),
    ("ref", "", "invalid_field"),
    ("ref", "r" * 129, "invalid_field"),
    ("ttl_s", 0, "invalid_field"),
    ("ttl_s", 7 * 86_400 + 1, "invalid_field"),
    ("ttl_s", True, "invalid_field"),
    ("ttl_s", 300.0, "invalid_field"),
    ("ttl_s", 1e30, "invalid_field"),
    ("ttl_s", "300", "invalid_field"),
    ("send_at", "2026-12-01T10:00:00", "invalid_field"),
    ("send_at", "2026-12-01", "invalid_field"),
    ("send_at", "2026-13-01T10:00:00Z", "invalid_field"),
    ("send_at", "2026-W10-1T10:00:00Z", "invalid_field"),
    ("send_at", "0001-01-01T00:00:00+08:00", "invalid_field"),
    ("send_at", "２026-12-01T10:00:00Z", "invalid_field"),
    ("send_at", 1_790_000_000, "invalid_field"),
    ("send_at", at(90 * 86_400 + 1), "invalid_field"),
    ("tags", "login", "invalid_field"),
    ("tags", ["a"] * 9, "invalid_field"),
    ("tags", ["x" * 65], "invalid_field"),
    ("tags", [1], "invalid_field"),
    ("tags", ["a\x1fb"], "invalid_field"),
    ("origin", [], "invalid_field"),
    ("gate", "a b", "invalid_field"),
    ("ext", "1a", "invalid_field"),
    ("ext", "１", "invalid_field"),
    ("meta", "é" * 129, "invalid_field"),
    ("test", 1, "invalid_field"),
    ("consent", "yes", "invalid_field"),
    ("zone", "EST", "invalid_field"),
    ("zone", "Asia/Peking", "invalid_field"),
    ("zone", "../../etc/passwd", "invalid_field"),
    ("zone", "", "invalid_field"),
    ("local_window", "10-12", "invalid_field"),
    ("local_window", "10:00-10:00", "invalid_field"),
    ("local_window", "25:00-26:00", "invalid_field"),
    ("local_window", "24:00-08:00", "invalid_field"),
    ("local_window", "１0:00-12:00", "invalid_field"),
]


@pytest.mark.parametrize(("name", "value", "code"), BAD, ids=lambda v: repr(v)[:24])
def test_a_bad_value_names_its_field(name: str, value: Any, code: str) -> None:
    assert refusal({**PLAIN, name: value}) == (code, name)


def test_inner_fields_are_named_too() -> None:
    assert refusal({**PLAIN, "origin": {"ordinal": -1}}) == ("invalid_field", "origin.ordinal")
    assert refusal({**PLAIN, "origin": {"colour": "red"}}) == ("unknown_field", "origin.colour")


def test_unknown_fields() -> None:
    assert refusal({**PLAIN, "txt": "x"}) == ("unknown_field", "txt")


def test_a_strange_name_is_not_repeated() -> None:
    with pytest.raises(RequestError) as refused:
        validate({**PLAIN, "<script>": 1})
    assert refused.value.field is None
    assert "script" not in str(refused.value)


def test_times_against_each_other() -> None:
    assert refusal({**PLAIN, "send_at": at(60), "not_after": at(60)}) == ("invalid_field", "not_after")
    assert validate({**PLAIN, "send_at": at(-60)}).send_at_ms == NOW_MS - 60_000
    assert validate({**PLAIN, "not_after": at(-60)}).not_after_ms == NOW_MS - 60_000  # the store decides


@pytest.mark.parametrize("text", ["\u202eabc", "👨\u200d👩\u200d👧", "\u0378", "a\nb\r\nc", "\uffff", " "])
def test_unusual_texts_pass_unchanged(text: str) -> None:
    assert validate({**PLAIN, "text": text}).text == text


@pytest.mark.parametrize("item", [None, 5, "x", [], [PLAIN]])
def test_a_message_must_be_an_object(item: Any) -> None:
    assert refusal(item) == ("invalid_field", None)


# --- batches


def test_defaults_stand_under_each_message() -> None:
    items, defaults = schema.open_batch(
        {"defaults": {"category": "marketing", "text": "hi"}, "messages": [{"to": "1"}, {"to": "2", "text": "x"}]}
    )
    first, second = schema.validate_items(items, NOW_MS, defaults)
    assert isinstance(first, ValidMessage)
    assert isinstance(second, ValidMessage)
    assert (first.text, second.text, second.category) == ("hi", "x", "marketing")


def test_each_item_stands_or_falls_alone() -> None:
    given = [PLAIN, 5, {**PLAIN, "ttl_s": -1}, PLAIN]
    checked = schema.validate_items(given, NOW_MS)
    assert [isinstance(one, ValidMessage) for one in checked] == [True, False, False, True]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ([], "invalid_field", None),
        ({}, "missing_field", "messages"),
        ({"messages": []}, "invalid_field", "messages"),
        ({"messages": [PLAIN] * 1001}, "invalid_field", "messages"),
        ({"messages": {}}, "invalid_field", "messages"),
        ({"messages": [PLAIN], "default": {}}, "unknown_field", "default"),
        ({"messages": [PLAIN], "defaults": []}, "invalid_field", "defaults"),
        ({"messages": [PLAIN], "defaults": {"ttl_s": 0}}, "invalid_field", "defaults.ttl_s"),
        ({"messages": [PLAIN], "defaults": {"zone": "x"}}, "invalid_field", "defaults.zone"),
    ],
)
def test_a_wrong_envelope_spoils_the_whole(body: Any, code: str, field: str | None) -> None:
    with pytest.raises(RequestError) as refused:
        schema.open_batch(body)
    assert (refused.value.code, refused.value.field) == (code, field)


# --- the document says what the checks do


def conforms(value: Any, rule: dict[str, Any]) -> bool:
    """Judge a value by the part of JSON Schema that the field table uses."""
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    kind = kinds[rule["type"]]
    if type(value) is not kind:
        return False
    if kind is str:
        bounds = rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", 10**9)
        pattern = rule.get("pattern", "^(?s:.*)$")
        return bounds and value in rule.get("enum", [value]) and bool(re.fullmatch(pattern[1:-1], value))
    if kind is int:
        return bool(rule["minimum"] <= value <= rule["maximum"])
    if kind is list:
        return len(value) <= rule["maxItems"] and all(conforms(one, rule["items"]) for one in value)
    if kind is dict:
        known = rule["properties"]
        has_all = all(name in value for name in rule.get("required", ()))
        return has_all and all(name in known and conforms(one, known[name]) for name, one in value.items())
    return True


def accepted(given: Any) -> bool:
    try:
        validate(given)
    except RequestError:
        return False
    return True


_scalars = (
    st.none() | st.booleans() | st.integers(-2, 10**6) | st.floats(allow_nan=False)
    | st.text(max_size=70)
    | st.sampled_from(["verification", "x" * 33, "9" * 129, "2026-12-01T10:00:00+08:00", "a\x00"])
)  # fmt: skip
_anything = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=9)
        | st.dictionaries(st.sampled_from(["campaign", "ordinal", "colour"]), inner, max_size=2)
    ),
    max_leaves=10,
)
# Some rules need more than a schema can say: bytes (meta), times against the clock, names of zones, windows that are
# not empty, and that a template stands in the place of the text.
_MORE = ("meta", "send_at", "not_after", "zone", "local_window", "template", "template_version", "params")
_NAMES = [f.name for f in schema.FIELDS if f.name not in _MORE] + ["txt"]


@given(st.sampled_from(_NAMES), _anything)
def test_checks_and_document_agree(name: str, value: Any) -> None:
    given_message = {**PLAIN, name: value}
    assert accepted(given_message) == conforms(given_message, schema.message_schema())


@given(st.dictionaries(st.sampled_from(_NAMES), _anything, max_size=3))
def test_checks_and_document_agree_on_whole_messages(given_message: dict[str, Any]) -> None:
    whole = "text" in given_message and conforms(given_message, schema.message_schema())
    assert accepted(given_message) == whole


@given(_anything)
def test_only_request_errors_come_out(value: Any) -> None:
    for name in [*_NAMES, "meta", "send_at", "not_after", "zone"]:
        accepted({**PLAIN, name: value})
    accepted(value)


# Which of two fields needs the other, and times against the clock, are more than `conforms` reads.
_FEEDBACK_NAMES = [f.name for f in schema.FEEDBACK_FIELDS if f.name != "at"] + ["txt"]
_told = _anything | st.from_regex("[0-9.]{1,20}", fullmatch=True) | st.text("!~ AZ09", max_size=66)


@given(st.sampled_from(_FEEDBACK_NAMES), _told)
def test_checks_and_document_agree_on_feedback(name: str, value: Any) -> None:
    told = {"outcome": "clicked", "event_id": "e", "amount": "1", "currency": "CNY", name: value}
    if conforms(told, schema.feedback_schema()):
        assert getattr(schema.validate_feedback(told, NOW_MS), name) == value
        return
    with pytest.raises(RequestError) as refused:
        schema.validate_feedback(told, NOW_MS)
    assert refused.value.field == name
