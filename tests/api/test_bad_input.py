"""Bad input of every kind gets a 4xx in one shape, never a 5xx, never an echo."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gateway.api.request as request_module
from tests.api.conftest import KEY, Api, message
from tests.api.raw import Raw, post_head
from tests.api.test_decode import DUPLICATES, NOT_JSON

SHAPE = {"type", "title", "status", "code", "detail", "outcome"}


def is_problem(status: int, problem: Any) -> bool:
    return SHAPE <= set(problem) <= SHAPE | {"field", "retry_after_s"} and problem["status"] == status


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batch"])
async def test_what_is_no_json(api: Api, path: str) -> None:
    for name, raw in {**NOT_JSON, **{raw.decode(): raw for raw in DUPLICATES}}.items():
        status, problem, headers = await api.call("POST", path, raw)
        assert status == 400, name
        assert is_problem(400, problem), name
        assert headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("body", [[], 5, "x", None, True, [message(1)]])
async def test_json_that_is_no_object(api: Api, body: Any) -> None:
    status, problem, _ = await api.post(orjson.dumps(body))
    assert (status, problem["code"]) == (422, "invalid_field")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "application/json; charset=rot13", "application/json; charset=utf-16", "multipart/form-data",
        "application/x-www-form-urlencoded", "", "application/jsonp", "application/json, text/plain",
    ],
)  # fmt: skip
async def test_other_content_types(api: Api, content_type: str) -> None:
    status, problem, _ = await api.call("POST", "/v1/messages", message(1), Content_Type=content_type)
    assert (status, problem["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_s_own_content_types(api: Api, content_type: str) -> None:
    status, _, _ = await api.call("POST", "/v1/messages", message(1), Content_Type=content_type)
    assert status == 202


async def test_no_content_type_at_all(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Content-Length: 2").replace(b"Content-Type: application/json\r\n", b"") + b"{}")
        assert (await raw.answer()).status == 415


async def test_compressed_bodies_are_not_unpacked(api: Api) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    status, problem, _ = await api.call("POST", "/v1/messages", bomb, Content_Encoding="gzip")
    assert (status, problem["code"]) == (415, "unsupported_media_type")


async def test_sizes(api: Api) -> None:
    fits = orjson.dumps(message(1)) + b" " * (64 * 1024 - len(orjson.dumps(message(1))))
    assert (await api.post(fits))[0] == 202
    status, problem, _ = await api.post(fits + b" ")
    assert (status, problem["code"]) == (413, "body_too_large")
    small = orjson.dumps({"messages": [message(1)]})
    fits = small + b" " * (4 * 1024 * 1024 - len(small))
    assert (await api.call("POST", "/v1/messages/batch", fits))[0] == 202
    assert (await api.call("POST", "/v1/messages/batch", fits + b" "))[0] == 413


async def test_a_large_announced_body_is_refused_before_it_is_sent(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Content-Length: 99999999"))
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"]) == (413, "body_too_large")


async def test_a_chunked_body_without_end_is_cut_off(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Transfer-Encoding: chunked") + (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 20)
        assert (await raw.answer()).status == 413
        raw.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        await raw.rest()


async def test_a_chunked_body_is_read(api: Api) -> None:
    body = orjson.dumps(message(1))
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Transfer-Encoding: chunked"))
        for i in range(0, len(body), 7):
            piece = body[i : i + 7]
            raw.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await raw.writer.drain()
        raw.send(b"0\r\n\r\n")
        assert (await raw.answer()).status == 202


async def test_expect_continue(api: Api) -> None:
    body = orjson.dumps(message(1))
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Expect: 100-continue", b"Content-Length: %d" % len(body)))
        assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.send(body)
        assert (await raw.answer()).status == 202
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Expect: a-miracle", b"Content-Length: 5"))
        assert (await raw.answer()).status == 417


BODY = orjson.dumps(message(1))
SECRET = b"do-not-repeat-me"
NO_HTTP = {
    "length and chunked": post_head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two lengths": post_head(b"Content-Length: 4", b"Content-Length: 5") + b"abcde",
    "two hosts": post_head(b"Host: other", b"Content-Length: 0"),
    "no host": b"GET /v1/messages HTTP/1.1\r\n\r\n",
    "folded header": post_head(b"X-A: a\r\n " + SECRET),
    "bare line feeds": b"GET /" + SECRET + b" HTTP/1.1\nHost: a\n\n",
    "bare line feed in a header": post_head(b"X-A: a\nX-B: " + SECRET),
    "bare carriage return": post_head(b"X-A: a\rX-B: " + SECRET),
    "blank before colon": post_head(b"X-A : " + SECRET),
    "nul in a header": post_head(b"X-A: \x00" + SECRET),
    "signed length": post_head(b"Content-Length: +4") + b"abcd",
    "negative length": post_head(b"Content-Length: -4"),
    "unknown encoding": post_head(b"Transfer-Encoding: " + SECRET) + b"0\r\n\r\n",
    "chunked not last": post_head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "bad chunk size": post_head(b"Transfer-Encoding: chunked") + b"zz\r\n" + SECRET,
    "chunk without line end": post_head(b"Transfer-Encoding: chunked") + b"4\nabcd\n0\n\n",
    "bad method": b"G@T /" + SECRET + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "bad version": b"GET /" + SECRET + b" HTTP/9.9\r\nHost: a\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET,
    "long path": b"GET /" + SECRET * 600 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "long header": post_head(b"X-A: " + SECRET * 600),
    "many headers": post_head(*(b"X-%d: 1" % i for i in range(100))),
    "bad port": b"GET http://" + SECRET + b":99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_no_http(api: Api, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with Raw(api.port) as raw:
        raw.send(data)
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"]) == (400, "bad_request")
        assert is_problem(400, answer.problem)
        assert await raw.rest() == b""  # closed: what follows cannot be told from the body
    assert SECRET not in answer.head + answer.body
    assert b"aiohttp" not in answer.head
    assert SECRET.decode() not in caplog.text
    assert KEY not in caplog.text


async def test_a_broken_chunk_after_the_head(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Transfer-Encoding: chunked"))
        await raw.writer.drain()
        raw.send(b"4\r\nabcd\r\n")
        await raw.writer.drain()
        raw.send(b"zz\r\n" + SECRET)
        data = await raw.rest()
    assert data.startswith(b"HTTP/1.1 400")
    assert SECRET not in data


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    one = post_head(b"Content-Length: %d" % len(BODY)) + BODY
    async with Raw(api.port) as raw:
        raw.send(one + b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + one)
        assert [(await raw.answer()).status for _ in range(3)] == [202, 404, 202]


async def test_an_offered_upgrade_is_ignored(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(b"GET /docs HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await raw.answer()).status == 200


async def test_http_1_0_is_served_once(api: Api) -> None:
    async with Raw(api.port) as raw:
        raw.send(b"GET /openapi.json HTTP/1.0\r\n\r\n")
        assert (await raw.answer()).status == 200
        assert await raw.rest() == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"PUT /v1/messages", 405),
        (b"HEAD /v1/messages", 405),
        (b"OPTIONS *", 404),
        (b"CONNECT a:1", 404),
        (b"GET /", 404),
        (b"GET //[", 404),
        (b"GET http://a/v1/messages", 404),
        (b"GET /v1/../v1/messages", 404),
        (b"GET /v1/messages/", 401),
        (b"DELETE /v1/messages/batch", 405),
    ],
)
async def test_paths_and_methods(api: Api, line: bytes, status: int) -> None:
    async with Raw(api.port) as raw:
        raw.send(line + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = await raw.rest()
    head, _, body = data.partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    if status == 405:
        assert b"\r\nAllow: POST" in head
    if line.startswith(b"HEAD"):
        assert body == b""


async def test_a_client_that_leaves_takes_nothing_with_it(api: Api) -> None:
    """The message is stored, the answer has no reader, no task stays behind."""
    before = len(asyncio.all_tasks())
    for i in range(20):
        async with Raw(api.port) as raw:
            body = orjson.dumps(message(i, ref="r"))
            raw.send(post_head(b"Content-Length: %d" % len(body)) + body)
            await raw.writer.drain()
            raw.writer.transport.abort()
    for i in range(20):
        status, answer, _ = await api.post(message(i, ref="r"))
        assert status == 202, answer
    assert len(asyncio.all_tasks()) <= before + 2


_mutations = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_mutations)
async def test_mutated_requests_never_make_a_5xx(api: Api, changes: list[tuple[int, int]]) -> None:
    data = bytearray(post_head(b"Content-Length: %d" % len(BODY), b"Connection: close") + BODY)
    for place, value in changes:
        data[place % len(data)] = value
    async with Raw(api.port) as raw:
        raw.send(bytes(data))
        raw.writer.write_eof()
        answer = await asyncio.wait_for(raw.rest(), 10)
    if answer:
        status = int(answer.split(b" ", 2)[1])
        assert status == 202 or 400 <= status < 500


_odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400), st.text(max_size=40),
    st.sampled_from(["\\ud800", "24:00-24:00", "22:00-02:00", "Asia/Shanghai", "../etc/passwd", "0001-01-01T00:00:00Z",
                     "9999-12-31T23:59:59-23:59", "１０:００-12:00", "x" * 2000]),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)  # fmt: skip
_new = st.dictionaries(
    st.sampled_from(
        ["template", "template_version", "params", "zone", "local_window", "consent", "send_at", "not_after", "ttl_s",
         "tags", "origin", "test", "text", "category"]
    ),
    _odd,
    max_size=4,
)  # fmt: skip


def _json(value: Any) -> bytes:
    """Return what a careless client may write: lone surrogates, numbers beyond all bounds, NaN."""
    return json.dumps(value).replace("\\\\ud800", "\\ud800").encode()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_new, _odd, st.text(max_size=30))
async def test_odd_values_never_make_a_5xx(api: Api, fields: dict[str, Any], odd: Any, name: str) -> None:
    one = {**message(1), **fields}
    for path, body in (("/v1/messages/check", {"messages": [one]}), ("/v1/messages", one)):
        status, answer, _ = await api.call("POST", path, _json(body))
        assert status in (200, 202) or 400 <= status < 500, (path, answer)
    path = f"/v1/blacklist/{quote(name, safe='')}"
    listed = {"categories": odd, "reason": fields.get("text", odd)}
    for asked in (("PUT", path, _json(listed)), ("PUT", "/v1/blacklist/+8613800138000", _json(listed)), ("GET", path)):
        status, answer, _ = await api.call(*asked, key=KEY)
        assert 200 <= status < 500, (asked, answer)
    for parameter in ("from", "zone", "by", "campaign", "signature", "format", name):
        status, answer, _ = await api.call("GET", f"/v1/stats?{quote(parameter)}={quote(str(odd)[:500])}", key=KEY)
        assert 200 <= status < 500, (parameter, answer)


async def test_bodies_on_their_way_are_limited_together(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "MAX_PENDING_BYTES", 1000)
    async with Raw(api.port) as raw:
        raw.send(post_head(b"Content-Length: 3000"))
        await raw.writer.drain()
        raw.send(b" " * 2000)
        answer = await raw.answer()
        assert (answer.status, answer.problem["code"], answer.problem["outcome"]) == (503, "overloaded", "not_stored")
    assert (await api.post(message(1)))[0] == 202
