"""The console as the admin listener knows it: its endpoints, and who comes with a session.

Owns which paths anybody may ask and where a client comes from. Refuses to know users, sessions and files beyond asking
them. One `Console` a configuration; what must outlive a reload is in the parts it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from gateway import __version__
from gateway.admin.door import Visitor
from gateway.admin.problem import json_answer
from gateway.admin.requests import operator_of
from gateway.console.addresses import Proxies
from gateway.console.files import Files
from gateway.settings import Settings

_SESSION: Final = "/console/api/session"
_OPEN: Final = frozenset({("GET", _SESSION), ("POST", _SESSION), ("POST", "/console/api/setup")})


class Console:
    """The console of one configuration."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._files = files
        self._proxies = Proxies(settings.console.trusted_proxies)

    def routes(self) -> list[web.RouteDef]:
        """Return the console's endpoints, for the admin server to add."""
        return [*self._files.routes(), web.get(_SESSION, self.get_session)]

    def is_open(self, request: web.Request) -> bool:
        """Tell whether anybody may ask this."""
        if request.method in ("GET", "HEAD") and not request.path.startswith("/console/api"):
            return request.path in ("/console", "/console/") or request.path.startswith("/console/static/")
        return (request.method, request.path) in _OPEN

    def address_of(self, request: web.Request) -> str:
        """Return the client's address."""
        return self._proxies.client(request.remote or "", _all(request, "X-Forwarded-For"))

    def is_tls(self, request: web.Request) -> bool:
        """Tell whether a trusted proxy was asked over TLS."""
        return self._proxies.is_tls(request.remote or "", _all(request, "X-Forwarded-Proto"))

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Return who comes with a session."""
        del request
        return None

    @contextlib.contextmanager
    def watched(self, visitor: Visitor) -> Iterator[None]:
        """End the running request when its session ends."""
        del visitor
        yield

    async def get_session(self, request: web.Request) -> web.Response:
        """Say who asks, and what they may do here."""
        operator = operator_of(request)
        if operator is None:
            return json_answer({"state": "signed_out", "version": __version__})
        return json_answer(
            {
                "state": "signed_in", "name": operator.name, "role": operator.role, "csrf": None, "reauth_s": None,
                "idle_s": None, "ends_at": None, "version": __version__, "totp": False,
            }
        )  # fmt: skip


def _all(request: web.Request, name: str) -> str:
    """Return a header's lines as one: a proxy may have added its own below the client's."""
    return ",".join(request.headers.getall(name, ()))
