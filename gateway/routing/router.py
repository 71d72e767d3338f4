"""The route of a message: from its number, carrier, category, account and sender id to one configured route.

A route's `match` names some of six things; a message fits when each named one is equal (`prefix`: its digits
begin so). Among the routes that fit, the more particular one is taken, comparing one key after the other:

    1. account     a route that names the account beats every one that does not
    2. sender      then one that names the sender id
    3. category    then one that names the category
    4. prefix      then the longer prefix
    5. carrier     then one that names the carrier
    6. country     then one that names the country

First whose message it is, then what it is, then where it goes: a rule made for one account or for
verification is an exception to the rules by destination, never the other way round. Where all six compare
equal, the route that stands first in the file is taken.

Owns that order and nothing else; which channel of the route sends is dispatch's choice, later. Stands in
intake after `msisdn`. Pure: an answer is worked out once for each combination the configuration can tell
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from gateway.errors import RequestError
from gateway.routing.learned import Knowledge, Learned
from gateway.routing.number_segments import NumberSegments
from gateway.routing.table import Route, RouteTable

PORTED: Final = "ported"
"""The carrier of a number that has left the one it was with, where nobody can say for which; routes may name it."""
LEARNED, IMPORTED, SEGMENT = "learned", "imported", "segment"
"""Where a carrier is known from: receipts, the imported table of ported numbers, the number segment."""


class Decision(NamedTuple):
    """Where a message goes: its route, the carrier ('' where none is known), and where that is known from."""

    route: Route
    carrier: str
    origin: str = SEGMENT


class ImportedNumbers(Protocol):
    """The imported tables of ported numbers, as far as they are asked here."""

    def __len__(self) -> int:
        """Return how many tables there are."""
        ...

    def get(self, country: str, msisdn: str) -> str | None:
        """Return the carrier of a number (E.164 digits), None where no table has it."""
        ...


class Router:
    """Finds routes. One for each configuration; safe to share, its answers are kept for its life."""

    def __init__(
        self,
        table: RouteTable,
        segments: Mapping[str, NumberSegments] | None = None,
        imported: ImportedNumbers | None = None,
        learned: Learned | None = None,
    ) -> None:
        """`segments` by ISO 3166 country; `imported` and `learned` may change while the router is used."""
        self.table = table
        self.imported = imported
        self.learned = learned
        self.segments: dict[str, NumberSegments] = dict(segments or {})
        routes = table.routes.values()
        self._ordered = sorted(routes, key=_particularity, reverse=True)  # stable: file order among equals
        # A value no route names cannot change the answer; leaving it out keeps the answers few.
        self._accounts = frozenset(route.match.account for route in routes if route.match.account)
        self._senders = frozenset(route.match.sender for route in routes if route.match.sender)
        self._prefixes = frozenset(route.match.prefix for route in routes if route.match.prefix)
        self._prefix_lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}, reverse=True))
        self._named_by_routes = {country: _networks(table, country, own) for country, own in self.segments.items()}
        self._networks = {country: own.carriers for country, own in self.segments.items()}
        self._decisions: dict[tuple[str, str, int, str, str, str, str], Decision | None] = {}

    def route(
        self, msisdn: str, country: str, category: int, account: str, sender: str, carrier: str | None = None
    ) -> Decision | None:
        """Return the route of a message, None when no route takes it (`no_route`).

        `msisdn` and `country` as `msisdn.normalise` returns them; `carrier`, where given, is taken for the
        number's and nothing is looked up.

        Raises:
            RequestError: `invalid_number`, field `to`: the number lies in a segment that takes no messages.
        """
        segments = self.segments.get(country)
        first, origin = "", SEGMENT
        if segments is not None:
            segment = segments.lookup(msisdn)
            if segment is not None:
                if not segment.sms_capable:
                    raise RequestError(
                        "invalid_number", "the number lies in a segment without text messages", field="to"
                    )
                first = segment.carrier
            if carrier is None and (self.learned or self.imported):  # empty ones cost no look-up
                first, origin = self._ported(msisdn, country, first)
        key = (
            country,
            first if carrier is None else carrier,
            category,
            account if account in self._accounts else "",
            sender if sender in self._senders else "",
            self._prefix_of(msisdn) if self._prefixes else "",
            origin,
        )
        try:
            return self._decisions[key]
        except KeyError:
            decision = self._decide(*key)
            self._decisions[key] = decision
            return decision

    def carrier_of(self, msisdn: str, country: str = "") -> tuple[str, str]:
        """Return a number's carrier ('' where none is known) and where it is known from.

        `country` as `normalise` returns it; without it, one whose calling code the number has and that has number
        segments. The second word is `learned`, `imported` or `segment`.
        """
        if not country:
            country = next((c for c, own in self.segments.items() if msisdn.startswith(own.calling_code)), "")
        segments = self.segments.get(country)
        if segments is None:
            return "", SEGMENT
        segment = segments.lookup(msisdn)
        return self._ported(msisdn, country, segment.carrier if segment is not None else "")

    def _ported(self, msisdn: str, country: str, first: str) -> tuple[str, str]:
        """Return the carrier of a number whose segment's is `first`, and where it is known from."""
        imported = self.imported.get(country, msisdn) if self.imported is not None else None
        known = self.learned.get(msisdn) if self.learned is not None else None
        if known is not None:
            return self._learned(country, known, imported, first)
        return (imported, IMPORTED) if imported is not None else (first, SEGMENT)

    def _learned(self, country: str, known: Knowledge, imported: str | None, first: str) -> tuple[str, str]:
        """Return the carrier of a number of which receipts have told something.

        Where they named it, or left one network only, that is it. Else the imported table and then the segment are
        believed as long as they do not say a network the number is not with. Else it is `ported` if a route matches
        that, and without one the first network left in the order in which the routes name them: the next receipt
        then tells whether that was right.
        """
        networks = self._networks.get(country)
        if known.carrier or not networks:
            return (known.carrier, LEARNED) if known.carrier else (first, SEGMENT)
        excluded = known.excluded
        while not (left := networks.difference(excluded)) and excluded:
            excluded = excluded[1:]  # not with any: then what was learned first is true no more
        if len(left) == 1:
            return next(iter(left)), LEARNED
        if imported is not None and imported in left:
            return imported, IMPORTED
        if first in left:
            return first, SEGMENT
        order = self._named_by_routes[country]
        if PORTED in order:
            return PORTED, LEARNED
        return next((name for name in order if name in left), PORTED), LEARNED

    def explain(self, msisdn: str, country: str, category: int, account: str, sender: str) -> list[Route]:
        """Return every route that fits, the one taken first. For people and checks, not for the path."""
        carrier, _ = self.carrier_of(msisdn, country)
        prefix = self._prefix_of(msisdn)
        return [route for route in self._ordered if _fits(route, country, carrier, category, account, sender, prefix)]

    def _prefix_of(self, msisdn: str) -> str:
        """Return the longest prefix any route names: every other one that fits is a prefix of this one."""
        for length in self._prefix_lengths:
            if msisdn[:length] in self._prefixes:
                return msisdn[:length]
        return ""

    def _decide(
        self, country: str, carrier: str, category: int, account: str, sender: str, prefix: str, origin: str
    ) -> Decision | None:
        for route in self._ordered:
            if _fits(route, country, carrier, category, account, sender, prefix):
                return Decision(route, carrier, origin)
        return None


def _networks(table: RouteTable, country: str, segments: NumberSegments) -> tuple[str, ...]:
    """Return the country's carriers that routes name, and `ported` if one does, in the order of the file."""
    wanted = segments.carriers | {PORTED}
    named = (route.match.carrier for route in table.routes.values() if route.match.country in (None, country))
    return tuple(dict.fromkeys(carrier for carrier in named if carrier in wanted))


def _particularity(route: Route) -> tuple[bool, bool, bool, int, bool, bool]:
    match = route.match
    return (
        match.account is not None,
        match.sender is not None,
        match.category is not None,
        len(match.prefix or ""),
        match.carrier is not None,
        match.country is not None,
    )


def _fits(route: Route, country: str, carrier: str, category: int, account: str, sender: str, prefix: str) -> bool:
    match = route.match
    return (
        match.account in (None, account)
        and match.sender in (None, sender)
        and match.category in (None, category)
        and (match.prefix is None or prefix.startswith(match.prefix))
        and match.carrier in (None, carrier)
        and match.country in (None, country)
    )
