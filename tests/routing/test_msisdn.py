"""gateway.routing.msisdn: spellings, China, and every country of libphonenumber against the library."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType

from gateway.errors import RequestError
from gateway.routing.msisdn import Number, calling_code, normalise

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS - {"CN"})
ORDINARY = (
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.VOIP,
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.PERSONAL_NUMBER,
)
COSTLY = (PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.VOICEMAIL)


def refusal(raw: str, country: str) -> RequestError | None:
    try:
        normalise(raw, country)
    except RequestError as error:
        return error
    return None


def refused(raw: str, country: str) -> bool:
    error = refusal(raw, country)
    if error is None:
        return False
    assert (error.code, error.field, error.status) == ("invalid_number", "to", 422)
    assert len(raw) < 4 or raw not in f"{error} {error.detail} {error.__cause__}"
    return True


@pytest.mark.parametrize(
    ("raw", "country", "expected"),
    [
        ("+8613800138000", "CN", ("8613800138000", "CN")),
        ("+8613800138000", "US", ("8613800138000", "CN")),
        ("13800138000", "CN", ("8613800138000", "CN")),
        ("8613800138000", "CN", ("8613800138000", "CN")),
        ("008613800138000", "CN", ("8613800138000", "CN")),
        ("+8614900138000", "CN", ("8614900138000", "CN")),  # libphonenumber thinks it invalid; it is not
        ("+861064612345678"[:14], "US", None),
        ("+447700900123", "CN", ("447700900123", "GB")),  # possible, in no assigned block
        ("+4407700900123", "CN", ("447700900123", "GB")),  # trunk 0 left in
        ("07700900123", "GB", ("447700900123", "GB")),
        ("7700900123", "GB", ("447700900123", "GB")),
        ("+12025550123", "CN", ("12025550123", "US")),
        ("2025550123", "US", ("12025550123", "US")),
        ("12025550123", "US", ("12025550123", "US")),
        ("13105551234", "US", ("13105551234", "US")),  # looks Chinese, is not meant so
        ("+14165550123", "CN", ("14165550123", "CA")),
        ("+390612345678", "CN", ("390612345678", "IT")),  # Italy keeps its 0
        ("+77012345678", "CN", ("77012345678", "KZ")),
        ("+881612345678", "CN", ("881612345678", "")),  # satellite, no country
        ("+85291234567", "CN", ("85291234567", "HK")),
    ],
)
def test_spellings(raw: str, country: str, expected: tuple[str, str] | None) -> None:
    if expected is None:
        assert refused(raw, country)
    else:
        assert normalise(raw, country) == Number(*expected)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "+",
        "+1",
        "abc",
        "+86 138 0013 8000",
        "138-0013-8000",
        " 13800138000",
        "13800138000\n",
        "tel:+8613800138000",
        "１３８００１３８０００",
        "+٨٦١٣٨٠٠١٣٨٠٠٠",
        "1380013800²",
        "++8613800138000",
        "1380013800",
        "138001380000",
        "+861380013800",
        "+86138001380000",
        "12800138000",
        "12345678901",
        "+8612800138000",
        "+861065529988",  # Beijing, fixed line
        "02165529988",
        "+1440123456789",
        "14401234567890",
        "+99912345678",
        "+0013800138000",
        "+1900555123",
        "+19005551234",  # premium rate
        "9" * 5000,
        "+" + "1" * 16,
        "\ud800",
        "13800138000\0",
    ],
)
def test_refused(raw: str) -> None:
    assert refused(raw, "CN")


@pytest.mark.parametrize("country", ["", "XX", "001", "cn?"])
def test_national_digits_need_a_country(country: str) -> None:
    assert refused("13800138000", country)
    assert normalise("+8613800138000", country).msisdn == "8613800138000"


def test_every_chinese_mobile_prefix() -> None:
    for prefix in range(100, 200):
        digits = f"{prefix}00138000"
        assert refused(digits, "CN") == (prefix < 130)
        assert refused("+86" + digits, "GB") == (prefix < 130)


@pytest.mark.parametrize("region", REGIONS)
def test_every_country_against_the_library(region: str) -> None:
    for kind in ORDINARY:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None:
            continue
        e164 = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
        country = phonenumbers.region_code_for_number(example)
        assert normalise(e164, "CN") == Number(e164[1:], country)
        national = phonenumbers.national_significant_number(example)
        assert normalise(national, region) == Number(e164[1:], country)
        spoken = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
        dialled = "".join(char for char in spoken if char.isdigit())
        if phonenumbers.parse(dialled, region) == example:  # some formats show what is not dialled
            assert normalise(dialled, region) == Number(e164[1:], country)
    for kind in COSTLY:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is not None and phonenumbers.number_type(example) == kind:
            assert refused(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164), "CN")


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE if code != 86]),
    st.text("0123456789", min_size=3, max_size=12),
)
def test_any_international_number_as_the_library_sees_it(code: str, national: str) -> None:
    raw = f"+{code}{national}"
    try:
        parsed = phonenumbers.parse(raw, None)
    except phonenumbers.NumberParseException:
        assert refused(raw, "CN")
        return
    fits = phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if not fits or len(e164) > 16 or phonenumbers.number_type(parsed) in COSTLY:
        assert refused(raw, "CN")
        return
    number = normalise(raw, "CN")
    assert "+" + number.msisdn == e164
    region = phonenumbers.region_code_for_number(parsed)
    if region is not None:
        assert number.country == ("" if region == "001" else region)


@settings(max_examples=300)
@given(st.text(max_size=24) | st.text("+0123456789", max_size=20), st.sampled_from(["CN", "US", "GB", "", "XX"]))
def test_any_text_is_a_number_or_a_request_error(raw: str, country: str) -> None:
    try:
        number = normalise(raw, country)
    except RequestError:
        return
    assert number.msisdn.isascii()
    assert number.msisdn.isdigit()
    assert 4 <= len(number.msisdn) <= 15
    assert normalise("+" + number.msisdn, country) == number  # a normal form stays as it is


def test_calling_codes() -> None:
    assert [calling_code(country) for country in ("CN", "US", "GB", "XX", "")] == ["86", "1", "44", "", ""]
