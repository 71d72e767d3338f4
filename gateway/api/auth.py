"""Who is asking: API keys to accounts.

Owns the lookup of a key by its SHA-256 and the count of failed tries by address. Refuses to know what an
account may do (intake) and to keep, log or answer anything of a key. Stands before the body is read, so that
only an account can make us hold one.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Iterable
from typing import Final

from gateway.apikey import key_id
from gateway.errors import Backpressure, RequestError
from gateway.settings import AccountSettings

_PREFIX: Final = "sha256:"
MAX_FAILURES: Final = 20
FAILURE_WINDOW_S: Final = 60.0
_MAX_ADDRESSES: Final = 10_000


class KeyRing:
    """The accounts by the hashes of their keys."""

    def __init__(self, accounts: Iterable[AccountSettings], before: KeyRing | None = None) -> None:
        """`before` is the ring of an earlier configuration: which keys were used is taken over."""
        self._by_digest: dict[bytes, tuple[bytes, AccountSettings]] = {}
        for account in accounts:
            for key_hash in account.key_hashes:
                digest = bytes.fromhex(key_hash.removeprefix(_PREFIX))
                self._by_digest[digest] = (digest, account)
        old = before._used if before is not None else {}
        self._used: dict[bytes, str] = {digest: name for digest, name in old.items() if digest in self._by_digest}
        self._dummy = hashlib.sha256(b"no key has this digest").digest()

    def account(self, authorization: str | None) -> AccountSettings | None:
        """Return the account of an `Authorization: Bearer` header, or None.

        The digest is looked up, then compared in constant time; an unknown key is compared as well, so
        that both take the same way.
        """
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        digest = hashlib.sha256(authorization[7:].strip().encode("utf-8", "surrogateescape")).digest()
        found = self._by_digest.get(digest)
        if found is None:
            hmac.compare_digest(digest, self._dummy)
            return None
        if not hmac.compare_digest(digest, found[0]):
            return None
        if digest not in self._used:
            self._used[digest] = key_id(authorization[7:].strip())
        return found[1]

    def take_used(self) -> dict[str, dict[str, str]]:
        """Return which keys were used since the last call (account → SHA-256 in hex → the id in it), and forget it."""
        used, self._used = self._used, {}
        found: dict[str, dict[str, str]] = {}
        for digest, name in used.items():
            found.setdefault(self._by_digest[digest][1].id, {})[digest.hex()] = name
        return found


class FailedTries:
    """Refused keys by address: after 20 within a minute an address gets 429 for a wrong key instead of 401.

    A right key always passes: behind one address there may be many applications. The table holds 10,000
    addresses at most; when it is full of fresh ones, new addresses share one entry.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._failures: dict[str, tuple[float, int]] = {}  # address → (window's start, failures in it)

    def refuse(self, address: str) -> RequestError | Backpressure:
        """Count one failure of `address` and return what to answer."""
        now = self._now()
        if address not in self._failures and len(self._failures) >= _MAX_ADDRESSES:
            self._forget(now)
            if len(self._failures) >= _MAX_ADDRESSES:
                address = ""
        since, count = self._failures.get(address, (now, 0))
        if now - since >= FAILURE_WINDOW_S:
            since, count = now, 0
        self._failures[address] = (since, count + 1)
        if count >= MAX_FAILURES:
            wait_s = math.ceil(since + FAILURE_WINDOW_S - now)
            return Backpressure("rate_limited", "too many wrong keys", retry_after_s=wait_s, status=429)
        return RequestError("unauthorized", "a valid key is needed: Authorization: Bearer <key>", status=401)

    def _forget(self, now: float) -> None:
        old = [a for a, (since, _) in self._failures.items() if now - since >= FAILURE_WINDOW_S]
        for address in old:
            del self._failures[address]
