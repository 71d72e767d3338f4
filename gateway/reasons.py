"""Why a message did not arrive: every reason that a final state may give, what it says, and whether it is permanent.

Owns the list (`docs/reasons.md` is the same for people), what a refused submit means by its command_status, and which
of the gateway's own ends are permanent. Refuses to know receipts and their codes: `dlr.reasons` reads these from a
table. Pure; below dispatch, receipts and settings, which all name reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """What one reason says. `permanent` None: it depends on the code."""

    says: str
    permanent: bool | None = None


BY_CARRIERS: Final[dict[str, Reason]] = {
    "invalid-number": Reason("The number is not in use, or never was.", True),
    "out-of-service": Reason("The subscription is suspended, barred or cannot take short messages."),
    "powered-off": Reason("The handset was off, out of coverage, busy or full until the message's time was over."),
    "blacklisted": Reason("The carrier or a platform on the way has the number on a list.", True),
    "user-unsubscribed": Reason("The recipient told the carrier to send no such messages.", True),
    "content-rejected": Reason("The text was refused: a word, a link, a kind of content.", True),
    "signature-or-template": Reason("The signature, template or sender is not registered for this way.", True),
    "frequency-limited": Reason("Too many messages to this number or from this sender, or at a closed hour.", False),
    "carrier-internal": Reason("A fault, a limit or a missing route inside the carrier's network.", False),
    "unknown": Reason("It failed, and nobody said why in words that are known.", False),
}
"""What carriers say, whatever their codes. The words of all receipts and of refused submits."""

BY_GATEWAY: Final[dict[str, Reason]] = {
    "expired": Reason("Its time was over before a carrier took it.", False),
    "attempts_exhausted": Reason("Every channel refused it for now, as often as its category allows.", False),
    "no_response": Reason("It was sent, no answer came, and its category does not send again.", False),
    "no_receipt": Reason("A carrier took it, and no receipt came within dlr_wait_s.", False),
    "parts_missing": Reason("Receipts came for some of its parts only, and dlr_wait_s is over.", False),
    "no_route": Reason("No route leads to its number any more.", False),
    "blacklisted": Reason("The number is on one of the gateway's own lists (state blocked).", True),
    "cancelled": Reason("The application took it back.", False),
    "gate_closed": Reason("An operator closed the gate of its tag, campaign, account or category.", False),
    "erased": Reason("What was kept of its number was erased (`smsgw erase`); what waited was taken back.", False),
    "record_unreadable": Reason("Its record was damaged.", True),
    "cannot_be_encoded": Reason("Its text or sender does not fit into what SMPP or this channel can send.", True),
    "cannot_be_built": Reason("A fault of the gateway while it wrote the message; the log says more.", True),
}
"""How the gateway itself ends a message. `blacklisted` stands in both: the state tells them apart."""

REASONS: Final = tuple(BY_CARRIERS)
CHANNELS_OWN: Final = frozenset({"carrier-internal", "frequency-limited", "signature-or-template", "unknown"})
"""Reasons that lie with a channel or its contract: another one may pass the same message, even where the same one
never will."""

BY_STATUS: Final[dict[int, tuple[str, bool]]] = {
    0x01: ("carrier-internal", False),  # ESME_RINVMSGLEN: our segmentation, or the route's limit
    0x0A: ("signature-or-template", True),  # ESME_RINVSRCADR: the sender is not admitted
    0x0B: ("invalid-number", True),  # ESME_RINVDSTADR
    0x14: ("frequency-limited", False),  # ESME_RMSGQFUL
    0x58: ("frequency-limited", False),  # ESME_RTHROTTLED
    0x61: ("carrier-internal", False),  # ESME_RINVSCHED
    0x62: ("carrier-internal", False),  # ESME_RINVEXPIRY
    0x65: ("unknown", True),  # ESME_RX_P_APPN: for good, it says, and not why
    0x66: ("content-rejected", True),  # ESME_RX_R_APPN: content or sender
    0x94: ("invalid-number", True),  # seen where the destination carried a plus sign
    0x100: ("signature-or-template", True),  # SMPP 5.0: not authorised for this service_type
    0x101: ("carrier-internal", True),  # SMPP 5.0: operation prohibited
    0x103: ("signature-or-template", True),  # SMPP 5.0: service_type denied
}
"""What a command_status says of a message that ends with it; all others are the carrier's own business."""
_OTHER: Final = ("carrier-internal", False)


def of_status(status: int, own: Mapping[str, tuple[str, bool]] | None = None) -> tuple[str, bool]:
    """Return (reason, permanent) of a refused submit's command_status.

    `own` has what the channel's `failure_codes` say, by `0x0000040A` (`overrides`).
    """
    if own and (found := own.get(f"0x{status:08X}")) is not None:
        return found
    return BY_STATUS.get(status, _OTHER)


def ended(word: str, status: int | None = None, own: Mapping[str, tuple[str, bool]] | None = None) -> tuple[str, bool]:
    """Return (reason, permanent) of a message that dispatch ends: with a word of its own, or with a carrier's refusal.

    `word` is what `dispatch.outcome` decided. `refused` and `partly_refused` become what the last command_status says.
    """
    if word in ("refused", "partly_refused"):
        return of_status(status, own) if status else _OTHER
    known = BY_GATEWAY.get(word)
    return word, known is not None and bool(known.permanent)


def permanent_as_a_rule(reason: str) -> bool:
    """Tell whether a carrier's reason is permanent where a code says no more than the reason."""
    rule = BY_CARRIERS[reason].permanent
    return rule if rule is not None else False


def overrides(entries: tuple[tuple[str, str, bool | None], ...]) -> dict[str, tuple[str, bool]]:
    """Return a channel's own meanings (`ChannelSettings.failure_codes`): code as written → (reason, permanent)."""
    return {
        code: (reason, permanent_as_a_rule(reason) if permanent is None else permanent)
        for code, reason, permanent in entries
    }
