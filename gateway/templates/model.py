"""What a template is: its versions, its params with their limits, and what carriers know it by.

Pure values and two questions: which version is in force, which TLVs a channel must send with it. Refuses to know files,
the store and the template language. Everything else of the package stands above it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.model import Category

MAX_TEXT: Final = 1530
"""Characters of a rendered text, as of one that is posted (ten parts of 153 septets)."""
MAX_SOURCE: Final = 4000
"""Characters of a template as it is written."""

TYPES: Final = ("string", "code", "int", "decimal", "date", "url")


@dataclass(frozen=True, slots=True)
class Param:
    """One value that a message gives a template. Bounds that its type does not have stand at their defaults."""

    name: str
    type: str  # one of TYPES
    optional: bool = False  # absent: nothing is printed, and {% if %} takes it for false
    default: Any = None  # as the file has it, checked like a sent one; set, the param is optional
    min_length: int = 1  # string, code: characters
    max_length: int = 100  # string, code, url: characters
    pattern: str = ""  # string: a regular expression for the whole value
    enum: tuple[str, ...] = ()  # string: the only values
    signature: bool = False  # string: whether 【 and 】 may stand in it
    least: str = ""  # int, decimal: as written, '' for none
    most: str = ""
    places: int = 2  # decimal: digits behind the point
    domains: tuple[str, ...] = ()  # url: these and their subdomains


@dataclass(frozen=True, slots=True)
class Registration:
    """What a carrier knows a template by: TLVs for the channels named, or for one carrier's numbers, or for all."""

    channels: frozenset[str] = frozenset()
    carrier: str = ""
    tlvs: tuple[tuple[int, bytes], ...] = ()
    note: str = ""  # its number at the carrier, for people


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a template. A version never changes; what is new is another version."""

    id: str
    version: int
    category: Category
    text: str
    params: tuple[Param, ...] = ()
    accounts: frozenset[str] = frozenset()  # who may use it; empty: everybody
    registrations: tuple[Registration, ...] = ()
    about: str = ""
    source: str = "file"  # file | store


def latest(versions: Iterable[int], retired: frozenset[int] | set[int] = frozenset()) -> int:
    """Return the version that messages get which name none: the highest that is in use, 0 for none."""
    return max((v for v in versions if v not in retired), default=0)


def registration_tlvs(template: Template, channel: str, carrier: str = "") -> tuple[tuple[int, bytes], ...]:
    """Return the TLVs with which a channel sends this version to a number of a carrier.

    Of several that name one tag, the channel's own wins over the carrier's, and that over one for all.
    """
    if not template.registrations:
        return ()
    ranked: list[tuple[int, Registration]] = []
    for entry in template.registrations:
        if entry.channels:
            if channel in entry.channels:
                ranked.append((2, entry))
        elif not entry.carrier:
            ranked.append((0, entry))
        elif entry.carrier == carrier:
            ranked.append((1, entry))
    found: dict[int, bytes] = {}
    for _, entry in sorted(ranked, key=lambda pair: pair[0]):
        found.update(entry.tlvs)
    return tuple(sorted(found.items()))
