"""The specification and its page: public, complete, without outside resources."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from gateway.api import problem, schema
from gateway.api.advice import ADVICE
from gateway.api.openapi_get import document
from gateway.api.server import BLACKLIST, FEEDBACK, ITEM, PLACES
from gateway.api.views import record_view
from gateway.model import MessageId, store_id
from tests.api.conftest import Api, message


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*(references(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(references(one) for one in value))
    return set()


def test_every_endpoint_is_described() -> None:
    paths = document()["paths"]
    served = {path: set(place.methods) for path, place in PLACES.items() if not place.public}
    served["/v1/messages/{id}"] = set(ITEM.methods)
    served["/v1/messages/{id}/feedback"] = set(FEEDBACK.methods)
    served["/v1/blacklist/{number}"] = set(BLACKLIST.methods)
    assert {path: {method.upper() for method in methods} for path, methods in paths.items()} == served


def test_every_code_says_what_to_do() -> None:
    codes = document()["components"]["schemas"]["Problem"]["properties"]["code"]
    assert ADVICE.keys() == problem.TITLES.keys() == set(codes["enum"]) == codes["x-codes"].keys()


def test_every_reference_leads_somewhere() -> None:
    spec = document()
    names = {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]}
    assert references(spec) <= names


def test_the_message_is_the_table() -> None:
    described = document()["components"]["schemas"]["Message"]
    assert list(described["properties"]) == [f.name for f in schema.FIELDS]
    assert described["required"] == ["to", "category"]
    assert described["additionalProperties"] is False


def test_feedback_is_its_table() -> None:
    described = document()["components"]["schemas"]["Feedback"]
    assert list(described["properties"]) == [f.name for f in schema.FEEDBACK_FIELDS]
    assert described["required"] == ["outcome", "event_id"]
    assert described["additionalProperties"] is False


async def test_it_is_served_without_a_key(api: Api) -> None:
    status, spec, _ = await api.call("GET", "/openapi.json", key=None)
    assert (status, spec) == (200, document())
    status, page, headers = await api.call("GET", "/docs", key=None)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    text = page.decode()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    assert "<script" not in text
    for code in problem.TITLES:
        assert code in text


async def test_what_is_answered_of_a_message_is_described(api: Api) -> None:
    described = document()["components"]["schemas"]
    body = message(1, ref="r", meta="m", contact="c", gate="g", origin={"campaign": "x"}, zone="Asia/Shanghai")
    body |= {"local_window": "00:00-24:00", "consent": True, "tags": ["t"]}
    _, taken, _ = await api.post(body)
    assert taken.keys() <= described["Accepted"]["properties"].keys()
    await api.call("DELETE", f"/v1/messages/{taken['id']}")
    _, shown, _ = await api.call("GET", f"/v1/messages/{taken['id']}")
    assert shown.keys() <= described["Record"]["properties"].keys()
    assert {"zone", "local_window", "consent"} <= shown.keys()
    record = await api.store.get(store_id(MessageId(taken["id"])))
    assert record is not None
    view = record_view(replace(record, reason="expired", template="t"))
    assert view.keys() <= described["Record"]["properties"].keys()
    assert view["reason"].keys() == described["Record"]["properties"]["reason"]["properties"].keys()
    _, seen, _ = await api.call("POST", "/v1/messages/check", {"messages": [message(2), {**message(3), "to": "1"}]})
    for result in seen["results"]:
        assert result.keys() <= described["Foreseen"]["properties"].keys()


async def test_every_code_answered_has_a_title(api: Api) -> None:
    _, answer, _ = await api.call("GET", "/nothing")
    assert answer["title"] == problem.TITLES["not_found"]
