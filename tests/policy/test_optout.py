"""gateway.policy.optout: whole replies, copied instructions, look-alikes, sentences; wrong tables."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.policy.optout import (
    MAX_CHARS,
    OTHER,
    REVIEW,
    START,
    STOP,
    OptoutWords,
    Reply,
    Word,
    load_optout_words,
    spelt,
)
from gateway.settings.packaged import packaged_config_dir

WORDS = load_optout_words(packaged_config_dir() / "optout_words.csv")
HEAD = "word,language,country,action,match,when,source\n"


@pytest.mark.parametrize("word", WORDS.words, ids=lambda word: word.written)
def test_every_word_of_the_table_as_a_whole_reply(word: Word) -> None:
    country = word.countries[0] if word.countries else ""
    found = WORDS.read(word.written, country, consent_asked=True)
    assert found == Reply(word.action, word.written, word.language)
    assert WORDS.read(f" \n{word.written.lower()}。", country, consent_asked=True) == found
    assert WORDS.read(f"回复“{word.written}”", country, consent_asked=True) == found
    assert WORDS.read("\u202e" + "\u200b".join(word.written) + "\ufe0f", country, consent_asked=True) == found


@pytest.mark.parametrize(
    ("reply", "country", "kind", "word"),
    [
        ("ＴＤ", "CN", STOP, "TD"),
        ("t d", "CN", STOP, "TD"),
        ("回td退订", "CN", STOP, "TD退订"),
        ("回复：R！", "CN", STOP, "R"),
        ("回覆 T", "CN", STOP, "T"),
        ("TD 退订", "CN", STOP, "TD退订"),
        ("退订👍🏽", "CN", STOP, "退订"),
        ("退订，谢谢", "CN", STOP, "退订"),  # starts-with, and short
        ("拒收请回复R", "CN", STOP, "拒收"),  # the whole instruction, as some send it back
        ("退订的那件衣服什么时候到货，我等了一个月了", "CN", REVIEW, "退订"),  # starts with it, and is a sentence
        ("退款什么时候到", "CN", REVIEW, "退"),
        ("TD谢谢", "CN", REVIEW, "TD"),
        ("请不要再发了", "CN", REVIEW, "不要再发"),
        ("不 要 再 发", "CN", REVIEW, "不要再发"),
        ("TDZD", "CN", OTHER, "TDZD"),
        ("TDX", "CN", OTHER, ""),
        ("Thanks", "CN", OTHER, ""),
        ("00001", "CN", OTHER, ""),
        ("好的，收到", "CN", OTHER, ""),
        ("回复", "CN", OTHER, ""),
        ("TD", "US", OTHER, ""),  # a habit of China
        ("TD", "", STOP, "TD"),  # whose number it is, nobody knows
        ("退订", "SG", STOP, "退订"),
        ("opt-out", "US", STOP, "OPT OUT"),
        ("OptOut", "US", STOP, "OPT OUT"),
        ("opt out of what?", "US", REVIEW, "OPT OUT"),
        ("S.T.O.P.", "GB", STOP, "STOP"),
        ("stop", "CN", STOP, "STOP"),
        ("Stop by on Friday", "US", REVIEW, "STOP"),
        ("Stopped by yesterday", "US", OTHER, ""),
        ("please stop", "US", OTHER, ""),
        ("Arrêt", "CA", STOP, "ARRÊT"),
        ("ARRE\u0302T", "CA", STOP, "ARRÊT"),  # the accent as a character of its own
        ("start", "US", START, "START"),
        ("start sending again", "US", OTHER, ""),  # consent is a whole reply
        ("help", "US", OTHER, "HELP"),
        ("", "CN", OTHER, ""),
        ("\u200b\u3000！", "CN", OTHER, ""),
    ],
)
def test_replies(reply: str, country: str, kind: str, word: str) -> None:
    found = WORDS.read(reply, country)
    assert (found.kind, found.word) == (kind, word)
    assert bool(found.language) is bool(word)


def test_yes_is_consent_only_as_an_answer_to_the_question() -> None:
    assert WORDS.read("Yes!", "US") == Reply(OTHER)
    assert WORDS.read("Yes!", "US", consent_asked=True).kind == START


def test_a_campaigns_own_answers_give_way_where_the_table_says_so() -> None:
    assert WORDS.read("N", "CN").kind == STOP
    assert WORDS.read("N", "CN", answers=("y", "ｎ")) == Reply(OTHER)
    assert WORDS.read("N 太贵", "CN", answers=("N",)) == Reply(OTHER)
    assert WORDS.read("TD", "CN", answers=("TD", "STOP")).kind == STOP  # nobody can make it mean something else
    assert WORDS.read("STOP", "US", answers=("TD", "STOP")).kind == STOP


def test_a_countrys_own_meaning_goes_before_everybodys() -> None:
    words = OptoutWords([Word("FIN", "fr", (), STOP, "exact"), Word("FIN", "en", ("US", "CA"), OTHER, "exact")])
    assert words.read("fin", "US").kind == OTHER
    assert words.read("fin", "FR").kind == STOP


def test_what_is_too_long_to_be_typed_is_no_opt_out() -> None:
    assert WORDS.read("STOP" + " " * (MAX_CHARS - 4), "US").kind == STOP
    assert WORDS.read("STOP" + " " * MAX_CHARS, "US").kind == REVIEW
    assert WORDS.read("退订" + " " * MAX_CHARS, "CN").kind == REVIEW
    assert WORDS.read("x" * 1_000_000 + "不要再发", "CN") == Reply(OTHER)


@given(st.text(max_size=80), st.sampled_from(["", "CN", "US", "??"]), st.booleans())
@example("\ud800\x00\x1b回", "CN", True)
@example("ﷺ" * 80, "", False)
def test_any_text_has_an_answer_and_its_compatible_spelling_the_same(text: str, country: str, asked: bool) -> None:
    found = WORDS.read(text, country, consent_asked=asked)
    assert found.kind in (STOP, START, REVIEW, OTHER)
    for form in ("NFKC", "NFKD", "NFC"):
        assert WORDS.read(unicodedata.normalize(form, text), country, consent_asked=asked) == found
    assert spelt(spelt(text)) == spelt(text)


_TYPED = st.sampled_from([word.written for word in WORDS.words if word.action == STOP])
_LATIN = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=12)
_LETTERS = "".join(sorted({char for word in WORDS.words for char in spelt(word.written).replace(" ", "")}))


@given(_TYPED, st.lists(_LATIN, min_size=6, max_size=12), st.integers(0, 12), st.sampled_from(["", "CN", "US"]))
def test_a_word_inside_a_longer_sentence_is_never_an_opt_out(
    word: str, around: list[str], at: int, country: str
) -> None:
    sentence = " ".join([*around[:at], word, *around[at:]])
    assert WORDS.read(sentence, country).kind in (REVIEW, OTHER)


@given(st.text(_LETTERS, min_size=1, max_size=8), st.sampled_from(["CN", "US"]))
def test_only_a_words_own_letters_are_an_opt_out(text: str, country: str) -> None:
    """Replies made of the words' letters alone: what is read as stop is one, or starts with one that may be a start."""
    if WORDS.read(text, country).kind != STOP:
        return
    bare = spelt(text).replace(" ", "")
    for candidate in (bare, bare.removeprefix("回复"), bare.removeprefix("回")):
        for word in WORDS.words:
            closed = spelt(word.written).replace(" ", "")
            if word.action == STOP and (
                candidate == closed or (word.match == "starts-with" and candidate.startswith(closed))
            ):
                return
    pytest.fail(f"{text!r} was read as an opt-out")


@given(_TYPED, st.sampled_from(["", " ", "\n", "。", "!", "\u200d", "\u2066", "“", "~", "😀"]))
def test_what_stands_around_a_word_does_not_hide_it(word: str, noise: str) -> None:
    assert WORDS.read(noise + word + noise, "CN").kind == STOP


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("…,en,,stop,exact,always,me", "line 2: word: "),
        ("X" * 33 + ",en,,stop,exact,always,me", "line 2: word: "),
        ("X,English,,stop,exact,always,me", "line 2: language: "),
        ("X,en,usa,stop,exact,always,me", "line 2: country: "),
        ("X,en,,leave,exact,always,me", "line 2: action: "),
        ("X,en,,stop,prefix,always,me", "line 2: match: "),
        ("X,en,,start,starts-with,always,me", "line 2: match: starts-with is for stop alone"),
        ("X,en,,stop,contains,always,me", "line 2: match: contains is for review alone"),
        ("X,en,,stop,exact,sometimes,me", "line 2: when: "),
        ("X,en,,stop,exact,always,", "line 2: source: "),
        ("X,en,,stop,exact,always", "line 2: 7 columns are wanted"),
        ("OPT-OUT,en,,stop,exact,always,me\noptout,en,,start,exact,always,me", "line 3: the word optout stands twice"),
        ("X,en,CA US,stop,exact,always,me\nX,en,US,other,exact,always,me", "line 3: the word X stands twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "optout_words.csv"
    path.write_text(HEAD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_optout_words(path)
    assert why in str(caught.value)


def test_all_wrong_lines_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "optout_words.csv"
    path.write_text(HEAD + "X,en,,leave,exact,always,me\n# fine\n\nY,en,,stop,exact,always,\n")
    with pytest.raises(ConfigError) as caught:
        load_optout_words(path)
    assert [problem.key for problem in caught.value.problems] == ["line 2", "line 5"]


def test_a_wrong_head_and_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "optout_words.csv"
    path.write_text("word,action\n")
    with pytest.raises(ConfigError, match="the first line must be"):
        load_optout_words(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_optout_words(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_optout_words(tmp_path / "none.csv")


def test_a_table_saved_by_a_spreadsheet_and_no_table(tmp_path: Path) -> None:
    path = tmp_path / "optout_words.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode() + b"X,en,,stop,exact,always,me\r\n")
    assert load_optout_words(path).read("x").kind == STOP
    none = load_optout_words(None)
    assert len(none) == 0
    assert none.read("TD", "CN") == Reply(OTHER)
