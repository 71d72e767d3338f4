"""`template` and `params` over HTTP: what is stored, refused by name, and the same again at a repeat."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.api.server import ApiServer
from gateway.intake import Intake
from gateway.metrics import Metrics
from gateway.model import MessageId, store_id
from gateway.routing.loader import build_router
from gateway.store.limits import AccountLimiter
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates.registry import Templates
from tests.api.conftest import KEY, Api, api_settings, message
from tests.support.valkey import ValkeyServer

CODE = {
    "id": "code", "category": "notification", "text": "Your code is {{ code }}{% if name %}, {{ name }}{% endif %}",
    "params": {"code": {"type": "code"}, "name": {"type": "string", "optional": True, "max_length": 20}},
}  # fmt: skip


@pytest.fixture
async def templated(valkey: ValkeyServer) -> AsyncIterator[tuple[Api, Templates, TemplateStore]]:
    settings = api_settings()
    store = await Store.open(settings, valkey.url, incarnation="api00001")
    kept = TemplateStore(store)
    await kept.put("code", orjson.dumps(CODE))
    templates = Templates((), kept, hold_s=0.0)
    await templates.refresh()
    metrics = Metrics("api", "0")
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), metrics, templates)
    server = ApiServer(settings, intake, store, metrics)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start(listening)
    async with aiohttp.ClientSession() as session:
        api = Api(server, settings, store, intake, metrics, listening.getsockname()[1], session)
        yield api, templates, kept
        await server.stop()
    await store.close()


def templated_message(i: int = 0, **changes: Any) -> dict[str, Any]:
    body = message(i)
    del body["text"]
    body |= {"template": "code", "params": {"code": "482913"}, **changes}
    return {name: value for name, value in body.items() if value is not None}


async def test_what_is_stored_and_shown(templated: tuple[Api, Templates, TemplateStore]) -> None:
    api, _, _ = templated
    origin = {"campaign": "c"}
    status, answer, _ = await api.post(templated_message(1, params={"code": "0042", "name": "李雷"}, origin=origin))
    assert status == 202, answer
    assert (answer["encoding"], answer["parts"]) == ("ucs2", 1)
    record = await api.store.get(store_id(MessageId(answer["id"])))
    assert record is not None
    assert (record.text, record.template, record.carried["t"]) == ("Your code is 0042, 李雷", "code", 1)
    assert (record.campaign, record.carried["o"]) == ("c", origin)
    _, shown, _ = await api.call("GET", f"/v1/messages/{answer['id']}", key=KEY)
    assert (shown["template"], shown["template_version"]) == ("code", 1)
    assert "0042" not in str(shown)
    status, answer, _ = await api.post(message(2))
    _, shown, _ = await api.call("GET", f"/v1/messages/{answer['id']}", key=KEY)
    assert "template" not in shown


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"params": {}}, "missing_param", "params.code"),
        ({"params": None}, "missing_param", "params.code"),
        ({"params": {"code": "12"}}, "invalid_param", "params.code"),
        ({"params": {"code": 482913}}, "invalid_param", "params.code"),
        ({"params": {"code": ["482913"]}}, "invalid_param", "params.code"),
        ({"params": {"code": "482913", "nmae": "x"}}, "unknown_param", "params.nmae"),
        ({"params": {"code": "482913", "name": "【Bank】"}}, "invalid_param", "params.name"),
        ({"params": "482913"}, "invalid_field", "params"),
        ({"params": {str(i): 1 for i in range(33)}}, "invalid_field", "params"),
        ({"template": "no"}, "unknown_template", "template"),
        ({"template": "not a name!"}, "invalid_field", "template"),
        ({"template_version": 9}, "unknown_template", "template_version"),
        ({"template_version": 0}, "invalid_field", "template_version"),
        ({"category": "marketing"}, "category_not_allowed", "category"),
        ({"text": "and a text"}, "invalid_field", "template"),
        ({"template": None}, "missing_field", "text"),
        ({"template": None, "text": "with params"}, "missing_field", "template"),
    ],
)
async def test_what_is_refused_names_itself(
    templated: tuple[Api, Templates, TemplateStore], changes: dict[str, Any], code: str, field: str
) -> None:
    api, _, _ = templated
    status, problem, _ = await api.post(templated_message(1, **changes))
    assert (status, problem["code"], problem["field"]) == (422, code, field)
    assert "482913" not in str(problem)
    assert problem["title"] != "Unprocessable Entity"
    assert await api.store.waiting() == 0


async def test_a_repeat_is_the_same_whatever_became_of_the_template(
    templated: tuple[Api, Templates, TemplateStore],
) -> None:
    api, templates, kept = templated
    _, first, _ = await api.post(templated_message(1, ref="login-1"))
    await kept.put("code", orjson.dumps({**CODE, "text": "New: {{ code }}{{ name }}"}))
    await templates.refresh()
    status, again, _ = await api.post(templated_message(1, ref="login-1"))
    assert (status, again["id"], again.get("replayed")) == (202, first["id"], True)
    for other in ({"params": {"code": "482914"}}, {"template_version": 1}, {"params": {"code": "482913", "name": "x"}}):
        status, problem, _ = await api.post(templated_message(1, ref="login-1", **other))
        assert (status, problem["code"]) == (422, "ref_conflict")
    status, answer, _ = await api.post(templated_message(2, ref="login-1"))
    record = await api.store.get(store_id(MessageId(answer["id"])))
    assert record is not None
    assert (record.text, record.carried["t"]) == ("New: 482913", 2)


async def test_a_check_renders_as_accepting_does(templated: tuple[Api, Templates, TemplateStore]) -> None:
    api, _, _ = templated
    asked = [
        templated_message(1, params={"code": "0042", "name": "李雷"}, ref="r"),
        templated_message(2, params={"code": "x"}),
        templated_message(3, template="no"),
        templated_message(4),
    ]
    _, seen, _ = await api.call("POST", "/v1/messages/check", {"messages": asked}, key=KEY)
    assert await api.store.waiting() == 0
    _, done, _ = await api.batch(asked)
    assert [(r.get("state"), r.get("parts"), r.get("encoding"), r.get("error")) for r in seen["results"]] == [
        (r.get("state"), r.get("parts"), r.get("encoding"), r.get("error")) for r in done["results"]
    ]
    assert [r["encoding"] for r in done["results"] if "id" in r] == ["ucs2", "gsm7"]
    _, seen, _ = await api.call("POST", "/v1/messages/check", {"messages": asked[:1]}, key=KEY)
    assert (seen["results"][0]["id"], seen["results"][0]["replayed"]) == (done["results"][0]["id"], True)


async def test_a_batch_shares_a_template_in_its_defaults(templated: tuple[Api, Templates, TemplateStore]) -> None:
    api, _, _ = templated
    items = [{"to": f"+86138{i:08d}", "params": {"code": f"{1000 + i}"}} for i in range(50)]
    items[7]["params"] = {"code": "x"}
    items.append({"to": "+8613900000000", "text": "a text of its own"})
    defaults = {"template": "code", "category": "notification"}
    status, answer, _ = await api.batch(items, defaults=defaults)
    assert (status, answer["accepted"], answer["rejected"]) == (202, 49, 2)
    assert answer["results"][7]["error"]["field"] == "params.code"
    assert answer["results"][50]["error"]["field"] == "template"
    texts = set()
    for result in answer["results"]:
        if "id" in result:
            record = await api.store.get(store_id(MessageId(result["id"])))
            assert record is not None
            texts.add(record.text)
    assert texts == {f"Your code is {1000 + i}" for i in range(50) if i != 7}


async def test_without_templates_none_is_known(api: Api) -> None:
    status, problem, _ = await api.post(templated_message(1))
    assert (status, problem["code"], problem["field"]) == (422, "unknown_template", "template")
