"""Params of a template: what an application sent, checked by type and limits, and turned into values to render.

Pure. Owns what each type takes, and its refusals, which name the param and never its value. Refuses to know the
template language: a value is data, and whatever stands in it is printed as it is. Stands before `render`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from gateway.errors import RequestError
from gateway.templates.model import Param, Template

# C0 with line feed and carriage return, DEL, C1, and the two separators that break lines: a value must not add lines to
# a text whose form is registered. Bidirectional controls would show it in another order.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SIGNATURE = re.compile("[【】]")
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,14}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAMED: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# RFC 3986 without userinfo, port and IP literals: what stands behind the host begins with / ? or #, so that no reader
# of the link can find another host in it.
_URL: Final = re.compile(r"https?://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?:[/?#][!#-;=?-Z_a-z~&%\[\]]*)?")


class BadValue(ValueError):
    """A value is not what its param takes; the message says what is wanted and repeats nothing."""


def check_params(template: Template, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values to render: every declared param, None for an optional one that was not sent.

    Raises:
        RequestError: unknown_param, missing_param or invalid_param, with the field `params.<name>`.
    """
    values: dict[str, Any] = {}
    for param in template.params:
        if param.name in given:
            try:
                values[param.name] = convert(param, given[param.name])
            except BadValue as wrong:
                raise RequestError("invalid_param", f"{param.name}: {wrong}", field=f"params.{param.name}") from None
        elif param.default is not None:
            values[param.name] = convert(param, param.default)
        elif param.optional:
            values[param.name] = None
        else:
            detail = f"{param.name} is required by template {template.id}"
            raise RequestError("missing_param", detail, field=f"params.{param.name}")
    if len(given) > len(values) or given.keys() - values.keys():
        raise _unknown(min(given.keys() - values.keys()), template)
    return values


def _unknown(name: str, template: Template) -> RequestError:
    if _NAMED.fullmatch(name):
        return RequestError("unknown_param", f"template {template.id} has no param {name}", field=f"params.{name}")
    return RequestError("unknown_param", f"template {template.id} has no param of such a name", field="params")


def convert(param: Param, value: Any) -> Any:
    """Return one value as it is rendered: str, int, Decimal or date. Raises BadValue."""
    return _CHECKS[param.type](param, value)


def _string(param: Param, value: Any) -> str:
    text = _text(param, value)
    if param.enum:
        if text not in param.enum:
            raise BadValue(f"one of {', '.join(param.enum)} is wanted" if len(param.enum) <= 20 else "not in its list")
        return text
    if not param.signature and _SIGNATURE.search(text):
        raise BadValue("must not hold 【 or 】, which would sign the text in another's name")
    if param.pattern and not re.fullmatch(param.pattern, text):
        raise BadValue("does not have the form that the template wants")
    return text


def _text(param: Param, value: Any) -> str:
    if value.__class__ is not str:
        raise BadValue("a string is wanted")
    if not param.min_length <= len(value) <= param.max_length:
        raise BadValue(f"{param.min_length} to {param.max_length} characters are wanted")
    if not value.isprintable() and _CONTROL.search(value):
        raise BadValue("must not hold control characters")
    return str(value)


def _code(param: Param, value: Any) -> str:
    # A string: a number would lose the zeros it begins with.
    if value.__class__ is not str or not (value.isascii() and value.isdigit()):
        raise BadValue("a string of digits is wanted")
    if not param.min_length <= len(value) <= param.max_length:
        raise BadValue(f"{param.min_length} to {param.max_length} digits are wanted")
    return str(value)


def _int(param: Param, value: Any) -> int:
    # Also as a string, as a decimal: cells of a CSV file are nothing else. In one spelling: 007 is a code.
    if value.__class__ is str and _INTEGER.fullmatch(value):
        value = int(value)
    if value.__class__ is not int:
        raise BadValue("an integer is wanted")
    if (param.least and value < int(param.least)) or (param.most and value > int(param.most)):
        raise BadValue(_bounds(param))
    return int(value)


def _decimal(param: Param, value: Any) -> Decimal:
    # A JSON number is read as a double; its shortest spelling is what was written, up to 15 digits.
    written = value if value.__class__ is str else repr(value) if value.__class__ in (int, float) else ""
    if not _NUMBER.fullmatch(written) or len(written.partition(".")[2]) > param.places:
        raise BadValue(f"a number with at most {param.places} digits behind the point is wanted, as a string at best")
    number = Decimal(written)
    if (param.least and number < Decimal(param.least)) or (param.most and number > Decimal(param.most)):
        raise BadValue(_bounds(param))
    return number


def _bounds(param: Param) -> str:
    if param.least and param.most:
        return f"{param.least} to {param.most} is wanted"
    return f"at least {param.least} is wanted" if param.least else f"at most {param.most} is wanted"


def _date(param: Param, value: Any) -> date:
    if value.__class__ is date:
        return value  # a default, as TOML has dates
    try:
        if value.__class__ is str and _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise BadValue("a date is wanted, as 2026-12-01")


def _url(param: Param, value: Any) -> str:
    if value.__class__ is not str or len(value) > param.max_length:
        raise BadValue(f"a link of at most {param.max_length} characters is wanted")
    found = _URL.fullmatch(value)
    if found is None:
        raise BadValue("an http or https link without user and port is wanted, in ASCII")
    host = found[1].lower().rstrip(".")
    if not any(host == domain or host.endswith(f".{domain}") for domain in param.domains):
        raise BadValue("its domain is not one of those that the template allows")
    return str(value)


_CHECKS: Final[dict[str, Callable[[Param, Any], Any]]] = {
    "string": _string,
    "code": _code,
    "int": _int,
    "decimal": _decimal,
    "date": _date,
    "url": _url,
}
