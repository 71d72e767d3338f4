"""Bytes to JSON values, strictly: one place where a body that is not plain JSON is refused.

Owns what RFC 8259 leaves open and what parsers get wrong: duplicate keys, NaN, byte order marks, other
encodings, lone surrogates, depth, size of objects. Refuses to know what the values mean (`schema`). Stands
first behind the HTTP shell; every fault is a RequestError with status 400 that repeats nothing of the body.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from gateway.errors import RequestError

MAX_DEPTH: Final = 16
MAX_KEYS: Final = 100


def decode_json(raw: bytes) -> Any:
    """Return the JSON value in `raw`.

    orjson already refuses invalid UTF-8, a byte order mark, UTF-16, lone surrogates, NaN, Infinity, numbers
    beyond a double and more than 1,024 levels; what it lets pass is checked here. An integer beyond 64 bits
    comes out as a float, which no field takes.

    Raises:
        RequestError: invalid_json, too_deep, too_many_keys or duplicate_key.
    """
    if not raw:
        raise RequestError("invalid_json", "the body is empty", status=400)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise RequestError("invalid_json", f"the body is not valid JSON in UTF-8 ({at})", status=400) from None
    except RecursionError:
        raise RequestError("too_deep", f"more than {MAX_DEPTH} levels", status=400) from None
    keys = _count_keys(value, 1)
    if raw.count(b":") != keys:
        _look_for_duplicates(raw, keys)
    return value


def _count_keys(value: Any, depth: int) -> int:
    """Return the number of keys of all objects in `value`; refuse what is too deep or too wide."""
    if depth > MAX_DEPTH:
        raise RequestError("too_deep", f"more than {MAX_DEPTH} levels", status=400)
    kind = value.__class__
    keys = 0
    if kind is dict:
        keys = len(value)
        if keys > MAX_KEYS:
            raise RequestError("too_many_keys", f"an object with more than {MAX_KEYS} keys", status=400)
        inner = value.values()
    elif kind is list:
        inner = value
    else:
        return 0
    for one in inner:
        if one.__class__ is dict or one.__class__ is list:
            keys += _count_keys(one, depth + 1)
    return keys


def _look_for_duplicates(raw: bytes, keys: int) -> None:
    """Refuse a body in which an object names a key twice; `keys` is what remained after decoding.

    Every key in the text owns one colon outside strings, so the colons are never fewer than the keys in the
    text, and these never fewer than the keys decoded: equal counts prove that nothing was overwritten. The
    caller compares all colons (70 ns a message). A text with a colon in it makes them differ; then only
    colons behind a closing quote are counted, which inside a string needs an escaped quote before it. What is
    still in doubt is parsed again, key by key (2 µs a message).
    """
    if raw.translate(None, b" \t\r\n").count(b'":') == keys:
        return
    try:
        # Numbers are of no interest here, and int() refuses more than 4,300 digits.
        json.loads(raw, object_pairs_hook=_unique, parse_int=len, parse_float=len)
    except _Duplicate:
        raise RequestError("duplicate_key", "an object names a key twice", status=400) from None


class _Duplicate(Exception):
    """An object names a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Duplicate
