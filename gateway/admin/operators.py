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
_ADMINS: Final = ("/admin/v1/erase", "/admin/v1/config", "/admin/v1/operators")
"""Not to be undone, or about everybody: for the role admin, but for looking."""
_WHOLE: Final = ("/admin/v1/blacklist/entries",)
"""Looks that give whole numbers away: not for viewers. Texts and numbers of replies (`full=1`) are asked for there."""


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
    """Return the role that a request wants; `full` asks for whole numbers and texts."""
    if method in _LOOKING:
        return OPERATOR if full or path in _WHOLE else VIEWER
    return ADMIN if path.startswith(_ADMINS) else OPERATOR


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
