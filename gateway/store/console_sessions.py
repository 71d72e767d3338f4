"""The console's sessions in the store, and the tries to sign in that were counted; the same for every machine.

Owns the keys `sessions` and `tries:` under `gw:{console}:` (`lua/console_open.lua`, `lua/console_try.lua`) and that a
session is kept under the hash of what opens it. Refuses to know cookies and passwords. All times are the store's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from gateway.store import keys
from gateway.store.console_users import User, WithClient

MOST_OF_ONE: Final = 20
FREE_TRIES: Final = 5
FIRST_WAIT_MS: Final = 2_000
LONGEST_WAIT_MS: Final = 900_000
REMEMBERED_MS: Final = 86_400_000
_US: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lives."""

    idle_ms: int
    longest_ms: int


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it stood at `now_ms`; times in epoch ms."""

    id: str
    name: str
    role: str
    begun_ms: int
    seen_ms: int
    checked_ms: int
    """When its user last gave their password."""
    address: str
    browser: str
    now_ms: int


def id_of(opener: str) -> str:
    """Return the id of the session that `opener`, a cookie's value, opens."""
    return hashlib.sha256(opener.encode("utf-8", "surrogateescape")).hexdigest()


class ConsoleSessions:
    """The sessions of one store."""

    def __init__(self, store: WithClient) -> None:
        self._client = store.client

    async def open(self, id_: str, user: User, address: str, browser: str, limits: Limits) -> bool:
        """Open a session for `user`; False where they are not what they were when they were read."""
        args = [
            id_, user.name, user.version, address, browser, limits.idle_ms, limits.longest_ms, MOST_OF_ONE
        ]  # fmt: skip
        return bool(await self._client.call("console_open", [keys.CONSOLE], args))

    async def look(
        self, id_: str, limits: Limits, *, used_after_ms: int | None = None, checked: bool = False
    ) -> Session | None:
        """Return a session that lives, in one call.

        With `used_after_ms` this is a use of it, noted where the last one is so long ago; `checked`: its user has just
        given their password.
        """
        used = "" if used_after_ms is None else used_after_ms
        args = [id_, limits.idle_ms, limits.longest_ms, used, "1" if checked else ""]
        found = await self._client.call("console_session", [keys.CONSOLE], args)
        return _session(id_, found[0], int(found[1])) if found else None

    async def all(self, limits: Limits) -> list[Session]:
        """Return all sessions that live, the one used last first."""
        flat = await self._client.execute("HGETALL", f"{keys.CONSOLE}sessions")
        seconds, micros = await self._client.execute("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        found = [_session(flat[i].decode(), flat[i + 1], now_ms) for i in range(0, len(flat), 2)]
        lives = [
            one for one in found if now_ms - one.seen_ms < limits.idle_ms and now_ms - one.begun_ms < limits.longest_ms
        ]
        return sorted(lives, key=lambda one: -one.seen_ms)

    async def close(self, *, name: str = "", id_: str = "", keep: str = "") -> int:
        """End one session (of `name`, where given), or all of `name` but the one to keep; returns how many."""
        assert name or id_, "whose?"
        return int(await self._client.call("console_close", [keys.CONSOLE], [name, id_, keep]))

    # --- tries to sign in

    async def begin_try(self, id_: str, *who: str) -> tuple[int, int]:
        """Count a try of each of `who` before the password is looked at; returns (ms to wait, 0: go on; tries)."""
        args = [id_, FREE_TRIES, FIRST_WAIT_MS, LONGEST_WAIT_MS, REMEMBERED_MS, *map(_hashed, who)]
        wait_ms, tries = await self._client.call("console_try", [keys.CONSOLE], args)
        return int(wait_ms), int(tries)

    async def take_back(self, id_: str, *who: str) -> None:
        """Take one try of each of `who` back: it was none."""
        await self._client.call("console_untry", [keys.CONSOLE], [id_, *map(_hashed, who)])

    async def forget_tries(self, *who: str) -> int:
        """Forget all tries of each of `who`; returns of how many there were any."""
        return int(await self._client.call("console_untry", [keys.CONSOLE], ["", *map(_hashed, who)]))


def _hashed(who: str) -> str:
    """Return what a name or address is counted under: people type passwords into the field of the name."""
    return hashlib.sha256(who.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _session(id_: str, raw: bytes, now_ms: int) -> Session:
    name, role, begun, seen, checked, address, browser = raw.decode().split(_US)
    return Session(id_, name, role, int(begun), int(seen), int(checked), address, browser, now_ms)
