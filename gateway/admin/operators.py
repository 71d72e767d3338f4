"""Who may ask the admin listener for what: operators by their tokens, and the role each path wants.

Owns the comparison of tokens (in constant time, all of them, whichever it is) and the table of roles. Refuses to know
what an endpoint does. Stands before the endpoints; the audit names an operator as this file does.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from gateway.settings import AdminSettings
from gateway.settings.values import OPERATOR_ROLES

PLAIN: Final = "admin"
"""Name and role of whoever has `admin.token`."""
VIEWER, OPERATOR, ADMIN = OPERATOR_ROLES
_LOOKING: Final = ("GET", "HEAD")
_ADMINS: Final = (
    "/admin/v1/erase",
    "/admin/v1/config",
    "/admin/v1/operators",
    "/admin/v1/accounts/{id}/key",
    "/console/api/setup-token",
)
"""Not to be undone, or about everybody: for the role admin, but for looking."""
_USERS: Final = "/console/api/users"
"""The console's users: for the role admin, looking too."""
_OWN: Final = (
    "/console/api/session",
    "/console/api/sessions",
    "/console/api/reauth",
    "/console/api/password",
    "/console/api/totp",
)
"""What every user of the console does about their own sign-in."""
_WHOLE: Final = ("/admin/v1/blacklist/entries",)
"""Looks that give whole numbers away: not for viewers. Texts and numbers of replies (`full=1`) are asked for there."""
ONLY_LOOKS: Final = frozenset(
    {
        "/admin/v1/blacklist/search",
        "/admin/v1/explain",
        "/admin/v1/gates/preview",
        "/admin/v1/messages/find",
        "/admin/v1/inbound/search",
        "/admin/v1/templates/{id}/preview",
    }
)
"""POSTs that change nothing (numbers and texts stand in no path): what they show, a GET would show."""
FULL_IN_BODY: Final = frozenset({"/admin/v1/messages/find", "/admin/v1/inbound/search"})
"""Those of them that show whole numbers and texts where their body has `"full": true`."""
_PASSWORD: Final = (
    ("POST", "/admin/v1/accounts/{id}/key"),
    ("GET", "/admin/v1/blacklist/entries"),
    ("POST", "/admin/v1/config/rollback"),
    ("POST", "/admin/v1/config/write"),
    ("POST", "/admin/v1/erase"),
    ("POST", "/console/api/setup-token"),
    ("POST", "/console/api/totp"),
    ("DELETE", "/console/api/totp"),
    ("POST", _USERS),
    ("PUT", f"{_USERS}/{{name}}"),
    ("DELETE", f"{_USERS}/{{name}}"),
)
"""What a session may do only while its password check is fresh; and everything with whole numbers and texts."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may ask."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether they may do what a role may."""
        return OPERATOR_ROLES.index(self.role) >= OPERATOR_ROLES.index(role)


class Operators:
    """The operators of one configuration."""

    def __init__(self, settings: AdminSettings) -> None:
        known = [(one.token.reveal(), Operator(one.name, one.role)) for one in settings.operators]
        if settings.token is not None:
            known.append((settings.token.reveal(), Operator(PLAIN, ADMIN)))
        self._known = [(_digest(token), who) for token, who in known if token]

    def find(self, authorization: str | None) -> Operator | None:
        """Return whose token an Authorization header holds; every known one is compared, in constant time."""
        sent = authorization or ""
        given = _digest(sent.removeprefix("Bearer ")) if sent.startswith("Bearer ") else b""
        found = None
        for digest, who in self._known:
            if hmac.compare_digest(given, digest):
                found = who
        return found


def role_for(method: str, path: str, *, full: bool = False) -> str:
    """Return the role a request wants; `path` as its endpoint writes it, `full` asks for whole numbers and texts."""
    if path.startswith(_USERS):
        return ADMIN
    if method in _LOOKING or (method == "POST" and path in ONLY_LOOKS):
        return OPERATOR if full or path in _WHOLE else VIEWER
    if path.startswith(_OWN):
        return VIEWER
    return ADMIN if path.startswith(_ADMINS) else OPERATOR


def wants_password(method: str, path: str, *, full: bool = False) -> bool:
    """Tell whether a session must have shown its password lately for this; `path` and `full` as in `role_for`."""
    return full or ("GET" if method == "HEAD" else method, path) in _PASSWORD


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
