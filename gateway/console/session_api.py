"""`/console/api`: signing in and out, the first user, and what users do about their own sign-in.

    GET    …/session                              → {state: setup | signed_out | signed_in, name, role, csrf, reauth_s,
                                                     idle_s, ends_at, version, totp}
    POST   …/session   {name, password, otp?}     → the same, and the cookie
    DELETE …/session                              → {state: signed_out}
    POST   …/setup     {token, name, password}    → as signing in
    POST   …/reauth    {password, otp?}           → the state; for five minutes what is sensitive is open
    POST   …/password  {old, new}                 → the state; all other sessions of the user end. Who has an
                                                     authenticator gives its code first (…/reauth)
    GET    …/sessions[?user=NAME or all]          → {sessions: [{id, name, role, address, browser, begun_at, seen_at,
                                                     here}]}
    DELETE …/sessions[/ID][?user=NAME]            → {ended: n}; without an ID all (of one's own but this one)
    POST   …/totp                                 → {secret, uri}, once
    PUT    …/totp      {code}                     → the state; from now on signing in wants a code
    DELETE …/totp                                 → the state

Owns these shapes. Refuses to know how a password is compared and where sessions are kept.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.admin.operators import ADMIN
from gateway.admin.problem import json_answer
from gateway.admin.requests import actor_of, address_of, noted, operator_of, read_object, unknown_field
from gateway.console import codes
from gateway.console.addresses import is_ours, stays_signed_in
from gateway.console.entrance import MARK, NAME, Entrance, already_set_up
from gateway.console.parts import Parts, limits_of
from gateway.console.passwords import check_new
from gateway.console.sessions import CHECKED_S, csrf_of, hand_out, is_checked, new_opener, opener_of, take_away
from gateway.console.setup_token import digest_of
from gateway.errors import RequestError
from gateway.model import iso
from gateway.settings import ConsoleSettings
from gateway.store.console_sessions import Session, id_of
from gateway.store.console_users import Kept, User

BASE: Final = "/console/api"
SESSION_OF: Final = web.RequestKey("console_session", Session)
"""The session that a request came with."""
_BROWSER_CHARS: Final = 160
_PRINTED: Final = re.compile(r"[^\x20-\x7e]")
_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass
class SessionApi:
    """What the endpoints work on."""

    settings: ConsoleSettings
    parts: Parts
    entrance: Entrance

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints, for the admin server to add."""
        return [
            web.get(f"{BASE}/session", self.get_session),
            web.post(f"{BASE}/session", self.post_session),
            web.delete(f"{BASE}/session", self.delete_session),
            web.post(f"{BASE}/setup", self.post_setup),
            web.post(f"{BASE}/reauth", self.post_reauth),
            web.post(f"{BASE}/password", self.post_password),
            web.get(f"{BASE}/sessions", self.get_sessions),
            web.delete(f"{BASE}/sessions", self.delete_sessions),
            web.delete(f"{BASE}/sessions/{{id}}", self.delete_one),
            web.post(f"{BASE}/totp", self.post_totp),
            web.put(f"{BASE}/totp", self.put_totp),
            web.delete(f"{BASE}/totp", self.delete_totp),
        ]

    # --- signing in and out

    async def get_session(self, request: web.Request) -> web.Response:
        """Say who asks, and whether anybody can sign in yet."""
        operator = operator_of(request)
        if operator is not None:
            return json_answer(
                {
                    "state": "signed_in", "name": operator.name, "role": operator.role, "csrf": None, "reauth_s": None,
                    "idle_s": None, "ends_at": None, "version": __version__, "totp": False,
                }
            )  # fmt: skip
        session = await self.parts.sessions.of(request, limits_of(self.settings), self.settings.origins)
        opener = opener_of(request)
        if session is not None and opener is not None:
            return await self._state(session, opener)
        state = "signed_out" if await self.parts.users.count() else "setup"
        answer = json_answer({"state": state, "version": __version__})
        if opener is not None:
            take_away(answer)
        return answer

    async def post_session(self, request: web.Request) -> web.Response:
        """Sign in."""
        noted(request)
        self._check_entry(request)
        body = await read_object(request)
        unknown_field(body, {"name", "password", "otp"})
        name, password, otp = (_text(body, field, "") for field in ("name", "password", "otp"))
        user = await self.entrance.prove(name, password, otp, address_of(request))
        return await self._enter(request, user, "console.sign_in")

    async def post_setup(self, request: web.Request) -> web.Response:
        """Make the first user, with the token that only who runs the gateway can read."""
        noted(request)
        self._check_entry(request)
        body = await read_object(request)
        unknown_field(body, {"token", "name", "password"})
        digest = digest_of(_text(body, "token"))
        await self.entrance.prove_token(digest, address_of(request))
        name = name_of(body)
        password = check_new(body.get("password"), name, "password")
        now_ms = time.time_ns() // 1_000_000
        user = User(name, ADMIN, await self.parts.passwords.hash(password), created_ms=now_ms, changed_ms=now_ms)
        if await self.parts.users.set_up(digest, user) != "ok":
            raise already_set_up()
        await self.parts.token.remove()
        return await self._enter(request, user, "console.setup")

    def _check_entry(self, request: web.Request) -> None:
        """Refuse other sites' pages, and a browser that would not keep the cookie."""
        if not is_ours(request.headers, self.settings.origins, must_say=False):
            detail = "another site's page asked for this (or console.origins lacks this one)"
            raise RequestError("cross_site", detail, status=403)
        if not stays_signed_in(request.headers.get("Origin")):
            detail = "over plain http from another machine no browser keeps the session: use https or an SSH tunnel"
            raise RequestError("insecure_origin", detail, status=400)

    async def _enter(self, request: web.Request, user: User, action: str) -> web.Response:
        """Open a new session for a user; the one their browser had ends."""
        before, opener = opener_of(request), new_opener()
        kept, limits, address = self.parts.sessions.kept, limits_of(self.settings), address_of(request)
        browser = _PRINTED.sub("", request.headers.get("User-Agent", ""))[:_BROWSER_CHARS]
        session = None
        if await kept.open(id_of(opener), user, address, browser, limits):
            session = await kept.look(id_of(opener), limits)
        if session is None:
            raise RequestError("changed", "somebody changed this user just now; try again", status=409)
        if before is not None:
            await kept.close(id_=id_of(before))
            self.parts.sessions.forget()
        await self.parts.audit.note(f"{MARK}{user.name}@{address}", action, user.name, after=user.role)
        answer = await self._state(session, opener, user)
        hand_out(answer, opener)
        return answer

    async def delete_session(self, request: web.Request) -> web.Response:
        """Sign out."""
        session = _mine(request)
        noted(request)
        await self.parts.sessions.kept.close(id_=session.id)
        self.parts.sessions.forget()
        await self.parts.audit.note(actor_of(request), "console.sign_out", session.name)
        answer = json_answer({"state": "signed_out", "version": __version__})
        take_away(answer)
        return answer

    # --- one's own

    async def post_reauth(self, request: web.Request) -> web.Response:
        """Give the password again; it counts for five minutes in this session."""
        session = _mine(request)
        noted(request)
        body = await read_object(request)
        unknown_field(body, {"password", "otp"})
        password, otp = _text(body, "password", ""), _text(body, "otp", "")
        user = await self.entrance.prove(session.name, password, otp, address_of(request), inside=True)
        await self.parts.audit.note(actor_of(request), "console.reauth", session.name)
        return await self._checked(request, user)

    async def post_password(self, request: web.Request) -> web.Response:
        """Change one's own password; all other sessions of the user end."""
        session = _mine(request)
        noted(request)
        body = await read_object(request)
        unknown_field(body, {"old", "new"})
        new = check_new(body.get("new"), session.name, "new")
        old = _text(body, "old", "")
        if (await self._user(session)).totp and not is_checked(session):
            # Else the password alone would do here what it does nowhere else.
            raise RequestError("reauth_required", "give your password and a code for this", status=403)
        user = await self.entrance.prove(session.name, old, None, address_of(request), inside=True)
        if old == new:
            raise RequestError("weak_password", "this is the old one", field="new")
        changed = user.changed(
            password=await self.parts.passwords.hash(new), changed_ms=time.time_ns() // 1_000_000
        )  # fmt: skip
        kept = settled(await self.parts.users.change(changed, end=session.id))
        self.parts.sessions.forget()
        await self.parts.audit.note(actor_of(request), "console.password", session.name, sessions_ended=kept.ended)
        return await self._checked(request, changed, checked=not changed.totp)

    async def post_totp(self, request: web.Request) -> web.Response:
        """Make a secret for one-time codes; they are wanted once one was given (PUT)."""
        user = await self._user(_mine(request))
        noted(request)
        secret = codes.new_secret()
        settled(await self.parts.users.change(user.changed(totp_next=secret)))
        await self.parts.audit.note(actor_of(request), "console.totp_begun", user.name)
        host = request.host.partition(":")[0]
        return json_answer({"secret": secret, "uri": codes.address(secret, user.name, host)})

    async def put_totp(self, request: web.Request) -> web.Response:
        """Show by a code that the app has the secret: from now on signing in wants one."""
        user = await self._user(_mine(request))
        noted(request)
        body = await read_object(request)
        unknown_field(body, {"code"})
        if not user.totp_next:
            raise RequestError("not_begun", "there is no secret that waits for its first code", status=409)
        step = codes.step_of(user.totp_next, _text(body, "code"), time.time())
        if step is None or not await self.parts.users.use_step(user.name, step):
            raise RequestError("wrong_code", "the code is not right, or was used", field="code")
        changed = user.changed(totp=user.totp_next, totp_next="")
        settled(await self.parts.users.change(changed))
        await self.parts.audit.note(actor_of(request), "console.totp_on", user.name)
        return await self._checked(request, changed, checked=False)

    async def delete_totp(self, request: web.Request) -> web.Response:
        """Want no one-time codes any more."""
        user = await self._user(_mine(request))
        noted(request)
        changed = user.changed(totp="", totp_next="")
        settled(await self.parts.users.change(changed))
        await self.parts.audit.note(actor_of(request), "console.totp_off", user.name)
        return await self._checked(request, changed, checked=False)

    async def _user(self, session: Session) -> User:
        user = await self.parts.users.get(session.name)
        if user is None:
            raise RequestError("not_found", "this user is gone", status=404)
        return user

    async def _checked(self, request: web.Request, user: User, *, checked: bool = True) -> web.Response:
        session, opener = _mine(request), opener_of(request)
        if checked:
            session_now = await self.parts.sessions.checked(session.id, limits_of(self.settings))
        else:
            session_now = await self.parts.sessions.kept.look(session.id, limits_of(self.settings))
        if session_now is None or opener is None:
            raise RequestError("unauthorized", "the session has ended", status=401)
        return await self._state(session_now, opener, user)

    async def _state(self, session: Session, opener: str, user: User | None = None) -> web.Response:
        user = user or await self.parts.users.get(session.name)
        limits = limits_of(self.settings)
        idle_ms = min(session.seen_ms + limits.idle_ms, session.begun_ms + limits.longest_ms) - session.now_ms
        left_s = CHECKED_S - (session.now_ms - session.checked_ms) / 1000
        return json_answer(
            {
                "state": "signed_in", "name": session.name, "role": session.role, "csrf": csrf_of(opener),
                "reauth_s": max(0, math.floor(left_s)), "idle_s": max(0, idle_ms // 1000),
                "ends_at": iso(session.begun_ms + limits.longest_ms), "version": __version__,
                "totp": user is not None and bool(user.totp),
            }
        )  # fmt: skip

    # --- sessions

    async def get_sessions(self, request: web.Request) -> web.Response:
        """List one's own sessions; admins may ask for another user's, or all."""
        whose, here = self._whose(request), request.get(SESSION_OF)
        found = await self.parts.sessions.kept.all(limits_of(self.settings))
        shown = [one for one in found if whose is None or one.name == whose]
        return json_answer({"sessions": [_session(one, here=here is not None and one.id == here.id) for one in shown]})

    async def delete_sessions(self, request: web.Request) -> web.Response:
        """End all sessions of a user; of one's own all but this one."""
        whose, here = self._whose(request), request.get(SESSION_OF)
        if not whose:
            raise RequestError("invalid_field", "whose? ?user=NAME", field="user")
        keep = here.id if here is not None and here.name == whose else ""
        return await self._end(request, whose, await self.parts.sessions.kept.close(name=whose, keep=keep))

    async def delete_one(self, request: web.Request) -> web.Response:
        """End one session."""
        id_, operator, here = request.match_info["id"], operator_of(request), request.get(SESSION_OF)
        found = await self.parts.sessions.kept.all(limits_of(self.settings)) if _ID.fullmatch(id_) else []
        mine = here.name if here is not None else ""
        may_all = operator is not None and operator.may(ADMIN)
        one = next((one for one in found if one.id == id_ and (may_all or one.name == mine)), None)
        if one is None:
            raise RequestError("not_found", "there is no such session", status=404)
        return await self._end(request, one.name, await self.parts.sessions.kept.close(name=one.name, id_=one.id))

    async def _end(self, request: web.Request, whose: str, ended: int) -> web.Response:
        noted(request)
        self.parts.sessions.forget()
        await self.parts.audit.note(actor_of(request), "console.session_ended", whose, sessions_ended=ended)
        return json_answer({"ended": ended})

    def _whose(self, request: web.Request) -> str | None:
        """Return whose sessions are asked for, None for everybody's."""
        here, operator = request.get(SESSION_OF), operator_of(request)
        mine = here.name if here is not None else ""
        wanted = request.query.get("user", mine)
        if wanted != mine and (operator is None or not operator.may(ADMIN)):
            raise RequestError("forbidden", "this is for operators of the role admin", status=403)
        return None if wanted == "all" and mine != "all" else wanted


def name_of(body: dict[str, Any]) -> str:
    """Return the name of a new user. Raises RequestError."""
    name = body.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError("invalid_field", "1 to 32 of a-z 0-9 . _ -, the first a letter or digit", field="name")
    return name


def settled(kept: Kept) -> Kept:
    """Return what became of a change where it was made. Raises RequestError (409)."""
    if kept.word == "ok":
        return kept
    said = {
        "exists": "there is a user of this name",
        "last": "nobody who may administrate would be left (`smsgw console` may do this)",
        "full": "there are too many users",
    }.get(kept.word, "somebody changed this user just now; look again")
    raise RequestError({"exists": "exists", "last": "last_admin"}.get(kept.word, "changed"), said, status=409)


def _mine(request: web.Request) -> Session:
    session: Session | None = request.get(SESSION_OF)
    if session is None:
        raise RequestError("no_session", "this is for users who signed in: a token has no session", status=409)
    return session


def _text(body: dict[str, Any], field: str, usual: str | None = None) -> str:
    value = body.get(field, usual)
    if value is None and usual is not None:
        return usual
    if not isinstance(value, str):
        raise RequestError("invalid_field", "text in quotes is wanted", field=field)
    return value


def _session(one: Session, *, here: bool) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "role": one.role, "address": one.address, "browser": one.browser,
        "begun_at": iso(one.begun_ms), "seen_at": iso(one.seen_ms), "here": here,
    }  # fmt: skip
