"""`/admin/v1/channels` over HTTP on a real store: list, pause, drain, resume, and every body that is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.metrics import Metrics, SnapshotWriter
from gateway.model import Secret
from gateway.settings import AdminSettings, ChannelSettings, Settings
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


@pytest.fixture
async def url(store: Store, tmp_path: Path) -> AsyncIterator[str]:
    channels = tuple(
        ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p"), binds=2) for name in ("a", "b")
    )
    settings = Settings(config_dir=tmp_path, admin=AdminSettings(port=0, token=Secret(TOKEN)), channels=channels)
    async with admin_listener(settings, store, tmp_path) as address:
        yield f"http://{address}/admin/v1/channels"


async def call(url: str, method: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
    data = None if body is None else orjson.dumps(body)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_list_and_steer(url: str, store: Store) -> None:
    await store.heartbeat(0, first=True, channels=["b"])
    status, body = await call(url, "GET")
    assert status == 200
    shown = {c["id"]: (c["bound"], c["breaker"], c["operator"]) for c in body["channels"]}
    assert shown == {"a": (False, "closed", "run"), "b": (True, "closed", "run")}
    for action, operator in (("pause", "pause"), ("drain", "drain"), ("resume", "run")):
        status, body = await call(url, "PUT", {"id": "a", "action": action})
        assert (status, body["id"], body["operator"]) == (200, "a", operator)
        assert (await store.health())["a"].operator == operator
    await store.health([("b", "open:refusals", 0)])
    _, body = await call(url, "GET")
    (b,) = [c for c in body["channels"] if c["id"] == "b"]
    assert (b["breaker"], b["cause"]) == ("open", "refusals")


async def test_what_a_worker_leaves_out_is_shown(url: str, tmp_path: Path) -> None:
    worker = Metrics("dispatch", "worker01", "worker01")
    worker.gauge("channel_left_out", channel="a", field="validity").n = 1
    worker.gauge("channel_left_out", channel="a", field="tlvs").n = 1
    worker.gauge("channel_left_out", channel="b", field="tlvs").n = 0
    SnapshotWriter(worker, tmp_path).write()
    _, body = await call(url, "GET")
    assert [c["left_out"] for c in body["channels"]] == [["tlvs", "validity"], []]
    _, one = await call(url, "PUT", {"id": "a", "action": "resume"})
    assert one["left_out"] == ["tlvs", "validity"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "c", "action": "pause"}, "id"),
        ({"id": 7, "action": "pause"}, "id"),
        ({"action": "pause"}, "id"),
        ({"id": "a", "action": "stop"}, "action"),
        ({"id": "a"}, "action"),
        ({"id": "a", "action": "pause", "why": "x"}, "why"),
    ],
)
async def test_a_wrong_body_names_its_field_and_changes_nothing(url: str, store: Store, body: Any, field: str) -> None:
    status, problem = await call(url, "PUT", body)
    assert (status, problem["field"]) == (422, field)
    assert await store.health() == {}


async def test_without_the_token_nobody_steers(url: str, store: Store) -> None:
    status, _ = await call(url, "PUT", {"id": "a", "action": "pause"}, token="wrong")
    assert status == 401
    assert await store.health() == {}
