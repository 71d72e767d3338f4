"""Addresses of a submit_sm: type of number, numbering plan and octets, for the sender id and the recipient.

Owns the choice of TON and NPI (SMPP 3.4 §5.2.5, §5.2.6), where a channel's own setting wins, and what stands in the
source address of a signed text. Refuses to know which sender an account may use. Also tells whether the address in a
receipt is the recipient we sent to. Pure. Stands in dispatch, between the record and the PDU.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from gateway.errors import EncodeError
from gateway.settings import ChannelSettings

TON_UNKNOWN = 0
TON_INTERNATIONAL = 1
TON_NETWORK_SPECIFIC = 3
TON_ALPHANUMERIC = 5
NPI_UNKNOWN = 0
NPI_ISDN = 1

MAX_ADDRESS_OCTETS = 20
"""source_addr and destination_addr: 21 octets with their NUL (SMPP 3.4 §5.2.8, §5.2.9)."""
MAX_ALPHANUMERIC = 11
"""Septets of an alphanumeric originating address (GSM 03.40 §9.1.2.5)."""
_SHORT_CODE_DIGITS = 8
_ACCESS_PREFIX = "10"  # China's 106… and 100…; no E.164 number begins so: after +1 comes an area code 2-9

# The four kinds of sender id that have a number plan, as `source_types` of a channel names them.
KIND_ALPHANUMERIC, KIND_SHORT, KIND_ACCESS, KIND_INTERNATIONAL = "alphanumeric", "short", "access", "international"
_RULE = {
    KIND_ALPHANUMERIC: (TON_ALPHANUMERIC, NPI_UNKNOWN),
    KIND_SHORT: (TON_NETWORK_SPECIFIC, NPI_UNKNOWN),
    KIND_ACCESS: (TON_UNKNOWN, NPI_UNKNOWN),
    KIND_INTERNATIONAL: (TON_INTERNATIONAL, NPI_ISDN),
}

Kinds: TypeAlias = tuple[tuple[str, tuple[int, int]], ...]
"""Kind of sender id → (TON, NPI), as pairs: what a channel puts in place of the rule."""

_NUMERIC = re.compile(r"\+?[0-9]+").fullmatch
_ALPHANUMERIC = re.compile(r"[ -~]+").fullmatch


@lru_cache(maxsize=4096)
def source_address(
    sender: str, ton: int | None = None, npi: int | None = None, kinds: Kinds = ()
) -> tuple[int, int, bytes]:
    """Return (source_addr_ton, source_addr_npi, source_addr) of a sender id.

    | sender id | kind | TON | NPI |
    |---|---|---|---|
    | empty: the SMSC puts its default | | 0 unknown | 0 |
    | letters, or any printable ASCII that is no number; at most 11 | alphanumeric | 5 alphanumeric | 0 |
    | up to 8 digits: a short code | short | 3 network specific | 0 |
    | digits from `10`: an access number such as 106900001 | access | 0 unknown | 0 |
    | other digits, with or without `+`: an E.164 number | international | 1 international | 1 ISDN |

    Carriers differ more than the rule can know: `kinds` replaces it for the kinds it names, and `ton` and `npi`, where
    given, are sent whatever the sender is.

    Raises:
        EncodeError: longer than its kind allows, or not printable ASCII.
    """
    if not sender:
        chosen = (TON_UNKNOWN, NPI_UNKNOWN)
    elif _NUMERIC(sender):
        chosen = _plan(_number_kind(sender), kinds)
        sender = sender.removeprefix("+")
        if len(sender) > MAX_ADDRESS_OCTETS:
            raise EncodeError(f"a sender id of more than {MAX_ADDRESS_OCTETS} digits")
    elif _ALPHANUMERIC(sender):
        chosen = _plan(KIND_ALPHANUMERIC, kinds)
        if len(sender) > MAX_ALPHANUMERIC:
            raise EncodeError(f"an alphanumeric sender id of more than {MAX_ALPHANUMERIC} characters")
    else:
        raise EncodeError("a sender id that is not printable ASCII")
    return (chosen[0] if ton is None else ton, chosen[1] if npi is None else npi, sender.encode("ascii"))


def own_sender(channel: ChannelSettings, sender: str) -> str:
    """Return what a channel sends in place of a sender id (its `source`)."""
    instead = other = None
    for name, value in channel.source:
        if name == sender:
            instead = value
        elif name == "*":
            other = value
    return instead if instead is not None else sender if other is None else other


def signed_source(channel: ChannelSettings, signature: str, sender: str) -> str | None:
    """Return the source_addr of a signed text on a channel that lists signatures, None where its is not registered.

    That is the access number, or without one the sender as the channel writes it, and behind it, if it is a number, the
    signature's extension: what a handset answers to (`routing.inbound` reads it back).
    """
    entry = channel.registration(signature)
    if entry is None:
        return None
    base = channel.access_number or own_sender(channel, sender)
    return extended(base, entry.extension)


def extended(base: str, digits: str) -> str:
    """Return a number with more digits behind it; `base` alone where it is none or there is no room for all of them."""
    if not (digits and base.isascii() and base.isdigit()) or len(base) + len(digits) > MAX_ADDRESS_OCTETS:
        return base
    return base + digits


def destination(msisdn: str) -> tuple[int, int, bytes]:
    """Return (dest_addr_ton, dest_addr_npi, destination_addr) of E.164 digits without '+'.

    Raises:
        EncodeError: not 1 to 20 ASCII digits.
    """
    if not (msisdn.isascii() and msisdn.isdigit()) or len(msisdn) > MAX_ADDRESS_OCTETS:
        raise EncodeError("a recipient that is not 1 to 20 digits")
    return TON_INTERNATIONAL, NPI_ISDN, msisdn.encode()


def same_recipient(msisdn: str, address: bytes) -> bool:
    """Tell whether an address in a receipt is the recipient `msisdn`: their last 8 digits are equal.

    Only the last 8, because SMSCs give the number back with '+', with 00, or without its country code.
    """
    digits = address.strip(b"\x00 ")
    return len(digits) >= 8 and digits[-8:] == msisdn[-8:].encode()


def _plan(kind: str, kinds: Kinds) -> tuple[int, int]:
    return next((plan for name, plan in kinds if name == kind), _RULE[kind])


def _number_kind(number: str) -> str:
    if number[0] == "+":
        return KIND_INTERNATIONAL
    if len(number) <= _SHORT_CODE_DIGITS:
        return KIND_SHORT
    return KIND_ACCESS if number.startswith(_ACCESS_PREFIX) else KIND_INTERNATIONAL
