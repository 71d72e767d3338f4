"""Feedback over HTTP, on a real store: taken once an event, shown with the message, refused by field, gone with it."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Category, store_id
from gateway.store.moves import Settlement
from gateway.store.store import Store
from tests.api.conftest import OTHER_KEY, Api, api_settings, message, start_api
from tests.api.raw import Raw, post_head
from tests.api.test_decode import DUPLICATES, NOT_JSON
from tests.support.messages import apply, claim, ids_of, receipt_row
from tests.support.valkey import ValkeyServer

SALE = {"outcome": "converted", "event_id": "order/7781", "amount": "19.90", "currency": "CNY", "customer": "new"}
CLICK = {"outcome": "clicked", "event_id": "c-1"}


@pytest.fixture
async def api(valkey: ValkeyServer) -> AsyncIterator[Api]:
    """A server whose route is ordered by quality, so that somebody asks how channels do."""
    plain = api_settings()
    routes = tuple(replace(route, order="quality") for route in plain.routes)
    store = await Store.open(replace(plain, routes=routes), valkey.url, incarnation="api00001")
    async with aiohttp.ClientSession() as session:
        running = await start_api(store, replace(plain, routes=routes), session)
        yield running
        await running.server.stop()
    await store.close()


async def sent(api: Api, i: int = 1, **changes: Any) -> Any:
    """Post a message and let channel `a` take it; returns it as claimed."""
    status, _, _ = await api.post(message(i, **changes))
    assert status == 202
    await api.store.heartbeat(0, first=True)
    (c,) = await claim(api.store, token=f"t{i}-", channel="a", route="cn")
    log = f"1\x1fa\x1f0\x1f\x1f0={c.id.hex()}0"
    assert await api.store.settle(0, [Settlement(c.claim, 1, "s", "a", 60_000, 1, log=log)], ids_of(c, "a")) == "1"
    return c


def path_of(c: Any) -> str:
    return f"/v1/messages/{uuid.UUID(bytes=c.id)}"


async def tell(api: Api, c: Any, body: Any, **headers: Any) -> tuple[int, Any]:
    status, answer, _ = await api.call("POST", f"{path_of(c)}/feedback", body, **headers)
    return status, answer


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# --- taken


async def test_it_is_taken_shown_and_counted(api: Api) -> None:
    c = await sent(api)
    name = str(uuid.UUID(bytes=c.id))
    answer = {"id": name, "event_id": "order/7781", "outcome": "converted", "repeated": False}
    assert await tell(api, c, {**SALE, "at": "2026-11-20T10:00:00+08:00"}) == (200, answer)
    assert (await tell(api, c, CLICK))[0] == 200
    assert (await tell(api, c, {"outcome": "complained", "event_id": "~!"}))[0] == 200

    _, record, _ = await api.call("GET", path_of(c))
    sale, click, complaint = record["feedback"]
    assert sale == {**SALE, "at": "2026-11-20T02:00:00.000Z"}
    assert set(click) == {"outcome", "at", "event_id"}
    assert abs(datetime.fromisoformat(click["at"]).timestamp() - time.time()) < 60
    assert complaint["event_id"] == "~!"
    assert (record["state"], len(record["attempts"])) == ("submitted", 1)
    _, found, _ = await api.call("GET", "/v1/messages?to=13800000001")
    assert found["messages"] == [record]

    statistics = await api.store.statistics(int(time.time()) // 3600)
    assert {f[9]: n for f, n in statistics.items() if (f[0], f[7], f[8]) == ("shop", "a", "v")} == {
        "converted": 1, "clicked": 1, "complained": 1,
    }  # fmt: skip
    ratings = await api.store.ratings(time.time(), 1800)
    assert {what: n for _, channel, _, category, what, n in ratings if (channel, category) == ("a", 1)} == {
        "s": 1, "k": 1, "c": 1, "x": 1,
    }  # fmt: skip
    assert api.metrics.counter("http_requests_total", endpoint="messages_feedback_v1", status="200").n == 3


async def test_a_message_without_feedback_says_so(api: Api) -> None:
    c = await sent(api)
    _, record, _ = await api.call("GET", path_of(c))
    assert record["feedback"] == []


async def test_an_event_is_taken_once(api: Api) -> None:
    c = await sent(api)
    first = (await tell(api, c, SALE))[1]
    for _ in range(2):
        assert await tell(api, c, SALE) == (200, {**first, "repeated": True})
    for change in ({"amount": "19.9"}, {"customer": "returning"}, {"outcome": "clicked"}, {"at": at(-5)}):
        status, problem = await tell(api, c, {**SALE, **change})
        assert (status, problem["code"], problem["field"]) == (422, "feedback_conflict", "event_id")
        assert "19.9" not in str(problem)
    _, record, _ = await api.call("GET", path_of(c))
    assert len(record["feedback"]) == 1
    other = await sent(api, 2)
    assert (await tell(api, other, SALE))[1]["repeated"] is False, "event ids belong to their message"


async def test_a_record_is_full_at_thirty_two(api: Api) -> None:
    c = await sent(api)
    for i in range(32):
        assert (await tell(api, c, {**CLICK, "event_id": f"c{i}"}))[0] == 200
    status, problem = await tell(api, c, CLICK)
    assert (status, problem["code"], problem["outcome"]) == (422, "too_many_feedback", "not_stored")
    assert (await tell(api, c, {**CLICK, "event_id": "c31"}))[1]["repeated"] is True


@pytest.mark.parametrize(
    "amount", ["0", "0.0001", "19.90", "999999999999999999", "99999999999999.9999", "007", "99999999999999999.9"]
)
async def test_amounts(api: Api, amount: str) -> None:
    c = await sent(api)
    assert (await tell(api, c, {**SALE, "amount": amount}))[0] == 200
    _, record, _ = await api.call("GET", path_of(c))
    assert record["feedback"][0]["amount"] == amount


async def test_a_clock_may_be_a_little_ahead(api: Api) -> None:
    c = await sent(api)
    assert (await tell(api, c, {**CLICK, "at": at(240)}))[0] == 200
    status, problem = await tell(api, c, {**CLICK, "event_id": "c-2", "at": at(360)})
    assert (status, problem["code"], problem["field"]) == (422, "invalid_field", "at")


# --- refused


BAD: list[tuple[str, Any, str]] = [
    *[("outcome", bad, "invalid_field") for bad in ("", "Clicked", "sold", None, 1, ["clicked"])],
    *[("event_id", bad, "invalid_field") for bad in ("", "x" * 65, "a b", "é", "a\x1fb", "a\x00", "a\n", None, 7, {})],
    *[
        ("amount", bad, "invalid_field")
        for bad in (
            "", "-1", "+1", "1.", ".5", "1.00001", "1e3", "1,5", "NaN", "٣", "1 ", "1\n", "9" * 19, "9" * 20,
            "999999999999999.9999", 19.9, 19, None, True, ["1"],
        )
    ],
    *[("currency", bad, "invalid_field") for bad in ("", "cny", "CN", "CNYY", "C1Y", "ＣＮＹ", "CNY\n", None, 156)],
    *[("customer", bad, "invalid_field") for bad in ("", "old", "NEW", None, True)],
    *[
        ("at", bad, "invalid_field")
        for bad in ("", "yesterday", "2026-11-20T10:00:00", "2026-13-20T10:00:00Z", "9999-12-31T23:59:59Z", 0, None)
    ],
    ("colour", "red", "unknown_field"),
    ("msisdn", "+8613800138000", "unknown_field"),
]  # fmt: skip


async def test_bad_input_names_its_field_and_leaves_nothing(api: Api) -> None:
    c = await sent(api)
    _, before, _ = await api.call("GET", path_of(c))
    for name, value, code in BAD:
        status, problem = await tell(api, c, {**SALE, name: value})
        assert (status, problem["code"], problem["field"]) == (422, code, name), value
        assert problem["outcome"] == "not_stored"
        if isinstance(value, str) and len(value) > 3:
            assert value not in problem["detail"]
    for missing in ("outcome", "event_id", "amount", "currency"):
        status, problem = await tell(api, c, {name: value for name, value in SALE.items() if name != missing})
        assert (status, problem["code"], problem["field"]) == (422, "missing_field", missing)
    for body in ([], 5, "x", None, True, [SALE]):
        status, problem = await tell(api, c, orjson.dumps(body))
        assert (status, problem["code"]) == (422, "invalid_field")
    assert (await api.call("GET", path_of(c)))[1] == before


async def test_bodies_are_held_to_what_the_others_are(api: Api) -> None:
    c = await sent(api)
    for name, raw in {**NOT_JSON, **{raw.decode(): raw for raw in DUPLICATES}}.items():
        status, problem = await tell(api, c, raw)
        assert (status, problem["status"]) == (400, 400), name
    assert (await tell(api, c, SALE, Content_Type="text/plain"))[0] == 415
    status, problem = await tell(api, c, orjson.dumps(SALE) + b" " * 65_536)
    assert (status, problem["code"]) == (413, "body_too_large")
    status, problem, headers = await api.call("GET", f"{path_of(c)}/feedback")
    assert (status, problem["code"], headers["Allow"]) == (405, "method_not_allowed", "POST")
    status, problem, _ = await api.call("POST", f"{path_of(c)}/feedback?event_id=x", SALE)
    assert (status, problem["code"], problem["field"]) == (400, "invalid_parameter", "event_id")


async def test_who_may_tell(api: Api) -> None:
    c = await sent(api)
    for key in (None, "wrong"):
        status, problem = await tell(api, c, SALE, key=key)
        assert (status, problem["code"]) == (401, "unauthorized")
    _, nobody, _ = await api.call("POST", f"/v1/messages/{uuid.uuid4()}/feedback", SALE)
    assert (nobody["status"], nobody["code"]) == (404, "not_found")
    assert await tell(api, c, SALE, key=OTHER_KEY) == (404, nobody), "a foreign message does not exist"
    for name in ("x", "", "a/b", "%00", f"{uuid.UUID(bytes=c.id)}/feedback"):
        assert (await api.call("POST", f"/v1/messages/{name}/feedback", SALE))[:2] == (404, nobody)


async def test_what_was_not_sent(api: Api) -> None:
    _, answer, _ = await api.post(message(1))
    for _ in range(2):
        status, problem, _ = await api.call("POST", f"/v1/messages/{answer['id']}/feedback", SALE)
        assert (status, problem["code"]) == (409, "not_sent")
        await api.call("DELETE", f"/v1/messages/{answer['id']}")
    _, record, _ = await api.call("GET", f"/v1/messages/{answer['id']}")
    assert (record["state"], record["feedback"]) == ("cancelled", [])


async def test_taken_as_long_as_the_record_is_kept(api: Api, valkey: ValkeyServer) -> None:
    c = await sent(api)
    assert (await tell(api, c, CLICK))[0] == 200
    assert await apply(api.store, receipt_row(c, channel="a")) == "f"
    assert (await tell(api, c, SALE))[0] == 200
    with valkey.sync() as client:
        (bucket,) = [key for key in client.keys("gw:{s00}:gone:*") if not key.endswith(b"cursor")]
        kept_s = int(bucket.rsplit(b":", 1)[1]) - time.time()
        assert 0 <= kept_s - api.settings.categories[Category.NOTIFICATION].retention_s <= 300
        client.rename(bucket, b"gw:{s00}:gone:" + client.get("gw:{s00}:gone:cursor"))
    assert await api.store.purge(0) == 1
    for body in (CLICK, {**CLICK, "event_id": "late"}):
        status, problem = await tell(api, c, body)
        assert (status, problem["code"]) == (404, "not_found")
    assert await api.store.get(store_id(str(uuid.UUID(bytes=c.id)))) is None, "feedback brings nothing back"


async def test_nothing_of_it_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    c = await sent(api)
    for body in (SALE, SALE, {**SALE, "amount": "20.01"}, {**SALE, "event_id": "order 7781"}):
        await tell(api, c, body)
    for secret in ("19.90", "20.01", "7781"):
        assert secret not in caplog.text


_mutations = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_mutations)
async def test_mutated_requests_never_make_a_5xx(api: Api, changes: list[tuple[int, int]]) -> None:
    body = orjson.dumps(SALE)
    head = post_head(b"Content-Length: %d" % len(body), b"Connection: close")
    data = bytearray(head.replace(b"/v1/messages", b"/v1/messages/%b/feedback" % str(uuid.UUID(int=7)).encode()) + body)
    for place, value in changes:
        data[place % len(data)] = value
    async with Raw(api.port) as raw:
        raw.send(bytes(data))
        raw.writer.write_eof()
        answer = await raw.rest()
    if answer:
        assert 400 <= int(answer.split(b" ", 2)[1]) < 500
