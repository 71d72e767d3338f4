"""Schemathesis over the admin listener's own specification, against a throw-away gateway: no 5xx, all as described.

The document is made from the route table of the running listener, so an endpoint that is added is fuzzed by that alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from gateway.admin.openapi_v1 import BODIES, PREFIX, QUERIES
from gateway.client import Client, Message
from tests.fuzz.common import ANSWERED, examples_a_call, loaded
from tests.support.gateway import ADMIN_TOKEN, GatewayProcess
from tests.support.running import running_gateway

HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
KNOWN = {
    "account": "shop",
    "channel": "cm-a",
    "number": "+8613900130001",
    "to": "+8613900130001",
    "category": "notification",
    "scope": "shop",
}
"""What exists: most of what a call does begins where it names something that does."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        with Client(f"http://127.0.0.1:{running.api_port}", running.key) as client:
            client.send_batch([Message(f"+861390013{i:04}", "notification", "hello", ref=f"r{i}") for i in range(20)])
        base = f"http://127.0.0.1:{running.admin_port}/admin/v1"
        template = {"category": "notification", "text": "Order {{ number }}", "params": {"number": {"type": "int"}}}
        for method, path, body in (
            ("PUT", "templates/order", template),
            ("POST", "blacklist/imports", {"scope": "shop", "id": "import-1"}),
        ):
            made = requests.request(method, f"{base}/{path}", json=body, headers=HEADERS, timeout=10)
            assert made.status_code == 200, made.text
        yield running


@pytest.fixture(scope="module")
def url(gateway: GatewayProcess) -> str:
    return f"http://127.0.0.1:{gateway.admin_port}"


@pytest.fixture(scope="module")
def spec(url: str) -> Any:
    return requests.get(f"{url}/admin/v1/openapi.json", headers=HEADERS, timeout=10).json()


def named(case: schemathesis.Case) -> None:
    """Put what exists into half of the members that may name it."""
    by_path = {"templates": "order", "imports": "import-1", "channels": "cm-a"}
    own = [name for part, name in by_path.items() if f"/{part}" in case.path]
    known = KNOWN | ({"id": own[0]} if own else {})
    for values in (case.path_parameters, case.query, case.body):
        for name in known.keys() & set(values if isinstance(values, dict) else ()):
            given_value = values[name]
            if isinstance(given_value, str) and zlib.crc32(given_value.encode("utf-8", "surrogatepass")) % 2:
                values[name] = known[name]


def test_every_table_is_of_routes_that_exist(spec: Any) -> None:
    served = {(method.upper(), path) for path, methods in spec["paths"].items() for method in methods}
    assert {(method, PREFIX + path) for method, path in (*BODIES, *QUERIES)} <= served
    names = [one["operationId"] for methods in spec["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert all(one["summary"] for methods in spec["paths"].values() for one in methods.values())


def test_every_answer_is_as_described(spec: Any, url: str) -> None:
    for result in loaded(spec).get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/events"):
            continue  # a stream that is as described does not end; tests/admin/test_events_v1.py has its content
        wrong_too = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

        @examples_a_call
        @given(st.one_of(*wrong_too))
        def call(case: schemathesis.Case) -> None:
            named(case)
            case.call_and_validate(base_url=url, headers=HEADERS, checks=ANSWERED)

        call()


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer \xe9", "Bearer " + "x" * 4000])
def test_without_the_token_nothing_is_told(spec: Any, url: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token.encode("latin-1")}
    for path, methods in spec["paths"].items():
        for method in methods:
            answer = requests.request(method.upper(), url + path.replace("{id}", "x"), headers=headers, timeout=10)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)


def test_the_gateway_had_no_fault_of_its_own(gateway: GatewayProcess) -> None:
    assert "failed: " not in gateway.log()
    assert "Traceback" not in gateway.log()
