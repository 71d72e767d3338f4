"""Passwords of the console's users: which are taken, and how they are hashed (argon2id, RFC 9106 §4, second choice).

Owns the parameters, and that at most two are worked on at once: each takes 64 MiB and about 0.25 s of a core, in
a thread. Refuses to know whose they are. A name that nobody has costs the same as one that somebody has.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import unicodedata
from collections.abc import AsyncIterator
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.errors import Backpressure, RequestError

SHORTEST, LONGEST = 12, 256
AT_ONCE: Final = 2
WAITING_MOST: Final = 16
"""As many may wait for their turn, about two seconds on an idle machine; the others hear at once that it is busy."""
_BUSY_S: Final = 2.0
HASHER: Final = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)
"""One lane: a sign-in must not take all the cores from the messages."""
_FEWEST_DIFFERENT: Final = 5
_OWN_MUST_BE: Final = 8  # characters that are not the user's name
_RUNS: Final = ("0123456789012345678901234567890", "9876543210987654321098765432109", "abcdefghijklmnopqrstuvwxyz",
                "qwertyuiopasdfghjklzxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "1q2w3e4r5t6y7u8i9o0p")  # fmt: skip
_OBVIOUS: Final = (
    "password", "letmein", "welcome", "changeme", "iloveyou", "administrator", "admin", "smsgw", "gateway", "console",
    "secret", "qwerty", "operator", "woaini", "mima",
)  # fmt: skip
"""Words that people choose; a password that is nothing but one of them, in disguise or with figures, is refused."""
_AROUND: Final = "0123456789!?.,:;_-+*#$%&/=~^ "
_AS_LETTERS: Final = str.maketrans("@0134$57", "aoieas" + "st")


class Passwords:
    """Hashes and compares, a few at a time. One a process."""

    def __init__(self, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._room = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """Return what is kept of a password. Raises Backpressure (503): too many wait."""
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, _spelt(password))

    async def fits(self, kept: str | None, password: str) -> bool:
        """Tell whether a password is the one that `kept` was made of; None: of nobody, which takes as long.

        Raises:
            Backpressure: too many wait already (503); nothing was compared.
        """
        async with self._turn():
            return await asyncio.to_thread(self._fits, kept, _spelt(password))

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING_MOST:
            raise Backpressure("busy", "too many sign in at once; try again", retry_after_s=_BUSY_S)
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()

    def is_old(self, kept: str) -> bool:
        """Tell whether `kept` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(kept)

    def _fits(self, kept: str | None, password: str) -> bool:
        if not self._nobodys:
            self._nobodys = self._hasher.hash(secrets.token_urlsafe(16))
        try:
            return self._hasher.verify(kept or self._nobodys, password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def check_new(password: object, name: str, field: str) -> str:
    """Return a password that a user may have. Raises RequestError; never repeats it."""
    if not isinstance(password, str):
        raise RequestError("invalid_field", "a password in quotes is wanted", field=field)
    spelt = _spelt(password)
    if not SHORTEST <= len(spelt) <= LONGEST:
        raise RequestError("weak_password", f"{SHORTEST} to {LONGEST} characters are wanted", field=field)
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in spelt):
        raise RequestError("invalid_field", "control characters cannot be typed again", field=field)
    if _is_obvious(spelt.lower(), name):
        raise RequestError("weak_password", "this one is among the first that are tried; take another", field=field)
    return password


def _is_obvious(password: str, name: str) -> bool:
    if len(set(password)) < _FEWEST_DIFFERENT or any(password in run or password in run * 2 for run in _RUNS):
        return True
    if len(name) >= 2 and len(password.replace(name, "")) < _OWN_MUST_BE and name in password:
        return True
    core = password.strip(_AROUND).translate(_AS_LETTERS)
    bare = "".join(char for char in core if char.isalpha())
    return any(bare.replace(word, "") == "" and word in bare for word in _OBVIOUS)


def _spelt(password: str) -> str:
    """Return one spelling of what may be typed as several (NIST SP 800-63B §5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
