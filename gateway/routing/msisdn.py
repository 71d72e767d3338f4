"""Recipient numbers: from what an application wrote to E.164 digits and the country they belong to.

Owns the spelling rules and, through libphonenumber's metadata, what is a number abroad. Refuses to know
carriers (see `number_segments`) and routes. Stands first in intake, once a message, so a Chinese number takes
one regular expression and most others two or three; only odd spellings go through the library's own parser
(30 to 150 µs). Pure. No error here repeats the number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneMetadata, PhoneNumberType
from phonenumbers.phonenumberutil import country_code_for_region

from gateway.errors import RequestError


class Number(NamedTuple):
    """An E.164 number: digits without '+', and its ISO 3166 country ('' where a code belongs to none)."""

    msisdn: str
    country: str


MAX_DIGITS = 15
"""ITU-T E.164 §6."""
MAX_RAW_CHARS = 20
"""MAX_DIGITS with room for '+' and a national or international prefix."""

_CHINA = "CN"
_CHINESE_MOBILE = re.compile(r"(?:\+?86)?1[3-9][0-9]{9}").fullmatch
_number: Callable[[tuple[str, str]], Number] = partial(tuple.__new__, Number)  # half the time of Number(…)
_NON_GEOGRAPHIC = "001"
_NEVER_TEXTED = frozenset((PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.VOICEMAIL))


def normalise(raw: str, default_country: str) -> Number:
    """Return the E.164 form of a recipient.

    Accepts '+' and a country code, or national digits (with or without the trunk prefix), or the digits of
    `default_country` with its code but no '+'; ASCII digits only, no spaces or hyphens. In China only mobile
    numbers (11 digits from 13 to 19) are numbers here; which of them are assigned, the number segments tell.
    Abroad a number must be possible (its length fits) but need not be in libphonenumber's list of assigned
    blocks, which lags behind the regulators; premium-rate, shared-cost and voicemail numbers are refused.

    Raises:
        RequestError: `invalid_number`, field `to`.
    """
    if _CHINESE_MOBILE(raw):
        if raw[0] == "+":
            return _number((raw[1:], _CHINA))
        if default_country == _CHINA:
            return _number((raw if raw[0] == "8" else "86" + raw, _CHINA))
    number = None
    if raw.isascii():
        if raw[:1] == "+":
            digits = raw[1:]
            number = _international(digits) if digits.isdigit() else None
        elif raw.isdigit():
            number = _national(raw, default_country)
    return number or _parsed(raw, default_country)


def calling_code(country: str) -> str:
    """Return the digits before a country's national numbers ('86' for CN), '' for an unknown country."""
    code = country_code_for_region(country)
    return str(code) if code else ""


class _Region:
    """What libphonenumber knows about one region, as compiled expressions (built on first use)."""

    __slots__ = ("country", "leading_digits", "refused", "texted", "trunk")

    def __init__(self, country: str, metadata: PhoneMetadata) -> None:
        self.country = "" if country == _NON_GEOGRAPHIC else country
        ordinary = (
            metadata.fixed_line,
            metadata.mobile,
            metadata.toll_free,
            metadata.voip,
            metadata.personal_number,
            metadata.pager,
            metadata.uan,
        )
        costly = (metadata.premium_rate, metadata.shared_cost, metadata.voicemail)
        self.texted = _any_of(desc.national_number_pattern for desc in ordinary if desc is not None)
        self.refused = _any_of(desc.national_number_pattern for desc in costly if desc is not None)
        prefix = metadata.national_prefix_for_parsing
        self.trunk = re.compile(prefix).match if prefix else None
        leading = metadata.leading_digits
        self.leading_digits = re.compile(leading).match if leading else None


_Match = Callable[[str], re.Match[str] | None]


def _any_of(patterns: Iterator[str | None]) -> _Match:
    known = [pattern for pattern in patterns if pattern]
    return re.compile("|".join(f"(?:{pattern})" for pattern in known) if known else r"(?!)").fullmatch


@lru_cache(maxsize=512)
def _regions(code: str) -> tuple[_Region, ...]:
    """Return the regions that share a calling code, the main one first; none where it is not assigned."""
    countries = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    regions = []
    for country in countries:
        if country == _NON_GEOGRAPHIC:
            metadata = PhoneMetadata.metadata_for_nongeo_region(int(code), None)
        else:
            metadata = PhoneMetadata.metadata_for_region(country, None)
        if metadata is not None:
            regions.append(_Region(country, metadata))
    return tuple(regions)


def _international(digits: str) -> Number | None:
    """Return the number when a region of its calling code has it as an ordinary one, None: not decided."""
    if len(digits) > MAX_DIGITS or digits[:1] == "0":
        return None
    for length in (1, 2, 3):  # calling codes are prefix-free, so at most one length has regions
        regions = _regions(digits[:length]) if len(digits) > length else ()
        if regions:
            national = digits[length:]
            for region in regions:
                if region.leading_digits is not None and not region.leading_digits(national):
                    continue
                if region.texted(national) and not region.refused(national):
                    return Number(digits, region.country) if region.country != _CHINA else None
            return None
    return None


def _national(digits: str, country: str) -> Number | None:
    """Return the number when `digits` are plainly national ones, else None: the library decides."""
    code = calling_code(country)
    if not code:
        return None
    for region in _regions(code):
        if region.country == country and (region.trunk is None or not region.trunk(digits)):
            return _international(code + digits)
    return None


@lru_cache(maxsize=16384)
def _parsed(raw: str, default_country: str) -> Number:
    """Decide by libphonenumber's parser what the short ways left open. Answers are kept, refusals not."""
    digits = raw[1:] if raw[:1] == "+" else raw
    if not (digits.isascii() and digits.isdigit()) or len(raw) > MAX_RAW_CHARS or raw[:2] == "+0":
        raise _invalid("digits only, with a leading '+' for an international number")
    try:
        parsed = phonenumbers.parse(raw, default_country or None)
    except NumberParseException:
        raise _invalid("not a phone number, or its country code is missing") from None
    national = phonenumbers.national_significant_number(parsed)
    if parsed.country_code == 86:
        if len(national) != 11 or not _CHINESE_MOBILE(national):
            raise _invalid("not a Chinese mobile number")
        return Number("86" + national, _CHINA)
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise _invalid("no number of its country has this length")
    if phonenumbers.number_type(parsed) in _NEVER_TEXTED:
        raise _invalid("a premium-rate, shared-cost or voicemail number")
    country = phonenumbers.region_code_for_number(parsed)
    if country is None:  # possible, not in the list: its calling code's main country
        country = COUNTRY_CODE_TO_REGION_CODE[parsed.country_code or 0][0]
    msisdn = f"{parsed.country_code}{national}"
    if len(msisdn) > MAX_DIGITS:
        raise _invalid(f"more than {MAX_DIGITS} digits")
    return Number(msisdn, "" if country == _NON_GEOGRAPHIC else country)


def _invalid(detail: str) -> RequestError:
    return RequestError("invalid_number", detail, field="to")
