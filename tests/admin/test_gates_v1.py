"""`/admin/v1/gates` over HTTP on a real store: set, list, and every body that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.model import Secret
from gateway.settings import AccountSettings, AdminSettings, Settings
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


class Client:
    def __init__(self, base: str) -> None:
        self._url = f"{base}/admin/v1/gates"

    async def call(self, method: str, body: Any = None, content_type: str = "application/json") -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._url, data=data, headers=headers) as answer,
        ):
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def gates(store: Store, tmp_path: Path) -> AsyncIterator[Client]:
    settings = Settings(
        config_dir=tmp_path,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        accounts=(AccountSettings(id="shop"),),
    )
    async with admin_listener(settings, store, tmp_path) as address:
        yield Client(f"http://{address}")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gate", "spring/run 3"),
        ("tag", "节日"),
        ("campaign", "a:b"),
        ("account", "shop"),
        ("category", "marketing"),
    ],
)
async def test_a_gate_is_set_listed_and_opened_again(gates: Client, kind: str, name: str) -> None:
    wanted = {"kind": kind, "name": name}
    status, body = await gates.call("PUT", {**wanted, "state": "hold"})
    assert (status, body) == (200, {**wanted, "state": "hold", "held": 0, "moved": 0})
    assert await gates.call("GET") == (
        200,
        {"gates": [{**wanted, "state": "hold", "held": 0, "closed": 0}]},
    )
    await gates.call("PUT", {**wanted, "state": "closed"})
    assert (await gates.call("GET"))[1]["gates"][0]["state"] == "closed"
    await gates.call("PUT", {**wanted, "state": "open"})
    assert await gates.call("GET") == (200, {"gates": []})


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"kind": "gate", "name": "x", "state": "ajar"}, 422, "state"),
        ({"kind": "gate", "name": "x"}, 422, "state"),
        ({"kind": "gate", "name": "x", "state": ["hold"]}, 422, "state"),
        ({"kind": "door", "name": "x", "state": "hold"}, 422, "kind"),
        ({"kind": {}, "name": "x", "state": "hold"}, 422, "kind"),
        ({"kind": "gate", "name": "", "state": "hold"}, 422, "name"),
        ({"kind": "gate", "name": 7, "state": "hold"}, 422, "name"),
        ({"kind": "gate", "name": "x" * 65, "state": "hold"}, 422, "name"),
        ({"kind": "gate", "name": "a\nb", "state": "hold"}, 422, "name"),
        ({"kind": "gate", "name": "a\u202eb", "state": "hold"}, 422, "name"),
        ({"kind": "category", "name": "spam", "state": "hold"}, 422, "name"),
        ({"kind": "account", "name": "nobody", "state": "hold"}, 422, "name"),
        ({"kind": "gate", "name": "x", "state": "hold", "stat": 1}, 422, "stat"),
        ({"kind": "gate", "name": "x", "state": "hold", "Canary <1>": 1}, 422, None),
        (b"[]", 400, None),
        (b"{", 400, None),
        (b"", 400, None),
        (b'{"kind": "\xff"}', 400, None),
        (b"[" * 3000, 400, None),
        (b" " * 5000, 413, None),
    ],
)
async def test_a_wrong_body_is_refused_with_its_field(gates: Client, body: Any, status: int, field: str | None) -> None:
    got, problem = await gates.call("PUT", body)
    assert (got, problem.get("field")) == (status, field)
    assert "Canary" not in str(problem)
    assert await gates.call("GET") == (200, {"gates": []})


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=rot13", "multipart/form-data"])
async def test_another_content_type_is_415(gates: Client, content_type: str) -> None:
    body = {"kind": "gate", "name": "x", "state": "hold"}
    assert (await gates.call("PUT", body, content_type))[0] == 415
