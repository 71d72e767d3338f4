"""The calls of the HTTP API over one aiohttp session, with retries that cannot double a message.

A post is repeated only under the same idempotency: the message's own `ref`, or an `Idempotency-Key` that is
made once a call and kept over its repeats (delivery contract: a time-out or a cut connection means "unknown",
and the same key then finds out). Waiting follows `Retry-After` where the gateway gives one, else doubles with
jitter.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from gateway.client.model import Accepted, ApiError, Feedback, Message, Refused, Status, Unreachable

_RETRY_STATUS = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a call keeps trying. `deadline_s` covers all attempts together; 0 attempts only once."""

    deadline_s: float = 30.0
    attempt_timeout_s: float = 15.0
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0


class Client:
    """One account's access to one gateway; an async context manager. Not shared between event loops."""

    def __init__(self, url: str, key: str, *, retry: Retry | None = None, connections: int = 16) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._retry = retry or Retry()
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._retry.attempt_timeout_s),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, message: Message, *, idempotency_key: str | None = None) -> Accepted:
        """Post one message until it is accepted or refused.

        Raises:
            ApiError: refused; nothing was stored.
            Unreachable: no answer in time; sending the same `ref` or key again finds out.
        """
        headers = _idempotency([message], idempotency_key)
        body, replayed = await self._call("POST", "/v1/messages", message.to_json(), headers)
        return _accepted(body, replayed)

    async def send_batch(
        self,
        messages: Sequence[Message],
        *,
        defaults: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> list[Accepted | Refused]:
        """Post up to 1,000 messages in one call; the answers stand in the order of the messages.

        Raises:
            ApiError: the call as a whole was refused.
            Unreachable: no answer in time.
        """
        headers = _idempotency(messages, idempotency_key)
        document: dict[str, Any] = {"messages": [message.to_json() for message in messages]}
        if defaults:
            document["defaults"] = dict(defaults)
        body, replayed = await self._call("POST", "/v1/messages/batch", document, headers)
        results = body.get("results")
        if not isinstance(results, list) or len(results) != len(messages):
            raise Unreachable("the answer does not list one result for each message")
        return [_refused(entry["error"]) if "error" in entry else _accepted(entry, replayed) for entry in results]

    async def get(self, message_id: str) -> Status:
        """Return a message's state. Raises ApiError (404: not this account's)."""
        body, _ = await self._call("GET", f"/v1/messages/{message_id}")
        return _status(body)

    async def find(self, to: str, *, ref: str | None = None) -> list[Status]:
        """Return the account's latest messages to a number; with `ref`, that one."""
        params = {"to": to} if ref is None else {"to": to, "ref": ref}
        body, _ = await self._call("GET", "/v1/messages", params=params)
        return [_status(entry) for entry in body.get("messages", ())]

    async def cancel(self, message_id: str) -> Status:
        """Cancel what is not yet claimed for sending. Raises ApiError (409: too late, 404: unknown)."""
        body, _ = await self._call("DELETE", f"/v1/messages/{message_id}")
        return _status(body)

    async def feedback(self, message_id: str, told: Feedback) -> bool:
        """Tell what a message led to; return whether it was new (repeats, also by this client, count once).

        Raises:
            ApiError: 404: unknown or no longer kept; 409: never sent; 422: the event_id has other content.
            Unreachable: no answer in time; telling it again is safe.
        """
        body, _ = await self._call("POST", f"/v1/messages/{message_id}/feedback", told.to_json())
        return not body.get("repeated", False)

    async def _call(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], bool]:
        """Repeat one call until it is answered for good; return (body, whether it is a replay)."""
        data = orjson.dumps(document) if document is not None else None
        deadline = time.monotonic() + self._retry.deadline_s
        wait_s = self._retry.first_wait_s
        while True:
            try:
                return await self._attempt(method, path, data, headers, params)
            except ApiError as exc:
                if exc.status not in _RETRY_STATUS:
                    raise
                asked_s = exc.refused.retry_after_s
                pause_s = asked_s if asked_s is not None else _jitter(wait_s)
                if time.monotonic() + pause_s >= deadline:
                    raise
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                pause_s = _jitter(wait_s)
                if time.monotonic() + pause_s >= deadline:
                    raise Unreachable(f"no answer from the gateway: {type(exc).__name__}") from exc
            await asyncio.sleep(pause_s)
            wait_s = min(wait_s * 2, self._retry.longest_wait_s)

    async def _attempt(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None,
    ) -> tuple[dict[str, Any], bool]:
        if self._session is None:
            raise RuntimeError("use `async with Client(…)`")
        sent = dict(headers or {})
        if data is not None:
            sent["Content-Type"] = "application/json"
        url = self._url + path
        async with self._session.request(method, url, data=data, headers=sent, params=params) as response:
            raw = await response.read()
            body = _json_object(raw)
            if response.status >= 400:
                raise ApiError(response.status, _problem(response, body))
            if body is None:
                raise aiohttp.ClientPayloadError("the answer is not a JSON object")
            return body, response.headers.get("Idempotent-Replayed") == "true"


def _idempotency(messages: Sequence[Message], key: str | None) -> dict[str, str]:
    """Return the header that makes a repeat safe; none is needed where every message has its `ref`."""
    if key is None and all(message.ref for message in messages):
        return {}
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _problem(response: aiohttp.ClientResponse, body: dict[str, Any] | None) -> Refused:
    """Read an RFC 9457 problem; something else in between (a proxy) is told by its status alone."""
    refused = _refused(body or {})
    header = response.headers.get("Retry-After", "")
    retry_after_s = float(header) if header.isascii() and header.isdigit() else refused.retry_after_s
    return Refused(
        code=refused.code if body else f"http_{response.status}",
        detail=refused.detail or response.reason or "",
        field=refused.field,
        outcome=refused.outcome if body else "unknown",
        retry_after_s=retry_after_s,
    )


def _refused(error: Mapping[str, Any]) -> Refused:
    retry_after = error.get("retry_after_s")
    return Refused(
        code=str(error.get("code", "unknown")),
        detail=str(error.get("detail", "")),
        field=error.get("field"),
        outcome=str(error.get("outcome", "not_stored")),
        retry_after_s=float(retry_after) if isinstance(retry_after, int | float) else None,
    )


def _accepted(body: Mapping[str, Any], replayed: bool) -> Accepted:
    return Accepted(
        id=str(body.get("id", "")),
        state=str(body.get("state", "")),
        parts=int(body.get("parts", 0)),
        route=str(body.get("route", "")),
        replayed=bool(body.get("replayed", replayed)),
        raw=body,
    )


def _status(body: Mapping[str, Any]) -> Status:
    reason = body.get("reason")
    code = reason.get("code", "") if isinstance(reason, dict) else reason
    return Status(id=str(body.get("id", "")), state=str(body.get("state", "")), reason=str(code or ""), raw=body)


def _jitter(wait_s: float) -> float:
    """Spread repeats of many clients: half to one and a half of the wait."""
    return wait_s * (0.5 + random.random())
