"""The log of a message record: attempts, receipts, ends and feedback, in the order in which they came.

Owns the form of its items (see `lua/_record.lua`, which writes them) and what explains a state. Refuses to know
the rest of the record (`records`). Read when somebody asks about a message, and before it is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.model import WITHOUT_TLVS, WITHOUT_VALIDITY, State
from gateway.store.moves import Feedback

US = "\x1f"


@dataclass(slots=True)
class Attempt:
    """One attempt as the log keeps it."""

    number: int
    channel: str
    at_ms: int
    status: int | None  # command_status of the answer, None when there was none
    outcome: str
    smsc_ids: dict[int, str] = field(default_factory=dict)  # part (from 0, or moves.ALL_PARTS) → id
    price: int = 0
    """Of one part, in millionths of the price's unit, as it was then."""


@dataclass(slots=True)
class PartReceipt:
    """One final receipt as the log keeps it; its part may be moves.ALL_PARTS."""

    part: int
    channel: str
    at_ms: int
    state: str
    reason: str
    carrier_code: str
    permanent: bool = False


@dataclass(slots=True)
class Log:
    """What stands in a record's log, in the order in which it came."""

    attempts: list[Attempt] = field(default_factory=list)
    receipts: list[PartReceipt] = field(default_factory=list)
    feedback: list[Feedback] = field(default_factory=list)
    ends: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """State, reason, carrier code and whether it is permanent, of each time it ended otherwise than by a receipt."""


def read_log(log: bytes) -> Log:
    found = Log()
    at = 0
    while at + 3 <= len(log):
        kind = log[at : at + 1]
        size = int.from_bytes(log[at + 1 : at + 3], "big")
        fields = log[at + 3 : at + 3 + size].decode(errors="replace").split(US)
        at += 3 + size
        if kind == b"A":
            at_ms, number, channel, status, outcome, ids, price = (*fields, *[""] * 7)[:7]
            found.attempts.append(
                Attempt(
                    int(number or 0),
                    channel,
                    time_of(at_ms),
                    int(status) if status else None,
                    outcome or PLAIN,
                    dict(_part_ids(ids)),
                    int(price or 0),
                )
            )
        elif kind == b"R":
            at_ms, part, channel, state, why, code, permanent = (*fields, *[""] * 7)[:7]
            found.receipts.append(
                PartReceipt(int(part or 0), channel, time_of(at_ms), state, why, code, permanent == "1")
            )
        elif kind == b"X":
            _, state, why, code, _, permanent = (*fields, *[""] * 6)[:6]
            found.ends.append((state, why, code, permanent == "1"))
        elif kind == b"V":
            told_at, what, event_id, amount, currency, customer, at_ms = (*fields, *[""] * 7)[:7]
            happened = time_of(at_ms or told_at)
            found.feedback.append(Feedback(what, event_id, amount, currency, customer, happened))
    return found


def why(log: Log, state: str, late_correction: bool) -> tuple[str, str, bool]:
    """Return reason, carrier code and permanence of a message's state; '' where there is nothing to explain."""
    if log.ends and log.ends[-1][0] == state and not late_correction:
        return log.ends[-1][1:]
    failed = [r for r in log.receipts if r.state != State.DELIVERED]
    if state.isupper():
        # The first part that ended like this, as the channel has it that said so last (`reason_of` in lua/_ends.lua).
        failed = [r for r in failed if r.state == state]
        failed = [r for r in failed if r.channel == failed[-1].channel][:1]
    if failed:
        return failed[-1].reason, failed[-1].carrier_code, failed[-1].permanent
    if state.isupper():
        return "", "", False
    # On its way: what went wrong last.
    refused = [a for a in log.attempts if a.outcome not in (PLAIN, "uncertain")]
    if refused:
        status = refused[-1].status
        return refused[-1].outcome, "" if status is None else f"0x{status:08X}", False
    return "", "", False


def time_of(text: str) -> int:
    """Read a time of the log: base 36, as the scripts write it."""
    return int(text, 36) if text else 0


def _part_ids(text: str) -> list[tuple[int, str]]:
    """Read `part=id` pairs, comma between them."""
    pairs = []
    for item in text.split(","):
        part, _, smsc_id = item.partition("=")
        if smsc_id:
            pairs.append((int(part), smsc_id))
    return pairs


WITHOUT_WORDS = {WITHOUT_VALIDITY: "without_validity", WITHOUT_TLVS: "without_tlvs"}
"""The outcomes of attempts after which the message goes again to the same channel without a field."""
LEFT_OUT = {word: field for field, word in WITHOUT_WORDS.items()}

PLAIN = "sent"
"""The outcome that most attempts have; the log leaves it out."""


def attempt_log(
    number: int, channel: str, status: int | None, outcome: str, smsc_ids: list[tuple[int, str]], price: int = 0
) -> str:
    """Return the payload of a log item for one attempt; the script puts the time before it.

    `price` is that of a part, in millionths.
    """
    if len(smsc_ids) == 1:
        part, smsc_id = smsc_ids[0]
        ids = f"{part}={smsc_id if smsc_id.isalnum() else _clean(smsc_id)}"
    else:
        ids = ",".join([f"{part}={i if i.isalnum() else _clean(i)}" for part, i in smsc_ids])
    shown = "" if outcome == PLAIN else outcome
    log = f"{number}{US}{channel}{US}{'' if status is None else status}{US}{shown}{US}{ids}"
    return f"{log}{US}{price}" if price else log


def _clean(smsc_id: str) -> str:
    # An SMSC may put any byte into an id; the log's separators must stay ours.
    return smsc_id.translate({0x1F: "?", 0x1E: "?", 0x2C: "?"})


def base36(number: int) -> str:
    """Return a time as the log writes it."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
