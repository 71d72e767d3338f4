"""Schemathesis over the application API's own specification, against a real gateway: no 5xx, nothing undocumented.

`FUZZ_EXAMPLES` is how many random requests a call gets; where it is set (`make fuzz-api`), the systematic ones (every
bound, missing and wrong members, other methods) come on top.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis

from gateway.api.openapi_get import document
from gateway.client import Client, Message
from tests.fuzz.common import CHECKED, examples_a_call, loaded
from tests.support.gateway import GatewayProcess
from tests.support.running import running_gateway

schema = loaded(document())
_ids: list[str] = []
"""Messages that exist: most of what a call with an id does begins where there is one."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        with Client(f"http://127.0.0.1:{running.api_port}", running.key) as client:
            sent = client.send_many(
                Message(f"+861390013{i:04}", "notification", "hello", ref=f"r{i}") for i in range(32)
            )
            _ids[:] = [answer.id for _, answer in sent]  # type: ignore[union-attr]
        yield running


@schema.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """Name a message that exists in half of the calls whose id has the right form."""
    del context
    name = path_parameters.get("id") if isinstance(path_parameters, dict) else None
    if isinstance(name, str) and len(name) == 36 and _ids and zlib.crc32(name.encode()) % 2:
        path_parameters["id"] = _ids[zlib.crc32(name.encode()) % len(_ids)]
    return path_parameters


@schema.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Write to a number that exists in most messages: else hardly one would get beyond its number."""
    del context
    rows = body.get("messages") if isinstance(body, dict) and "messages" in body else [body]
    for row in rows if isinstance(rows, list) else []:
        to = row.get("to") if isinstance(row, dict) else None
        if isinstance(to, str) and 1 <= len(to) <= 32 and to.isprintable():
            number = zlib.crc32(to.encode("utf-8", "surrogatepass"))
            row["to"] = to if number % 4 == 0 else f"+86138{number % 100_000_000:08}"
    return body


@schema.parametrize()
@examples_a_call
def test_every_answer_is_as_described(case: schemathesis.Case, gateway: GatewayProcess) -> None:
    url, headers = f"http://127.0.0.1:{gateway.api_port}", {"Authorization": f"Bearer {gateway.key}"}
    case.call_and_validate(base_url=url, headers=headers, checks=CHECKED)


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", "Basic c2hvcDpzaG9w", "Bearer sg_live_wrong", "Bearer " + "x" * 4000, "\xff\xfe",
     "Bearer \xe9", "Bearer\tx", "bearer a b c", "Bearer %00"],
)  # fmt: skip
def test_without_the_right_key_nothing_is_told(gateway: GatewayProcess, given: str | None) -> None:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            body = b'{"to": "+8613800138000", "text": "a secret"}' if "requestBody" in operation else None
            if body:
                headers["Content-Type"] = b"application/json"
            url = f"http://127.0.0.1:{gateway.api_port}{path}".format(id=_ids[0], number="+8613900130000")
            answer = requests.request(method.upper(), url, data=body, headers=headers, timeout=10)
            assert answer.status_code in (401, 429), (method, path, answer.status_code)
            problem = answer.json()
            assert problem["code"] in ("unauthorized", "rate_limited")
            assert "secret" not in answer.text
            assert "8613" not in answer.text
            assert not given or len(given) < 12 or given not in answer.text


def test_the_gateway_had_no_fault_of_its_own(gateway: GatewayProcess) -> None:
    assert "failed: " not in gateway.log()
    assert "Traceback" not in gateway.log()
