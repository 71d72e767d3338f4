"""When an application's keys were last used, to the minute: what says which of two may be taken out of accounts.toml.

Owns where that stands in the store. Refuses to know keys: it is told the SHA-256 of one and the id it carries (the
eight digits behind `sg_live_`, which are no secret). Stands beside intake: `roles.api` writes what `api.auth` noted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.store import keys
from gateway.store.statistics import Shards

_KEPT_S: Final = 400 * 86_400


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What is known of one key."""

    at_s: int  # epoch seconds, to the minute
    key_id: str  # '' where the key is not of our form


class KeyUses:
    """The uses of all accounts' keys."""

    def __init__(self, store: Shards) -> None:
        self._client = store.client

    async def note(self, used: Mapping[str, Mapping[str, str]], now_s: float | None = None) -> None:
        """Note that keys were used just now: account → SHA-256 of the key (hex) → the id in it.

        Raises:
            StoreUnavailable: as for every call; noting it again later does no harm.
        """
        at_s = int(time.time() if now_s is None else now_s)
        for account, found in used.items():
            key = keys.account_key(account, "keys")
            fields = [x for digest, key_id in found.items() for x in (digest, f"{at_s} {key_id}")]
            if fields:
                await self._client.execute("HSET", key, *fields)
                await self._client.execute("EXPIRE", key, _KEPT_S)

    async def of(self, account: str) -> dict[str, KeyUse]:
        """Return what is known of an account's keys, by their SHA-256 (hex)."""
        flat = await self._client.execute("HGETALL", keys.account_key(account, "keys"))
        found = {}
        for i in range(0, len(flat), 2):
            at_s, _, key_id = flat[i + 1].decode().partition(" ")
            if at_s.isdigit():
                found[flat[i].decode()] = KeyUse(int(at_s), key_id)
        return found
