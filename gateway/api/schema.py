"""What a message and its feedback may look like: tables of fields that check requests and write the OpenAPI document.

Owns each field's type, bounds and conversion. Pure: `now_ms` is passed in. Refuses to know accounts, numbers,
routes and segments of text (intake's business) and how JSON arrives (`decode`). Stands between the decoder
and intake, on the hot path: a typical message costs 2 µs, which is why the table is compiled to plain
functions and no model library runs per message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from gateway.errors import RequestError
from gateway.model import CATEGORY_LABELS, ValidMessage
from gateway.policy.time_zones import zone_named
from gateway.policy.windows import parse_window
from gateway.store.moves import Feedback

MAX_BATCH: Final = 1000
MAX_TTL_S: Final = 7 * 86_400
MAX_AHEAD_MS: Final = 90 * 86_400_000
MAX_TEXT: Final = 1530
"""Ten parts of 153 GSM 03.38 septets (3GPP TS 23.040 §9.2.3.24.1); fewer fit when UCS-2 is needed."""
MAX_META_BYTES: Final = 256
CLOCK_SLACK_MS: Final = 5 * 60_000
"""How far an application's clock may be ahead of ours."""

Check = Callable[[Any], Any]
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its JSON Schema for readers, its `check` for the path, both made from the same bounds.

    `check` returns the converted value or raises RequestError naming the field.
    """

    name: str
    schema: Schema
    check: Check
    attribute: str = ""  # of ValidMessage or Feedback, where it differs from the name
    required: bool = False


# --- building fields


def _refusal(name: str, detail: str, code: str = "invalid_field") -> RequestError:
    return RequestError(code, detail, field=name)


# C0, DEL and C1. Neither a handset nor a log shows them, ESC and NUL break GSM septets and C-octet strings,
# and a tab is not in GSM 03.38: it would turn a message into UCS-2 and double its parts unnoticed.
_CONTROL = "\\u0000-\\u001f\\u007f-\\u009f"
_CONTROL_IN_TEXT = "\\u0000-\\u0009\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f"


def _string(
    name: str,
    about: str,
    *,
    most: int,
    least: int = 1,
    pattern: str = f"[^{_CONTROL}]*",
    wants: str = "no control characters",
    most_bytes: int = 0,
    long_code: str = "invalid_field",
    required: bool = False,
) -> Field:
    """Make a string field of `least` to `most` characters (code points) that match `pattern` as a whole."""
    matches = re.compile(pattern).fullmatch
    # Where only control characters are refused, printable ones always pass, and isprintable is the cheap answer.
    quick = pattern.startswith("[^\\u0000") and not most_bytes
    bounds = f"{least} to {most} characters" if least else f"at most {most} characters"

    def check(value: Any) -> str:
        if value.__class__ is not str:
            raise _refusal(name, f"{name} must be a string")
        if not least <= len(value) <= most:
            code = long_code if len(value) > most else "invalid_field"
            raise _refusal(name, f"{name} must have {bounds}", code)
        if quick and value.isprintable():
            return value
        if not matches(value):
            raise _refusal(name, f"{name} must have {wants}")
        if most_bytes and len(value.encode()) > most_bytes:
            raise _refusal(name, f"{name} must have at most {most_bytes} bytes in UTF-8")
        return value

    schema = {"type": "string", "maxLength": most, "pattern": f"^{pattern}$", "description": about}
    if least:
        schema["minLength"] = least
    return Field(name, schema, check, required=required)


def _integer(name: str, about: str, least: int, most: int) -> Field:
    def check(value: Any) -> int:
        # `true` is an int to Python and a float such as 300.0 is not one to us: neither is what was meant.
        if value.__class__ is not int or not least <= value <= most:
            raise _refusal(name, f"{name} must be an integer from {least} to {most}")
        return value

    schema = {"type": "integer", "minimum": least, "maximum": most, "description": about}
    return Field(name, schema, check)


def _choice(name: str, about: str, choices: tuple[str, ...], *, required: bool = False) -> Field:
    allowed = frozenset(choices)
    listed = ", ".join(choices)

    def check(value: Any) -> str:
        if value.__class__ is str and value in allowed:
            return value
        raise _refusal(name, f"{name} must be one of {listed}")

    return Field(name, {"type": "string", "enum": list(choices), "description": about}, check, required=required)


def _boolean(name: str, about: str) -> Field:
    def check(value: Any) -> bool:
        if value is True or value is False:
            return value
        raise _refusal(name, f"{name} must be true or false")

    return Field(name, {"type": "boolean", "description": about}, check)


# RFC 3339 §5.6 with the offset it requires; fromisoformat alone would take week dates and offsets of seconds.
_TIMESTAMP = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?([Zz]|[+\\-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


def _timestamp(name: str, about: str, attribute: str) -> Field:
    matches = re.compile(_TIMESTAMP).fullmatch
    wants = f"{name} must be an RFC 3339 time with its offset, as 2026-12-01T10:00:00+08:00"

    def check(value: Any) -> int:
        if value.__class__ is not str or len(value) > 40 or not matches(value):
            raise _refusal(name, wants)
        try:
            at_s = datetime.fromisoformat(value.upper()).timestamp()
        except (ValueError, OverflowError):
            raise _refusal(name, wants) from None
        if at_s < 0:
            raise _refusal(name, f"{name} must be after 1970")
        return round(at_s * 1000)

    schema = {
        "type": "string", "format": "date-time", "maxLength": 40, "pattern": f"^{_TIMESTAMP}$",
        "description": about,
    }  # fmt: skip
    return Field(name, schema, check, attribute)


def _strings(name: str, about: str, item: Field, most: int) -> Field:
    def check(value: Any) -> list[str]:
        if value.__class__ is not list or len(value) > most:
            raise _refusal(name, f"{name} must be a list of at most {most} strings")
        return [item.check(one) for one in value]

    schema = {"type": "array", "items": item.schema, "maxItems": most, "description": about}
    return Field(name, schema, check)


def _object(name: str, about: str, fields: tuple[Field, ...]) -> Field:
    checks = {one.name.rpartition(".")[2]: one.check for one in fields}

    def check(value: Any) -> dict[str, Any]:
        if value.__class__ is not dict:
            raise _refusal(name, f"{name} must be an object")
        checked = {}
        for key, inner in value.items():
            rule = checks.get(key)
            if rule is None:
                raise unknown_field(f"{name}.{key}")
            checked[key] = rule(inner)
        return checked

    schema = {
        "type": "object", "additionalProperties": False, "description": about,
        "properties": {one.name.rpartition(".")[2]: one.schema for one in fields},
    }  # fmt: skip
    return Field(name, schema, check)


MAX_PARAMS: Final = 32


def _params() -> Field:
    """Make the field of a template's params: plain values only; what each may be is the template's to say."""

    def check(value: Any) -> dict[str, Any]:
        if value.__class__ is not dict or len(value) > MAX_PARAMS:
            raise _refusal("params", f"params must be an object of at most {MAX_PARAMS} values")
        for name, one in value.items():
            if one.__class__ not in _PLAIN or (one.__class__ is str and len(one) > MAX_TEXT):
                at = f"params.{name}" if _NAMED.fullmatch(name) else "params"
                detail = f"a string of at most {MAX_TEXT} characters, a number or a boolean is wanted"
                raise RequestError("invalid_param", detail, field=at)
        return value

    schema = {
        "type": "object", "maxProperties": MAX_PARAMS,
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "description": "Values for the template, by the names it declares; each is checked by its declared type.",
    }  # fmt: skip
    return Field("params", schema, check)


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    try:
        zone_named(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def _is_window(written: str) -> bool:
    try:
        parse_window(written)
    except ValueError:
        return False
    return True


def _checked(name: str, about: str, holds: Callable[[str], bool], **bounds: Any) -> Field:
    """Make a string field for which `holds` must be true besides."""
    plain = _string(name, about, **bounds)

    def check(value: Any) -> str:
        checked: str = plain.check(value)
        if not holds(checked):
            raise _refusal(name, f"{name} must be {bounds['wants']}")
        return checked

    return Field(name, plain.schema, check)


_PLAIN: Final = frozenset({str, int, float, bool})
_NAMED = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def unknown_field(name: str) -> RequestError:
    """Make the refusal of a field we do not know; a name that is no plain word is not repeated."""
    if _NAMED.fullmatch(name):
        return RequestError("unknown_field", f"there is no field {name}", field=name)
    return RequestError("unknown_field", "a field has a name that is not known")


# --- the table

FIELDS: Final[tuple[Field, ...]] = (
    _string(
        "to",
        "Recipient: E.164 as +8613800138000, or national digits completed by the account's default country.",
        most=32, long_code="invalid_number", required=True,
    ),
    _choice("category", "What the message is for; verification goes first.", CATEGORY_LABELS, required=True),
    _string(
        "text",
        "The text. Line feed and carriage return are allowed, other control characters are refused; "
        "at most 10 parts after encoding.",
        most=MAX_TEXT, pattern=f"[^{_CONTROL_IN_TEXT}]*",
        wants="no control characters other than line feed and carriage return",
        long_code="text_too_long",
    ),
    _string(
        "template", "In the place of a text: a template's id.",
        most=32, pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*", wants="letters, digits and . _ - only",
    ),
    _integer("template_version", "Of the template; the latest when absent.", 1, 2**31 - 1),
    _params(),
    _string("sender", "Sender id, one of the account's; the first of them when absent.", most=20),
    _string("ref", "The application's own id: idempotency key within account and recipient.", most=128),
    _integer("ttl_s", "Seconds after the due time until the message expires.", 1, MAX_TTL_S),
    _timestamp("send_at", "Send then, at most 90 days ahead; a time in the past means now.", "send_at_ms"),
    _timestamp("not_after", "Expire at this time, whatever ttl_s says; later than send_at.", "not_after_ms"),
    _strings("tags", "Labels for statistics and search.", _string("tags", "A label.", most=64), 8),
    _object(
        "origin", "Where the message comes from in the application's own terms.",
        (
            _string("origin.campaign", "Campaign.", most=64),
            _string("origin.run", "One run of the campaign.", most=64),
            _string("origin.step", "Step of a journey.", most=64),
            _string("origin.variant", "Variant of a test.", most=64),
            _integer("origin.ordinal", "The message's number within the run.", 0, 2**53 - 1),
        ),
    ),
    _string("contact", "The application's own id for the person.", most=128),
    _string(
        "gate", "A name shared by many messages, which an operator can hold or close.",
        most=64, pattern="[A-Za-z0-9][A-Za-z0-9._:/\\-]*",
        wants="letters, digits and . _ : / - only, the first a letter or digit",
    ),
    _string(
        "ext", "Sub-number digits appended to a numeric sender, for replies.",
        most=12, pattern="[0-9]*", wants="digits only",
    ),
    _string(
        "meta", "Echoed in answers and events; at most 256 bytes in UTF-8.",
        least=0, most=256, most_bytes=MAX_META_BYTES,
    ),
    _boolean("test", "Sent like any other, but kept out of statistics and caps."),
    _checked(
        "zone", "The recipient's time zone, as Asia/Shanghai; without it every zone of the number's country counts.",
        _is_zone, most=40, pattern="[A-Za-z0-9+_\\-]+(/[A-Za-z0-9+_\\-]+)*",
        wants="the name of a time zone, as Asia/Shanghai",
    ),
    _checked(
        "local_window",
        "Hours of the recipient's day in which it may be sent; over midnight as 22:00-02:00. Not for verification.",
        _is_window, least=11, most=11, pattern="[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]",
        wants="two different times of day, as 10:00-12:00",
    ),
    _boolean("consent", "The recipient agreed to get such messages; some accounts must say so for marketing."),
)  # fmt: skip

REQUIRED: Final = tuple(f.name for f in FIELDS if f.required)


_RULES: Final = {f.name: (f.attribute or f.name, f.check) for f in FIELDS}

FEEDBACK_FIELDS: Final[tuple[Field, ...]] = (
    _choice(
        "outcome", "The link was followed; the code used or something bought; the recipient complained.",
        ("clicked", "converted", "complained"), required=True,
    ),
    _string(
        "event_id", "The application's own id of this event: told again with the same content it counts once.",
        most=64, pattern="[!-~]*", wants="visible ASCII characters only", required=True,
    ),
    _string(
        "amount", "What was bought for, with its currency: at most 18 digits, 4 of them decimals.",
        most=19, pattern="(?=(\\.?[0-9]){1,18}$)[0-9]+(\\.[0-9]{1,4})?",
        wants="at most 18 digits, at most 4 of them behind a decimal point",
    ),
    _string("currency", "ISO 4217, as CNY.", least=3, most=3, pattern="[A-Z]{3}", wants="three capital letters"),
    _choice("customer", "Whether who bought had bought before.", ("new", "returning")),
    _timestamp("at", "When it happened, at most 5 minutes ahead of the gateway's clock; now when absent.", "at_ms"),
)  # fmt: skip

_FEEDBACK_RULES: Final = {f.name: (f.attribute or f.name, f.check) for f in FEEDBACK_FIELDS}


# --- checking


def validate_message(given: Any, now_ms: int, defaults: Mapping[str, Any] | None = None) -> ValidMessage:
    """Check one message, `defaults` (already checked, keyed by attribute) standing under it.

    Raises:
        RequestError: invalid_field, missing_field, unknown_field, invalid_number or
            text_too_long, with the field's name.
    """
    if given.__class__ is not dict:
        raise RequestError("invalid_field", "a message must be an object")
    fields = check_fields(given, {} if defaults is None else dict(defaults))
    if "to" not in fields or "category" not in fields or "text" not in fields:
        missing = next((name for name in REQUIRED if name not in fields), "")
        if missing:
            raise RequestError("missing_field", f"{missing} is required", field=missing)
        if "template" not in fields:
            raise RequestError("missing_field", "text is required, or a template", field="text")
    elif "template" in fields:
        raise _refusal("template", "a message has a text or a template, not both")
    if "template" not in fields and ("params" in fields or "template_version" in fields):
        name = "params" if "params" in fields else "template_version"
        raise RequestError("missing_field", f"{name} is only taken with template", field="template")
    if "send_at_ms" in fields or "not_after_ms" in fields:
        _check_times(fields, now_ms)
    return ValidMessage(fields)


def check_fields(given: dict[str, Any], into: dict[str, Any]) -> dict[str, Any]:
    """Check each field by itself and put the converted values into `into`, which is returned."""
    rules = _RULES
    for name, value in given.items():
        try:
            attribute, check = rules[name]
        except KeyError:
            raise unknown_field(name) from None
        into[attribute] = check(value)
    return into


def _check_times(fields: dict[str, Any], now_ms: int) -> None:
    send_at_ms: int = fields.get("send_at_ms", 0)
    if send_at_ms > now_ms + MAX_AHEAD_MS:
        raise _refusal("send_at", "send_at must be at most 90 days ahead")
    if "not_after_ms" in fields and fields["not_after_ms"] <= send_at_ms:
        raise _refusal("not_after", "not_after must be later than send_at")


def validate_feedback(given: Any, now_ms: int) -> Feedback:
    """Check the body of a feedback.

    Raises:
        RequestError: invalid_field, missing_field or unknown_field, with the field's name.
    """
    if given.__class__ is not dict:
        raise RequestError("invalid_field", "the body must be an object")
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _FEEDBACK_RULES:
            raise unknown_field(name)
        attribute, check = _FEEDBACK_RULES[name]
        fields[attribute] = check(value)
    for one in FEEDBACK_FIELDS:
        if one.required and one.name not in fields:
            raise RequestError("missing_field", f"{one.name} is required", field=one.name)
    for name, other in (("amount", "currency"), ("currency", "amount")):
        if name in fields and other not in fields:
            raise RequestError("missing_field", f"{name} is only taken with {other}", field=other)
    if fields.get("at_ms", 0) > now_ms + CLOCK_SLACK_MS:
        raise _refusal("at", "at must not be more than 5 minutes ahead")
    return Feedback(**fields)


def open_batch(body: Any) -> tuple[list[Any], dict[str, Any] | None]:
    """Return the items of a batch body, unread, and its checked defaults.

    Raises:
        RequestError: the envelope or the defaults are wrong, so no item can be read as it was meant.
    """
    if body.__class__ is not dict:
        raise RequestError("invalid_field", "the body must be an object with messages")
    for name in body:
        if name not in ("defaults", "messages"):
            raise unknown_field(name)
    items = body.get("messages")
    if items is None:
        raise RequestError("missing_field", "messages is required", field="messages")
    if items.__class__ is not list or not 1 <= len(items) <= MAX_BATCH:
        raise _refusal("messages", f"messages must be a list of 1 to {MAX_BATCH} messages")
    if "defaults" not in body:
        return items, None
    given = body["defaults"]
    if given.__class__ is not dict:
        raise _refusal("defaults", "defaults must be an object")
    try:
        return items, check_fields(given, {})
    except RequestError as error:
        at = f"defaults.{error.field}" if error.field else "defaults"
        raise RequestError(error.code, f"in defaults: {error.detail}", field=at) from None


def validate_items(
    items: list[Any], now_ms: int, defaults: Mapping[str, Any] | None = None
) -> list[ValidMessage | RequestError]:
    """Check items of a batch; each becomes a message or the reason why it is none, in order."""
    checked: list[ValidMessage | RequestError] = []
    for item in items:
        try:
            checked.append(validate_message(item, now_ms, defaults))
        except RequestError as error:
            checked.append(error)
    return checked


# --- describing


def message_schema(*, required: bool = True) -> Schema:
    """Return the JSON Schema of a message; without `required` that of a batch's `defaults`."""
    schema = _described(FIELDS, required=required)
    schema["not"] = {"required": ["text", "template"]}
    if required:
        schema["anyOf"] = [{"required": ["text"]}, {"required": ["template"]}]
    return schema


def feedback_schema() -> Schema:
    """Return the JSON Schema of a feedback."""
    schema = _described(FEEDBACK_FIELDS)
    schema["dependentRequired"] = {"amount": ["currency"], "currency": ["amount"]}
    return schema


def _described(fields: tuple[Field, ...], *, required: bool = True) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {f.name: f.schema for f in fields},
    }
    if required:
        schema["required"] = [f.name for f in fields if f.required]
    return schema


def batch_schema() -> Schema:
    """Return the JSON Schema of a batch body.

    An item may leave to `defaults` what a message needs; a wrong one is refused by itself, in its own result.
    """
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["messages"],
        "properties": {
            "defaults": {"$ref": "#/components/schemas/MessageDefaults"},
            "messages": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_BATCH,
                "items": {"$ref": "#/components/schemas/MessageDefaults"},
                "description": "Messages; what a message needs stands in it or in defaults.",
            },
        },
    }
