"""Keyword rules: what a reply that is, or begins with, a configured word is for: an account, a tag, an action.

Owns the comparison (as `optout` spells words) and which rule wins: one for the number over one for any, a whole reply
over a beginning, the longer word, then the file's order. Refuses to know opt-out words, which come first. Pure; asked
once an inbound message.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.optout import spelt
from gateway.settings import KeywordSettings

MOST_LOOKED_AT = 2048


class KeywordRules:
    """All rules of a configuration."""

    def __init__(self, rules: Iterable[KeywordSettings]) -> None:
        self._rules = tuple(rules)
        self._exact: dict[str, list[KeywordSettings]] = {}
        self._heads: list[tuple[str, KeywordSettings]] = []
        for rule in self._rules:
            for word in rule.words:
                closed = _closed(word)
                self._exact.setdefault(closed, []).append(rule)
                if rule.match == "starts-with":
                    self._heads.append((closed, rule))
        self._heads.sort(key=lambda head: -len(head[0]))

    def find(self, text: str, to: str, account: str = "") -> KeywordSettings | None:
        """Return the rule for a reply to the number `to` (digits as received) that `account` ('' unknown) owns."""
        if not self._rules:
            return None
        closed = _closed(text[:MOST_LOOKED_AT])
        candidates = [rule for rule in self._exact.get(closed, ()) if _is_for(rule, to, account)]
        candidates += [rule for head, rule in self._heads if closed.startswith(head) and _is_for(rule, to, account)]
        return min(candidates, key=lambda rule: rule.to == "", default=None)  # min is stable: the first of its kind

    def answers(self, account: str) -> tuple[str, ...]:
        """Return the words an account wants as answers: an opt-out word marked `unless-answer` gives way to them."""
        return tuple(
            word for rule in self._rules if rule.account == account and rule.action == "none" for word in rule.words
        )


def _is_for(rule: KeywordSettings, to: str, account: str) -> bool:
    return (not rule.to or rule.to == to) and (not rule.account or not account or rule.account == account)


def _closed(text: str) -> str:
    return spelt(text).replace(" ", "")
