"""An account's rate and daily quota, drawn from the store in chunks and spent in the worker's memory.

Owns the allowance a worker holds for each account. Refuses to guess: without an answer of the store nothing
is granted (fail closed). Stands in intake, after a message was found sound and before it is stored; with a
chunk in hand it costs no call and 0.3 µs a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.errors import Backpressure, StoreUnavailable
from gateway.store import keys

CHUNK_S: Final = 0.1
"""A draw covers the account's next 100 ms, so that several workers share a rate fairly."""
RATE_LAPSE_S: Final = 0.2
"""What was not spent by then is void: a worker that hoards, or was frozen, must not send a burst later."""
QUOTA_CHUNK: Final = 1000


class Limited(Protocol):
    """The part of an account's settings that limits it; 0 means no limit."""

    @property
    def id(self) -> str: ...
    @property
    def max_per_s(self) -> int: ...
    @property
    def daily_quota(self) -> int: ...


class Runner(Protocol):
    """The part of the store that runs one script."""

    async def run(self, script: str, script_keys: Sequence[str], args: Sequence[Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """How many of the wanted messages may pass, and what to answer to the rest."""

    granted: int
    refusal: Backpressure | None = None


class _Allowance:
    """What one worker may still spend for one account. Times are monotonic seconds."""

    __slots__ = ("blocked_until", "day", "lock", "quota_left", "quota_until", "rate_left", "rate_until")

    def __init__(self) -> None:
        self.rate_left = 0
        self.rate_until = 0.0
        self.blocked_until = 0.0  # the bucket was seen empty: no use in asking before
        self.quota_left = 0
        self.quota_until = 0.0
        self.day = 0
        self.lock = asyncio.Lock()


class AccountLimiter:
    """Rate and quota of all accounts of one worker."""

    def __init__(self, store: Runner, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = monotonic
        self._allowances: dict[str, _Allowance] = {}

    def take_now(self, account: Limited, n: int) -> bool:
        """Spend `n` messages from what is in hand; False when it is not enough (nothing is spent then)."""
        held = self._allowances.get(account.id)
        if held is None:
            return False
        now = self._now()
        if account.max_per_s and (held.rate_left < n or now >= held.rate_until):
            return False
        if account.daily_quota and (held.quota_left < n or now >= held.quota_until):
            return False
        held.rate_left -= n
        held.quota_left -= n
        return True

    async def take(self, account: Limited, n: int) -> Grant:
        """Spend up to `n` messages, drawing from the store what is missing.

        A batch larger than what is left is granted in part, so that its first items pass.

        Raises:
            StoreUnavailable: no answer, so nothing is granted; `not_stored`.
        """
        held = self._allowances.setdefault(account.id, _Allowance())
        async with held.lock:  # one draw at a time; who waited looks again at what it brought
            if self.take_now(account, n):
                return Grant(n)
            now = self._now()
            if now >= held.rate_until:
                held.rate_left = 0
            if now >= held.quota_until:
                held.quota_left = 0
            drawn = not account.max_per_s or held.rate_left >= n or now >= held.blocked_until
            if drawn:
                await self._draw(account, held, n)
            return self._spend(account, held, n, drawn)

    def give_back(self, account: Limited, n: int) -> None:
        """Return quota for messages that were not stored (replays, refusals); the rate stays spent."""
        held = self._allowances.get(account.id)
        if held is not None and account.daily_quota and self._now() < held.quota_until:
            held.quota_left += n

    async def close(self, accounts: Sequence[Limited]) -> None:
        """Give unspent quota back to the store; what cannot be given back stays used for the day."""
        for account in accounts:
            held = self._allowances.get(account.id)
            if held is None or not account.daily_quota or held.quota_left <= 0:
                continue
            back, held.quota_left = held.quota_left, 0
            if self._now() < held.quota_until:
                with contextlib.suppress(StoreUnavailable):
                    await self._run(account, 0, 0, back, held.day)

    async def _draw(self, account: Limited, held: _Allowance, n: int) -> None:
        want = want_quota = 0
        if account.max_per_s and held.rate_left < n:
            want = max(n - held.rate_left, int(account.max_per_s * CHUNK_S))
        if account.daily_quota and held.quota_left < n:
            want_quota = max(n - held.quota_left, min(QUOTA_CHUNK, account.daily_quota // 100))
        started = self._now()
        granted, granted_quota, wait_ms, day_ends_ms, day = await self._run(account, want, want_quota, 0, 0)
        # Counted from before the call: a worker frozen in the middle of it holds nothing when it wakes.
        held.rate_left += granted
        held.rate_until = started + RATE_LAPSE_S
        held.blocked_until = started + max(0.01, wait_ms / 1000) if held.rate_left < n else 0.0
        held.quota_left += granted_quota
        held.quota_until = started + day_ends_ms / 1000
        held.day = day

    def _spend(self, account: Limited, held: _Allowance, n: int, drawn: bool) -> Grant:
        now = self._now()
        # What was drawn for this very request is its own, however slowly the store answered: only what is left of it
        # lapses. Else a store that needs longer than the lapse would refuse every account that keeps to its rate.
        rate = n if not account.max_per_s else held.rate_left if drawn or now < held.rate_until else 0
        quota = n if not account.daily_quota else held.quota_left if now < held.quota_until else 0
        granted = max(0, min(n, rate, quota))
        held.rate_left -= granted
        held.quota_left -= granted
        if granted == n:
            return Grant(n)
        if quota <= rate:
            wait_s = max(1.0, held.quota_until - now)
            detail = "the account's daily quota is used up; the day is that of UTC"
            return Grant(granted, Backpressure("quota_exceeded", detail, retry_after_s=wait_s, status=429))
        wait_s = max(1.0, held.blocked_until - now)
        detail = "the account sends more messages a second than it may"
        return Grant(granted, Backpressure("rate_limited", detail, retry_after_s=wait_s, status=429))

    async def _run(
        self, account: Limited, want: int, want_quota: int, back: int, back_day: int
    ) -> tuple[int, int, int, int, int]:
        args = (account.max_per_s, want, account.daily_quota, want_quota, back, back_day)
        key = keys.account_key(account.id, "limit")
        try:
            answer = await self._store.run("account_draw", [key], args)
        except StoreUnavailable as exc:
            # Whatever became of the draw, no message was written.
            detail = "the account's limits cannot be read"
            raise StoreUnavailable(detail, outcome="not_stored", retry_after_s=exc.retry_after_s) from exc
        granted, granted_quota, wait_ms, day_ends_ms, day = (int(value) for value in answer)
        return granted, granted_quota, wait_ms, day_ends_ms, day
