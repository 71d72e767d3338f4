"""How a simulated SMSC writes a delivery receipt: the text of SMPP 3.4 Appendix B and the TLVs of §5.3.2.

Knows nothing of sessions and of when a receipt is sent. Stands between `behaviour` (what to report) and
`smsc` (which sends it).
"""

from __future__ import annotations

import time

MESSAGE_STATES: dict[str, int] = {
    "ENROUTE": 1,
    "DELIVRD": 2,
    "EXPIRED": 3,
    "DELETED": 4,
    "UNDELIV": 5,
    "ACCEPTD": 6,
    "UNKNOWN": 7,
    "REJECTD": 8,
    "SKIPPED": 9,
}
"""Word of the text → message_state (SMPP 3.4 §5.2.28, SKIPPED from 5.0)."""

TAG_RECEIPTED_MESSAGE_ID = 0x001E
TAG_MESSAGE_STATE = 0x0427
_STATE_OCTETS = {word: bytes((value,)) for word, value in MESSAGE_STATES.items()}


class ReceiptText:
    """Writes receipts; the two dates have a resolution of a minute, so everything but the id is made once a
    minute.
    """

    def __init__(self) -> None:
        self._minute = -1
        self._cache: dict[tuple[str, str, int], bytes] = {}

    def text(self, smsc_id: bytes, state: str, err: str, submitted_at: float, now: float) -> bytes:
        """Return the short_message octets; times are wall clock, seconds, written in local time as carriers
        do.
        """
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._cache.clear()
        key = (state, err, int(submitted_at // 60))
        tail = self._cache.get(key)
        if tail is None:
            delivered = "001" if state == "DELIVRD" else "000"
            tail = self._cache[key] = (
                f" sub:001 dlvrd:{delivered} submit date:{_date(submitted_at)} done date:{_date(now)} "
                f"stat:{state} err:{err} text:"
            ).encode()
        return b"id:" + smsc_id + tail


def receipt_tlvs(smsc_id: bytes, state: str) -> dict[int, bytes]:
    """Return the two TLVs that make a receipt readable without its text."""
    return {TAG_RECEIPTED_MESSAGE_ID: smsc_id + b"\0", TAG_MESSAGE_STATE: _STATE_OCTETS.get(state, b"\x07")}


def _date(at: float) -> str:
    return time.strftime("%y%m%d%H%M", time.localtime(at))
