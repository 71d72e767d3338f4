"""`/admin/v1/messages`: what is shown of a message without `full`, and what `resend` may do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway import journal
from gateway.admin.messages_v1 import MessagesApi
from gateway.model import Secret, message_id
from gateway.settings import AdminSettings, Settings
from gateway.store.audit import Audit
from gateway.store.moves import Settlement
from gateway.store.records import pack_body, pack_content
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.messages import accept, claim, message

NUMBER = "8613871946205"


@pytest.fixture
async def ask(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Any]:
    own = replace(settings, admin=AdminSettings(token=Secret("the-token")))
    routes = MessagesApi(store, Audit(store), own).routes()
    async with (
        admin_listener(own, store, tmp_path, more=routes) as address,
        aiohttp.ClientSession(headers={"Authorization": "Bearer the-token"}) as session,
    ):

        async def one(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            async with session.request(method, f"http://{address}/admin/v1/messages/{path}", json=body) as answer:
                return answer.status, await answer.json()

        yield one


async def test_no_answer_without_full_has_the_number_in_what_others_wrote(store: Store, ask: Any) -> None:
    """A ref or a contact is the application's own, and often made of the number; a carrier's code may be anything."""
    carried = orjson.dumps({"o": {"campaign": f"x{NUMBER}"}, "c": f"crm/{NUMBER[2:]}", "m": "private words"})
    content = pack_content("zanzibar", f"order-20261122-0{NUMBER[2:]}", carried)
    m = message(store, NUMBER, body=pack_body("gsm7", content), tags=(f"to:{NUMBER}", "sale"), campaign="spring")
    await accept(store, m)
    (c,) = await claim(store)
    log = f"1\x1fch\x1f8\x1fpermanent\x1f0=00{NUMBER},1=00000000138"
    await store.settle(0, [Settlement(c.claim, 1, "F", "ch", reason="refused", code=NUMBER, log=log)], [])
    whole = json.dumps([await ask("GET", f"{message_id(m.id)}?full=1")])
    assert whole.count(NUMBER[2:]) >= 6
    for shown in (await ask("GET", message_id(m.id)), await ask("POST", "find", {"to": f"+{NUMBER}"})):
        text = json.dumps(shown)
        assert NUMBER[2:] not in text
        assert "zanzibar" not in text
        assert "private" not in text
        assert "+86138****6205" in text
        assert "order-20261122-" in text  # what is not the number stays
        assert message_id(m.id) in text
        assert "0x00000008" in text, "a status is no number"
        assert "RSYSERR" in text
        assert "00000000138" in text, "nor are three digits of one behind zeros"


async def test_resend_without_an_attempt_left_changes_nothing(store: Store, ask: Any) -> None:
    m = message(store, category=0)
    await accept(store, m)
    most = int(store._max_attempts[0])
    for n in range(1, most + 1):
        (c,) = await claim(store, token=f"t{n}")
        verb, delay = ("u", 600_000) if n == most else ("U", 0)
        assert await store.settle(0, [Settlement(c.claim, n, verb, "ch", delay_ms=delay)], []) == "1"
    status, said = await ask("POST", message_id(m.id), {"action": "resend"})
    assert (status, said["code"]) == (409, "exhausted")
    record = await store.get(m.id)
    assert record is not None
    assert record.state == "u", "its late receipt is still waited for"
    (entry,) = await Audit(store).read()
    assert (entry.action, entry.more["result"]) == ("message.resend", "refused: 409 exhausted")


async def test_what_an_operator_cancels_is_told_like_any_end(
    store: Store, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(journal, "on", True)
    monkeypatch.setattr(journal, "cancelled", lambda *a, **kw: told.append((*a, kw)))
    m = message(store)
    await accept(store, m)
    for result in ("cancelled", "already"):
        assert (await ask("POST", message_id(m.id), {"action": "cancel"}))[1]["result"] == result
    assert told == [(m.id, "shop", {"by": "operator"})]
