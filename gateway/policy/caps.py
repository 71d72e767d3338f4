"""How many messages a number may get: the limits of a category, compiled for an account, a signature and its tags.

Owns which limits hold for a message and under which names the store counts them, and the same decision that
`lua/accept.lua` takes, for those who only ask. Refuses to know where the times are kept (`store.records`) and what time
it is. Pure. The store counts by (category, number, name); a name is the account, `*` for all accounts together,
`account#s:signature` or `account#t:tag`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.model import Category
from gateway.settings import AccountSettings, CategorySettings

ALL_ACCOUNTS: Final = "*"
_US, _RS = "\x1f", "\x1e"

Limits = tuple[tuple[int, int], ...]
"""(at most so many, within so many seconds), all of which hold."""


@dataclass(frozen=True, slots=True)
class Cap:
    """Limits on what is counted under one name."""

    name: str
    limits: Limits

    @property
    def about(self) -> str:
        """What is counted, as an operator reads it: the key of the configuration."""
        if self.name == ALL_ACCOUNTS:
            return "per_number_all"
        kind = self.name.partition("#")[2][:2]
        return {"s:": "per_signature", "t:": "per_tag"}.get(kind, "per_number")


class CategoryCaps:
    """The limits of one account's messages of one category."""

    def __init__(self, account: AccountSettings, category: Category, rules: CategorySettings) -> None:
        own = dict(account.per_number).get(category, rules.per_number)
        self._account = account.id
        self._always = tuple(
            Cap(name, limits) for name, limits in ((account.id, own), (ALL_ACCOUNTS, rules.per_number_all)) if limits
        )
        self._per_signature = rules.per_signature
        self._per_tag = {tag: limits for tag, limits in rules.per_tag if limits}

    def of(self, signature: str, tags: Sequence[str], *, test: bool = False) -> tuple[Cap, ...]:
        """Return every cap that holds for a message; none for a test message."""
        if test:
            return ()
        caps = [*self._always]
        if self._per_signature and signature:
            caps.append(Cap(f"{self._account}#s:{signature}", self._per_signature))
        if self._per_tag:
            caps += [
                Cap(f"{self._account}#t:{tag}", self._per_tag[tag])
                for tag in dict.fromkeys(tags)
                if tag in self._per_tag
            ]
        return tuple(caps)


def written(caps: Iterable[Cap]) -> str:
    """Return caps as `MessageKind.caps` has them: for each RS name US "limit,window_s;..."."""
    return "".join(
        f"{_RS}{cap.name}{_US}{';'.join(f'{most},{window_s}' for most, window_s in cap.limits)}" for cap in caps
    )


def read(text: str) -> tuple[Cap, ...]:
    """Return the caps that `written` wrote."""
    caps = []
    for one in text.split(_RS)[1:]:
        name, _, limits = one.partition(_US)
        pairs = (limit.split(",") for limit in limits.split(";"))
        caps.append(Cap(name, tuple((int(most), int(window_s)) for most, window_s in pairs)))
    return tuple(caps)


def allowed_again_s(caps: Iterable[Cap], sent: Mapping[str, Sequence[int]], now_s: int) -> int:
    """Return the second (epoch) from which all caps allow one more message; 0: now.

    `sent` has the times (epoch seconds, oldest first) by the names of caps. The same rule as in `lua/accept.lua`.
    """
    return max((again for cap in caps for again, *_ in full(cap, sent.get(cap.name, ()), now_s)), default=0)


def full(cap: Cap, times: Sequence[int], now_s: int) -> list[tuple[int, int, int, int]]:
    """Return for each limit that is used up: the second (epoch) of the next one, how many are inside, limit, window."""
    found = []
    for most, window_s in cap.limits:
        inside = [at for at in times if at > now_s - window_s]
        if len(inside) >= most:
            found.append((inside[-most] + window_s, len(inside), most, window_s))
    return found
