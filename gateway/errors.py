"""The errors of the gateway, in one tree; the type says who is at fault and what to answer.

    GatewayError
    ├── ConfigError          configuration is wrong: start-up stops with exit code 3, a reload keeps the old revision
    ├── RequestError         the caller's request is wrong: 4xx with a code and, where one is at fault, a field
    ├── Backpressure         not now: 429 or 503 with Retry-After, nothing was stored
    ├── StoreUnavailable     the store did not answer or refused; `outcome` says whether anything may be stored
    └── SmppError
        ├── EncodeError      we asked for a PDU that cannot be built
        │   └── SignatureNotCarried   or one that the channel's carrier has not registered
        ├── MalformedPdu     the peer's PDU is wrong but its header is sound: answer, stay connected
        ├── FramingError     the stream is out of step: close
        └── SessionClosed    the session ended while it was needed

A `command_status` is a value, never an exception; so is a time-out. Messages never hold a text, a full number,
a key or a password.
"""

from __future__ import annotations

from dataclasses import dataclass


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong in the configuration: where (file, key) and why."""

    file: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.reason}" if self.key else f"{self.file}: {self.reason}"


class ConfigError(GatewayError):
    """The configuration cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("; ".join(str(p) for p in problems))
        self.problems = problems


class RequestError(GatewayError):
    """The request is at fault: answered 4xx, nothing was stored."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        status: int = 422,
        retry_after_s: float | None = None,
        retry_at_ms: int = 0,  # epoch ms from which it would be taken; 0: not known
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.field = field
        self.status = status
        self.retry_after_s = retry_after_s
        self.retry_at_ms = retry_at_ms


class Backpressure(GatewayError):
    """Not now: answered 429 (`rate_limited`) or 503 (`overloaded`, `draining`); nothing was stored."""

    def __init__(self, code: str, detail: str, *, retry_after_s: float, status: int = 503) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status


class StoreUnavailable(GatewayError):
    """The store refused or did not answer.

    `outcome` is `not_stored` when it is certain that nothing was written, else `unknown`.
    """

    def __init__(self, detail: str, *, outcome: str = "unknown", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.retry_after_s = retry_after_s


class SmppError(GatewayError):
    """Base of the protocol errors."""


class EncodeError(SmppError):
    """We asked for a PDU that cannot be built (a field too long, a text that does not fit its coding)."""


class SignatureNotCarried(EncodeError):
    """The text's signature is not among those that are registered on the channel: it must not go there."""


class MalformedPdu(SmppError):
    """A PDU with a sound header and a body that cannot be read: answer it, keep the session.

    `status` is the command_status to answer with; `command_id` and `sequence_number` are the header's.
    """

    def __init__(self, detail: str, *, command_id: int = 0, sequence_number: int = 0, status: int = 0x08) -> None:
        super().__init__(detail)
        self.command_id = command_id
        self.sequence_number = sequence_number
        self.status = status


class FramingError(SmppError):
    """The byte stream cannot be cut into PDUs any more: generic_nack where possible, then close."""


class SessionClosed(SmppError):
    """The session ended while it was needed."""
