"""Why a bind slot has no session: the kinds of trouble, and which exception, refusal or end of a session means which.

Owns the words that operators' pages and commands translate (`KINDS`); a detail beside one is a command_status or what
the system said, never more. Refuses to know channels. Stands beside `session`, whose reasons it reads.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from gateway.smpp.constants import status_name
from gateway.smpp.events import CloseReason

REFUSED, TIMEOUT, DNS, UNREACHABLE, TLS = "refused", "timeout", "dns", "unreachable", "tls"
BIND_REFUSED, BIND_TIMEOUT, NOT_CALLED = "bind_refused", "bind_timeout", "not_called"
CUT, UNBOUND, NO_ANSWER, PROTOCOL, NOT_READING = "cut", "unbound", "no_answer", "protocol", "not_reading"
ALARM = "alarm"
KINDS: Final[dict[str, str]] = {
    REFUSED: "connection refused",
    TIMEOUT: "no connection in time",
    DNS: "the host name is not found",
    UNREACHABLE: "cannot be reached",
    TLS: "TLS failed",
    BIND_REFUSED: "bind refused",
    BIND_TIMEOUT: "no answer to the bind",
    NOT_CALLED: "the SMSC has not called (outbind)",
    CUT: "the SMSC cut the connection",
    UNBOUND: "the SMSC unbound",
    NO_ANSWER: "no answer to enquire_link or submit_sm",
    PROTOCOL: "the SMSC broke the protocol",
    NOT_READING: "the SMSC takes nothing from us",
    ALARM: "the SMSC answered with a fault of the channel",
}
"""Kind → words for people."""
_OF_CLOSE: Final = {
    CloseReason.UNBOUND_BY_PEER: UNBOUND,
    CloseReason.PEER_CLOSED: CUT,
    CloseReason.BIND_REFUSED: BIND_REFUSED,
    CloseReason.BIND_TIMEOUT: BIND_TIMEOUT,
    CloseReason.RESPONSE_TIMEOUTS: NO_ANSWER,
    CloseReason.LINK_TIMEOUT: NO_ANSWER,
    CloseReason.NACKS: PROTOCOL,
    CloseReason.FRAMING: PROTOCOL,
    CloseReason.NOT_READING: NOT_READING,
}
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_OF_ERRNO: Final = {errno.ECONNREFUSED: REFUSED, errno.ETIMEDOUT: TIMEOUT}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing wrong with a slot's session."""

    kind: str
    detail: str = ""


def of_error(error: BaseException) -> Trouble:
    """Return what an error while connecting means."""
    if isinstance(error, ssl.SSLError):
        # An error that OpenSSL did not make has neither attribute.
        name = "verify_message" if isinstance(error, ssl.SSLCertVerificationError) else "reason"
        return Trouble(TLS, getattr(error, name, "") or "")
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Trouble(DNS)
    if isinstance(error, TimeoutError):
        return Trouble(TIMEOUT)
    code = _errno(error)
    kind = _OF_ERRNO.get(code or 0, UNREACHABLE)
    return Trouble(kind, errno.errorcode.get(code, "") if code and kind == UNREACHABLE else "")


def _errno(error: BaseException) -> int | None:
    """Return an error's number; of several addresses that were tried, the last one's, which asyncio has in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _ERRNO.findall(str(error))
    return int(found[-1]) if found else None


def of_status(kind: str, status: int) -> Trouble:
    """Return what a command_status tells: of a refused bind, or of an answer that is the channel's fault."""
    return Trouble(kind, status_name(status))


def of_close(reason: CloseReason) -> Trouble | None:
    """Return what the end of a session means; None: we wanted it."""
    kind = _OF_CLOSE.get(reason)
    return Trouble(kind) if kind is not None else None


def spelt(kind: str, detail: str) -> str:
    """Return trouble in words, for people at a terminal."""
    words = KINDS.get(kind, kind)
    return f"{words} ({detail})" if detail else words
