"""The console's users in the store, the tokens that make the first one, and the one-time codes that were used.

Owns a user's JSON and the keys `users`, `setup`, `steps` and `last` under `gw:{console}:` (`lua/console_user.lua`).
Refuses to know what a password is: it keeps the hash it is given. Stands beside `store`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from gateway.store import keys
from gateway.store.client import Client

MOST_USERS: Final = 500
MOST_TOKENS: Final = 16
_US: Final = b"\x1f"


class WithClient(Protocol):
    """What is needed of a store."""

    client: Client


@dataclass(frozen=True, slots=True)
class User:
    """One user; `version` moves with every change. Hash and secrets show in no `repr`."""

    name: str
    role: str
    password: str = field(repr=False)  # its hash
    enabled: bool = True
    created_ms: int = 0
    changed_ms: int = 0
    """When the password was set last."""
    totp: str = field(default="", repr=False)  # secret of the one-time codes, base32; '': none are wanted
    totp_next: str = field(default="", repr=False)  # one that waits for its first code
    version: int = 1

    def changed(self, **changes: Any) -> User:
        """Return the next version."""
        return replace(self, **changes, version=self.version + 1)


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a change: ok, exists, absent, moved, last or full; and how many sessions it ended."""

    word: str
    ended: int = 0


class ConsoleUsers:
    """The users of one store."""

    def __init__(self, store: WithClient) -> None:
        self._client = store.client

    async def count(self) -> int:
        """Return how many there are."""
        return int(await self._client.execute("HLEN", f"{keys.CONSOLE}users"))

    async def get(self, name: str) -> User | None:
        """Return one user."""
        raw = await self._client.execute("HGET", f"{keys.CONSOLE}users", name)
        return _user(name, raw) if raw is not None else None

    async def all(self) -> list[User]:
        """Return all users by name."""
        flat = await self._client.execute("HGETALL", f"{keys.CONSOLE}users")
        found = [_user(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)]
        return sorted(found, key=lambda user: user.name)

    async def last_sign_ins(self) -> dict[str, tuple[int, str]]:
        """Return when (epoch ms) and from where each user signed in last."""
        flat = await self._client.execute("HGETALL", f"{keys.CONSOLE}last")
        pairs = ((flat[i].decode(), flat[i + 1].partition(_US)) for i in range(0, len(flat), 2))
        return {name: (int(at), address.decode()) for name, (at, _, address) in pairs}

    async def add(self, user: User) -> Kept:
        """Keep a new user.

        Raises:
            StoreUnavailable: as for every call; it may have been kept, and the same call again tells.
        """
        return await self._put(user.name, 0, _json(user), "", guard=False)

    async def change(self, user: User, *, end: str = "", guard: bool = False) -> Kept:
        """Replace the version before `user`'s; `end` as in `lua/console_user.lua`, `guard` keeps an administrator."""
        return await self._put(user.name, user.version - 1, _json(user), end, guard=guard)

    async def remove(self, user: User, *, guard: bool = False) -> Kept:
        """Remove a user and end their sessions."""
        return await self._put(user.name, user.version, b"", "all", guard=guard)

    async def _put(self, name: str, version: int, content: bytes, end: str, *, guard: bool) -> Kept:
        args = [name, version, content, end, "1" if guard else "", MOST_USERS]
        word, ended = await self._client.call("console_user", [keys.CONSOLE], args)
        return Kept(word.decode(), int(ended))

    # --- the first one

    async def token_counts(self, digest: str) -> str:
        """Tell whether a set-up token (its hash) counts now: ok, late or wrong."""
        return str((await self._client.call("console_setup", [keys.CONSOLE], [digest, "", ""])).decode())

    async def set_up(self, digest: str, user: User) -> str:
        """Make the first user with a set-up token: ok, late (there is one) or wrong."""
        return str(
            (await self._client.call("console_setup", [keys.CONSOLE], [digest, user.name, _json(user)])).decode()
        )

    async def take_token(self, digest: str, valid_s: float) -> int:
        """Let a set-up token count; returns until when (epoch ms), 0 where there are users."""
        args = [digest, int(valid_s * 1000), MOST_TOKENS]
        return int(await self._client.call("console_token", [keys.CONSOLE], args))

    # --- one-time codes

    async def use_step(self, name: str, step: int) -> bool:
        """Use up the time step of a code; False where it, or a later one, was used."""
        args = [name, step, secrets.token_hex(4)]
        return bool(await self._client.call("console_step", [keys.CONSOLE], args))


def _json(user: User) -> bytes:
    return orjson.dumps(
        {
            "role": user.role, "password": user.password, "enabled": user.enabled, "created_ms": user.created_ms,
            "changed_ms": user.changed_ms, "totp": user.totp, "totp_next": user.totp_next, "version": user.version,
        }
    )  # fmt: skip


def _user(name: str, raw: bytes) -> User:
    return User(name, **orjson.loads(raw))
