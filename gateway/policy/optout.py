"""What a handset's reply wants: to get no more (TD, 退订, STOP), to get them again, to be read by a person, or neither.

Owns the CSV form of `config/optout_words.csv` and the spelling in which replies and words are compared. Refuses to know
whose messages are meant and what is done about it: scope and storage are the caller's. Asked once an inbound message.
Pure. A reply's text is never logged and never in an error here.

A word counts as a whole reply. A reply that says more is never taken for an opt-out by itself, except where the table
says so and the reply is short: TDZD is a bill service of a carrier, "T恤" a shirt, and a customer who asks how to
cancel an order wants an answer. What only begins with such a word is shown to a person instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import category, east_asian_width, normalize

from gateway.settings.table_file import read_table

STOP, START, REVIEW, OTHER = "stop", "start", "review", "other"
MAX_CHARS: Final = 2048
"""Of a longer reply only so much is looked at, and it is no opt-out or opt-in any more: nobody types that by hand."""
MAX_WORD_CHARS: Final = 32
MAX_STARTS_WITH_CHARS: Final = 16
"""So many letters may a reply have that starts with an opt-out word, as 退订谢谢; a longer one is a sentence."""

ALWAYS, IF_ASKED, UNLESS_ANSWER = "always", "if-asked", "unless-answer"
_ACTIONS: Final = (STOP, START, REVIEW, OTHER)
_MATCHES: Final = ("exact", "starts-with", "contains")
_WHENS: Final = (ALWAYS, IF_ASKED, UNLESS_ANSWER)
_COLUMNS: Final = ("word", "language", "country", "action", "match", "when", "source")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?").fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}").fullmatch
_REPLY_WITH: Final = ("回复", "回覆", "回")
"""People type the instruction itself: "reply TD" for TD. The longer spellings first."""
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164")
"""What shows nothing and is no format character (category Cf) to Unicode: joiners, fillers, a blank of Braille."""


class Reply(NamedTuple):
    """What a reply was read as."""

    kind: str
    """stop, start, review or other"""
    word: str = ""
    """The word that decided, as the table writes it; '' where none did. With `other` it is a word like HELP."""
    language: str = ""
    """The word's language, for the answer to it."""


@dataclass(frozen=True, slots=True)
class Word:
    """One line of the table."""

    written: str
    language: str
    countries: tuple[str, ...]
    """Whose numbers may mean this by it, ISO 3166; (): any country's"""
    action: str
    match: str
    when: str = ALWAYS


class OptoutWords:
    """All words of a configuration."""

    def __init__(self, words: Iterable[Word] = ()) -> None:
        self.words = tuple(words)
        self._whole: dict[str, list[Word]] = {}
        self._heads: list[tuple[str, Word]] = []
        self._inside: list[tuple[str, Word]] = []
        for word in self.words:
            spaced = spelt(word.written)
            closed = spaced.replace(" ", "")
            self._whole.setdefault(closed, []).append(word)
            if word.match == "contains":
                self._inside.append((closed, word))
            if word.action in (STOP, REVIEW):
                self._heads += [(head, word) for head in {spaced, closed}]
        for candidates in self._whole.values():
            candidates.sort(key=lambda word: not word.countries)  # a country's own meaning before everybody's
        self._heads.sort(key=lambda pair: -len(pair[0]))

    def __len__(self) -> int:
        return len(self.words)

    def read(
        self, text: str, country: str = "", *, consent_asked: bool = False, answers: Collection[str] = ()
    ) -> Reply:
        """Return what the whole reply `text` of a number of `country` (ISO 3166) wants. Never raises.

        Where the country is not known every country's words count: an opt-out that is missed is the worse mistake.
        `consent_asked` says that the last message to this number asked whether it may be written to, `answers` are the
        words that its campaign wants as answers (a survey's Y and N); only words that the table marks give way to them.
        """
        complete = len(text) <= MAX_CHARS
        forms = _forms(spelt(text[:MAX_CHARS]))
        excused = {spelt(answer) for answer in answers}

        def meant(word: Word) -> bool:
            if country and word.countries and country not in word.countries:
                return False
            if word.when == IF_ASKED:
                return consent_asked
            return word.when != UNLESS_ANSWER or spelt(word.written) not in excused

        if complete:
            for form in forms:
                for word in self._whole.get(form.replace(" ", ""), ()):
                    if meant(word):
                        return Reply(word.action, word.written, word.language)
        review = None
        for form, word in self._beginning(forms):
            if not meant(word):
                continue
            if word.match == "starts-with" and complete and len(form.replace(" ", "")) <= MAX_STARTS_WITH_CHARS:
                return Reply(word.action, word.written, word.language)
            review = review or word
        if review is None:
            closed = forms[0].replace(" ", "")
            review = next((word for needle, word in self._inside if needle in closed and meant(word)), None)
        return Reply(REVIEW, review.written, review.language) if review else Reply(OTHER)

    def _beginning(self, forms: tuple[str, ...]) -> Iterator[tuple[str, Word]]:
        """Yield the words with which a form begins, each with that form, the longest first."""
        for head, word in self._heads:
            for form in forms:
                if form.startswith(head) and _ends_at(form, len(head)):
                    yield form, word


def spelt(text: str) -> str:
    """Return a text as replies and words are compared: NFKC, case folded, letters and digits with single spaces.

    Full width becomes half width; zero-width, bidirectional and other invisible characters go; punctuation, symbols and
    emoji count as space.
    """
    shown: list[str] = []
    for char in normalize("NFKC", text).casefold():
        kind = category(char)
        if kind[0] in "LNM":
            if char not in _INVISIBLE and not _selects_variant(char):
                shown.append(char)
        elif (kind[0] in "ZPS" or char in "\t\n\v\f\r") and char not in _INVISIBLE:
            shown.append(" ")
    return " ".join("".join(shown).split())


def _selects_variant(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _forms(spaced: str) -> tuple[str, ...]:
    """Return the reply as it is and, where it begins with "reply with", without that."""
    for prefix in _REPLY_WITH:
        if spaced.startswith(prefix):
            return spaced, spaced[len(prefix) :].lstrip()
    return (spaced,)


def _ends_at(form: str, end: int) -> bool:
    """Return whether a word that ends at `end` is a word there: TD begins "td谢谢" and "td please", not "tdzd".

    Chinese is written without spaces, so a wide character ends a word and after one any word may have ended.
    """
    return end >= len(form) or form[end] == " " or _is_wide(form[end]) or _is_wide(form[end - 1])


def _is_wide(char: str) -> bool:
    return east_asian_width(char) in "WF"


def load_optout_words(path: Path | None) -> OptoutWords:
    """Read the table; without one no reply is an opt-out.

    Raises:
        ConfigError: with every line that is wrong.
    """
    words: list[Word] = []
    seen: set[tuple[str, str]] = set()

    def take(cells: list[str]) -> None:
        word = _word(cells)
        closed = spelt(word.written).replace(" ", "")
        for country in word.countries or ("",):
            if (closed, country) in seen:
                raise ValueError(f"the word {word.written} stands twice (spaces, punctuation and case do not count)")
            seen.add((closed, country))
        words.append(word)

    if path is not None:
        read_table(path, _COLUMNS, take)
    return OptoutWords(words)


def _word(cells: list[str]) -> Word:
    written, language, countries, action, match, when, source = cells
    if not spelt(written) or len(written) > MAX_WORD_CHARS:
        raise ValueError(f"word: 1 to {MAX_WORD_CHARS} characters with a letter or digit are wanted")
    if not _LANGUAGE(language):
        raise ValueError("language: a tag such as zh-CN or en is wanted")
    if not all(_COUNTRY(country) for country in countries.split()):
        raise ValueError("country: two capital letters each, parted by spaces, or nothing for any are wanted")
    if action not in _ACTIONS:
        raise ValueError(f"action: one of {', '.join(_ACTIONS)} is wanted")
    if match not in _MATCHES:
        raise ValueError(f"match: one of {', '.join(_MATCHES)} is wanted")
    if match == "starts-with" and action != STOP:
        raise ValueError("match: starts-with is for stop alone; consent to be written to is a whole reply")
    if match == "contains" and action != REVIEW:
        raise ValueError("match: contains is for review alone; a word inside a sentence decides nothing")
    if when not in _WHENS:
        raise ValueError(f"when: one of {', '.join(_WHENS)} is wanted")
    if not source:
        raise ValueError("source: who says so is wanted")
    return Word(written, language, tuple(countries.split()), action, match, when)
