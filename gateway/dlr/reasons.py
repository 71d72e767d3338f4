"""Why a message was not delivered, from the words of its receipt, and whether another channel may do better.

Owns the CSV form of `config/failure_codes.csv`, the spellings of codes, and the order in which a receipt's words are
asked (`FailureReasons.explain`). Refuses to know messages, sessions and what is done with the answer. Pure but for
`load_table`. Asked once a failed receipt, with the answer for each set of words kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from gateway.model import State
from gateway.reasons import CHANNELS_OWN, REASONS, of_status, overrides
from gateway.routing.ported_codes import FULL_WIDTH_COLONS, spelt
from gateway.settings.table_file import read_table

ANY = "any"
NUMBER_TABLES: Final = ("map", "smrse", "twilio", "8x8", "dynax")
"""Tables of bare numbers (facts: GSM 09.02, and vendors' own)."""
_PROTOCOLS: Final = {"sgip": ("SGIP:", 1), "smgp": ("SMGP:", 3)}
"""Tables whose numbers stand as codes of a protocol: what stands before them, and their least number of digits."""
_TABLE_OF_CARRIER: Final = {"china-unicom": "sgip", "china-telecom": "smgp"}
_COLUMNS = ["table", "code", "carrier", "reason", "permanent", "suppress", "detail", "source"]
_CODE = re.compile(r"[!-+\--~]([ -+\--~]{0,30}[!-+\--~])?").fullmatch  # printable ASCII without comma
_CARRIER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}").fullmatch
_FAMILY = re.compile(r"([A-Z]{2}):[0-9]+").fullmatch
_NUMBER = re.compile(r"-?[0-9]{1,9}").fullmatch
_HEX_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,4}").fullmatch
_STATUS = re.compile(r"0[xX]([0-9A-Fa-f]{8})").fullmatch
_NETWORK = re.compile(r"(?:gsm|ansi136|is95|[0-9]{1,3}):([0-9]{1,5})").fullmatch
_PROTOCOL = re.compile(r"(SGIP|SMGP):?([0-9]{1,7})").fullmatch
# China Telecom hangs its number on the state's word: UNDELIVS601S, EXPIRED_601.
_HUNG_ON = re.compile(
    r"(?:UNDELIV(?:RD)?|EXPIRED|REJECTE?D|DELETED|UNKNOWN|ACCEPTE?D)(?:S([0-9]{3,4})S?|[_:]([0-9]{3,4}))"
).fullmatch
_VAGUE: Final = frozenset({"", "UNDELIV", "UNDELIVRD", "UNDELIVERABLE", "REJECTD", "REJECTED", "DELETED", "EXPIRED",
                           "UNKNOWN", "SKIPPED", "FAILED", "NACK"})  # fmt: skip
"""The specification's own words for a state, and others as bare: they say that it failed, not why."""
_MAX_REMEMBERED = 4096
MAX_CODE_CHARS = 64
"""Of a code as it is recorded."""


class ChannelOfCodes(Protocol):
    """What is known of a channel whose codes are read (`ChannelSettings`)."""

    @property
    def id(self) -> str: ...
    @property
    def carrier(self) -> str: ...
    @property
    def error_table(self) -> str: ...
    @property
    def failure_codes(self) -> tuple[tuple[str, str, bool | None], ...]: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """What one code means."""

    reason: str
    permanent: bool = False
    detail: str = ""
    suppress: bool = False
    """Whether it is safe enough to mark its number as not in use (after two on different days)."""
    source: str = ""

    @property
    def passes_elsewhere(self) -> bool:
        """Whether another channel may deliver what failed like this."""
        return not self.permanent or self.reason in CHANNELS_OWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed receipt's words mean together."""

    failure: Failure
    code: str
    """The carrier's word that decided, or that nobody knows, as received (cleaned, see `clean_code`)."""
    how: str
    """override | code | family | number | status | state | unknown: where the meaning stands."""
    unknown: str = ""
    """A code that no table has, as received and cleaned; '' where none was asked in vain."""
    own_word: bool = False
    """A code stood where the state word stands: the message did not arrive, whatever the state is read as."""


_UNKNOWN: Final = Failure("unknown")
_Found = tuple[str, str, Failure]
"""The word that decided, as received, where its meaning stands, and the meaning."""


@dataclass(slots=True)
class FailureTable:
    """All codes, by normal spelling and carrier, and all numbers by table."""

    codes: dict[str, dict[str, Failure]] = field(default_factory=dict)
    numbers: dict[str, dict[int, Failure]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.codes.values())) + sum(map(len, self.numbers.values()))

    @classmethod
    def of(cls, codes: Mapping[str, Failure]) -> FailureTable:
        """Return a table of codes that mean the same everywhere."""
        return cls({spelling(code): {ANY: failure} for code, failure in codes.items()})

    def take(self, cells: list[str]) -> None:
        """Add a line of the file. Raises ValueError, which says what is wrong with it."""
        table, code, carrier, failure = _row(cells)
        if table:
            rows = self.numbers.setdefault(table, {})
            if int(code) in rows:
                raise ValueError(f"the number {code} of {table} stands twice")
            rows[int(code)] = failure
            return
        by_carrier = self.codes.setdefault(spelling(code), {})
        if carrier in by_carrier:
            raise ValueError(f"the code {spelling(code)} of {carrier} stands twice")
        by_carrier[carrier] = failure


@dataclass(slots=True)
class _Reader:
    """How one channel's codes are read."""

    carrier: str = ""
    table: str = "map"
    sure: bool = False
    """Whether somebody said that this is its table: on a guess no number is written off."""
    own: dict[str, tuple[str, bool]] = field(default_factory=dict)
    own_statuses: dict[str, tuple[str, bool]] = field(default_factory=dict)


class FailureReasons:
    """The codes of a configuration, as its channels read them."""

    def __init__(self, table: FailureTable | None = None, channels: Iterable[ChannelOfCodes] = ()) -> None:
        self.table = table or FailureTable()
        self._readers = {channel.id: _reader(channel) for channel in channels}
        self._remembered: dict[tuple[str, str, str, str], Verdict] = {}

    def explain(self, channel: str, stat: str, network_error: str = "", err: str = "") -> Verdict:
        """Return what a receipt of a channel means that did not say delivered; '' for what it did not have.

        In this order, the first that is found: the channel's `failure_codes`; the code in `err`, then in `stat`, of the
        channel's carrier, of any, of whoever has it, by its family; `network_error`, then a bare number in `err` or
        `stat`, in the channel's table; the word of the specification in `stat`.
        """
        words = (channel, stat, network_error, err)
        try:
            return self._remembered[words]
        except KeyError:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[words] = self._explain(self._readers.get(channel, _DEFAULT), *words[1:])
            return found

    def passes_elsewhere(self, channel: str, state: str, stat: str, network_error: str = "", err: str = "") -> bool:
        """Return whether another channel may deliver a message whose receipt said this.

        A word of the specification alone says nothing about the cause, so it is not held against the message; an
        unknown code neither.
        """
        return state != State.DELIVERED and self.explain(channel, stat, network_error, err).failure.passes_elsewhere

    def _explain(self, reader: _Reader, stat: str, network_error: str, err: str) -> Verdict:
        # MM wraps the word UNKNOWN; every other code in place of the state says that it failed.
        word = spelling(stat)
        coded = stat if word not in _VAGUE and not word.startswith("MM:") else None
        telling = [word for word in (network_error, err, stat) if not is_silent(word)]
        found = self._by_own(reader, telling) or self._by_code(reader, err, stat)
        found = found or self._by_number(reader, telling)
        if found is not None:
            decisive, how, failure = found
            return Verdict(failure, clean_code(decisive), how, own_word=decisive == coded)
        unknown = next((clean_code(word) for word in telling if spelling(word) not in _VAGUE), "")
        code = unknown or clean_code(next(iter(telling), "") or err or network_error)
        by_state = self._of_code(reader, stat) if word in _VAGUE and word else None
        if by_state is not None:
            return Verdict(by_state, code, "state", unknown)
        return Verdict(_UNKNOWN, code, "unknown", unknown)

    def _by_own(self, reader: _Reader, telling: list[str]) -> _Found | None:
        """Return what the channel's `failure_codes` say, the surest word first."""
        for word in telling if reader.own else ():
            own = reader.own.get(_own_key(word))
            if own is not None:
                listed = self._of_code(reader, word) or self._of_number(reader, word)
                detail = listed.detail if listed is not None and listed.reason == own[0] else ""
                return word, "override", Failure(*own, detail, source="channels.toml")
        return None

    def _by_code(self, reader: _Reader, err: str, stat: str) -> _Found | None:
        for word in (err, stat):
            if is_silent(word) or spelling(word) in _VAGUE:
                continue
            if (failure := self._of_code(reader, word)) is not None:
                return word, "code", failure
            if (failure := self._of_family(word)) is not None:
                return word, "family", failure
        return None

    def _by_number(self, reader: _Reader, telling: list[str]) -> _Found | None:
        for word in telling:
            if (failure := self._of_number(reader, word)) is not None:
                return word, "number", failure
            if (status := _STATUS(word)) is not None:
                reason, permanent = of_status(int(status[1], 16), reader.own_statuses)
                return word, "status", Failure(reason, permanent, "a command_status")
        return None

    def _of_code(self, reader: _Reader, word: str) -> Failure | None:
        code = spelling(word)
        by_carrier = self.table.codes.get(code)
        if by_carrier is None:
            return None
        found = by_carrier.get(reader.carrier) or by_carrier.get(ANY)
        if found is not None or _NUMBER(code):
            return found  # a bare number means something in its carrier's mouth alone
        found = next(iter(by_carrier.values()))
        return _not_for_sure(found) if reader.carrier else found  # another carrier's meaning is a good guess

    def _of_family(self, word: str) -> Failure | None:
        family = _FAMILY(spelling(word))
        by_carrier = self.table.codes.get(f"{family[1]}:*") if family is not None else None
        return next(iter(by_carrier.values())) if by_carrier else None

    def _of_number(self, reader: _Reader, word: str) -> Failure | None:
        number = _number(word)
        if number is None:
            return None
        protocol = _PROTOCOLS.get(reader.table)
        if protocol is None:
            found = self.table.numbers.get(reader.table, {}).get(number)
            return _not_for_sure(found) if found is not None and not reader.sure else found
        name, digits = protocol
        by_carrier = self.table.codes.get(f"{name}{number:0{digits}d}")
        return next(iter(by_carrier.values())) if by_carrier else None


def _not_for_sure(found: Failure) -> Failure:
    """Return what a code means by a guess: no number is written off for it."""
    return Failure(found.reason, found.permanent, found.detail, False, found.source) if found.suppress else found


_DEFAULT: Final = _Reader()


def _reader(channel: ChannelOfCodes) -> _Reader:
    own = overrides(channel.failure_codes)
    return _Reader(
        channel.carrier,
        channel.error_table or _TABLE_OF_CARRIER.get(channel.carrier, "map"),
        bool(channel.error_table) or channel.carrier in _TABLE_OF_CARRIER,
        {_own_key(code): meaning for code, meaning in own.items()},
        own,
    )


def _own_key(word: str) -> str:
    """Return how a code is compared with a channel's own: numbers by their value, all others by their spelling."""
    number = _number(word)
    return str(number) if number is not None else spelling(word)


def _number(word: str) -> int | None:
    """Return the bare number that an err (27, 027, 0x1B) or a network error (gsm:27) holds, None for other codes."""
    word = word.strip()
    if _NUMBER(word):
        return int(word)
    if _HEX_NUMBER(word):
        return int(word, 16)
    network = _NETWORK(word)
    return int(network[1]) if network is not None else None


def is_silent(word: str) -> bool:
    """Tell whether a word says nothing: empty, or a number that is 0 ("no error")."""
    return not word or _number(word) == 0


def spelling(word: str) -> str:
    """Return a code in the table's spelling: upper case; XX:nnnn for families, SGIP:n and SMGP:nnn for protocols."""
    code = spelt(word)
    hung = _HUNG_ON(code)
    if hung is not None:
        code = f"SMGP:{hung[1] or hung[2]}"
    match = _PROTOCOL(code)
    if match is None:
        return code
    return f"{match[1]}:{match[2].lstrip('0').zfill(_PROTOCOLS[match[1].lower()][1])}"


def clean_code(word: str) -> str:
    """Return a carrier's word as it may be recorded and shown: printable ASCII, at most MAX_CODE_CHARS, rest as `?`."""
    if word.isascii() and word.isprintable():
        return word[:MAX_CODE_CHARS]
    for colon in FULL_WIDTH_COLONS:
        word = word.replace(colon, ":")
    return "".join([c if " " <= c <= "~" else "?" for c in word[:MAX_CODE_CHARS]])


def load_reasons(path: Path | None, channels: Iterable[ChannelOfCodes] = ()) -> FailureReasons:
    """Read the table, for these channels. None: no code is known.

    Raises:
        ConfigError: with every line that is wrong.
    """
    return FailureReasons(load_table(path) if path is not None else None, channels)


def load_table(path: Path) -> FailureTable:
    """Read the file. Raises ConfigError, with every line that is wrong."""
    table = FailureTable()
    read_table(path, _COLUMNS, table.take)
    return table


def _row(cells: list[str]) -> tuple[str, str, str, Failure]:
    table, code, carrier, reason, permanent, suppress, detail, source = cells
    if table and table not in NUMBER_TABLES:
        raise ValueError(f"table: empty or one of {', '.join(NUMBER_TABLES)} is wanted")
    if not _CODE(code):
        raise ValueError("code: 1 to 32 printable ASCII characters without comma are wanted")
    if table and not code.isdigit():
        raise ValueError(f"code: a number is wanted in the table {table}")
    if not _CARRIER(carrier):
        raise ValueError(f'carrier: the name of a carrier, or "{ANY}", is wanted')
    if table and carrier != ANY:
        raise ValueError(f'carrier: "{ANY}" is wanted where the code is a number of a table')
    if reason not in REASONS:
        raise ValueError(f"reason: one of {', '.join(REASONS)} is wanted")
    for name, cell in (("permanent", permanent), ("suppress", suppress)):
        if cell not in ("yes", "no"):
            raise ValueError(f"{name}: yes or no is wanted")
    if suppress == "yes" and reason != "invalid-number":
        raise ValueError("suppress: only a number that is not in use (invalid-number) may be marked so")
    return table, code, carrier, Failure(reason, permanent == "yes", detail, suppress == "yes", source)
