"""The console as the admin listener knows it: its endpoints, and who comes with a session.

Owns which paths anybody may ask and where a client comes from. Refuses to know users, passwords and files beyond asking
them. One `Console` a configuration; what must outlive a reload is in the parts it is given.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from aiohttp import web

from gateway.admin.door import Visitor
from gateway.admin.operators import Operator
from gateway.console.addresses import Proxies
from gateway.console.entrance import MARK, Entrance
from gateway.console.parts import Parts, limits_of
from gateway.console.session_api import BASE, SESSION_OF, SessionApi
from gateway.console.sessions import is_checked
from gateway.console.users_api import UsersApi
from gateway.settings import ConsoleSettings

_OPEN: Final = frozenset({("GET", f"{BASE}/session"), ("POST", f"{BASE}/session"), ("POST", f"{BASE}/setup")})


class Console:
    """The console of one configuration."""

    def __init__(self, settings: ConsoleSettings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._limits = limits_of(settings)
        self._proxies = Proxies(settings.trusted_proxies)
        self._session_api = SessionApi(settings, parts, Entrance(parts))
        self._users_api = UsersApi(settings, parts)

    def routes(self) -> list[web.RouteDef]:
        """Return the console's endpoints, for the admin server to add."""
        return [*self._parts.files.routes(), *self._session_api.routes(), *self._users_api.routes()]

    def is_open(self, request: web.Request) -> bool:
        """Tell whether anybody may ask this."""
        if request.method in ("GET", "HEAD") and not request.path.startswith(BASE):
            return request.path in ("/console", "/console/") or request.path.startswith("/console/static/")
        return (request.method, request.path) in _OPEN

    def address_of(self, request: web.Request) -> str:
        """Return the client's address."""
        return self._proxies.client(request.remote or "", _all(request, "X-Forwarded-For"))

    def is_tls(self, request: web.Request) -> bool:
        """Tell whether a trusted proxy was asked over TLS."""
        return self._proxies.is_tls(request.remote or "", _all(request, "X-Forwarded-Proto"))

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Return who comes with a session, None where there is none that lives.

        Raises:
            RequestError: another site's page asks, or the session's own token is missing (403).
            StoreUnavailable: nobody can tell.
        """
        session = await self._parts.sessions.of(request, self._limits, self._settings.origins)
        if session is None:
            return None
        request[SESSION_OF] = session
        return Visitor(Operator(f"{MARK}{session.name}", session.role), session.id, is_checked(session))

    def watched(self, request: web.Request, visitor: Visitor) -> AbstractContextManager[None]:
        """End the running request when its session ends."""
        looks = request.method in ("GET", "HEAD")
        return self._parts.sessions.watched(visitor.session, self._limits, ends=looks)


def _all(request: web.Request, name: str) -> str:
    """Return a header's lines as one: a proxy may have added its own below the client's."""
    return ",".join(request.headers.getall(name, ()))
