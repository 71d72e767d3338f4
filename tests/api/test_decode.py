"""The strict decoder: what is no plain JSON is refused with 400, and nothing that is plain is."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.decode import MAX_DEPTH, MAX_KEYS, decode_json
from gateway.errors import RequestError

NOT_JSON = {
    "empty": b"",
    "blank": b"  \n",
    "broken": b'{"to": ',
    "trailing": b'{"a": 1} x',
    "two documents": b"{}{}",
    "trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "bare key": b"{a: 1}",
    "comment": b"/* x */ {}",
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "above a double": b'{"a": 1e999}',
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "leading zero": b'{"a": 01}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "utf-32": '{"a": 1}'.encode("utf-32"),
    "latin-1": '{"a": "é"}'.encode("latin-1"),
    "overlong": b'{"a": "\xc0\xaf"}',
    "surrogate in utf-8": b'{"a": "\xed\xa0\x80"}',
    "lone high surrogate": rb'{"a": "\ud800"}',
    "lone low surrogate": rb'{"a": "\udc00"}',
    "surrogates swapped": rb'{"a": "\udc00\ud800"}',
    "raw control character": b'{"a": "\x00"}',
    "depth of 20,000": b"[" * 20_000,
    "closed depth of 20,000": b"[" * 20_000 + b"]" * 20_000,
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        decode_json(raw)
    assert (refused.value.code, refused.value.status) == ("invalid_json", 400)


def test_depth_is_limited() -> None:
    most = b'{"a":' * (MAX_DEPTH - 1) + b"[]" + b"}" * (MAX_DEPTH - 1)
    assert decode_json(most)
    with pytest.raises(RequestError, match="too_deep"):
        decode_json(b"[" + most + b"]")


def test_width_of_an_object_is_limited() -> None:
    assert len(decode_json(json.dumps({f"k{i}": 0 for i in range(MAX_KEYS)}).encode())) == MAX_KEYS
    with pytest.raises(RequestError, match="too_many_keys"):
        decode_json(json.dumps({f"k{i}": 0 for i in range(MAX_KEYS + 1)}).encode())


DUPLICATES = [
    b'{"a": 1, "a": 1}',
    b'{"a":1,"b":{"c":1,"c":2}}',
    b'[{"a":1},{"a":1,"a":2}]',
    b'{"a" : 1, "a"\t:2}',
    b'{"a"\n:1,"a"\r:2}',
    rb'{"a":"10:00","b":2,"b":3}',
    rb'{"a":1,"\u0061":2}',
    rb'{"a":"\":","a":"x"}',
    rb'{"a":"\u003a\u003a","a":1,"b":"\u003a"}',
    b'{"a":{"x":1,"y":2},"a":0}',
    b'{"":1,"":2}',
]


@pytest.mark.parametrize("raw", DUPLICATES)
def test_a_key_given_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError, match="duplicate_key"):
        decode_json(raw)


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"text":"at 10:00 : \"quoted\": yes","send_at":"2026-12-01T10:00:00+08:00"}',
        rb'{"text":"\":\":\":","a":"b\\","c":"\\\":"}',
        b'{"a" : {"a" : {"a" : ":"}}}',
        b'[{"a":1},{"a":2}]',
    ],
)
def test_colons_in_texts_are_no_keys(raw: bytes) -> None:
    assert decode_json(raw) == json.loads(raw)


_texts = st.text(alphabet=st.sampled_from('ab":\\ \t\né短😀'), max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=12,
)


@given(_values, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t : ")]))
def test_plain_json_is_read_as_written(value: Any, ascii_only: bool, separators: tuple[str, str]) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    assert decode_json(raw) == value


@given(
    st.lists(st.tuples(_texts, _values), min_size=1, max_size=4),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
)
def test_duplicates_are_found_wherever_they_are(pairs: list[tuple[str, Any]], separators: tuple[str, str]) -> None:
    comma, colon = separators
    body = comma.join(f"{json.dumps(k)}{colon}{json.dumps(v, separators=separators)}" for k, v in pairs)
    raw = f'{{"outer"{colon}{{{body}}}}}'.encode()
    if len({k for k, _ in pairs}) == len(pairs):
        assert decode_json(raw) == {"outer": dict(pairs)}
    else:
        with pytest.raises(RequestError, match="duplicate_key"):
            decode_json(raw)


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda s: s.encode("utf-8", "surrogatepass")))
def test_nothing_but_a_request_error_comes_out(raw: bytes) -> None:
    with suppress(RequestError):
        decode_json(raw)
