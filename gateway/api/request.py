"""What an endpoint asks of an HTTP request: its body within bounds, its key, its parameters.

Owns the limits on bodies, the content type and the query string. Refuses to know endpoints and messages.
Stands between the connection's guards and the endpoints; all faults are RequestErrors, and a connection whose
body was not read to its end is closed after the answer.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from aiohttp.web import BaseRequest, RequestPayloadError

from gateway.errors import Backpressure, RequestError

MAX_SINGLE_BYTES: Final = 64 * 1024
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEY_PARAMETERS: Final = frozenset(
    {
        "key",
        "api_key",
        "api-key",
        "apikey",
        "token",
        "access_token",
        "auth",
        "authorization",
        "bearer",
        "secret",
    }
)
_NAMED = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class BodyTimeout(Exception):
    """Set on a request's stream by the connection's watchdog when the body takes too long."""


class BodyReader:
    """Reads bodies, and holds all those still incomplete in one worker to 64 MiB together."""

    def __init__(self) -> None:
        self.pending_bytes = 0

    async def read(self, request: BaseRequest, limit: int) -> bytes:
        """Return the whole body of at most `limit` bytes.

        Raises:
            RequestError: unsupported_media_type, body_too_large, request_timeout, bad_request.
            Backpressure: too many bodies are on their way.
        """
        check_content_type(request)
        content = request.content
        try:
            if content.is_eof():  # it came with the head: the usual case for a single message
                raw = content.read_nowait()
                if len(raw) > limit:
                    raise too_large(limit)
                return raw
            return await self._gather(request, limit)
        except BodyTimeout:
            raise RequestError("request_timeout", "the body came too slowly", status=408) from None
        except RequestPayloadError:
            raise RequestError("bad_request", "the body is not framed as HTTP/1.1 asks", status=400) from None

    async def _gather(self, request: BaseRequest, limit: int) -> bytes:
        length = request.content_length
        if length is not None and length > limit:
            raise too_large(limit)
        _answer_expectation(request)
        chunks: list[bytes] = []
        held = 0
        try:
            while chunk := await request.content.readany():
                held += len(chunk)
                self.pending_bytes += len(chunk)
                if held > limit:
                    raise too_large(limit)
                if self.pending_bytes > MAX_PENDING_BYTES:
                    raise Backpressure("overloaded", "too many bodies are on their way", retry_after_s=1)
                chunks.append(chunk)
        finally:
            self.pending_bytes -= held
        return b"".join(chunks)


def too_large(limit: int) -> RequestError:
    """Make the refusal of a body above `limit` bytes."""
    return RequestError("body_too_large", f"at most {limit // 1024} KiB are accepted here", status=413)


def _answer_expectation(request: BaseRequest) -> None:
    """Tell a client that waits for `100 Continue` to go on (curl does for bodies above 1 MiB)."""
    expectation = request.headers.get("Expect")
    if expectation is None or request.version.minor == 0:
        return
    if expectation.lower() != "100-continue":
        raise RequestError("expectation_failed", "only 100-continue is understood", status=417)
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def check_content_type(request: BaseRequest) -> None:
    """Refuse anything but plain JSON in UTF-8 with status 415.

    Compressed bodies are refused too: nobody asked for them, and a small one can unpack to gigabytes.
    """
    headers = request.headers
    given = headers.get("Content-Type")
    if given != "application/json":
        _check_media_type(given or "")
    encoding = headers.get("Content-Encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise _unsupported("the body must not be compressed")


def _check_media_type(given: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in given.split(";"))
    if media_type != "application/json":
        raise _unsupported("Content-Type must be application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            raise _unsupported("the charset must be UTF-8")


def _unsupported(detail: str) -> RequestError:
    return RequestError("unsupported_media_type", detail, field="Content-Type", status=415)


def idempotency_key(request: BaseRequest) -> str | None:
    """Return the `Idempotency-Key`, if there is one.

    Raises:
        RequestError: invalid_idempotency_key (400): longer than 255, not visible ASCII, or given twice.
    """
    headers = request.headers
    if "Idempotency-Key" not in headers:
        return None
    values = headers.getall("Idempotency-Key")
    if len(values) != 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise RequestError(
            "invalid_idempotency_key",
            "Idempotency-Key must be 1 to 255 visible ASCII characters, given once",
            field="Idempotency-Key",
            status=400,
        )
    return values[0]


def query_parameters(query: str, allowed: frozenset[str]) -> dict[str, str]:
    """Return the parameters of a query string.

    Raises:
        RequestError: key_in_query, or invalid_parameter for one that is unknown, repeated or not UTF-8 (400).
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError:  # includes UnicodeDecodeError
        raise RequestError("invalid_parameter", "the query string cannot be read", status=400) from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name.lower() in _KEY_PARAMETERS or value.startswith(("sg_live_", "Bearer ")):
            raise RequestError(
                "key_in_query",
                "send the key as Authorization: Bearer, and replace it: a URL ends up in logs",
                status=400,
            )
        if name not in allowed or name in parameters:
            known = _NAMED.fullmatch(name)
            raise RequestError(
                "invalid_parameter",
                "a query parameter is not known here, or given twice",
                field=name if known else None,
                status=400,
            )
        parameters[name] = value
    return parameters
