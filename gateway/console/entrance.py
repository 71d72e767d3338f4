"""Who gets in: a name, a password and perhaps a code become a user; and what is noted where they do not.

Owns the order: the try is counted before anything is compared, so that many at once count each; a name that nobody has
takes as long and gets the same answer. Refuses to know cookies and bodies. Stands between the endpoints and the store.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.console import codes
from gateway.console.addresses import delayed_as
from gateway.console.parts import Parts
from gateway.errors import Backpressure, RequestError
from gateway.store.console_users import User

log = logging.getLogger(__name__)

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
MARK: Final = "console:"
"""Before a user's name where the audit names who did something: an operator with a token has none."""
_NOTED_MOST: Final = 30
_NOTED_WITHIN_S: Final = 600.0


@dataclass
class _Noted:
    """How many failures the audit got lately; the others are counted, so that nobody can fill it by failing."""

    until: float = 0.0
    noted: int = 0
    left_out: int = 0


@dataclass
class Entrance:
    """Compares what people say of themselves."""

    parts: Parts
    _noted: _Noted = field(default_factory=_Noted)

    async def prove(self, name: str, password: str, otp: str | None, address: str, *, inside: bool = False) -> User:
        """Return the user whose name and password these are, and whose code `otp` is; None: no code is asked for.

        `inside`: whoever says so has a session of this user. Their tries are counted apart, so that strangers who fail
        at the door do not keep them from what is sensitive, and a stolen session gets no more tries by it.

        Raises:
            RequestError: they are not, or a code is wanted (401).
            Backpressure: too many tries of this name or from this address failed (429).
            StoreUnavailable: nobody can tell.
        """
        sessions, users = self.parts.sessions.kept, self.parts.users
        by_name, *by_address = who = tries_of(name, address, inside=inside)
        this = await self._begin(*who)
        user = await users.get(name) if NAME.fullmatch(name) else None
        kept = user.password if user is not None and user.enabled else None
        try:
            fits = await self.parts.passwords.fits(kept, password)
        except Backpressure:
            await sessions.take_back(this, *who)  # nothing was compared
            raise
        if not fits or user is None:
            await self.failed("console.reauth" if inside else "console.sign_in", user, address)
            raise RequestError("wrong_password", "the name or the password is not right", status=401)
        if user.totp and otp is not None:
            if not otp:
                await sessions.take_back(this, *who)
                raise RequestError("otp_required", "the code of your authenticator is wanted", field="otp", status=401)
            step = codes.step_of(user.totp, otp, time.time())
            if step is None or not await users.use_step(name, step):
                await self.failed("console.code", user, address)
                raise RequestError("wrong_code", "the code is not right, or was used", field="otp", status=401)
        await sessions.forget_tries(by_name)
        await sessions.take_back(this, *by_address)
        if self.parts.passwords.is_old(user.password):
            newer = user.changed(password=await self.parts.passwords.hash(password))
            if (await users.change(newer)).word == "ok":
                return newer
            raise RequestError("changed", "somebody changed this user just now; try again", status=409)
        return user

    async def prove_token(self, digest: str, address: str) -> None:
        """Return where a set-up token (its hash) counts. Raises as `prove`, and RequestError (409) with users there."""
        by_address = f"a:{delayed_as(address)}"
        this = await self._begin(by_address)
        word = await self.parts.users.token_counts(digest)
        if word == "wrong":
            await self.failed("console.setup", None, address)
            raise RequestError("wrong_token", "the set-up token is not right, or too old", field="token", status=401)
        await self.parts.sessions.kept.take_back(this, by_address)
        if word == "late":
            raise already_set_up()

    async def _begin(self, *who: str) -> str:
        this = secrets.token_hex(8)
        wait_ms, _ = await self.parts.sessions.kept.begin_try(this, *who)
        if wait_ms:
            detail = "too many tries failed; wait"
            raise Backpressure("too_many_tries", detail, retry_after_s=wait_ms / 1000, status=429)
        return this

    async def failed(self, action: str, user: User | None, address: str) -> None:
        """Note a failure. A name that nobody has is not named: it may be a password in the wrong field."""
        whose = user.name if user is not None else "unknown"
        log.warning("console: a sign-in failed", extra={"fields": {"user": whose, "address": address}})
        noted, now = self._noted, time.monotonic()
        if now >= noted.until:
            noted.until, noted.noted = now + _NOTED_WITHIN_S, 0
        if noted.noted >= _NOTED_MOST:
            noted.left_out += 1
            return
        noted.noted += 1
        more: dict[str, Any] = {"also_failed": noted.left_out} if noted.left_out else {}
        noted.left_out = 0
        await self.parts.audit.note(f"nobody@{address}", action, whose, result="refused: 401", **more)


def tries_of(name: str, address: str = "", *, inside: bool) -> tuple[str, ...]:
    """Return under what tries are counted: at the door by name and by address, in a session by its user."""
    if inside:
        return (f"r:{name}",)
    return (f"n:{name}", f"a:{delayed_as(address)}") if address else (f"n:{name}",)


def already_set_up() -> RequestError:
    """Return the refusal of a set-up where there are users."""
    return RequestError("already_set_up", "the console has users: sign in, or ask one of them", status=409)
