"""`/admin/v1/gates`: read and set what holds or closes messages, by gate, tag, campaign, account or category.

    GET                                                    → {"gates": [{kind, name, state, held, closed, sweep?}]}
    PUT {"kind": "gate", "name": "spring", "state": "hold"} → {kind, name, state, held, moved}
    POST …/preview {"kind", "name", "under_way"?, "next"?}  → {kind, name, waiting, queued, scheduled, deferred, retry,
        held, under_way: {claimed, submitted, uncertain}, rows: [{category, account, …the same words}], looked, next}

A gate takes effect at the next claim. What waits behind a closed one is ended in slices by the admin worker
(`gate_sweeper`): `sweep` is {done, closed, looked, total, left, started_ms, ended_ms}; the gate's own `closed` counts
what claims ended too. A preview changes nothing; where `next` is not '' it is the count so far: ask again with it and
add up. Owns the shapes; refuses to know queues.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Any, Final, Protocol

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import read_object, unknown_field
from gateway.errors import RequestError
from gateway.model import CATEGORY_BY_LABEL
from gateway.settings import Settings
from gateway.store.gates import UNDER_WAY, WAITING, GateSweeps, Preview

KINDS: Final = ("gate", "tag", "campaign", "account", "category")
OPEN: Final = "open"
STATES: Final = (OPEN, "hold", "closed")
MAX_NAME_CHARS: Final = 64
MAX_BODY_BYTES: Final = 4096
SET_BUDGET_S: Final = 1.0
"""How long a PUT moves what its gate held; the sweeper does the rest."""
PREVIEW_BUDGET_S: Final = 5.0
_NEXT: Final = re.compile(r"[0-9]{1,3}:(?:[0-9a-f]{2}){0,400}")
_PLACE: Final = re.compile(rb"(1due|2q:.*|3pin:.*|4held:.*|5claims|6wait:[0-9]{1,12})\x1f[0-9]{1,12}\x1f.*|", re.DOTALL)


class GateStore(Protocol):
    """The part of the store that keeps gates."""

    async def gates(self) -> dict[str, dict[str, Any]]: ...
    async def set_gate(self, kind: str, name: str, state: str, *, budget_s: float = ...) -> dict[str, int]: ...


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
    counts = await store.set_gate(kind, name, state, budget_s=SET_BUDGET_S)
    return json_answer({"kind": kind, "name": name, "state": state, **counts})


class GatePreview:
    """The endpoint that counts what a gate would end."""

    def __init__(self, settings: Settings, sweeps: GateSweeps) -> None:
        self.settings = settings
        self._sweeps = sweeps

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoint, for the admin server to add."""
        return [web.post("/admin/v1/gates/preview", self.post)]

    async def post(self, request: web.Request) -> web.Response:
        """Count, for a few seconds at most.

        Raises:
            RequestError: the body is not what is wanted; the field says what.
        """
        body = await read_object(request)
        unknown_field(body, {"kind", "name", "under_way", "next"})
        kind, name = _named(body, {account.id for account in self.settings.accounts})
        under_way, at = body.get("under_way", True), body.get("next", "")
        if not isinstance(under_way, bool):
            raise RequestError("invalid_field", "true or false is wanted", field="under_way")
        if not isinstance(at, str) or (at and not _is_place(at)):
            raise RequestError("invalid_field", "what the answer before had is wanted", field="next")
        found = await self._sweeps.preview(kind, name, under_way=under_way, at=at, budget_s=PREVIEW_BUDGET_S)
        return json_answer({"kind": kind, "name": name, **_preview_view(found)})


def _is_place(at: str) -> bool:
    return bool(_NEXT.fullmatch(at)) and _PLACE.fullmatch(bytes.fromhex(at.partition(":")[2])) is not None


def _preview_view(found: Preview) -> dict[str, Any]:
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for (word, category, account), n in found.counts.items():
        rows.setdefault((category, account), dict.fromkeys((*WAITING, *UNDER_WAY), 0))[word] += n
    total = {word: sum(row[word] for row in rows.values()) for word in (*WAITING, *UNDER_WAY)}
    return {
        "waiting": sum(total[word] for word in WAITING),
        **{word: total[word] for word in WAITING},
        "under_way": {word: total[word] for word in UNDER_WAY},
        "rows": [{"category": c, "account": a, **row} for (c, a), row in sorted(rows.items())],
        "looked": found.looked,
        "next": found.next,
    }


def _checked(body: dict[str, Any], accounts: Collection[str]) -> tuple[str, str, str]:
    unknown_field(body, {"kind", "name", "state"})
    if body.get("state") not in STATES and body.get("kind") in KINDS:
        raise RequestError("invalid_field", f"one of {', '.join(STATES)} is wanted", field="state")
    # What was closed can be opened, also when its account has left the configuration.
    return *_named(body, accounts if body.get("state") != OPEN else None), body["state"]


def _named(body: dict[str, Any], accounts: Collection[str] | None) -> tuple[str, str]:
    """Return kind and name of a gate; `accounts`: those that there are, None for whichever."""
    if body.get("kind") not in KINDS:
        raise RequestError("invalid_field", f"one of {', '.join(KINDS)} is wanted", field="kind")
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS or not _printable(name):
        detail = f"1 to {MAX_NAME_CHARS} printable characters are wanted"
        raise RequestError("invalid_field", detail, field="name")
    if body["kind"] == "category" and name not in CATEGORY_BY_LABEL:
        raise RequestError("invalid_field", f"one of {', '.join(CATEGORY_BY_LABEL)} is wanted", field="name")
    if body["kind"] == "account" and accounts is not None and name not in accounts:
        raise RequestError("invalid_field", "no such account is configured", field="name")
    return body["kind"], name


def _printable(name: str) -> bool:
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in name)
