"""`/console/api/users`: the console's users, for admins and for `smsgw console`; and a new set-up token.

    GET    …/users                                             → {users: [{name, role, enabled, totp, created_at,
                                                                   password_at, last_at, last_address, sessions}]}
    POST   …/users         {name, role, password}              → the user, 201
    PUT    …/users/{name}  {role?, enabled?, password?, totp: false?, unlock: true?, address?}
                                                               → the user, and sessions_ended
    DELETE …/users/{name}                                      → {removed, sessions_ended}
    POST   /console/api/setup-token                            → {token, valid_until, file}, once

Another role, a new password, and being disabled end all sessions of a user. Owns these shapes and what is noted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, noted, read_object, unknown_field
from gateway.console.addresses import parse
from gateway.console.entrance import already_set_up, tries_of
from gateway.console.parts import Parts, limits_of
from gateway.console.passwords import check_new
from gateway.console.session_api import BASE, SESSION_OF, name_of, settled
from gateway.errors import RequestError
from gateway.model import iso
from gateway.settings import ConsoleSettings
from gateway.settings.values import OPERATOR_ROLES
from gateway.store.console_users import User


@dataclass
class UsersApi:
    """What the endpoints work on."""

    settings: ConsoleSettings
    parts: Parts

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        return [
            web.get(f"{BASE}/users", self.get_users),
            web.post(f"{BASE}/users", self.post_user),
            web.put(f"{BASE}/users/{{name}}", self.put_user),
            web.delete(f"{BASE}/users/{{name}}", self.delete_user),
            web.post(f"{BASE}/setup-token", self.post_setup_token),
        ]

    async def get_users(self, request: web.Request) -> web.Response:
        """List the users."""
        del request
        last = await self.parts.users.last_sign_ins()
        sessions = [one.name for one in await self.parts.sessions.kept.all(limits_of(self.settings))]
        found = []
        for user in await self.parts.users.all():
            at_ms, address = last.get(user.name, (0, ""))
            more = {"last_at": iso(at_ms) if at_ms else None, "last_address": address or None}
            found.append({**_shown(user), **more, "sessions": sessions.count(user.name)})
        return json_answer({"users": found})

    async def post_user(self, request: web.Request) -> web.Response:
        """Add a user."""
        body = await read_object(request)
        unknown_field(body, {"name", "role", "password"})
        name, role = name_of(body), _role(body.get("role", "operator"))
        password = check_new(body.get("password"), name, "password")
        now_ms = time.time_ns() // 1_000_000
        hashed = await self.parts.passwords.hash(password)
        user = User(name, role, hashed, created_ms=now_ms, changed_ms=now_ms)
        noted(request)
        settled(await self.parts.users.add(user))
        await self.parts.audit.note(actor_of(request), "console.user_added", name, after=role)
        await self.parts.token.remove()  # with a user there, no set-up token counts
        return json_answer(_shown(user), status=201)

    async def put_user(self, request: web.Request) -> web.Response:
        """Change a user, or let one who failed too often try again at once."""
        body = await read_object(request)
        unknown_field(body, {"role", "enabled", "password", "totp", "unlock", "address"})
        user = await self._named(request)
        changes: dict[str, Any] = {}
        words: list[str] = []
        if "role" in body and _role(body["role"]) != user.role:
            changes["role"] = body["role"]
            words.append(f"role {body['role']}")
        if "enabled" in body and _flag(body, "enabled") != user.enabled:
            changes["enabled"] = body["enabled"]
            words.append("enabled" if body["enabled"] else "disabled")
        if "password" in body:
            password = check_new(body["password"], user.name, "password")
            changes["password"] = await self.parts.passwords.hash(password)
            changes["changed_ms"] = time.time_ns() // 1_000_000
            words.append("password")
        if "totp" in body:
            if _flag(body, "totp"):
                raise RequestError("invalid_field", "only its user can turn it on: false is wanted", field="totp")
            if user.totp or user.totp_next:
                changes |= {"totp": "", "totp_next": ""}
                words.append("totp off")
        noted(request)
        ended = 0
        if changes:
            keeps = changes.keys() <= {"totp", "totp_next"}
            changed = user.changed(**changes)
            guard = SESSION_OF in request
            ended = settled(await self.parts.users.change(changed, end="" if keeps else "all", guard=guard)).ended
            self.parts.sessions.forget()
            before = f"role {user.role}" if "role" in changes else ""
            await self.parts.audit.note(
                actor_of(request), "console.user_changed", user.name, before, ", ".join(words), sessions_ended=ended
            )
            user = changed
        if "unlock" in body and _flag(body, "unlock"):
            await self._unlock(request, user, body.get("address"))
        return json_answer({**_shown(user), "sessions_ended": ended})

    async def _unlock(self, request: web.Request, user: User, address: object) -> None:
        """Forget the tries that failed, of a name and, where it is given, from an address."""
        given = ""
        if address is not None:
            found = parse(address) if isinstance(address, str) else None
            if found is None:
                raise RequestError("invalid_field", "an address is wanted", field="address")
            given = str(found)
        who = (*tries_of(user.name, given, inside=False), *tries_of(user.name, inside=True))
        await self.parts.sessions.kept.forget_tries(*who)
        await self.parts.audit.note(actor_of(request), "console.unlocked", user.name)

    async def delete_user(self, request: web.Request) -> web.Response:
        """Remove a user."""
        user = await self._named(request)
        noted(request)
        ended = settled(await self.parts.users.remove(user, guard=SESSION_OF in request)).ended
        self.parts.sessions.forget()
        await self.parts.audit.note(
            actor_of(request), "console.user_removed", user.name, f"role {user.role}", sessions_ended=ended
        )
        return json_answer({"removed": user.name, "sessions_ended": ended})

    async def post_setup_token(self, request: web.Request) -> web.Response:
        """Make a new set-up token, while there is no user."""
        made = await self.parts.token.make()
        if made is None:
            raise already_set_up()
        noted(request)
        token, until_ms = made
        await self.parts.audit.note(actor_of(request), "console.setup_token", "console", after=iso(until_ms))
        return json_answer({"token": token, "valid_until": iso(until_ms), "file": str(self.parts.token.path)})

    async def _named(self, request: web.Request) -> User:
        user = await self.parts.users.get(request.match_info["name"])
        if user is None:
            raise RequestError("not_found", "there is no such user", status=404)
        return user


def _role(value: object) -> str:
    if value not in OPERATOR_ROLES:
        raise RequestError("invalid_field", f"one of {', '.join(OPERATOR_ROLES)} is wanted", field="role")
    return str(value)


def _flag(body: dict[str, Any], field: str) -> bool:
    if not isinstance(body[field], bool):
        raise RequestError("invalid_field", "true or false is wanted", field=field)
    return bool(body[field])


def _shown(user: User) -> dict[str, Any]:
    return {
        "name": user.name, "role": user.role, "enabled": user.enabled, "totp": bool(user.totp),
        "created_at": iso(user.created_ms), "password_at": iso(user.changed_ms),
    }  # fmt: skip
