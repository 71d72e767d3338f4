"""`/admin/v1/gates`: read and set what holds or closes messages, by gate, tag, campaign, account or category.

    GET                                                    → {"gates": [{kind, name, state, held, closed}]}
    PUT {"kind": "gate", "name": "spring", "state": "hold"} → {kind, name, state, held, moved}

Owns the shape of both. Refuses to know queues: the store sets a gate, and it takes effect at the next claim.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final, Protocol

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import read_object, unknown_field
from gateway.errors import RequestError
from gateway.model import CATEGORY_BY_LABEL

KINDS: Final = ("gate", "tag", "campaign", "account", "category")
STATES: Final = ("open", "hold", "closed")
MAX_NAME_CHARS: Final = 64
MAX_BODY_BYTES: Final = 4096


class GateStore(Protocol):
    """The part of the store that keeps gates."""

    async def gates(self) -> dict[str, dict[str, Any]]: ...
    async def set_gate(self, kind: str, name: str, state: str) -> dict[str, int]: ...


async def get_gates(store: GateStore) -> web.Response:
    """List the gates that are not open, with what each holds aside and has closed."""
    gates = []
    for label, entry in sorted((await store.gates()).items()):
        kind, _, name = label.partition(":")
        gates.append({"kind": kind, "name": name, **entry})
    return json_answer({"gates": gates})


async def put_gate(request: web.Request, store: GateStore, accounts: frozenset[str]) -> web.Response:
    """Set one gate.

    Raises:
        RequestError: the body is not what is wanted; the field says what.
    """
    kind, name, state = _checked(await read_object(request), accounts)
    counts = await store.set_gate(kind, name, state)
    return json_answer({"kind": kind, "name": name, "state": state, **counts})


def _checked(body: dict[str, Any], accounts: frozenset[str]) -> tuple[str, str, str]:
    unknown_field(body, {"kind", "name", "state"})
    for field, allowed in (("kind", KINDS), ("state", STATES)):
        if body.get(field) not in allowed:
            raise RequestError("invalid_field", f"one of {', '.join(allowed)} is wanted", field=field)
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS or not _printable(name):
        detail = f"1 to {MAX_NAME_CHARS} printable characters are wanted"
        raise RequestError("invalid_field", detail, field="name")
    if body["kind"] == "category" and name not in CATEGORY_BY_LABEL:
        raise RequestError("invalid_field", f"one of {', '.join(CATEGORY_BY_LABEL)} is wanted", field="name")
    if body["kind"] == "account" and name not in accounts:
        raise RequestError("invalid_field", "no such account is configured", field="name")
    return body["kind"], name, body["state"]


def _printable(name: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in name)
