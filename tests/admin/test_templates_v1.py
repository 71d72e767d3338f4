"""`/admin/v1/templates`: versions put, shown, previewed with their price, and taken out of use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.templates_v1 import TemplatesApi
from gateway.model import Category, Secret
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
)
from gateway.store.audit import Audit
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates.model import Template
from gateway.templates.registry import Templates
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"
OTP = {
    "category": "verification", "text": "【Acme】Code {{ code }}", "params": {"code": {"type": "code"}},
    "about": "Login",
    "registration": [{"channels": ["a"], "tlvs": {"0x1401": "1107"}}, {"tlvs": {"0x1400": "0x00ff"}}],
}  # fmt: skip


class Asker:
    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session, self._address = session, address

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        url = f"http://{self._address}/admin/v1/templates{path}"
        async with self._session.request(method, url, json=body) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def ask(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Asker]:
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        channels=tuple(
            ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p"), price=price)
            for name, price in (("a", 0.04), ("b", 0.05))
        ),
        routes=(RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0), RankedChannel("b", 1))),),
        accounts=(AccountSettings(id="shop"),),
    )
    router = build_router(own)
    of_file = Template("filed", 1, Category.MARKETING, "Hello")
    templates = Templates([of_file], TemplateStore(store), hold_s=0.0)
    more = TemplatesApi(own, router, templates, TemplateStore(store), Audit(store)).routes()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        admin_listener(own, store, tmp_path, router, more) as address,
        aiohttp.ClientSession(headers=headers) as session,
    ):
        yield Asker(session, address)


async def test_put_show_retire(ask: Asker, store: Store) -> None:
    assert await ask("PUT", "/otp", OTP) == (200, {"id": "otp", "version": 1, "new": True})
    assert await ask("PUT", "/otp", OTP) == (200, {"id": "otp", "version": 1, "new": False})
    assert await ask("PUT", "/otp", {**OTP, "text": "【Acme】{{ code }}", "version": 2}) == (
        200,
        {"id": "otp", "version": 2, "new": True},
    )
    status, found = await ask("GET", "")
    rows = [(t["id"], t["version"], t["source"], t["in_use"]) for t in found["templates"]]
    assert (status, rows) == (200, [("filed", 1, "file", True), ("otp", 1, "store", True), ("otp", 2, "store", True)])
    status, shown = await ask("GET", "/otp")
    assert (shown["version"], shown["text"], shown["about"]) == (2, "【Acme】{{ code }}", "Login")
    assert shown["params"]["code"] == {"type": "code", "optional": False, "min_length": 4, "max_length": 8}
    assert [entry["tlvs"] for entry in shown["registration"]] == [{"0x1401": "1107"}, {"0x1400": "0x00ff"}]
    assert (await ask("GET", "/otp?version=1"))[1]["text"] == OTP["text"]
    assert await ask("POST", "/otp/retire", {"version": 2}) == (200, {"id": "otp", "retired": 1})
    assert (await ask("GET", "/otp"))[1]["version"] == 1
    assert await ask("POST", "/otp/retire", {}) == (200, {"id": "otp", "retired": 1})
    assert (await ask("GET", "/otp"))[0] == 404
    assert [v["in_use"] for v in (await ask("GET", "/otp?version=1"))[1]["versions"]] == [False, False]
    actions = [entry.action for entry in await Audit(store).read() if entry.more["result"] == "done"]
    assert sorted(actions) == ["template.put"] * 2 + ["template.retire"] * 2
    # What was retired comes back as a version of its own.
    assert await ask("PUT", "/otp", OTP) == (200, {"id": "otp", "version": 3, "new": True})


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("/otp", {**OTP, "text": "{{ name }}"}, 422, "invalid_template", "text"),
        ("/otp", {**OTP, "categry": "x"}, 422, "invalid_template", "categry"),
        ("/otp", {**OTP, "params": {"code": {"type": "cod"}}}, 422, "invalid_template", "params.code.type"),
        ("/otp", {**OTP, "registration": [{"channels": ["zz"]}]}, 422, "invalid_template", "registration[1].channels"),
        ("/otp", {**OTP, "accounts": ["nobody"]}, 422, "invalid_template", "accounts"),
        ("/otp", {**OTP, "version": 7}, 409, "version_conflict", "version"),
        ("/otp", {**OTP, "version": "7"}, 422, "invalid_field", "version"),
        ("/otp", {**OTP, "id": "other"}, 422, "invalid_field", "id"),
        ("/not%20a%20name", OTP, 422, "invalid_template", "id"),
        ("/filed", OTP, 409, "template_in_file", "id"),
        ("/otp", [], 400, "invalid_json", None),
    ],
)
async def test_what_cannot_be_put(ask: Asker, path: str, body: Any, status: int, code: str, field: str | None) -> None:
    answered, problem = await ask("PUT", path, body)
    assert (answered, problem["code"], problem.get("field")) == (status, code, field)
    assert len((await ask("GET", ""))[1]["templates"]) == 1


async def test_a_long_one_fits(ask: Asker) -> None:
    long = {**OTP, "text": "{% if code %}" + "码" * 3900 + "{{ code }}{% endif %}"}
    assert (await ask("PUT", "/long", long))[0] == 200
    status, problem = await ask("POST", "/long/preview", {"params": {"code": "482913"}})
    assert (status, problem["code"]) == (422, "text_too_long")


async def test_preview_with_parts_and_prices(ask: Asker) -> None:
    await ask("PUT", "/otp", OTP)
    body = {"params": {"code": "482913"}, "to": "13800138000", "account": "shop"}
    status, found = await ask("POST", "/otp/preview", body)
    assert status == 200, found
    assert (found["text"], found["parts"], found["encoding"]) == ("【Acme】Code 482913", 1, "ucs2")
    assert [(c["id"], c["cost"], c["tlvs"]) for c in found["channels"]] == [
        ("a", 0.04, {"0x1400": "0x00ff", "0x1401": "1107"}),
        ("b", 0.05, {"0x1400": "0x00ff"}),
    ]
    status, found = await ask("POST", "/filed/preview", {})
    assert (status, found["text"], found["encoding"], "channels" in found) == (200, "Hello", "gsm7", False)
    for body, code, field in (
        ({"params": {}}, "missing_param", "params.code"),
        ({"params": {"code": "1"}}, "invalid_param", "params.code"),
        ({"params": {"code": "4829"}, "to": "+8613800138000", "account": "x"}, "invalid_field", "account"),
        ({"params": {"code": "4829"}, "to": "+447911123456"}, "no_route", "to"),
        ({"params": {"code": "4829"}, "too": "x"}, "unknown_field", "too"),
    ):
        status, problem = await ask("POST", "/otp/preview", body)
        assert (status, problem["code"], problem["field"]) == (422, code, field)
    assert (await ask("POST", "/nobody/preview", {}))[0] == 404
    assert (await ask("POST", "/nobody/retire", {}))[0] == 404
    assert (await ask("POST", "/filed/retire", {}))[0] == 409
