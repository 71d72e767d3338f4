"""What the admin listener asks of the console, which stands above it: who comes with a session, and from where.

Owns the words between the two. Without a door nobody but those with a token gets in, and no path of the console
exists. Refuses to know how sessions are kept.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from gateway.admin.operators import Operator

PREFIX: Final = "/console"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who comes with a session."""

    operator: Operator
    session: str
    """Which one; not what opens it."""
    checked: bool
    """Whether their password was asked for lately."""


class Door(Protocol):
    """The console, as the listener knows it."""

    def routes(self) -> list[web.RouteDef]:
        """Return the console's own endpoints."""

    def is_open(self, request: web.Request) -> bool:
        """Tell whether anybody may ask this: the page, signing in."""

    def address_of(self, request: web.Request) -> str:
        """Return the client's address, where a trusted proxy stands between."""

    def is_tls(self, request: web.Request) -> bool:
        """Tell whether the client's connection ends in TLS at a trusted proxy."""

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Return who comes with a session, None where there is none that lives.

        Raises:
            RequestError: another site's page asks, or the session's own token is missing (403).
            StoreUnavailable: nobody can tell.
        """

    def watched(self, request: web.Request, visitor: Visitor) -> AbstractContextManager[None]:
        """End the running request when its session ends before it."""


def is_consoles(path: str) -> bool:
    """Tell whether a path is the console's."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")
