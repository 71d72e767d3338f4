"""gateway.dlr.receipt: every published sample, words and TLVs, hostile octets, ids in all their spellings."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dlr.receipt import IdLearner, Receipt, parse, read_date, receipt_keys, submit_key, sure_keys
from gateway.model import State

DATA = Path(__file__).parent.parent / "data"
DATES = "submit date:2401010000 done date:2401010001"
STANDARD = f"id:{{id}} sub:001 dlvrd:001 {DATES} stat:{{stat}} err:{{err}} text:Your code"


def samples() -> list[dict]:
    return json.loads((DATA / "dlr_samples.json").read_text())["samples"]


def receipt(text: str, tlvs: dict[int, bytes] | None = None, esm_class: int = 0x04, data_coding: int = 0) -> Receipt:
    parsed = parse(text.encode("latin-1"), tlvs, esm_class, data_coding)
    assert parsed is not None
    return parsed


def standard(stat: str = "DELIVRD", err: str = "000", message_id: str = "77") -> str:
    return STANDARD.format(id=message_id, stat=stat, err=err)


def iso(moment: datetime | None, like: str) -> str:
    if moment is None:
        return ""
    return moment.isoformat(timespec="seconds" if like.count(":") == 2 else "minutes")


@pytest.mark.parametrize("sample", samples(), ids=lambda s: f"{s['n']}: {s['why'][:40]}")
def test_samples(sample: dict) -> None:
    octets = sample["text"].encode("latin-1")
    tlvs = {int(tag, 16): bytes.fromhex(value) for tag, value in sample["tlvs"].items()}
    if sample["in_payload"]:
        tlvs[0x0424], octets = octets, b""
    parsed = parse(octets, tlvs, 0x04)
    assert parsed is not None
    expect = sample["expect"]
    for name in ("id", "sub", "dlvrd", "stat", "err", "state"):
        assert getattr(parsed, name) == expect[name], name
    assert iso(parsed.submitted_at, expect["submit_date"]) == expect["submit_date"]
    assert iso(parsed.done_at, expect["done_date"]) == expect["done_date"]
    assert parsed.final is (expect["state"] != "")


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        ("DELIVRD", State.DELIVERED),
        ("Deliver", State.DELIVERED),
        ("delivrd", State.DELIVERED),
        ("EXPIRED", State.EXPIRED),
        ("UNDELIV", State.UNDELIVERABLE),
        ("UNDELIVRD", State.UNDELIVERABLE),
        ("DELETED", State.UNDELIVERABLE),
        ("FAILED", State.UNDELIVERABLE),
        ("REJECTD", State.REJECTED),
        ("SKIPPED", State.REJECTED),
        ("UNKNOWN", State.UNKNOWN),
        ("ENROUTE", ""),
        ("ACCEPTD", ""),
        ("SCHEDULED", ""),
        ("BUFFRED", ""),
        ("MI:0024", State.EXPIRED),
        ("MJ:0000", State.UNDELIVERABLE),
        ("MK:0001", State.UNDELIVERABLE),
        ("MK0001", State.UNDELIVERABLE),
        ("mk:0012", State.UNDELIVERABLE),
        ("ML:0000", ""),
        ("MM:0000", State.UNKNOWN),
        ("MN:0001", State.REJECTED),
        ("DB:0144", State.UNDELIVERABLE),
        ("UNDELIVS601S", State.UNDELIVERABLE),
        ("EXPIRED_601", State.EXPIRED),
        ("WHATEVER", State.UNKNOWN),
        ("601", State.UNKNOWN),
    ],
)
def test_words(stat: str, state: str) -> None:
    parsed = receipt(standard(stat))
    assert (parsed.stat, parsed.state, parsed.final) == (stat, state, state != "")
    shuffled = receipt(f"stat:{stat} err:000  id:77")
    assert (shuffled.stat, shuffled.state) == (stat, state)


@pytest.mark.parametrize(
    ("octet", "state"),
    [
        (b"\0", ""),
        (b"\1", ""),
        (b"\2", State.DELIVERED),
        (b"\3", State.EXPIRED),
        (b"\4", State.UNDELIVERABLE),
        (b"\5", State.UNDELIVERABLE),
        (b"\6", ""),
        (b"\7", State.UNKNOWN),
        (b"\10", State.REJECTED),
        (b"\11", State.REJECTED),
    ],
)
def test_message_state_is_surer_than_the_word(octet: bytes, state: str) -> None:
    for text in (standard("UNDELIV"), standard("DELIVRD"), "id:77", ""):
        parsed = receipt(text, {0x0427: octet})
        assert (parsed.state, parsed.final) == (state, state != "")


@pytest.mark.parametrize("octet", [b"", b"\x2a", b"\0\2"])
def test_a_message_state_that_says_nothing(octet: bytes) -> None:
    assert receipt(standard("EXPIRED"), {0x0427: octet}).state == State.EXPIRED


def test_neither_word_nor_tlv_closes_nothing() -> None:
    parsed = receipt("id:77 err:000 text:stat:DELIVRD")
    assert (parsed.id, parsed.stat, parsed.final) == ("77", "", False)


def test_the_message_text_is_not_read() -> None:
    parsed = receipt("id:77 stat:ENROUTE text:id:99 stat:DELIVRD err:5")
    assert (parsed.id, parsed.stat, parsed.err) == ("77", "ENROUTE", "")


def test_an_intermediate_notification_is_final_only_when_delivered() -> None:
    undelivered = receipt(standard("UNDELIV"), esm_class=0x20)
    assert (undelivered.intermediate, undelivered.final, undelivered.state) == (True, False, "")
    assert receipt(standard("DELIVRD"), esm_class=0x20).final
    assert not receipt(standard("EXPIRED"), {0x0427: b"\3"}, esm_class=0x20).final


def test_ids_in_tlv_and_text() -> None:
    both = receipt(standard(message_id="0489708364"), {0x001E: b"1d305b4c\0"})
    assert (both.id, both.text_id) == ("1d305b4c", "0489708364")
    equal = receipt(standard(message_id="77"), {0x001E: b"77\0"})
    assert (equal.id, equal.text_id) == ("77", "")
    for nothing in (b"", b"\0", b"x" * 200):
        assert receipt(standard(), {0x001E: nothing}).id == "77"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"\x03\x00\x1b", "gsm:27"), (b"\x01\x01\x00", "ansi136:256"), (b"\x09\x00\x01", "9:1"), (b"\x03", "")],
)
def test_network_error_code(value: bytes, expected: str) -> None:
    parsed = receipt(standard(err="255"), {0x0423: value})
    assert (parsed.network_error, parsed.err) == (expected, "255")


@pytest.mark.parametrize("esm_class", [0x04, 0x05, 0x44, 0x07, 0x20])
def test_marked_receipts_are_receipts_whatever_they_hold(esm_class: int) -> None:
    parsed = parse(b"\xff\xfe nonsense", None, esm_class)
    assert parsed is not None
    assert (parsed.id, parsed.state, parsed.final) == ("", "", False)


@pytest.mark.parametrize(
    ("text", "tlvs"),
    [("TD", None), ("hello", {}), ("id:77 stat:DELIVRD", None), ("", None), ("id: card", {0x0427: b"\2"})],
)
@pytest.mark.parametrize("esm_class", [0x00, 0x03, 0x40, 0x08, 0x10])
def test_messages_from_handsets_are_no_receipts(text: str, tlvs: dict[int, bytes] | None, esm_class: int) -> None:
    assert parse(text.encode(), tlvs, esm_class) is None


def test_unmarked_receipts_are_recognised() -> None:
    assert receipt(standard(), esm_class=0).state == State.DELIVERED
    assert receipt("", {0x001E: b"77\0", 0x0427: b"\2"}, esm_class=0).state == State.DELIVERED


@pytest.mark.parametrize(
    "octets",
    [
        standard().encode("utf-16-be"),
        (standard() + "您的验证码").encode("utf-16-be"),
        (standard() + "您的验证码").encode("utf-16-be") + b"\0",
    ],
)
def test_ucs2_receipts_declared_or_not(octets: bytes) -> None:
    for data_coding in (0, 8):
        parsed = parse(octets, None, 0x04, data_coding)
        assert parsed is not None
        assert (parsed.id, parsed.state) == ("77", State.DELIVERED)


def test_ascii_declared_as_ucs2() -> None:
    assert receipt(standard(), data_coding=8).id == "77"


@pytest.mark.parametrize(
    "text",
    [
        standard().upper(),
        standard().replace(":", ": "),
        standard().replace(":", " :"),
        f"id:77,sub:001,dlvrd:001,{DATES.replace(' done', ',done')},stat:DELIVRD,err:000,text:x",
        "id:77 sub:001 dlvrd:001 submit_date:2401010000 done_date:2401010001 stat:DELIVRD err:000",
        "id:77\nsub:001\ndlvrd:001\nsubmit date:2401010000\ndone date:2401010001\nstat:DELIVRD\nerr:000",
        f"IMSI:460001 MSC:8613 id:77 sub:001 dlvrd:001 {DATES} MCCMNC:46000 stat:DELIVRD err:000",
    ],
)
def test_other_layouts(text: str) -> None:
    assert receipt(text) == receipt(standard())


def test_an_empty_field_does_not_eat_the_next() -> None:
    parsed = receipt("id:77 sub: dlvrd: submit date: done date: stat:UNDELIV err: text: x")
    assert (parsed.id, parsed.sub, parsed.submit_date, parsed.stat, parsed.err) == (
        "77",
        "",
        "",
        "UNDELIV",
        "",
    )


_WORDS = st.sampled_from(
    ["id:", "stat:", "err:", "text:", "sub:", "submit date:", " ", "DELIVRD", "\0", "7", "é", "::"]
)
_OCTETS = st.binary(max_size=300) | st.lists(_WORDS, max_size=40).map(lambda words: "".join(words).encode("latin-1"))
_TLVS = st.none() | st.dictionaries(st.sampled_from([0x1E, 0x423, 0x424, 0x427, 0x1400]), st.binary(max_size=80))


@settings(max_examples=500, deadline=None)
@given(_OCTETS, _TLVS, st.integers(0, 255), st.integers(0, 255))
def test_any_octets(octets: bytes, tlvs: dict[int, bytes] | None, esm_class: int, data_coding: int) -> None:
    parsed = parse(octets, tlvs, esm_class, data_coding)
    if parsed is None:
        assert esm_class & 0x3C not in (0x04, 0x20)
        return
    assert parsed.state in ("", *"DUREK")
    assert parsed.final == (parsed.state != "")
    assert max(len(parsed.id), len(parsed.text_id)) <= 128
    assert max(len(parsed.stat), len(parsed.err)) <= 64
    _ = parsed.submitted_at, parsed.done_at
    for id_format in ("auto", "text", "resp_hex_dlr_dec", "resp_dec_hex"):
        keys = receipt_keys(parsed.id, id_format, parsed.text_id)
        assert len(keys) == len(set(keys)) <= 6
        assert all(keys)
        submit_key(parsed.id, id_format)


@pytest.mark.parametrize("octets", [b"id:" + b"9" * 60_000, b"id:7 " * 20_000, b" " * 65_000, b"stat: " * 10_000])
def test_64_kib_of_payload_do_no_harm(octets: bytes) -> None:
    parsed = parse(b"", {0x0424: octets}, 0x04)
    assert parsed is not None
    assert len(parsed.id) <= 128


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("1305050826", "2013-05-05T08:26:00"),
        ("130505082659", "2013-05-05T08:26:59"),
        ("201506201641", "2015-06-20T16:41:00"),  # as yyMMdd… its month would be 15
        ("20150620164159", "2015-06-20T16:41:59"),
        ("9912312359", "2099-12-31T23:59:00"),
    ],
)
def test_dates(raw: str, expected: str) -> None:
    assert iso(read_date(raw), "::") == expected


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "0",
        "1313050826",
        "130505",
        "13050508261",
        "abcdefghij",
        "１３０５０５０８２６",
        "²" * 10,
        "00000000000000",
    ],
)
def test_no_dates(raw: str) -> None:
    assert read_date(raw) is None


@pytest.mark.parametrize(
    ("response", "in_receipt", "id_format"),
    [
        ("1891273321", "1891273321", "auto"),
        ("0416342074", "416342074", "auto"),
        ("416342074", "0416342074", "auto"),
        ("000", "0", "auto"),
        ("1d305b4c", "0489708364", "auto"),
        ("1D305B4C", "489708364", "auto"),
        ("0489708364", "1d305b4c", "auto"),
        ("489708364", "1D305B4C", "auto"),
        ("0000AB12", "ab12", "auto"),
        ("10", "16", "auto"),
        ("16", "10", "auto"),
        ("812FC7470000001B", "812fc7470000001b", "auto"),
        ("812FC7470000001B", str(0x812FC7470000001B), "auto"),
        (str(0x812FC7470000001B), "812FC7470000001B", "auto"),
        ("6F1C2D34-AAAA-4BBB-8CCC-1234567890AB", "6f1c2d34-aaaa-4bbb-8ccc-1234567890ab", "auto"),
        ("9" * 65, "0" + "9" * 65, "auto"),
        ("f" * 65, str(int("f" * 65, 16)), "auto"),
        ("aB3_x", "aB3_x", "auto"),
        ("12\0", " 12", "auto"),
        ("00AB", "00AB", "text"),
        ("aGk=", "aGk=", "text"),
        ("1d305b4c", "0489708364", "resp_hex_dlr_dec"),
        ("12345678", "305419896", "resp_hex_dlr_dec"),
        ("1D305B4C", "1d305b4c", "resp_hex_dlr_dec"),
        ("489708364", "1D305B4C", "resp_dec_hex"),
        ("0305419896", "12345678", "resp_dec_hex"),
        ("ab-1", "ab-1", "resp_dec_hex"),
    ],
)
def test_a_receipt_finds_its_submit(response: str, in_receipt: str, id_format: str) -> None:
    assert submit_key(response, id_format) in receipt_keys(in_receipt, id_format)


@pytest.mark.parametrize(
    ("response", "in_receipt", "id_format"),
    [
        ("1891273321", "1891273322", "auto"),
        ("aB3_x", "Ab3_x", "auto"),  # letters beyond hex: case may tell two ids apart
        ("0", "00a", "auto"),
        ("00AB", "AB", "text"),
        ("16", "10", "text"),
        ("12345678", "12345679", "resp_hex_dlr_dec"),
    ],
)
def test_others_do_not(response: str, in_receipt: str, id_format: str) -> None:
    assert submit_key(response, id_format) not in receipt_keys(in_receipt, id_format)


def test_ids_that_are_none() -> None:
    for raw in ("", "\0", "  ", "7" * 129):
        assert submit_key(raw) == ""
        assert receipt_keys(raw) == ()
    for odd in ("1_0", "²", "0x1f", "+5", "-"):  # what int() would take, or choke on
        assert receipt_keys(odd) == (submit_key(odd),) == (odd,)


def test_the_second_spelling_comes_second_and_the_text_first_where_it_is_declared() -> None:
    parsed = receipt(standard(message_id="0489708364"), {0x001E: b"12345678\0"})
    assert receipt_keys(parsed.id, "text", parsed.text_id) == ("12345678", "0489708364")
    assert receipt_keys(parsed.id, "resp_hex_dlr_dec", parsed.text_id)[0] == "489708364"


_SPELLINGS = st.sampled_from([str, "{:x}".format, "{:X}".format, "{:010d}".format, "{:016x}".format, "{:020X}".format])


@settings(max_examples=500)
@given(st.integers(0, 2**64), _SPELLINGS, _SPELLINGS)
def test_any_two_spellings_of_a_number_meet(number: int, one: object, other: object) -> None:
    assert submit_key(one(number)) in receipt_keys(other(number))  # type: ignore[operator]


@settings(max_examples=300)
@given(st.integers(0, 2**64), st.integers(0, 2**64))
def test_declared_bases_never_confuse_two_numbers(one: int, other: int) -> None:
    """With the bases declared, the first key is the number itself, so two ids share it only when equal."""
    assert (submit_key(f"{one:x}", "resp_hex_dlr_dec") == receipt_keys(str(other), "resp_hex_dlr_dec")[0]) == (
        one == other
    )
    assert (submit_key(str(one), "resp_dec_hex") == receipt_keys(f"{other:x}", "resp_dec_hex")[0]) == (one == other)


def test_the_learner_keeps_to_what_matched() -> None:
    learner = IdLearner()
    decimal = ("305419896", "")
    as_sent, guesses = ("305419896",), ("12345678", str(0x305419896))
    assert learner.keys(decimal) == (as_sent, guesses)
    for _ in range(IdLearner.ENOUGH):
        assert learner.learned == ""
        assert learner.matched(decimal, "12345678") is False
    assert learner.learned == "dec_to_hex"
    assert learner.keys(decimal) == (("12345678",), ("305419896", str(0x305419896)))
    assert learner.matched(decimal, "305419896") is True
    assert learner.learned == ""
    assert learner.keys(decimal) == (as_sent, guesses)
    assert learner.matched(decimal, "305419896") is False


@pytest.mark.parametrize(
    ("raw", "id_format", "text_id", "sure"),
    [
        ("100", "auto", "", ("100",)),
        ("100", "auto", "64", ("100", "64")),  # both are the carrier's own words
        ("100", "resp_dec_hex", "", ("256",)),
        ("100", "resp_hex_dlr_dec", "", ("100",)),
        ("ab1", "resp_hex_dlr_dec", "", ("2737",)),
        (" 100 ", "text", "", ("100",)),
        ("", "auto", "", ()),
    ],
)
def test_guesses_are_told_from_what_the_format_says(
    raw: str, id_format: str, text_id: str, sure: tuple[str, ...]
) -> None:
    assert sure_keys(raw, id_format, text_id) == sure


@pytest.mark.parametrize(
    ("octets", "data_coding"),
    [
        (standard("MC:0055_006").replace(":", "：").encode("gbk"), 15),
        (standard("MC:0055_006").replace(":", "：").encode("utf-8"), 0),
        (standard("MC:0055_006").replace(":", "：").encode("utf-16-be"), 8),
    ],
)
def test_full_width_colons_in_gbk_utf8_and_ucs2(octets: bytes, data_coding: int) -> None:
    found = parse(octets, None, 0x04, data_coding)
    plain = parse(standard("MC:0055_006").encode(), None, 0x04)
    assert found is not None
    assert plain is not None
    assert (found.id, found.state, found.submit_date, found.err) == (plain.id, "U", plain.submit_date, plain.err)


@pytest.mark.parametrize(
    ("stat", "state"),
    [("UNDELIVS601S", "U"), ("EXPIRED_601", "E"), ("REJECTDS900S", "R"), ("DELETEDS1S", "U"), ("MI:0055_006", "E")],
)
def test_a_number_hung_on_the_state(stat: str, state: str) -> None:
    found = parse(standard(stat).encode(), None, 0x04)
    assert found is not None
    assert (found.state, found.stat) == (state, stat)


def test_ids_of_65_octets_are_whole_and_longer_ones_than_128_none() -> None:
    for size, kept in ((65, 65), (128, 128), (129, 0)):
        found = parse(standard(message_id="Z" * size).encode(), None, 0x04)
        assert found is not None
        assert len(found.id) == kept
