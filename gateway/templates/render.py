"""The template language: Liquid, compiled once a version, with nothing in it that could run away.

The only file that imports python-liquid, and only when there is a template (it costs a worker 8 MB). A template can
print its params, decide, and count a little; it cannot read files or other templates, use a name that is not declared,
or make more than a text. Refuses to know accounts, versions and the store. Stands behind `params`.

Liquid and not another engine, because its own limits cover output, loops and variables; what they leave open (a filter
that multiplies, a range that is joined or turned round, a date format of a gigabyte) is closed here, by naming what may
be used and by short ranges.
"""

# ruff: noqa: PLC0415 - a worker without templates does not carry the engine

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from typing import Any, Final

from gateway.errors import RequestError
from gateway.templates.model import MAX_SOURCE, MAX_TEXT, Template

MAX_OUTPUT_BYTES: Final = 4 * MAX_TEXT
"""Of UTF-8; the text itself is counted in characters once it is made."""
MAX_LOOPS: Final = 200
"""Turns of all nested loops together."""
MAX_VALUE: Final = 10**30
TAGS: Final = frozenset(
    {
        "#", "assign", "break", "capture", "case", "comment", "content", "continue", "echo", "for", "if", "illegal",
        "output", "unless",
    }
)  # fmt: skip
"""`content`, `output` and `illegal` are the engine's own: plain text, {{ … }}, and the refusal of other tags."""
FILTERS: Final = frozenset(
    {
        "append", "capitalize", "default", "downcase", "lstrip", "prepend", "remove", "replace", "rstrip", "size",
        "slice", "squish", "strip", "truncate", "upcase", "url_encode",
    }
)  # fmt: skip
"""Of the engine's, beside those below that are ours. Those on arrays are left out: params are none."""

# What a text may not hold whoever wrote it (see api.schema): not a tab either, which would make it UCS-2 unnoticed.
_CONTROL: Final = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DATE_PART: Final = re.compile(r"%-?[A-Za-z]|%")


class TemplateFault(ValueError):
    """A template cannot be compiled; the message says why, for whoever wrote it."""


class Compiled:
    """One version, ready to render."""

    __slots__ = ("_parsed", "template")

    def __init__(self, template: Template, parsed: Any) -> None:
        self.template = template
        self._parsed = parsed

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text that checked values make (17 µs for a short one).

        Raises:
            RequestError: template_failed or text_too_long; says what went wrong and nothing of the values.
        """
        from liquid import exceptions as fault

        try:
            text: str = self._parsed.render(**values)
        except fault.OutputStreamLimitError:
            raise _too_long() from None
        except fault.LoopIterationLimitError:
            raise _failed(f"more than {MAX_LOOPS} turns of loops") from None
        except fault.LocalNamespaceLimitError:
            raise _failed("its variables are too large") from None
        except fault.UndefinedError:
            raise _failed("it uses a name that has no value with these params") from None
        except (fault.LiquidError, ArithmeticError, TypeError, ValueError, RecursionError):
            # A filter was given what it cannot take. Its message may quote the value.
            raise _failed("a filter or a comparison does not take one of these values") from None
        if len(text) > MAX_TEXT:
            raise _too_long()
        if not text.strip():
            raise _failed("it makes an empty text of these params")
        if not text.isprintable() and _CONTROL.search(text):
            raise _failed("it makes a text with control characters")
        return text


def compile_template(template: Template) -> Compiled:
    """Parse one version.

    Raises:
        TemplateFault: it is not Liquid, uses what is not allowed, or names what is not among its params.
    """
    from liquid.exceptions import LiquidError

    if len(template.text) > MAX_SOURCE:
        raise TemplateFault(f"more than {MAX_SOURCE} characters")
    if _CONTROL.search(template.text):
        raise TemplateFault("control characters other than line feed and carriage return")
    try:
        parsed = _environment().from_string(template.text)
        names = set(parsed.global_variables())
        used = set(parsed.analyze().filters)
    except (LiquidError, RecursionError) as exc:
        reason = str(exc).partition("\n")[0] or type(exc).__name__
        raise TemplateFault(f"not a template that can be used: {reason}") from None
    declared = {param.name for param in template.params}
    if unknown := sorted(names - declared):
        raise TemplateFault(f"{', '.join(unknown)}: not among the params")
    if unknown := sorted(used - FILTERS - _OWN_FILTERS.keys()):
        raise TemplateFault(f"filter {', '.join(unknown)}: not available here")
    if unused := sorted(declared - names):
        raise TemplateFault(f"param {', '.join(unused)}: declared and never printed or asked for")
    return Compiled(template, parsed)


def _failed(why: str) -> RequestError:
    return RequestError("template_failed", why, field="template")


def _too_long() -> RequestError:
    return RequestError("text_too_long", f"the template makes more than {MAX_TEXT} characters", field="params")


@cache
def _environment() -> Any:
    from liquid import Environment, StrictUndefined
    from liquid.builtin.expressions import primitive
    from liquid.exceptions import LoopIterationLimitError

    class ShortRange(primitive.RangeLiteral):
        """A range no longer than loops may turn: the engine counts turns, but copies ranges and seeks in them too."""

        def _make_range(self, start: Any, stop: Any) -> range:
            found = super()._make_range(start, stop)
            if found.stop - found.start > MAX_LOOPS:
                raise LoopIterationLimitError("too long", token=None)
            return found

    primitive.RangeLiteral = ShortRange  # type: ignore[misc]  # the parser knows no other way to be told

    class Narrow(Environment):
        output_stream_limit = MAX_OUTPUT_BYTES
        loop_iteration_limit = MAX_LOOPS
        local_namespace_limit = 16_384  # bytes
        context_depth_limit = 12
        block_nesting_limit = 8

        def setup_tags_and_filters(self, *, extra: bool = False) -> None:
            super().setup_tags_and_filters(extra=False)
            self.tags = {name: tag for name, tag in self.tags.items() if name in TAGS}
            self.filters = {name: _guarded(made) for name, made in self.filters.items() if name in FILTERS}
            self.filters |= {name: _guarded(made) for name, made in _OWN_FILTERS.items()}

    return Narrow(undefined=StrictUndefined)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that takes plain values only, and whose result stays within what a text could need."""
    from liquid.exceptions import FilterArgumentError, OutputStreamLimitError

    def guarded(*args: Any, **named: Any) -> Any:
        for one in args:
            # A range of 10^9 is a few octets until a filter walks through it.
            if isinstance(one, (range, list, tuple, dict)):
                raise FilterArgumentError("not for ranges", token=None)
        result: Any = function(*args, **named)
        if isinstance(result, str):
            if len(result) > MAX_SOURCE:
                raise OutputStreamLimitError("too long", token=None)
        elif isinstance(result, (int, float, Decimal)):
            size: Any = abs(result)
            if not math.isfinite(size) or size > MAX_VALUE:
                raise FilterArgumentError("too large", token=None)
            if isinstance(result, Decimal):
                result = Decimal(format(result, "f"))  # 1000/10 is 1E+2 to Decimal
        return result

    return guarded


def _date(value: Any, form: Any = "%Y-%m-%d") -> str:
    """Return a date by a form of %Y %y %m %d %-m %-d; the engine's own takes any width, and reads the clock."""
    from liquid.exceptions import FilterArgumentError

    if value is None:
        return ""
    if not isinstance(value, date) or not isinstance(form, str):
        raise FilterArgumentError("a date param is wanted", token=None)
    parts = {
        "%Y": f"{value.year:04d}", "%y": f"{value.year % 100:02d}", "%m": f"{value.month:02d}",
        "%d": f"{value.day:02d}", "%-m": str(value.month), "%-d": str(value.day),
    }  # fmt: skip

    def part(match: re.Match[str]) -> str:
        if match[0] not in parts:
            raise FilterArgumentError("not a part of a date that is known here", token=None)
        return parts[match[0]]

    return _DATE_PART.sub(part, form)


# Sums are exact and refuse what is no number; the engine's own take a Decimal and any word for 0.


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))  # a number written in the template
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return value
    raise TypeError("a number is wanted")


def _sum(function: Callable[..., Any]) -> Callable[..., Any]:
    def on_numbers(*args: Any) -> Any:
        return function(*map(_number, args))

    return on_numbers


def _divided_by(one: Any, other: Any) -> Any:
    whole = isinstance(one, int) and isinstance(other, int)
    return one // other if whole else Decimal(one) / Decimal(other)


def _round(one: Any, places: Any = 0) -> Any:
    if not isinstance(places, int) or not 0 <= places <= 6:
        raise ValueError("0 to 6 places")
    exact = Decimal(one).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    return exact if places else int(exact)


_OWN_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "date": _date,
    "plus": _sum(lambda one, other: one + other),
    "minus": _sum(lambda one, other: one - other),
    "times": _sum(lambda one, other: one * other),
    "divided_by": _sum(_divided_by),
    "modulo": _sum(lambda one, other: one % other),
    "abs": _sum(abs),
    "ceil": _sum(math.ceil),
    "floor": _sum(math.floor),
    "round": _sum(_round),
    "at_least": _sum(max),
    "at_most": _sum(min),
}
