"""`GET /admin/v1/audit` over HTTP on a real store: pages that lose nothing, and filters that look behind a page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.audit_v1 import AuditApi
from gateway.model import Secret
from gateway.settings import AdminSettings, Settings
from gateway.store.audit import Audit
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


class Client:
    def __init__(self, base: str) -> None:
        self._url = f"{base}/admin/v1/audit"

    async def get(self, **query: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as session, session.get(self._url, params=query, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def client(store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    settings = Settings(config_dir=tmp_path, admin=AdminSettings(port=0, token=Secret(TOKEN)))
    async with admin_listener(settings, store, tmp_path, more=AuditApi(store).routes()) as address:
        yield Client(f"http://{address}")


async def test_pages_and_filters(client: Client, store: Store) -> None:
    audit = Audit(store)
    for i in range(60):
        action = ("gate.set", "config.reload", "config.rollback")[i % 3]
        await audit.note(("li@10.0.0.1", "Wang@10.0.0.2")[i % 2], action, f"o{i}")

    # Page by page: every entry is met, and told twice at most where two pages meet.
    met: dict[str, int] = {}
    before = 0
    for _ in range(30):
        status, page = await client.get(limit=7, before=before)
        assert status == 200
        for entry in page["entries"]:
            met[entry["object"]] = entry["entry"]
        before = page["older"]
        if not before:
            break
    assert sorted(met, key=lambda name: int(name[1:])) == [f"o{i}" for i in range(60)]

    _, page = await client.get(actor="wang", limit=100)
    assert [e["object"] for e in page["entries"]] == [f"o{i}" for i in range(59, 0, -2)]
    assert page["older"] == 0
    _, page = await client.get(action="config", actor="10.0.0.1", limit=100)
    assert [e["object"] for e in page["entries"]] == [f"o{i}" for i in range(59, -1, -1) if i % 3 and not i % 2]
    _, page = await client.get(action="config.rollback", limit=4)
    assert [e["object"] for e in page["entries"]] == ["o59", "o56", "o53", "o50"]
    assert page["older"] == page["entries"][-1]["at_ms"] + 1
    assert (await client.get(action="nothing"))[1] == {"entries": [], "older": 0}


async def test_a_filter_that_is_too_long_is_refused(client: Client) -> None:
    for name in ("actor", "action"):
        status, body = await client.get(**{name: "x" * 129})
        assert (status, body["field"]) == (422, name)
