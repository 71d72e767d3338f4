"""Which texts are refused for what they say: words of a list, and links to domains that are not the account's own.

Owns the CSV form of `config/content_words.csv`, the search (Aho-Corasick, all words in one pass over the text) and what
counts as a link. Refuses to know what an operator thinks of a word. Pure. A refusal names the line's id, never the word
or the text. Costs nothing where nothing is configured: `words_for` and `LinkRule` are asked for once an account.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ahocorasick

from gateway.errors import ConfigError, ConfigProblem, RequestError
from gateway.model import CATEGORY_BY_LABEL, Category
from gateway.policy.texts import spelt
from gateway.settings.table_file import read_table

REFUSE, REVIEW = "refuse", "review"
_COLUMNS: Final = ("id", "word", "action", "categories", "accounts")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}").fullmatch
_MOST_WORDS: Final = 20_000
_MOST_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class ContentWord:
    """One line of the table."""

    id: str
    word: str
    action: str  # refuse | review
    categories: frozenset[Category]
    accounts: frozenset[str]  # empty: all


class WordSearch:
    """Finds the words that hold for one account and category."""

    def __init__(self, words: Iterable[ContentWord]) -> None:
        by_spelling: dict[str, list[ContentWord]] = {}
        for word in words:
            by_spelling.setdefault(spelt(word.word), []).append(word)
        self._automaton = ahocorasick.Automaton()
        for spelling, found in by_spelling.items():
            self._automaton.add_word(spelling, tuple(found))
        self._automaton.make_automaton()

    def hits(self, text: str) -> list[ContentWord]:
        """Return the lines whose words are in a text, each once, those that refuse first."""
        found: dict[str, ContentWord] = {}
        for _, words in self._automaton.iter(spelt(text)):
            for word in words:
                found[word.id] = word
        return sorted(found.values(), key=lambda word: (word.action != REFUSE, word.id))


class ContentWords:
    """All words of a configuration."""

    def __init__(self, words: Iterable[ContentWord] = ()) -> None:
        self.words = tuple(words)
        self._searches: dict[tuple[ContentWord, ...], WordSearch] = {}

    def __len__(self) -> int:
        return len(self.words)

    def search(self, account: str, category: Category) -> WordSearch | None:
        """Return the search for an account's messages of a category, None where no word holds for them."""
        held = tuple(
            word
            for word in self.words
            if category in word.categories and (not word.accounts or account in word.accounts)
        )
        if not held:
            return None
        found = self._searches.get(held)  # most accounts share one
        if found is None:
            found = self._searches[held] = WordSearch(held)
        return found


def load_content_words(path: Path | None, accounts: Collection[str] = ()) -> ContentWords:
    """Read the table; `accounts` are those that are configured.

    Raises:
        ConfigError: with every line that is wrong.
    """
    words: dict[str, ContentWord] = {}

    def take(cells: list[str]) -> None:
        name, word, action, categories, named = cells
        if not _ID(name):
            raise ValueError("id: up to 32 of a-z, 0-9 and hyphens are wanted")
        if name in words:
            raise ValueError("id: it stands twice")
        if not 1 < len(word) <= _MOST_CHARS or len(spelt(word)) < 2:
            raise ValueError("word: 2 to 64 characters are wanted, at least two of them letters or digits")
        if action not in (REFUSE, REVIEW):
            raise ValueError("action: refuse or review is wanted")
        unknown = sorted(set(named.split()) - {"all"} - set(accounts))
        if not named or unknown:
            raise ValueError("accounts: all, or ids of accounts.toml parted by spaces are wanted")
        whose = frozenset() if "all" in named.split() else frozenset(named.split())
        words[name] = ContentWord(name, word, action, _categories(categories), whose)

    if path is not None:
        read_table(path, _COLUMNS, take)
        if len(words) > _MOST_WORDS:
            raise ConfigError([ConfigProblem(path.name, "", f"more than {_MOST_WORDS} words")])
    return ContentWords(words.values())


def _categories(written: str) -> frozenset[Category]:
    if written == "all":
        return frozenset(Category)
    labels = written.split()
    if not labels or any(label not in CATEGORY_BY_LABEL for label in labels):
        raise ValueError("categories: all, or some of verification, notification and marketing are wanted")
    return frozenset(CATEGORY_BY_LABEL[label] for label in labels)


def rejected(word: ContentWord) -> RequestError:
    """Return the refusal of a text that holds a word."""
    return RequestError("content_rejected", f"content rule {word.id} refuses the text", field="text")


# --- links

_PATH: Final = r"(?:[/\\?#][#-&*-+\--:=?-~]*)?"
"""What follows a host is no link of its own, as far as it is plain ASCII without what ends a link in a sentence."""
_SCHEMED = re.compile(r"[a-z][a-z0-9+.-]{1,31}:[/\\]{2,}([^\s/\\?#]*)" + _PATH, re.IGNORECASE)
"""Whatever has a scheme is a link to what stands before the next slash, whether or not it looks like a name."""
_TLD_ELSEWHERE: Final = (
    "中国|中國|公司|网络|網絡|在线|中文网|网址|商城|商店|网店|手机|移动|集团|信息|游戏|娱乐|企业|餐厅|我爱你|世界|健康|时尚|"
    "政务|公益|机构|组织机构|香港|台湾|台灣|澳门|新加坡|рф|рус|онлайн|сайт|москва|дети|орг|ком|бел|укр|қаз|срб|бг|한국|닷컴|みんな|コム|"
    "भारत|عرب|شبكة|موقع|السعودية|امارات|مصر|ไทย"
)
_BARE = re.compile(
    r"(?<![\w-])(?<![\w-]\.)"
    rf"((?:[\w-]+\.)+(?:[a-z]{{2,24}}|xn--[a-z0-9-]{{2,59}}|{_TLD_ELSEWHERE})(?![a-z0-9_-]))(?::[0-9]+)?{_PATH}",
    re.IGNORECASE,
)
"""A name without a scheme: labels, and a last one that could be a top-level domain. What follows it may be Chinese.

It is looked for where a row of labels begins and nowhere else in it: whatever matches further on matches from there
too, and a text of a thousand labels without an end would be read a thousand times.
"""
_ADDRESS = re.compile(r"(?<![0-9.])((?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![0-9.])")
_DOT_BETWEEN = re.compile(r"(?<=[A-Za-z0-9])[。｡](?=[A-Za-z0-9])")
"""An ideographic full stop is a dot to a browser (RFC 3490 §3.1), and the end of a sentence to everybody else."""
_DOT_INSIDE = re.compile(r"[\w-]\.[\w-]")
"""What every name and address has."""
_ASCII_NAME = re.compile(r"(?:[a-z0-9-]+\.)+[a-z0-9-]{2,}", re.IGNORECASE)


_FORMAT = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""Format characters (category Cf: joiners, directions, tags): they show nothing, and would part a name for us alone."""


class LinkRule:
    """The domains an account's texts may link to; their subdomains too."""

    def __init__(self, domains: Iterable[str]) -> None:
        """`domains` in ASCII, lower case, as the settings have them."""
        self._allowed = frozenset(domains)

    def check(self, text: str) -> None:
        """Look at a text's links.

        Raises:
            RequestError: link_not_allowed, field `text`.
        """
        if not all(self._allows(host) for host in links(text)):
            raise RequestError("link_not_allowed", "the text links to a domain that is not the account's", field="text")

    def _allows(self, host: str) -> bool:
        """Tell whether every name that somebody may read out of a host is allowed.

        Chinese runs on without a space around a link, so in 请看acme.example领取 the ASCII part is meant. Where a
        dot stands outside of such parts the name is not ASCII in itself, and counts as a whole too.
        """
        whole = host.strip(".").lower()
        if whole.isascii():
            return self._lists(whole)
        names = _ASCII_NAME.findall(whole)
        if not all(self._lists(name) for name in names):
            return False
        if "." not in _ASCII_NAME.sub("", whole):
            return bool(names)
        try:
            return self._lists(whole.encode("idna").decode())
        except UnicodeError:
            return False

    def _lists(self, name: str) -> bool:
        return name in self._allowed or any(name[at + 1 :] in self._allowed for at, c in enumerate(name) if c == ".")


def links(text: str) -> Iterator[str]:
    """Yield the host of everything in a text that a handset may take for a link, as it is written there."""
    if "。" in text or "｡" in text:
        text = _DOT_BETWEEN.sub(".", text)
    plain = unicodedata.normalize("NFKC", text)
    if not plain.isascii():
        plain = _FORMAT.sub("", plain)
    schemed = ":/" in plain or ":\\" in plain
    if not schemed and not _DOT_INSIDE.search(plain):
        return  # most texts
    rest = []
    at = 0
    for match in _SCHEMED.finditer(plain) if schemed else ():
        # What stands before an @ is a user name, however much it looks like a domain (RFC 3986 §3.2.1).
        yield re.sub(r":[0-9]*$", "", match[1].rpartition("@")[2])
        rest.append(plain[at : match.start()])
        at = match.end()
    rest.append(plain[at:])
    for part in rest:
        for match in _ADDRESS.finditer(part):
            yield match[1]
        left = part
        while found := _BARE.search(left):
            yield found[1]
            left = left[found.end() :]  # cut off: what follows a path begins anew
