"""What failed receipts mean: every code of the shipped table in every spelling, the order of look-up, wrong tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dlr.reasons import (
    ANY,
    Failure,
    FailureReasons,
    FailureTable,
    Verdict,
    clean_code,
    is_silent,
    load_reasons,
    spelling,
)
from gateway.errors import ConfigError
from gateway.model import Secret
from gateway.reasons import CHANNELS_OWN, REASONS
from gateway.settings import ChannelSettings

SHIPPED_FILE = Path("config/failure_codes.csv")
HEAD = "table,code,carrier,reason,permanent,suppress,detail,source\n"


def channel(name: str, **changes: object) -> ChannelSettings:
    return ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p"), **changes)  # type: ignore[arg-type]


CHANNELS = (
    channel("mobile", carrier="china-mobile"),
    channel("unicom", carrier="china-unicom"),
    channel("telecom", carrier="china-telecom"),
    channel("all"),
    *(channel(table, error_table=table) for table in ("map", "smrse", "twilio", "8x8", "dynax", "none")),
)
CHANNEL_OF = {"china-mobile": "mobile", "china-unicom": "unicom", "china-telecom": "telecom", ANY: "all"}
SHIPPED = load_reasons(SHIPPED_FILE, CHANNELS)


def rows() -> list[dict[str, str]]:
    lines = [line for line in SHIPPED_FILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


ROWS = rows()


def spellings_of(code: str, carrier: str) -> list[str]:
    """Return the ways in which receipts write a code (facts on Chinese failure codes, §4)."""
    found = [code, code.lower(), f" {code} "]
    name, colon, number = code.partition(":")
    if not colon or not number.isdigit():
        return found
    found += [f"{name}：{number}", f"{name}\xa3\xba{number}", f"{name}\xef\xbc\x9a{number}"]
    if len(name) == 2 and name.isalpha() and len(number) == 4:
        found += [name + number, f"{name}:0{number}", f"{name.lower()}{number}", f"{name}:{number}_006"]
    if name == "SMGP":
        found += [name + number, f"UNDELIVS{number}S", f"EXPIRED_{number}", f"REJECTDS{number}S"]
    if name == "SMGP" and carrier == "china-telecom":
        found += [number, number.lstrip("0")]
    if name == "SGIP":
        found += [name + number, f"SGIP:{number.zfill(7)}"]
    if name == "SGIP" and carrier == "china-unicom":
        found += [number, number.zfill(7)]
    return found


def test_every_code_of_the_table_in_every_spelling() -> None:
    codes = [row for row in ROWS if not row["table"] and not row["code"].endswith("*")]
    assert len(codes) > 1900
    vague = {"UNDELIV", "UNDELIVRD", "EXPIRED", "DELETED", "REJECTD", "UNKNOWN"}
    for row in codes:
        wanted = (row["reason"], row["permanent"] == "yes", row["suppress"] == "yes", row["detail"])
        name = CHANNEL_OF[row["carrier"]]
        for word in spellings_of(row["code"], row["carrier"]):
            err, stat = ("", word.strip().upper()) if spelling(word) in vague else (word, "UNDELIV")
            verdict = SHIPPED.explain(name, stat, "", err)
            why = verdict.failure
            assert (why.reason, why.permanent, why.suppress, why.detail) == wanted, (name, word, verdict)
            assert not verdict.unknown
            if spelling(word) not in vague:
                assert SHIPPED.explain(name, word).failure == why, "in the state's place it means the same"


def test_every_family_speaks_for_its_numbers() -> None:
    families = [row for row in ROWS if row["code"].endswith(":*")]
    assert len(families) >= 20
    for row in families:
        verdict = SHIPPED.explain(CHANNEL_OF[row["carrier"]], "UNDELIV", "", row["code"].replace("*", "98765"))
        assert (verdict.how, verdict.failure.reason) == ("family", row["reason"])


def test_every_number_of_every_table() -> None:
    numbers = [row for row in ROWS if row["table"]]
    assert len({row["table"] for row in numbers}) == 5
    for row in numbers:
        n = int(row["code"])
        for words in ((f"gsm:{n}", ""), ("", str(n)), ("", f"{n:03d}"), ("", f"0x{n:X}")):
            verdict = SHIPPED.explain(row["table"], "UNDELIV", *words)
            assert (verdict.how, verdict.failure.reason) == ("number", row["reason"]), (row, words)
            assert verdict.failure.permanent is (row["permanent"] == "yes")
        assert SHIPPED.explain("none", "UNDELIV", "", str(n)).unknown == str(n)


def test_a_number_is_written_off_only_where_its_table_is_for_sure() -> None:
    assert SHIPPED.explain("map", "UNDELIV", "", "001").failure.suppress
    for name in ("all", "mobile", "nobody"):
        failure = SHIPPED.explain(name, "UNDELIV", "", "1").failure
        assert (failure.reason, failure.suppress) == ("invalid-number", False)


def test_what_every_line_must_hold() -> None:
    for row in ROWS:
        assert row["reason"] in REASONS
        assert row["source"], row
        if row["permanent"] == "yes":
            assert row["reason"] not in ("carrier-internal", "frequency-limited", "unknown"), row
        if row["suppress"] == "yes":
            assert row["reason"] == "invalid-number", row
    assert sum(row["suppress"] == "yes" and not row["table"] for row in ROWS) == 9


@pytest.mark.parametrize(
    ("name", "words", "reason", "code"),
    [
        ("all", ("UNDELIV", "", "MK:0001"), "invalid-number", "MK:0001"),
        ("all", ("MBBLACK", "", "001"), "blacklisted", "MBBLACK"),  # a word says more than a number beside it
        ("all", ("UNDELIV", "gsm:27", "021"), "powered-off", "gsm:27"),  # the TLV is surer than the text
        ("all", ("UNDELIV", "gsm:0", "021"), "out-of-service", "021"),
        ("all", ("UNDELIV", "", "000"), "out-of-service", "UNDELIV"),  # the word alone: several causes
        ("all", ("EXPIRED", "", ""), "powered-off", "EXPIRED"),
        ("all", ("NEVER-SEEN", "", ""), "unknown", "NEVER-SEEN"),
        ("all", ("", "", ""), "unknown", ""),
        ("all", ("UNDELIV", "", "0x0000000B"), "invalid-number", "0x0000000B"),  # a command_status
        ("twilio", ("UNDELIV", "", "005"), "invalid-number", "005"),
        ("map", ("UNDELIV", "", "005"), "powered-off", "005"),
        ("all", ("UNDELIV", "", "12"), "out-of-service", "12"),  # illegalEquipment of MAP
        ("unicom", ("UNDELIV", "", "12"), "invalid-number", "12"),  # SGIP's
        ("unicom", ("0000012", "", ""), "invalid-number", "0000012"),
        ("telecom", ("UNDELIV", "", "601"), "invalid-number", "601"),
        ("all", ("UNDELIV", "", "651"), "frequency-limited", "651"),  # India
    ],
)
def test_which_word_decides(name: str, words: tuple[str, str, str], reason: str, code: str) -> None:
    verdict = SHIPPED.explain(name, *words)
    assert (verdict.failure.reason, verdict.code) == (reason, code)


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (("UNDELIV", "", "QQ:1"), "QQ:1"),
        (("UNDELIV", "", "999"), "999"),
        (("UNDELIV", "gsm:200", "MK:0001"), ""),  # one of its words is known
        (("UNDELIV", "", "000"), ""),  # says nothing
        (("NEVER-SEEN", "", "000"), "NEVER-SEEN"),
        (("UNDELIV", "", "\x07bad\u4e2d"), "?bad?"),
    ],
)
def test_codes_that_nobody_knows_are_told(words: tuple[str, str, str], unknown: str) -> None:
    assert SHIPPED.explain("all", *words).unknown == unknown


def test_the_same_code_of_several_carriers() -> None:
    table = FailureTable()
    for carrier, reason in (("china-mobile", "blacklisted"), ("china-unicom", "powered-off")):
        table.take(["", "XY:0001", carrier, reason, "no", "no", "", "me"])
    table.take(["", "XY:0002", "any", "unknown", "no", "no", "", "me"])
    table.take(["", "XY:0002", "china-unicom", "powered-off", "no", "no", "", "me"])
    table.take(["", "XY:0003", "china-mobile", "invalid-number", "yes", "yes", "", "me"])
    table.take(["", "77", "china-mobile", "blacklisted", "no", "no", "", "me"])
    reasons = FailureReasons(table, CHANNELS)

    def of(name: str, code: str) -> Verdict:
        return reasons.explain(name, "UNDELIV", "", code)

    assert [of(name, "XY:0001").failure.reason for name in ("mobile", "unicom", "telecom", "all")] == [
        "blacklisted", "powered-off", "blacklisted", "blacklisted",
    ]  # fmt: skip
    assert [of(name, "XY:0002").failure.reason for name in ("mobile", "unicom", "all")] == [
        "unknown", "powered-off", "unknown",
    ]  # fmt: skip
    # Another carrier's meaning is a guess: no number is written off for it. A bare number is not even that.
    assert [of(name, "XY:0003").failure.suppress for name in ("mobile", "unicom", "all")] == [True, False, True]
    assert (of("mobile", "77").failure.reason, of("all", "77").how) == ("blacklisted", "unknown")


def test_a_channels_own_codes_win() -> None:
    own = channel(
        "own",
        carrier="china-mobile",
        failure_codes=(
            ("mk0001", "powered-off", None),
            ("27", "blacklisted", None),
            ("UNDELIV", "invalid-number", False),
            ("0x0000040A", "user-unsubscribed", None),
            ("WEIRD", "content-rejected", False),
        ),
    )
    reasons = load_reasons(SHIPPED_FILE, [own])

    def of(stat: str, network_error: str = "", err: str = "") -> tuple[str, bool, str]:
        verdict = reasons.explain("own", stat, network_error, err)
        return verdict.failure.reason, verdict.failure.permanent, verdict.how

    assert of("UNDELIV", "", "MK:00001") == ("powered-off", False, "override")
    assert of("MK:0001") == ("powered-off", False, "override")
    assert of("EXPIRED", "gsm:27") == of("EXPIRED", "", "027") == ("blacklisted", True, "override")
    assert of("UNDELIV") == ("invalid-number", False, "override")
    assert of("EXPIRED", "", "0x0000040a") == ("user-unsubscribed", True, "override")
    assert of("WEIRD") == ("content-rejected", False, "override")
    assert of("EXPIRED", "", "MK:0005")[2] == "code", "what it does not name is the table's"
    assert reasons.explain("another", "UNDELIV", "", "WEIRD").how == "state"


@pytest.mark.parametrize(
    ("state", "stat", "codes", "passes"),
    [
        ("U", "UNDELIV", ("", "MK:0001"), False),  # no such number, whoever sends
        ("U", "UNDELIV", ("", "DB:0144"), False),
        ("U", "MBBLACK", ("", "000"), False),
        ("U", "UNDELIV", ("", "IB:0008"), True),
        ("U", "UNDELIV", ("", "MI:0084"), True),  # not reachable for now
        ("R", "REJECTD", ("", "TX:2001"), True),  # this channel's signature
        ("U", "UNDELIV", ("", "000"), True),  # failed, and nobody says why
        ("E", "EXPIRED", (), True),
        ("D", "DELIVRD", ("", "IB:0008"), False),
    ],
)
def test_what_another_channel_may_deliver(state: str, stat: str, codes: tuple[str, ...], passes: bool) -> None:
    assert SHIPPED.passes_elsewhere("all", state, stat, *codes) is passes


@pytest.mark.parametrize(
    ("stat", "failed"),
    [
        ("MBBLACK", True),
        ("MK:0001", True),
        ("UNKNOWN", False),
        ("MM:0001", False),
        ("UNDELIV", False),
        ("NEVER", False),
    ],
)
def test_a_reason_in_the_states_place_says_that_it_failed(stat: str, failed: bool) -> None:
    assert SHIPPED.explain("all", stat).own_word is failed


def test_without_a_table_no_failure_is_the_messages_own() -> None:
    assert load_reasons(None).passes_elsewhere("any", "U", "UNDELIV", "", "MK:0001")
    reasons = FailureReasons(FailureTable.of({"X:*": Failure(REASONS[0], True)}))
    assert reasons.explain("any", "UNDELIV", "", "X1").unknown == "X1"


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80), st.sampled_from(["mobile", "unicom", "all"]))
@settings(max_examples=300)
def test_whatever_a_receipt_says_it_has_one_of_the_reasons(stat: str, network: str, err: str, name: str) -> None:
    verdict = SHIPPED.explain(name, stat, network, err)
    assert verdict.failure.reason in REASONS
    assert verdict.failure.passes_elsewhere is (not verdict.failure.permanent or verdict.failure.reason in CHANNELS_OWN)
    for shown in (verdict.code, verdict.unknown):
        assert shown == clean_code(shown)
        assert shown.isascii()
        assert len(shown) <= 64
    assert not (verdict.unknown and verdict.how in ("code", "family", "number", "override"))


@given(st.text(alphabet="ABMK:_0123456789 smgpi", max_size=16))
@settings(max_examples=300)
def test_a_spelling_is_spelt_only_once(word: str) -> None:
    assert spelling(spelling(word)) == spelling(word)
    assert spelling(word.lower()) == spelling(word.upper())


@given(st.integers(0, 10**6), st.sampled_from(["MK", "DB", "zz"]), st.integers(4, 8))
def test_leading_zeros_case_and_colon_do_not_matter(n: int, family: str, digits: int) -> None:
    number = f"{n:04d}"
    wanted = spelling(f"{family}:{number}")
    padded = number.zfill(digits)
    assert {spelling(f"{name}{colon}{padded}") for name in (family, family.lower()) for colon in (":", "", "：")} == {
        wanted
    }


@given(st.dictionaries(st.sampled_from(["china-mobile", "china-unicom", ANY]), st.sampled_from(REASONS), min_size=1))
def test_the_channels_carrier_comes_before_any_and_any_before_others(meanings: dict[str, str]) -> None:
    table = FailureTable()
    for carrier, reason in meanings.items():
        table.take(["", "AB:0001", carrier, reason, "no", "no", "", "me"])
    found = FailureReasons(table, CHANNELS).explain("unicom", "UNDELIV", "", "ab00001").failure.reason
    first = next(iter(meanings.values()))
    assert found == meanings.get("china-unicom", meanings.get(ANY, first))


@pytest.mark.parametrize("word", ["", "0", "000", "0x0", "gsm:0", "ansi136:0"])
def test_words_that_say_nothing(word: str) -> None:
    assert is_silent(word)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (",MK:0001,any,no-such-reason,no,no,,me", "line 2: reason: "),
        (",MK:0001,any,unknown,perhaps,no,,me", "line 2: permanent: "),
        (",MK:0001,any,unknown,no,perhaps,,me", "line 2: suppress: yes or no"),
        (",MK:0001,any,powered-off,no,yes,,me", "line 2: suppress: only a number"),
        (",MK:0001,any,unknown,no,me", "line 2: 8 columns"),
        (",\x07,any,unknown,no,no,,me", "line 2: code: "),
        (",MK:0001,Nobody!,unknown,no,no,,me", "line 2: carrier: "),
        ("isup,1,any,unknown,no,no,,me", "line 2: table: "),
        ("map,1a,any,unknown,no,no,,me", "line 2: code: a number"),
        ("map,1,china-mobile,unknown,no,no,,me", "line 2: carrier: "),
        ("map,1,any,unknown,no,no,,me\nmap,01,any,unknown,no,no,,me", "line 3: the number 01 of map stands twice"),
        (
            ",AB:0001,any,unknown,no,no,,me\n,ab0001,any,unknown,no,no,,me",
            "line 3: the code AB:0001 of any stands twice",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "failure_codes.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_reasons(path)
    assert why in str(caught.value)


def test_a_wrong_head_and_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "failure_codes.csv"
    path.write_text("code,reason\n")
    with pytest.raises(ConfigError, match="the first line must be"):
        load_reasons(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_reasons(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_reasons(tmp_path / "none.csv")
