"""The four TOML files as pydantic models: which keys exist, their types, ranges and spellings.

Pure: no file, no environment. Strict (a port written as text is refused) and closed (an unknown key is
refused). Secrets are still references here (`${env:NAME}`, `file:PATH`); `loading` resolves them and turns
the models into `values`. Reasons are written for the operator and never repeat a value that could be a
secret.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.model import CATEGORY_BY_LABEL, Category
from gateway.reasons import REASONS
from gateway.settings.values import EVENT_LETTERS, LOG_AREAS, LOG_LEVELS, USUAL_EVENTS
from gateway.settings.webhook_form import url_problem
from gateway.signature import ANY, clean

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_KEY_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_LIMIT = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,7})(s|m|h|d)")
_HOURS = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_SENDER = re.compile(r"[0-9]{1,20}|[A-Za-z0-9 &._-]{1,11}")
_TAG = re.compile(r"0x[0-9A-Fa-f]{4}")
_OWN_TAGS = {0x020C, 0x020E, 0x020F, 0x0424}  # sar_msg_ref_num, sar_total_segments, sar_segment_seqnum, message_payload
_TLVS_MOST, _TLV_OCTETS_MOST, _SOURCES_MOST = 32, 255, 1000
_SIGNATURE_MOST, _SIGNATURES_MOST = 32, 1000
_FAILURE_CODES_MOST = 1000
_KEYWORDS_MOST = 100
_CARRIER_CODE = re.compile(r"[!-~]([ -~]{0,30}[!-~])?")
_DIGITS = re.compile(r"[0-9]{0,20}")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_LIMITS_MOST, _TAGS_MOST, _TAG_OCTETS_MOST, _WORDINGS_MOST, _COUNTRIES_MOST = 4, 100, 128, 100, 250
_DAY_S = 86_400
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_WINDOW_S = 7 * 86_400
MAX_LIMIT = 1000
"""Longest window of a per-number limit: the store keeps the counters of a number for eight days at least."""


class Section(BaseModel):
    """Base of every table: no unknown keys, no silent conversion, no input in errors."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


def is_name(value: str) -> bool:
    """Tell whether `value` may name a channel, route or account (and so may stand in a message)."""
    return _ID.fullmatch(value) is not None


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError("1 to 32 characters of A-Z a-z 0-9 . _ -, the first a letter or digit")
    return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value):
            raise ValueError("neither a host name nor an IP address") from None
    return value


def _listen(value: Any) -> Any:
    """Split "host:port" (an IPv6 address in brackets) into a pair."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError('"host:port" is wanted, port 0 to 65535 (0: any free one), as in "127.0.0.1:8080"')
    return (_host(host), int(port))


def _outbind_listen(value: Any) -> Any:
    return None if value == "" else _listen(value)


def _country(value: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", value):
        raise ValueError('two capital letters of ISO 3166 are wanted, as in "CN"')
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{0,14}", value):
        raise ValueError('"+" and 1 to 15 digits are wanted, as in "+4420"')
    return value[1:]


def _probe(value: str) -> str:
    if not re.fullmatch(r"\+[1-9][0-9]{5,14}", value):
        raise ValueError('"+" and 6 to 15 digits are wanted: a number, or how several begin, as in "+8617000000"')
    return value[1:]


def _sender(value: str) -> str:
    if not _SENDER.fullmatch(value):
        raise ValueError(
            "up to 20 digits, or up to 11 letters, digits and spaces (SMPP 3.4 §5.2.8, GSM 03.40 §9.1.2.5)"
        )
    return value


def _key_hash(value: str) -> str:
    if not _KEY_HASH.fullmatch(value):
        raise ValueError('"sha256:" and 64 lower-case hex digits are wanted (`smsgw key new` prints such a line)')
    return value


def _limit(value: Any) -> Any:
    match = _LIMIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('"count/duration" is wanted, duration in s, m, h or d, as in "5/3600s" or "1/7d"')
    window_s = int(match[2]) * _UNIT_S[match[3]]
    if window_s > MAX_WINDOW_S:
        raise ValueError("the longest window is 7d")
    if int(match[1]) > MAX_LIMIT:
        raise ValueError(f"at most {MAX_LIMIT} within a duration: each is kept with the number")
    return (int(match[1]), window_s)


def _send_hours(value: Any) -> Any:
    if value == "":
        return (0, 24 * 60)  # at any hour; None would leave it to the table of quiet hours
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('"HH:MM-HH:MM" is wanted, as in "08:00-20:00" (empty: at any hour)')
    hours = [int(part) for part in match.groups()]
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if hours[1] > 59 or hours[3] > 59 or end > 24 * 60:
        raise ValueError("no such time of day; the last one is 24:00")
    if start >= end:
        raise ValueError("the window must end after it starts, on the same day")
    return (start, end)


def _limits(value: Any) -> tuple[tuple[int, int], ...]:
    """Return limits from a list of "count/duration"."""
    if not isinstance(value, list) or len(value) > _LIMITS_MOST:
        raise ValueError(f'a list of at most {_LIMITS_MOST} limits is wanted, as in ["1/60s", "5/1h"]')
    limits = tuple(_limit(one) for one in value)
    if len({window_s for _, window_s in limits}) < len(limits):
        raise ValueError("two limits over the same duration")
    return limits


def _per_tag(value: Any) -> Any:
    """Return (tag, limits) from { login = ["1/60s"] }."""
    if not isinstance(value, dict) or len(value) > _TAGS_MOST:
        raise ValueError(f'a table of at most {_TAGS_MOST} tags is wanted, as in {{ login = ["1/60s"] }}')
    for tag in value:
        if not 0 < len(tag) <= 64 or len(tag.encode()) > _TAG_OCTETS_MOST or not tag.isprintable():
            raise ValueError(f"a tag is 1 to 64 printable characters, at most {_TAG_OCTETS_MOST} bytes in UTF-8")
    return tuple((tag, _limits(limits)) for tag, limits in value.items())


def _per_category(value: Any) -> Any:
    """Return (category, limits) from { marketing = ["1/1d"] }."""
    given = _pairs(value, tuple(CATEGORY_BY_LABEL), '{ marketing = ["1/1d"] }')
    return tuple((CATEGORY_BY_LABEL[label], _limits(limits)) for label, limits in given.items())


def _optout_texts(value: Any) -> Any:
    """Return (country, wordings) from { CN = ["拒收请回复R"] }."""
    if not isinstance(value, dict) or len(value) > _COUNTRIES_MOST:
        raise ValueError('a table of countries is wanted, as in { CN = ["拒收请回复R"] }')
    found = []
    for country, wordings in value.items():
        if not isinstance(wordings, list) or not 0 < len(wordings) <= _WORDINGS_MOST:
            raise ValueError(f"{country[:8]!r}: a list of 1 to {_WORDINGS_MOST} wordings is wanted")
        for wording in wordings:
            if not isinstance(wording, str) or not 1 < len(wording) <= 64 or not wording.isprintable():
                raise ValueError(f"{country[:8]!r}: a wording is 2 to 64 printable characters")
        found.append((_country(country), tuple(wordings)))
    return tuple(found)


def _domain(value: str) -> str:
    """Return a domain as links are compared with it: in ASCII, lower case."""
    try:
        name = value.removesuffix(".").encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if not _DOMAIN.fullmatch(name) or len(name) > 253:
        raise ValueError(
            'a domain without scheme and path is wanted, as in "acme.example"; its subdomains are meant too'
        )
    return name


def _log_levels(value: Any) -> Any:
    """Return (area, level) from { smpp = "debug" }."""
    given = _pairs(value, LOG_AREAS, '{ smpp = "debug" }')
    if not all(isinstance(level, str) and level in LOG_LEVELS for level in given.values()):
        raise ValueError(f"a level is one of {', '.join(LOG_LEVELS)}")
    return tuple(given.items())


def _collector(value: str) -> str:
    """Return the URL of a collector, which holds no password: what it wants is said in a header."""
    try:
        url = urlsplit(value)
        sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        sound = False
    if not sound or url.username or url.password or url.query or url.fragment:
        raise ValueError('"http://host:port/path" or https is wanted, without a user, a query or a fragment')
    return value


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
        raise ValueError("a header's name is 1 to 64 letters, digits and hyphens")
    return value


def _header_reference(value: str) -> str:
    """A header may be a key under any name: never itself, so that no text of the file shows it."""
    if not value.startswith("file:") and "${env:" not in value:
        raise ValueError('"${env:NAME}" or "file:PATH" is wanted, not the value itself')
    return value


def _category(value: Any) -> Any:
    if isinstance(value, str) and value in CATEGORY_BY_LABEL:
        return CATEGORY_BY_LABEL[value]
    raise ValueError("verification, notification or marketing is wanted")


def _printable_ascii(limit: int, section: str) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > limit or not value.isascii() or not value.isprintable():
            raise ValueError(f"at most {limit} printable ASCII characters (SMPP 3.4 §{section})")
        return value

    return AfterValidator(check)


def _interface_version(value: int) -> int:
    if value not in (0x33, 0x34, 0x50):
        raise ValueError("0x33, 0x34 or 0x50 is wanted (SMPP 3.3, 3.4, 5.0)")
    return value


_OUTCOMES = ("slow", "same", "next", "permanent", "channel", "bug")


def _outcomes(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError('a table is wanted, as in { "0x45" = "permanent" }')
    found: dict[int, str] = {}
    for code, word in value.items():
        match = re.fullmatch(r"0[xX]([0-9A-Fa-f]{1,8})", code)
        if match is None or int(match[1], 16) == 0:
            raise ValueError(f"a command_status is written 0x1 to 0xFFFFFFFF, not {code[:20]!r}")
        if word not in _OUTCOMES:
            raise ValueError(f"{code}: one of {', '.join(_OUTCOMES)} is wanted")
        found[int(match[1], 16)] = word
    return tuple(sorted(found.items()))


def _failure_codes(value: Any) -> Any:
    """Return (code, reason, permanent or None) from { "MK:0010" = "powered-off" }, or a table for the reason."""
    if not isinstance(value, dict) or len(value) > _FAILURE_CODES_MOST:
        example = '{ "MK:0010" = "powered-off" }'
        raise ValueError(f"a table of at most {_FAILURE_CODES_MOST} codes is wanted, as in {example}")
    found: list[tuple[str, str, bool | None]] = []
    for code, entry in value.items():
        if not _CARRIER_CODE.fullmatch(code):
            raise ValueError("a code is 1 to 32 printable ASCII characters")
        given = entry if isinstance(entry, dict) else {"reason": entry}
        if not set(given) <= {"reason", "permanent"}:
            raise ValueError(f'{code}: a reason is wanted, or {{ reason = "powered-off", permanent = false }}')
        reason, permanent = given.get("reason"), given.get("permanent")
        if not isinstance(reason, str) or reason not in REASONS:
            raise ValueError(f"{code}: the reason must be one of {', '.join(REASONS)}")
        if permanent is not None and not isinstance(permanent, bool):
            raise ValueError(f"{code}: permanent must be true or false")
        is_status = re.fullmatch(r"0[xX][0-9A-Fa-f]{8}", code) is not None
        found.append((f"0x{code[2:].upper()}" if is_status else code, reason, permanent))
    if len({code for code, _, _ in found}) < len(found):
        raise ValueError("a code stands twice")
    return tuple(found)


def _registered_delivery(value: Any) -> Any:
    if isinstance(value, bool):
        return "final" if value else "none"
    if value not in ("final", "failure", "none"):
        raise ValueError('"final", "failure" or "none" is wanted (true means final, false none)')
    return value


def _octet(value: Any, most: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{what} must be a whole number from 0 to {most}")
    return value


def _pairs(value: Any, keys: tuple[str, ...], example: str) -> dict[str, Any]:
    """Return a table all of whose keys are among `keys`."""
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise ValueError(f"a table with keys of {', '.join(keys)} is wanted, as in {example}")
    return value


def _priority(value: Any) -> Any:
    """Return the priority_flag of the three categories from one number or a table."""
    if isinstance(value, dict):
        given = _pairs(value, tuple(CATEGORY_BY_LABEL), "{ verification = 3, marketing = 0 }")
        return tuple(_octet(given.get(category.label, 0), 3, category.label) for category in Category)
    return (_octet(value, 3, "priority_flag (SMPP 3.4 §5.2.14)"),) * 3


def _tlvs(value: Any) -> Any:
    """Return (tag, octets) from { "0x1400" = "text or 0xHEX" }. What is wrong is named by its tag, not by its value."""
    if not isinstance(value, dict) or len(value) > _TLVS_MOST:
        raise ValueError(f'a table of at most {_TLVS_MOST} tags is wanted, as in {{ "0x1400" = "text or 0xHEX" }}')
    tlvs: dict[int, bytes] = {}
    for name, text in value.items():
        if not _TAG.fullmatch(name):
            raise ValueError('a tag is written as "0x1400": 0x and four hex digits')
        tag = int(name, 16)
        if tag in _OWN_TAGS:
            raise ValueError(f"{name} is set by the gateway itself (see `long`)")
        if tag in tlvs:
            raise ValueError(f"{name} stands twice")
        tlvs[tag] = _tlv_octets(name, text)
    return tuple(tlvs.items())


def _tlv_octets(name: str, text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f'{name}: text in quotes is wanted; a number goes as hex octets, as in "0x0001"')
    if text.startswith("0x"):
        try:
            octets = bytes.fromhex(text[2:])
        except ValueError:
            raise ValueError(f"{name}: not an even number of hex digits after 0x") from None
    else:
        if not text.isascii() or not text.isprintable():
            raise ValueError(f"{name}: printable ASCII characters only; other octets as 0xHEX")
        octets = text.encode()
    if len(octets) > _TLV_OCTETS_MOST:
        raise ValueError(f"{name}: more than {_TLV_OCTETS_MOST} octets")
    return octets


def _data_coding(value: Any) -> Any:
    given = _pairs(value, ("gsm7", "ucs2", "latin1"), "{ gsm7 = 0, ucs2 = 8, latin1 = 3 }")
    return tuple((encoding, _octet(number, 255, encoding)) for encoding, number in given.items())


def _source(value: Any) -> Any:
    """Return (sender, what is sent in its place); a sender is any that an account may have, or "*" for all others."""
    if not isinstance(value, dict) or len(value) > _SOURCES_MOST:
        raise ValueError(f'a table of at most {_SOURCES_MOST} senders is wanted, as in {{ "Acme" = "1069", "*" = "" }}')
    for sender, instead in value.items():
        if sender != "*" and not _SENDER.fullmatch(sender):
            raise ValueError('a key is a sender id, or "*" for all others')
        if not isinstance(instead, str) or (instead and not _SENDER.fullmatch(instead)):
            raise ValueError("a value is up to 20 digits, up to 11 letters, digits and spaces, or empty")
    return tuple(value.items())


def _source_types(value: Any) -> Any:
    kinds = ("alphanumeric", "short", "access", "international")
    given = _pairs(value, kinds, "{ alphanumeric = [5, 0], short = [3, 0] }")
    result = []
    for kind, plan in given.items():
        if not isinstance(plan, list) or len(plan) != 2:
            raise ValueError(f"{kind}: [TON, NPI] is wanted, as in [5, 0]")
        result.append((kind, (_octet(plan[0], 6, f"{kind}: TON"), _octet(plan[1], 18, f"{kind}: NPI"))))
    return tuple(result)


def _digits(value: str) -> str:
    if not _DIGITS.fullmatch(value):
        raise ValueError("up to 20 digits are wanted (SMPP 3.4 §5.2.8)")
    return value


def _signature(written: Any) -> str:
    """Return a signature as it is compared. Raises ValueError where it is none."""
    name = clean(written) if isinstance(written, str) else ""
    if not name or name == ANY or len(name) > _SIGNATURE_MOST or not name.isprintable() or {"【", "】"} & set(name):
        raise ValueError(
            f"a signature is 1 to {_SIGNATURE_MOST} printable characters, with or without 【】 around them"
        )
    return name


def _signatures(value: Any) -> Any:
    """Return (signature, extension, mo_account) from a table; a plain text stands for the extension alone."""
    if not isinstance(value, dict) or not 0 < len(value) <= _SIGNATURES_MOST:
        raise ValueError(
            f'a table of 1 to {_SIGNATURES_MOST} signatures is wanted, as in {{ "Acme" = "01" }};'
            " left out, the channel carries every signature"
        )
    found: dict[str, tuple[str, str, str]] = {}
    for written, entry in value.items():
        name = written if written == ANY else _signature(written)
        if name in found:
            raise ValueError(f"【{name}】 stands twice")
        given = {"extension": entry} if isinstance(entry, str) else entry
        given = _pairs(given, ("extension", "mo_account"), '{ extension = "01", mo_account = "shop" }')
        extension, account = given.get("extension", ""), given.get("mo_account", "")
        if not isinstance(extension, str) or not _DIGITS.fullmatch(extension):
            raise ValueError(f"【{name}】: extension: up to 20 digits in quotes are wanted, or none")
        if not isinstance(account, str) or (account and not is_name(account)):
            raise ValueError(f"【{name}】: mo_account: the id of an account is wanted")
        found[name] = (name, extension, account)
    return tuple(found.values())


def _own_signatures(value: Any) -> Any:
    """Return an account's signatures as they are written, from one text or several."""
    written = value if isinstance(value, list) else [value]
    if len(written) > _SIGNATURES_MOST:
        raise ValueError(f"at most {_SIGNATURES_MOST} signatures")
    written = [one for one in written if one != ""]
    if len({_signature(one) for one in written}) < len(written):
        raise ValueError("a signature stands twice")
    return tuple(written)


def _redeliver(value: Any) -> Any:
    """Return (category, seconds) from one number for all categories or a table."""
    if not isinstance(value, dict):
        return tuple((category, _octet(value, _DAY_S, "redeliver_after_s")) for category in Category)
    given = _pairs(value, tuple(CATEGORY_BY_LABEL), "{ verification = 20 }")
    return tuple((CATEGORY_BY_LABEL[name], _octet(seconds, _DAY_S, name)) for name, seconds in given.items())


Name = Annotated[str, AfterValidator(_name)]
Host = Annotated[str, AfterValidator(_host)]
Listen = Annotated[tuple[str, int], BeforeValidator(_listen)]
Country = Annotated[str, AfterValidator(_country)]
CategoryLabel = Annotated[Category, BeforeValidator(_category)]
PerNumber = Annotated[tuple[int, int], BeforeValidator(_limit)]
Limits = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_limits)]
Domain = Annotated[str, AfterValidator(_domain)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderReference = Annotated[str, AfterValidator(_header_reference)]
Tlvs = Annotated[tuple[tuple[int, bytes], ...], BeforeValidator(_tlvs)]
SendHours = Annotated[tuple[int, int] | None, BeforeValidator(_send_hours)]
Sender = Annotated[str, AfterValidator(_sender)]
Probe = Annotated[str, AfterValidator(_probe)]
KeyHash = Annotated[str, AfterValidator(_key_hash)]
Workers = Annotated[int, Field(ge=1, le=64)]
GuardSeconds = Annotated[float, Field(ge=0.1, le=600)]
TimerSeconds = Annotated[float, Field(ge=0.05, le=3600)]  # tests run with short ones; production: whole seconds


class StoreSection(Section):
    url: str = ""
    data_dir: Annotated[str, Field(min_length=1)] = "var"
    shards: Annotated[int, Field(ge=1, le=256)] = 1  # a message id carries its shard in 8 bits
    durability: Literal["strict", "replicated", "relaxed"] = "strict"
    binary: str = ""
    max_queued: Annotated[int, Field(ge=1, le=100_000_000)] = 2_000_000
    check_every_s: Annotated[float, Field(ge=0.1, le=30)] = 30.0  # every 30 s at least: a promise of docs/delivery.md


class ApiSection(Section):
    listen: Listen = ("127.0.0.1", 8080)
    workers: Workers = 1
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    max_connections_per_ip: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    header_timeout_s: GuardSeconds = 10.0
    body_timeout_s: GuardSeconds = 15.0
    idle_timeout_s: GuardSeconds = 75.0
    handler_timeout_s: GuardSeconds = 10.0


class OperatorEntry(Section):
    name: Name
    token: Annotated[str, Field(min_length=1)]
    role: Literal["viewer", "operator", "admin"] = "operator"


class AdminSection(Section):
    listen: Listen = ("127.0.0.1", 8081)
    token: str = ""
    operator: Annotated[list[OperatorEntry], Field(max_length=100)] = []


def _origin(value: str) -> str:
    """Refuse what is no origin as browsers send it."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != value or value != value.lower():
        raise ValueError("an origin is wanted, in small letters and without a path: https://sms.example.com")
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError("an origin is wanted, in small letters and without a path: https://sms.example.com")
    return value


def _cidr(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("an address or network is wanted: 10.0.0.5 or 10.0.0.0/24") from None
    return value


class ConsoleSection(Section):
    enabled: bool = True
    idle_s: Annotated[int, Field(ge=60, le=86_400)] = 1800
    session_s: Annotated[int, Field(ge=60, le=7 * 86_400)] = 43_200
    origins: Annotated[list[Annotated[str, AfterValidator(_origin)]], Field(max_length=16)] = []
    trusted_proxies: Annotated[list[Annotated[str, AfterValidator(_cidr)]], Field(max_length=64)] = []

    @model_validator(mode="after")
    def _idle_ends_first(self) -> ConsoleSection:
        if self.idle_s > self.session_s:
            raise ValueError("idle_s must not be longer than session_s")
        return self


class LogSection(Section):
    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    levels: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_log_levels)] = ()
    file: str = ""
    messages: Literal["off", "failures", "all"] = "failures"
    messages_sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    messages_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 200


class TracingSection(Section):
    sample: Annotated[float, Field(ge=0, le=1)] = 0.0
    endpoint: Annotated[str, AfterValidator(_collector)] = "http://127.0.0.1:4318/v1/traces"
    headers: Annotated[dict[HeaderName, HeaderReference], Field(max_length=16)] = {}
    service_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "smsgw"
    traceparent: Literal["link", "join", "ignore"] = "link"


class DispatchSection(Section):
    workers: Workers = 1
    return_after_s: Annotated[float, Field(ge=0, le=3600)] = 30.0


class WebhooksSection(Section):
    workers: Workers = 1


class ConfigSection(Section):
    watch: bool = False


class PortedSection(Section):
    learned_ttl_s: Annotated[float, Field(ge=0, le=3660 * 86_400)] = 7_776_000.0
    learned_most: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000


class QualitySection(Section):
    window_s: Annotated[int, Field(ge=300, le=6_600)] = 1800
    min_sample: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    every_s: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    step: Annotated[float, Field(gt=0, le=1)] = 0.05
    threshold: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    least_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05


class ReceiptsSection(Section):
    signals_window_s: Annotated[int, Field(ge=300, le=9_000)] = 1800
    probe_numbers: Annotated[list[Probe], Field(max_length=1000)] = []


class CategorySection(Section):
    """Every key may be left out; a missing one has its category's default (`values.default_categories`)."""

    ttl_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 0
    on_uncertain: Literal["resend", "hold", "fail"] = "resend"
    overflow_after_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=50)] = 1
    window_reserve: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    per_number: Annotated[list[PerNumber], Field(max_length=4)] = []
    redeliver_after_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    send_hours: SendHours = None
    spread_s: Annotated[int, Field(ge=0, le=43_200)] = 1800
    per_number_all: Limits = ()
    per_signature: Limits = ()
    per_tag: Annotated[tuple[tuple[str, tuple[tuple[int, int], ...]], ...], BeforeValidator(_per_tag)] = ()
    require_signature: Annotated[list[Country], Field(max_length=_COUNTRIES_MOST)] = []
    require_optout_text: Annotated[tuple[tuple[str, tuple[str, ...]], ...], BeforeValidator(_optout_texts)] = ()
    dlr_wait_s: Annotated[int, Field(ge=1, le=30 * 86_400)] = 0
    retention_s: Annotated[int, Field(ge=60, le=366 * 86_400)] = 0
    text_after_final: Literal["keep", "erase"] = "keep"
    min_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class CategoriesSection(Section):
    verification: CategorySection = CategorySection()
    notification: CategorySection = CategorySection()
    marketing: CategorySection = CategorySection()

    @model_validator(mode="after")
    def _one_reserve(self) -> CategoriesSection:
        if self.notification.window_reserve or self.marketing.window_reserve:
            raise ValueError("window_reserve is verification's alone")
        if self.verification.send_hours not in (None, (0, 24 * 60)):
            raise ValueError("verification.send_hours: a code is sent at any hour, because who asks for it waits")
        return self


class InboundSection(Section):
    keep_months: Annotated[int, Field(ge=1, le=120)] = 5
    keep_optout_months: Annotated[int, Field(ge=5, le=120)] = 5
    parts_wait_s: Annotated[int, Field(ge=1, le=7 * 86_400)] = 86_400
    optout_alarm_per_hour: Annotated[int, Field(ge=0, le=10_000_000)] = 1000


def _keywords(value: Any) -> Any:
    """Return words from one text or several."""
    words = value if isinstance(value, list) else [value]
    if not 1 <= len(words) <= _KEYWORDS_MOST:
        raise ValueError(f"1 to {_KEYWORDS_MOST} words are wanted")
    for word in words:
        if not isinstance(word, str) or not 0 < len(word) <= 32 or not any(char.isalnum() for char in word):
            raise ValueError("a word is 1 to 32 characters, a letter or digit among them")
    return tuple(words)


class KeywordEntry(Section):
    keyword: Annotated[tuple[str, ...], BeforeValidator(_keywords)]
    match: Literal["exact", "starts-with"] = "exact"
    to: Annotated[str, AfterValidator(_digits)] = ""
    account: Annotated[str, AfterValidator(lambda value: _name(value) if value else "")] = ""
    tag: Annotated[str, Field(max_length=64)] = ""
    action: Literal["none", "stop", "start", "review"] = "none"

    @model_validator(mode="after")
    def _for_something(self) -> KeywordEntry:
        if not self.account and not self.tag and self.action == "none":
            raise ValueError("account, tag or action: at least one is wanted, or the keyword does nothing")
        return self


class GatewayFile(Section):
    store: StoreSection = StoreSection()
    api: ApiSection = ApiSection()
    admin: AdminSection = AdminSection()
    console: ConsoleSection = ConsoleSection()
    log: LogSection = LogSection()
    tracing: TracingSection = TracingSection()
    dispatch: DispatchSection = DispatchSection()
    webhooks: WebhooksSection = WebhooksSection()
    config: ConfigSection = ConfigSection()
    ported: PortedSection = PortedSection()
    quality: QualitySection = QualitySection()
    receipts: ReceiptsSection = ReceiptsSection()
    inbound: InboundSection = InboundSection()
    keyword: Annotated[list[KeywordEntry], Field(max_length=1000)] = []
    categories: CategoriesSection = CategoriesSection()


class ChannelEntry(Section):
    id: Name
    host: Host
    port: Annotated[int, Field(ge=1, le=65_535)]
    system_id: Annotated[str, _printable_ascii(15, "5.2.1")]
    password: str
    system_type: Annotated[str, _printable_ascii(12, "5.2.3")] = ""
    bind: Literal["transceiver", "transmitter_receiver"] = "transceiver"
    binds: Annotated[int, Field(ge=1, le=64)] = 1
    window: Annotated[int, Field(ge=1, le=10_000)] = 50
    max_tps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    price: Annotated[float, Field(ge=0, le=1000)] = 0.0
    response_timer_s: TimerSeconds = 30.0
    enquire_link_s: TimerSeconds = 30.0
    session_init_timer_s: TimerSeconds = 10.0
    outbind_listen: Annotated[tuple[str, int] | None, BeforeValidator(_outbind_listen)] = None
    outbind_system_id: Annotated[str, _printable_ascii(15, "5.2.1")] = ""
    outbind_password: str = ""
    alphabet: Literal["gsm", "latin1", "ascii"] = "gsm"
    source_ton: Annotated[int, Field(ge=0, le=6)] | None = None
    source_npi: Annotated[int, Field(ge=0, le=18)] | None = None
    id_format: Literal["auto", "text", "resp_hex_dlr_dec", "resp_dec_hex"] = "auto"
    reference_bits: Literal[8, 16] = 8
    registered_delivery: Annotated[str, BeforeValidator(_registered_delivery)] = "final"
    outcomes: Annotated[tuple[tuple[int, str], ...], BeforeValidator(_outcomes)] = ()
    tls: bool = False
    tls_ca: str = ""
    tls_name: Annotated[str, AfterValidator(lambda value: _host(value) if value else "")] = ""
    tls_cert: str = ""
    tls_key: str = ""
    interface_version: Annotated[int, AfterValidator(_interface_version)] = 0x34
    long_password: bool = False
    service_type: Annotated[str, _printable_ascii(5, "5.2.11")] = ""
    protocol_id: Annotated[int, Field(ge=0, le=255)] = 0
    priority: Annotated[tuple[int, int, int], BeforeValidator(_priority)] = (0, 0, 0)
    validity: Literal["relative", "none"] = "relative"
    tlvs: Annotated[tuple[tuple[int, bytes], ...], BeforeValidator(_tlvs)] = ()
    long: Literal["udh", "sar", "payload"] = "udh"
    packed: bool = False
    data_coding: Annotated[tuple[tuple[str, int], ...], BeforeValidator(_data_coding)] = ()
    source: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_source)] = ()
    source_types: Annotated[tuple[tuple[str, tuple[int, int]], ...], BeforeValidator(_source_types)] = ()
    access_number: Annotated[str, AfterValidator(_digits)] = ""
    signatures: Annotated[tuple[tuple[str, str, str], ...], BeforeValidator(_signatures)] = ()
    carrier: Annotated[str, AfterValidator(lambda value: _name(value) if value else "")] = ""
    error_table: Literal["", "map", "smrse", "twilio", "8x8", "dynax", "sgip", "smgp", "none"] = ""
    failure_codes: Annotated[tuple[tuple[str, str, bool | None], ...], BeforeValidator(_failure_codes)] = ()
    categories: Annotated[list[CategoryLabel], Field(min_length=1)] = list(Category)


class ChannelsFile(Section):
    channel: list[ChannelEntry] = []


class MatchTable(Section):
    country: Country | None = None
    carrier: Name | None = None
    category: CategoryLabel | None = None
    account: Name | None = None
    sender: Sender | None = None
    prefix: Annotated[str, AfterValidator(_prefix)] | None = None


class RankedEntry(Section):
    id: Name
    rank: Annotated[int, Field(ge=0, le=15)]
    weight: Annotated[int, Field(ge=1, le=100)] = 1


class RouteEntry(Section):
    id: Name
    match: MatchTable
    order: Literal["weight", "cost", "quality"] = "weight"
    redeliver_after_s: Annotated[tuple[tuple[Category, int], ...], BeforeValidator(_redeliver)] = ()
    channels: Annotated[list[RankedEntry], Field(min_length=1, max_length=32)]


class RoutesFile(Section):
    route: list[RouteEntry] = []


def _webhook_secrets(value: Any) -> Any:
    written = value if isinstance(value, list) else [value]
    if not 1 <= len(written) <= 2 or not all(isinstance(one, str) for one in written):
        raise ValueError("one secret is wanted, or an array of two while one replaces the other")
    return tuple(written)


def _webhook_events(value: Any) -> Any:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v in EVENT_LETTERS for v in value):
        raise ValueError(f"an array of some of {', '.join(EVENT_LETTERS)} is wanted")
    return frozenset(value)


class WebhookTable(Section):
    url: str
    secret: Annotated[tuple[str, ...], BeforeValidator(_webhook_secrets)]
    events: Annotated[frozenset[str], BeforeValidator(_webhook_events)] = USUAL_EVENTS
    batch: Annotated[int, Field(ge=1, le=100)] = 1
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 15.0
    include_text: bool = False
    full_number: bool = False
    allow_insecure: bool = False
    allow_private: bool = False
    allow_ports: Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], Field(max_length=16)] = []
    tls_ca: str = ""

    @model_validator(mode="after")
    def _safe_url(self) -> WebhookTable:
        found = url_problem(
            self.url,
            allow_insecure=self.allow_insecure,
            allow_private=self.allow_private,
            allow_ports=frozenset(self.allow_ports),
        )
        if found:
            raise ValueError(f"url: {found}")
        return self


class AccountEntry(Section):
    id: Name
    key_hashes: Annotated[list[KeyHash], Field(max_length=16)] = []
    categories: Annotated[list[CategoryLabel], Field(min_length=1)] = list(Category)
    senders: Annotated[list[Sender], Field(max_length=1000)] = []
    signature: Annotated[tuple[str, ...], BeforeValidator(_own_signatures)] = ()
    default_country: Country = "CN"
    max_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    daily_quota: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    per_number: Annotated[tuple[tuple[Category, tuple[tuple[int, int], ...]], ...], BeforeValidator(_per_category)] = ()
    when_capped: Literal["refuse", "defer"] = "refuse"
    consent_required: bool = False
    link_domains: Annotated[list[Domain], Field(max_length=1000)] | None = None
    webhook: WebhookTable | None = None
    optout_scope: Literal["account", "sender", "signature", "global"] = "account"
    optout_categories: Annotated[list[CategoryLabel], Field(min_length=1)] = [Category.MARKETING]

    @model_validator(mode="after")
    def _codes_always_come(self) -> AccountEntry:
        if Category.VERIFICATION in self.optout_categories:
            raise ValueError("optout_categories: verification is what its recipient asked for; no reply ends it")
        return self


class AccountsFile(Section):
    account: list[AccountEntry] = []
