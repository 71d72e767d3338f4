"""Every call of the application API as a flow: its request, and how its answer is read. Shared by both clients.

Owns what makes a repeat safe (a key a call, refs, event ids) and how a long list becomes batches. Pure: keys come in.
Refuses to know sockets (`aio`, `sync`) and how long to try (`exchange`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from gateway.client import reading
from gateway.client.errors import Unreachable
from gateway.client.exchange import Effort, Flow, Pause, Request, Response, answered
from gateway.client.model import (
    Accepted,
    Cancelled,
    Feedback,
    Foreseen,
    Health,
    Listed,
    Message,
    Refused,
    Report,
    Status,
)

MAX_BATCH = 1000
MAX_BATCH_BYTES = 4 * 1024 * 1024
_JSON = {"Content-Type": "application/json"}
_MESSAGES, _BATCH, _CHECK = "/v1/messages", "/v1/messages/batch", "/v1/messages/check"


def send(effort: Effort, message: Message, key: str | None, fresh_key: str) -> Flow[Accepted]:
    """Post one message. `key`: the caller's own; `fresh_key`: used where a repeat needs one and nobody gave any."""
    headers = _JSON | _idempotency([message], key, fresh_key)
    body, response = yield from answered(
        Request("POST", _MESSAGES, headers=headers, body=orjson.dumps(message.to_json())), effort
    )
    return reading.accepted(body, replayed=_replayed(response))


def send_batch(
    effort: Effort,
    messages: Sequence[Message],
    defaults: Mapping[str, Any] | None,
    key: str | None,
    fresh_key: str,
    *,
    retry_items: bool,
) -> Flow[list[Accepted | Refused]]:
    """Post messages in as many calls as they need; the answers stand in the order of the messages.

    With `retry_items`, those that are refused for now and have a ref are posted again until the deadline. One without
    a ref is known by its place in the batch, so elsewhere it would be another message: it is left to the caller.
    """
    found: list[Accepted | Refused] = []
    batches = list(batched([message.to_json() for message in messages], defaults))
    for number, (count, body) in enumerate(batches):
        own = messages[len(found) : len(found) + count]
        # A place in a batch belongs to its key, so every batch of a call has a key of its own.
        suffix = f".{number}" if len(batches) > 1 else ""
        headers = _idempotency(own, key + suffix if key else None, fresh_key + suffix)
        found += yield from _post_batch(effort, headers, body, count)
    while retry_items:
        again = [i for i, one in enumerate(found) if isinstance(one, Refused) and one.retryable and messages[i].ref]
        asked_s = max((_asked(found[i]) for i in again), default=0.0)
        pause_s = effort.pause_s(asked_s or None) if again else None
        if pause_s is None:
            break
        yield Pause(pause_s)
        at = 0
        for count, body in batched([messages[i].to_json() for i in again], defaults):
            for one in (yield from _post_batch(effort, {}, body, count)):
                found[again[at]] = one
                at += 1
    return found


def _asked(one: Accepted | Refused) -> float:
    return (one.retry_after_s or 0.0) if isinstance(one, Refused) else 0.0


def _post_batch(effort: Effort, headers: Mapping[str, str], body: bytes, count: int) -> Flow[list[Accepted | Refused]]:
    answer, response = yield from answered(Request("POST", _BATCH, headers={**_JSON, **headers}, body=body), effort)
    results = _results(answer, count)
    items = [reading.item(entry, replayed=_replayed(response)) for entry in results]
    return [effort.judged(one) if isinstance(one, Refused) else one for one in items]


def check(
    effort: Effort, messages: Sequence[Message], defaults: Mapping[str, Any] | None, key: str | None
) -> Flow[list[Foreseen]]:
    """Ask what would become of messages; nothing is stored."""
    headers = _JSON | ({"Idempotency-Key": key} if key else {})
    found: list[Foreseen] = []
    for count, body in batched([message.to_json() for message in messages], defaults):
        answer, _ = yield from answered(Request("POST", _CHECK, headers=headers, body=body), effort)
        found += [reading.foreseen(entry) for entry in _results(answer, count)]
    return found


def get(effort: Effort, message_id: str) -> Flow[Status]:
    """Read one message."""
    body, _ = yield from answered(Request("GET", f"{_MESSAGES}/{_part(message_id)}"), effort)
    return reading.status(body)


def find(effort: Effort, to: str, ref: str | None) -> Flow[list[Status]]:
    """Read the account's latest messages to a number; with `ref`, that one."""
    query = {"to": to} if ref is None else {"to": to, "ref": ref}
    body, _ = yield from answered(Request("GET", _MESSAGES, query), effort)
    return reading.statuses(body)


def cancel(effort: Effort, message_id: str) -> Flow[Cancelled]:
    """Cancel a message; a repeat answers the same."""
    body, _ = yield from answered(Request("DELETE", f"{_MESSAGES}/{_part(message_id)}"), effort)
    return reading.cancelled(body)


def feedback(effort: Effort, message_id: str, told: Feedback) -> Flow[bool]:
    """Tell what a message led to; return whether it was new. Its event_id makes a repeat safe."""
    path = f"{_MESSAGES}/{_part(message_id)}/feedback"
    body, _ = yield from answered(Request("POST", path, headers=_JSON, body=orjson.dumps(told.to_json())), effort)
    return not body.get("repeated", False)


def blacklist_get(effort: Effort, number: str) -> Flow[list[Listed]]:
    """Read what the account's blacklist says of a number."""
    body, _ = yield from answered(Request("GET", _blacklist(number)), effort)
    return reading.listed(body, "entries")


def blacklist_put(effort: Effort, number: str, categories: Sequence[str] | None, reason: str | None) -> Flow[Listed]:
    """Put a number on the account's blacklist, for these categories and no others."""
    given = {"categories": list(categories) if categories is not None else None, "reason": reason}
    entry = orjson.dumps({name: value for name, value in given.items() if value is not None})
    body, _ = yield from answered(Request("PUT", _blacklist(number), headers=_JSON, body=entry), effort)
    entries = reading.listed(body, "entries")
    if not entries:
        raise Unreachable("the answer does not show the entry")
    return entries[0]


def blacklist_delete(effort: Effort, number: str) -> Flow[list[Listed]]:
    """Take a number off all of the account's lists; return what was there."""
    body, _ = yield from answered(Request("DELETE", _blacklist(number)), effort)
    return reading.listed(body, "removed")


def stats(effort: Effort, query: Mapping[str, str]) -> Flow[Report]:
    """Ask how the account's messages fared."""
    body, _ = yield from answered(Request("GET", "/v1/stats", {**query, "format": "json"}), effort)
    return reading.report(body)


def stats_query(
    since: str | None, until: str | None, by: Sequence[str], zone: str | None, where: Mapping[str, str | Sequence[str]]
) -> dict[str, str]:
    """Return the parameters of a question about statistics; commas inside a value are escaped."""
    query = {name: value for name, value in (("from", since), ("to", until), ("zone", zone)) if value}
    if by:
        query["by"] = ",".join(by)
    for name, values in where.items():
        listed = [values] if isinstance(values, str) else values
        query[name] = ",".join(value.replace(",", "\\,") for value in listed)
    return query


def health(effort: Effort) -> Flow[Health]:
    """Ask whether the gateway takes this key's calls and its store answers."""
    body, _ = yield from answered(Request("GET", "/v1/health"), effort)
    return reading.health(body)


# --- parts of requests and answers


def batched(messages: Sequence[dict[str, Any]], defaults: Mapping[str, Any] | None) -> Iterator[tuple[int, bytes]]:
    """Yield bodies of at most 1,000 messages and 4 MiB, each with the number of its messages.

    The same messages are cut in the same way every time: with a key of the caller's own, a later repeat of the whole
    list finds its parts again. A message that is too large even alone goes alone, and is refused alone.
    """
    head = b'{"defaults":' + orjson.dumps(dict(defaults)) + b',"messages":[' if defaults else b'{"messages":['
    rows: list[bytes] = []
    size = 0
    for message in messages:
        row = orjson.dumps(message)
        if rows and (len(rows) >= MAX_BATCH or len(head) + size + len(row) + 2 > MAX_BATCH_BYTES):
            yield len(rows), head + b",".join(rows) + b"]}"
            rows, size = [], 0
        rows.append(row)
        size += len(row) + 1
    if rows:
        yield len(rows), head + b",".join(rows) + b"]}"


def _idempotency(messages: Sequence[Message], key: str | None, fresh_key: str) -> dict[str, str]:
    """Return the header that makes a repeat safe; none is needed where every message has its `ref`."""
    if key is None and all(message.ref for message in messages):
        return {}
    return {"Idempotency-Key": key or fresh_key}


def _results(answer: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    results = answer.get("results")
    if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
        raise Unreachable("the answer does not list one result for each message")
    return results


def _replayed(response: Response) -> bool:
    return response.headers.get("idempotent-replayed") == "true"


def _blacklist(number: str) -> str:
    return f"/v1/blacklist/{_part(number)}"


def _part(text: str) -> str:
    """Return a text as one part of a path: whatever an application passes on, no other endpoint is reached."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.strip(".") == "" else quoted
