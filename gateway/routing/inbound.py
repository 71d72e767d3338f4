"""Whose an inbound message is: from its channel and the number it was sent to, to an account and a signature.

A reply goes to the source address of what it answers: the channel's access number (or the sender id), the extension of
the signature, and perhaps digits the application chose. Owns the reading of that number. Refuses to know texts and who
wrote to a handset last. Pure; stands in the receipt processor, where a message from a handset is kept.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.settings import ChannelSettings, Settings
from gateway.signature import ANY


class Owner(NamedTuple):
    """Whose a reply is; '' where the number alone does not tell."""

    account: str = ""
    signature: str = ""  # as `signature.clean` returns it


NOBODY: Final = Owner()


class ReturnRoutes:
    """The numbers that replies come to, by channel. One for each configuration."""

    def __init__(self, settings: Settings) -> None:
        accounts: dict[str, set[str]] = {}
        senders: set[str] = set()
        for account in settings.accounts:
            senders.update(account.senders)
            for signature in account.signatures:
                accounts.setdefault(signature, set()).add(account.id)
        owners = {name: next(iter(found)) for name, found in accounts.items() if len(found) == 1}
        self._channels = {
            channel.id: _numbers(channel, senders, owners) for channel in settings.channels if channel.signatures
        }

    def of(self, channel: str, address: bytes) -> Owner:
        """Return whose a message to `address` (destination_addr as received) is: the longest number it begins with."""
        numbers = self._channels.get(channel)
        if not numbers:
            return NOBODY
        digits = address.strip(b"\x00 ").removeprefix(b"+").decode("latin-1")
        for length in range(len(digits), 0, -1):
            owner = numbers.get(digits[:length])
            if owner is not None:
                return owner
        return NOBODY


def bases(channel: ChannelSettings, senders: set[str]) -> list[str]:
    """Return the numbers that extensions of a channel stand behind: its access number, or its numeric senders."""
    if channel.access_number:
        return [channel.access_number]
    rewritten = dict(channel.source)
    sent = {rewritten.get(sender, rewritten.get("*", sender)) for sender in senders or {""}}
    return sorted(base for base in sent if base.isascii() and base.isdigit())


def _numbers(channel: ChannelSettings, senders: set[str], owners: dict[str, str]) -> dict[str, Owner]:
    """Return number → owner. Where several signatures share a number it tells the account they agree on, no more."""
    numbers: dict[str, Owner] = {}
    for base in bases(channel, senders):
        for entry in channel.signatures:
            account = entry.mo_account or owners.get(entry.name, "")
            owner = Owner(account, "" if entry.name == ANY else entry.name)
            before = numbers.get(base + entry.extension)
            if before is not None:
                owner = Owner(account if account == before.account else "")
            numbers[base + entry.extension] = owner
    return numbers
