"""Whose a message from a handset is, and which message it answers; and how wide an opt-out reaches.

Owns the order of the clues: the number it came to, a keyword rule, the latest message sent from that number, the latest
sent at all, whose marketing was counted of late. Refuses to know texts and the store. Pure; stands between `inbound`
and what it asked the store.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gateway.model import Category
from gateway.routing.inbound import Owner
from gateway.settings import AccountSettings, ChannelSettings
from gateway.smpp.address import own_sender, signed_source
from gateway.store.inbox import Latest, Sent

EVERYBODY = "*"


class Tie(NamedTuple):
    """Whose a message is ('' not known), under which signature, and the message it answers."""

    account: str = ""
    signature: str = ""
    answers: Sent | None = None


def tie(
    owner: Owner,
    latest: Latest,
    came_to: str,
    channel: ChannelSettings | None,
    accounts: Collection[str],
    keyword_account: str = "",
) -> Tie:
    """Tie a message to an account and to what it answers.

    `owner` is what the number told, `keyword_account` what a rule says. Only messages that a carrier has, or may have,
    are answered: nobody replies to what still waits here.
    """
    account = owner.account or keyword_account
    sent = [one for one in latest.sent if one.left and (not account or one.account == account)]
    if owner.signature:
        sent = [one for one in sent if one.signature == owner.signature] or sent
    from_there = [one for one in sent if channel is not None and _went_from(one, came_to, channel)]
    answers = next(iter(from_there or sent), None)
    if not account:
        account = answers.account if answers is not None else _counted(latest, accounts)
    signature = owner.signature or (answers.signature if answers is not None else "")
    return Tie(account, signature, answers)


def scope_of(account: AccountSettings | None, sender: str, signature: str) -> str:
    """Return the blacklist scope that an opt-out from an account goes to.

    Where the account is not known that is everybody's: nobody can tell whose messages were meant, and one that is
    missed is the worse mistake. Where the sender or signature is not known it is the whole account.
    """
    if account is None or account.optout_scope == "global":
        return EVERYBODY
    name = {"sender": sender, "signature": signature}.get(account.optout_scope, "")
    return f"{account.id}/{name}" if name else account.id


def mask_of(account: AccountSettings | None) -> int:
    """Return the categories that an opt-out ends, as a blacklist's value writes them. Never verification."""
    categories = account.optout_categories if account is not None else {Category.MARKETING}
    return sum(1 << c for c in categories if c is not Category.VERIFICATION)


def _went_from(sent: Sent, came_to: str, channel: ChannelSettings) -> bool:
    """Tell whether a reply to `came_to` (digits) may answer a message: it begins with the number that was sent from."""
    if channel.signatures:
        source = signed_source(channel, sent.signature, sent.sender) or ""
    else:
        source = own_sender(channel, sent.sender)
    return bool(source) and came_to.startswith(source.removeprefix("+"))


def _counted(latest: Latest, accounts: Collection[str]) -> str:
    """Return whose message was counted for the number's caps last, marketing first: caps outlive the records."""
    known = [(category, name) for category, name, _ in latest.capped if name in accounts]
    marketing = [name for category, name in known if category == Category.MARKETING]
    return next(iter(marketing or [name for _, name in known]), "")
