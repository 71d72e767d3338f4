"""`POST /admin/v1/erase`: what it takes, what it refuses, and that no answer repeats the number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.erase_v1 import ErasureApi
from gateway.model import Secret
from gateway.settings import AdminSettings, Settings
from gateway.store.audit import Audit
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.messages import accept, message

TOKEN = "a-long-admin-token"
NUMBER = "8613871946205"
Ask = Callable[[dict[str, Any]], Awaitable[tuple[int, Any]]]


@pytest.fixture
async def ask(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Ask]:
    own = replace(settings, admin=AdminSettings(port=0, token=Secret(TOKEN)))
    more = ErasureApi(own, store, Audit(store)).routes()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        admin_listener(own, store, tmp_path, None, more) as address,
        aiohttp.ClientSession(headers=headers) as session,
    ):

        async def post(body: dict[str, Any]) -> tuple[int, Any]:
            async with session.post(f"http://{address}/admin/v1/erase", json=body) as answer:
                text = await answer.text()
                assert NUMBER not in text
                assert NUMBER[2:] not in text
                return answer.status, await answer.json(content_type=None)

        yield post


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "number"),
        ({"number": 8613871946205}, "number"),
        ({"number": "13871946205"}, "number"),
        ({"number": f"+{NUMBER}", "country": 86}, "country"),
        ({"number": f"+{NUMBER}", "cancel": "yes"}, "cancel"),
        ({"number": f"+{NUMBER}", "rewrite": 1}, "rewrite"),
        ({"number": f"+{NUMBER}", "next": "walk"}, "next"),
        ({"number": f"+{NUMBER}", "next": "look:0:1"}, "next"),
        ({"number": f"+{NUMBER}", "next": "walk:0:1"}, "next"),
        ({"number": f"+{NUMBER}", "next": "walk:-1"}, "next"),
        ({"number": f"+{NUMBER}", "all": True}, "all"),
    ],
)
async def test_what_is_refused(ask: Ask, body: dict[str, Any], field: str) -> None:
    status, problem = await ask(body)
    assert (status, problem["field"]) == (422, field)


async def test_live_ones_refuse_and_cancel_ends_them(ask: Ask, store: Store) -> None:
    sent = [message(store, NUMBER) for _ in range(3)]
    await accept(store, *sent)
    status, problem = await ask({"number": "13871946205", "country": "cn"})
    assert (status, problem["code"], problem["field"]) == (409, "still_live", "cancel")
    assert problem["counts"] == {"final": 0, "waiting": 3, "sent": 0, "being_sent": 0}
    assert len(await store.find(NUMBER, "shop")) == 3
    status, done = await ask({"number": f"+{NUMBER}", "cancel": True})
    assert (status, done["done"], done["file"]) == (200, True, "rewriting")
    assert done["erased"] == {"records": 3, "number": 1}
    assert await store.get(sent[0].id) is None
    assert await store.waiting() == 0
    status, done = await ask({"number": f"+{NUMBER}", "rewrite": False})
    assert (status, done) == (200, {"done": True, "erased": {}})
    results = {(entry.action, entry.more["result"]) for entry in await Audit(store).read()}
    assert results == {("number.erase", "done"), ("number.erase", "refused: 409")}
