"""What a simulated SMSC saw: the ledger (every short message, for tests) and the tally (counts a number, for
bench).

The ledger is the carrier's side of the delivery contract: tests compare it with what clients were told and
what the gateway has on record (`loadtests/check.py`). It holds texts and full numbers, so it lives in memory
and is written out only where a command names a file. Knows nothing of sessions or sockets; `smsc.py` fills
it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TAG_SAR_REFERENCE, TAG_SAR_TOTAL, TAG_SAR_PART = 0x020C, 0x020E, 0x020F  # SMPP 3.4 §5.3.2.22 to .24
TAG_MESSAGE_PAYLOAD = 0x0424  # §5.3.2.32
UDHI = 0x40  # esm_class bit: a user data header precedes the text (SMPP 3.4 §5.2.12)


@dataclass(slots=True)
class Submit:
    """One submit_sm and what became of it. `status` None: taken, not answered (yet). `at` is the simulator's
    clock.
    """

    at: float
    at_ms: int  # wall clock
    session: int
    system_id: str
    sequence_number: int
    source: str
    destination: str
    short_message: bytes
    esm_class: int
    data_coding: int
    registered_delivery: int
    validity_period: str
    tlvs: dict[int, bytes] | None
    status: int | None = None
    smsc_id: str = ""
    answered_at: float = 0.0
    source_ton: int = 0
    source_npi: int = 0
    service_type: str = ""
    protocol_id: int = 0
    priority_flag: int = 0

    def octets(self) -> bytes:
        """Return the text's octets, wherever they came: short_message (header and all), else message_payload."""
        return self.short_message or (self.tlvs or {}).get(TAG_MESSAGE_PAYLOAD, b"")

    def part(self) -> tuple[int, int, int]:
        """Return (reference, parts, part) from the SAR TLVs or the user data header; (0, 1, 1) when it is a
        message of one part.
        """
        tlvs = self.tlvs or {}
        if TAG_SAR_REFERENCE in tlvs:
            joined = (TAG_SAR_REFERENCE, TAG_SAR_TOTAL, TAG_SAR_PART)
            reference, total, number = (int.from_bytes(tlvs.get(tag, b""), "big") for tag in joined)
            return reference, total, number
        data = self.short_message
        if self.esm_class & UDHI and data and len(data) > data[0]:
            at, end = 1, data[0] + 1
            while at + 2 <= end:
                element, length = data[at], data[at + 1]
                value = data[at + 2 : at + 2 + length]
                # 3GPP TS 23.040 §9.2.3.24.1, .8: concatenation with 8 and with 16 bits of reference
                if element in (0x00, 0x08) and len(value) == (3 if element == 0 else 4):
                    return int.from_bytes(value[:-2], "big"), value[-2], value[-1]
                at += 2 + length
        return 0, 1, 1


@dataclass(slots=True)
class Receipt:
    """One deliver_sm the SMSC sent: a receipt, or (`stat` empty) a message from the recipient."""

    at: float
    at_ms: int
    session: int
    smsc_id: str
    destination: str  # the address the receipt is about
    stat: str
    ack: int | None = None  # command_status of the deliver_sm_resp
    acked_at: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Everything in the order it was seen."""

    submits: list[Submit] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def clear(self) -> None:
        self.submits.clear()
        self.receipts.clear()

    def to(self, destination: str) -> list[Submit]:
        """Return the submits to one number (digits)."""
        return [s for s in self.submits if s.destination == destination]

    def destinations(self) -> list[str]:
        """Return the numbers in the order they were submitted, copies included."""
        return [s.destination for s in self.submits]

    def taken(self) -> list[Submit]:
        """Return what may have reached a handset: answered with 0, or taken without an answer."""
        return [s for s in self.submits if not s.status]

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield JSON rows as `loadtests/check.py` reads them."""
        for s in self.submits:
            reference, parts, part = s.part()
            yield {
                "kind": "submit",
                "to": s.destination,
                "at_ms": s.at_ms,
                "status": s.status,
                "smsc_id": s.smsc_id,
                "part": part,
                "parts": parts,
                "reference": reference,
                "session": s.session,
                "system_id": s.system_id,
                "source": s.source,
                "data_coding": s.data_coding,
                "validity_period": s.validity_period,
                "short_message": s.octets().hex(),
            }
        for r in self.receipts:
            yield {
                "kind": "receipt",
                "to": r.destination,
                "at_ms": r.at_ms,
                "smsc_id": r.smsc_id,
                "stat": r.stat,
                "ack": r.ack,
                "session": r.session,
            }

    def write(self, path: Path) -> None:
        """Write JSON lines to `path`."""
        with path.open("w", encoding="utf-8") as out:
            for row in self.rows():
                out.write(json.dumps(row) + "\n")


class Tally:
    """Submits counted and timed by the last digits of the destination: 0.3 µs a message where a ledger row
    takes 3.

    For the bench, whose recipients are numbered from 0; a number beyond `capacity` is counted in `others`.
    """

    DIGITS = 8

    def __init__(self, capacity: int) -> None:
        self.counts = bytearray(capacity)
        self.first_at = array("d", bytes(8 * capacity))
        self.others = 0

    def add(self, destination: bytes, now: float) -> None:
        place = int(destination[-self.DIGITS :])
        try:
            count = self.counts[place]
        except IndexError:
            self.others += 1
            return
        if count == 0:
            self.first_at[place] = now
        if count < 255:
            self.counts[place] = count + 1

    def write(self, stem: Path) -> None:
        """Write `<stem>.counts` (an octet a number) and `<stem>.first_at` (a double a number, monotonic
        seconds).
        """
        Path(f"{stem}.counts").write_bytes(self.counts)
        Path(f"{stem}.first_at").write_bytes(self.first_at.tobytes())
