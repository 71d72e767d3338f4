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
from typing import NamedTuple

from gateway.errors import RequestError
from gateway.routing.number_segments import NumberSegments
from gateway.routing.table import Route, RouteTable


class Decision(NamedTuple):
    """Where a message goes: its route, and the carrier by number segment ('' where none is known)."""

    route: Route
    carrier: str


class Router:
    """Finds routes. One for each configuration; safe to share, its answers are kept for its life."""

    def __init__(self, table: RouteTable, segments: Mapping[str, NumberSegments] | None = None) -> None:
        """`segments` by ISO 3166 country."""
        self.table = table
        self.segments: dict[str, NumberSegments] = dict(segments or {})
        routes = table.routes.values()
        self._ordered = sorted(routes, key=_particularity, reverse=True)  # stable: file order among equals
        # A value no route names cannot change the answer; leaving it out keeps the answers few.
        self._accounts = frozenset(route.match.account for route in routes if route.match.account)
        self._senders = frozenset(route.match.sender for route in routes if route.match.sender)
        self._prefixes = frozenset(route.match.prefix for route in routes if route.match.prefix)
        self._prefix_lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}, reverse=True))
        self._decisions: dict[tuple[str, str, int, str, str, str], Decision | None] = {}

    def route(
        self, msisdn: str, country: str, category: int, account: str, sender: str, carrier: str | None = None
    ) -> Decision | None:
        """Return the route of a message, None when no route takes it (`no_route`).

        `msisdn` and `country` as `msisdn.normalise` returns them; `carrier`, where given, is a better source
        than the number segment (a ported number).

        Raises:
            RequestError: `invalid_number`, field `to`: the number lies in a segment that takes no messages.
        """
        segments = self.segments.get(country)
        if segments is not None:
            segment = segments.lookup(msisdn)
            if segment is not None:
                if not segment.sms_capable:
                    raise RequestError(
                        "invalid_number", "the number lies in a segment without text messages", field="to"
                    )
                if carrier is None:
                    carrier = segment.carrier
        key = (
            country,
            carrier or "",
            category,
            account if account in self._accounts else "",
            sender if sender in self._senders else "",
            self._prefix_of(msisdn) if self._prefixes else "",
        )
        try:
            return self._decisions[key]
        except KeyError:
            decision = self._decide(*key)
            self._decisions[key] = decision
            return decision

    def explain(self, msisdn: str, country: str, category: int, account: str, sender: str) -> list[Route]:
        """Return every route that fits, the one taken first. For people and checks, not for the path."""
        segments = self.segments.get(country)
        segment = segments.lookup(msisdn) if segments is not None else None
        carrier = segment.carrier if segment is not None else ""
        prefix = self._prefix_of(msisdn)
        return [route for route in self._ordered if _fits(route, country, carrier, category, account, sender, prefix)]

    def _prefix_of(self, msisdn: str) -> str:
        """Return the longest prefix any route names: every other one that fits is a prefix of this one."""
        for length in self._prefix_lengths:
            if msisdn[:length] in self._prefixes:
                return msisdn[:length]
        return ""

    def _decide(
        self, country: str, carrier: str, category: int, account: str, sender: str, prefix: str
    ) -> Decision | None:
        for route in self._ordered:
            if _fits(route, country, carrier, category, account, sender, prefix):
                return Decision(route, carrier)
        return None


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
