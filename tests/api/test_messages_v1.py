"""One message over HTTP, on a real store: accepted, replayed, refused, read, found, cancelled."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.api.conftest import KEY, LIMITED_KEY, OTHER_KEY, Api, message
from tests.support.messages import claim

SIGNED = "【Bank】code 1234"


async def test_a_message_is_stored_and_read_back(api: Api) -> None:
    status, answer, headers = await api.post(
        message(
            1,
            text="【Acme】你好",
            ref="r-1",
            tags=["login"],
            origin={"campaign": "c", "variant": "B", "ordinal": 7},
            contact="p",
            meta="m",
            gate="g",
            ext="01",
        )
    )
    assert status == 202
    assert headers["Content-Type"] == "application/json"
    assert uuid.UUID(answer["id"]).version == 7
    assert (answer["state"], answer["parts"], answer["encoding"]) == ("queued", 1, "ucs2")
    assert (answer["route"], answer["durability"]) == ("cn", "fsync")

    status, record, _ = await api.call("GET", f"/v1/messages/{answer['id']}")
    assert status == 200
    assert record["expires_at"] == answer["expires_at"]
    assert (record["state"], record["to"], record["carrier"]) == ("queued", "+8613800000001", "china-mobile")
    assert (record["sender"], record["ref"], record["tags"]) == ("106900001", "r-1", ["login"])
    assert record["origin"] == {"campaign": "c", "variant": "B", "ordinal": 7}
    assert (record["contact"], record["meta"], record["gate"], record["ext"]) == ("p", "m", "g", "01")
    assert record["attempts"] == []
    assert "你好" not in str(record)


async def test_a_scheduled_message_expires_from_its_time(api: Api) -> None:
    _, answer, _ = await api.post(message(1, send_at="2026-12-01T10:00:00+08:00", ttl_s=60))
    assert (answer["state"], answer["expires_at"]) == ("scheduled", "2026-12-01T02:01:00.000Z")
    _, answer, _ = await api.post(message(2, send_at="2020-12-01T10:00:00+08:00"))
    assert answer["state"] == "queued"


async def test_not_after_cuts_the_ttl(api: Api) -> None:
    _, answer, _ = await api.post(
        message(1, send_at="2026-12-01T10:00:00Z", not_after="2026-12-01T10:00:09Z", ttl_s=60)
    )
    assert answer["expires_at"] == "2026-12-01T10:00:09.000Z"
    status, answer, _ = await api.post(message(2, not_after="2020-12-01T10:00:09Z"))
    assert (status, answer["code"], answer["field"]) == (422, "expired", "not_after")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (message(to="+8612345"), "invalid_number", "to"),
    (message(to="8613800138000x"), "invalid_number", "to"),
    (message(to="+86１３８00138000"), "invalid_number", "to"),
    (message(to="+12025550123"), "no_route", "to"),
    (message(sender="95588"), "sender_not_allowed", "sender"),
    (message(sender="Acme", ext="1"), "invalid_field", "ext"),
    (message(ext="123456789012"), "invalid_field", "ext"),
    (message(text="好" * 671), "text_too_long", "text"),
    (message(text="x" * 1531), "text_too_long", "text"),
    (message(template="welcome"), "invalid_field", "template"),
    (message(colour="red"), "unknown_field", "colour"),
]


@pytest.mark.parametrize(("body", "code", "field"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
async def test_a_refused_message_is_not_stored(api: Api, body: dict[str, Any], code: str, field: str) -> None:
    status, problem, headers = await api.post(body)
    assert headers["Content-Type"] == "application/problem+json"
    assert (status, problem["status"], problem["code"], problem["field"]) == (422, 422, code, field)
    assert problem["outcome"] == "not_stored"
    assert set(problem) == {"type", "title", "status", "code", "detail", "field", "outcome"}
    assert api.store.client.commands < 10  # opening it took a few; no message was written
    if code != "unknown_field":
        for value in body.values():
            assert str(value) not in problem["detail"] + problem["title"]


async def test_what_an_account_may_not_send(api: Api) -> None:
    status, problem, _ = await api.post(message(text=SIGNED), key=OTHER_KEY)
    assert (status, problem["code"], problem["field"]) == (422, "category_not_allowed", "category")
    status, problem, _ = await api.post(message(category="verification"), key=OTHER_KEY)
    assert (status, problem["code"], problem["field"]) == (422, "missing_signature", "text")
    for text in (SIGNED, "code 1234【Bank】"):
        status, _, _ = await api.post(message(category="verification", text=text), key=OTHER_KEY)
        assert status == 202
    for text in ("【】code", "a【b】c", "【code", "code】"):
        status, _, _ = await api.post(message(category="verification", text=text), key=OTHER_KEY)
        assert status == 422


async def test_longest_texts(api: Api) -> None:
    for text, parts in (("x" * 1530, 10), ("好" * 670, 10), ("x" * 160, 1), ("好" * 71, 2), ("[" * 80, 1)):
        _, answer, _ = await api.post(message(1, text=text))
        assert answer["parts"] == parts


# --- idempotency


async def test_a_ref_is_answered_once(api: Api) -> None:
    _, first, headers = await api.post(message(1, ref="a", tags=["x"], ttl_s=60))
    assert "Idempotent-Replayed" not in headers
    again = {"ttl_s": 60, "tags": ["x"], **message(1, ref="a"), "to": "13800000001"}
    status, second, headers = await api.post(again)
    assert (status, headers["Idempotent-Replayed"]) == (202, "true")
    assert second == {**first, "replayed": True}
    for change in ({"text": "other"}, {"ttl_s": 61}, {"tags": ["x", "y"]}, {"category": "marketing"}, {"meta": "m"}):
        status, problem, _ = await api.post({**again, **change})
        assert (status, problem["code"], problem["field"]) == (422, "ref_conflict", "ref")
    for other in (message(2, ref="a"), message(1, ref="b")):
        _, answer, _ = await api.post(other)
        assert answer["id"] != first["id"]
    _, foreign, _ = await api.post(message(1, ref="a", text=SIGNED, category="verification"), key=OTHER_KEY)
    assert foreign["id"] != first["id"]


async def test_an_idempotency_key_serves_what_has_no_ref(api: Api) -> None:
    _, first, _ = await api.post(message(1), Idempotency_Key="k-1")
    status, second, headers = await api.post(message(1), Idempotency_Key="k-1")
    assert (status, second["id"], headers["Idempotent-Replayed"]) == (202, first["id"], "true")
    status, problem, _ = await api.post(message(1, text="other"), Idempotency_Key="k-1")
    assert (status, problem["code"], problem["field"]) == (422, "idempotency_mismatch", "Idempotency-Key")
    _, other, _ = await api.post(message(2), Idempotency_Key="k-1")
    assert other["id"] != first["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "schlüssel"])
async def test_an_idempotency_key_must_be_visible_ascii(api: Api, key: str) -> None:
    status, problem, _ = await api.post(message(1), Idempotency_Key=key)
    assert (status, problem["code"]) == (400, "invalid_idempotency_key")


async def test_a_replay_tells_the_state_at_acceptance(api: Api) -> None:
    body = message(1, ref="a", send_at="2026-12-01T10:00:00Z")
    _, first, _ = await api.post(body)
    await api.call("DELETE", f"/v1/messages/{first['id']}")
    _, again, _ = await api.post(body)
    assert again == {**first, "replayed": True}


async def test_a_hundred_posts_with_one_key_make_one_message(api: Api) -> None:
    answers = await asyncio.gather(*(api.post(message(1), Idempotency_Key="same") for _ in range(100)))
    assert {status for status, _, _ in answers} == {202}
    assert len({answer["id"] for _, answer, _ in answers}) == 1
    assert sum("Idempotent-Replayed" not in headers for _, _, headers in answers) == 1
    _, found, _ = await api.call("GET", "/v1/messages?to=13800000001")
    assert len(found["messages"]) == 1


# --- queries and cancel


async def test_messages_to_a_number_newest_first(api: Api) -> None:
    ids = [(await api.post(message(1, ref=f"r{i}")))[1]["id"] for i in range(3)]
    await api.post(message(1, category="verification", text=SIGNED), key=OTHER_KEY)
    for to in ("%2B8613800000001", "+8613800000001", "13800000001"):
        status, found, _ = await api.call("GET", f"/v1/messages?to={to}")
        assert status == 200
        assert [one["id"] for one in found["messages"]] == ids[::-1]
    _, found, _ = await api.call("GET", "/v1/messages?to=13800000001&ref=r1")
    assert [one["id"] for one in found["messages"]] == [ids[1]]
    for query in ("to=13800000001&ref=none", "to=13800000002"):
        _, found, _ = await api.call("GET", f"/v1/messages?{query}")
        assert found == {"messages": []}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 422, "missing_field"),
        ("?ref=a", 422, "missing_field"),
        ("?to=abc", 422, "invalid_number"),
        ("?to=1&to=2", 400, "invalid_parameter"),
        ("?to=13800000001&limit=5", 400, "invalid_parameter"),
        ("?to=%ff", 400, "invalid_parameter"),
        ("?to=13800000001&ref=", 400, "invalid_parameter"),
        ("?to=13800000001&api_key=x", 400, "key_in_query"),
        ("?to=13800000001&x=sg_live_abc", 400, "key_in_query"),
    ],
)
async def test_bad_queries(api: Api, query: str, status: int, code: str) -> None:
    got, problem, _ = await api.call("GET", f"/v1/messages{query}")
    assert (got, problem["code"]) == (status, code)


async def test_cancel_once_and_again(api: Api) -> None:
    _, answer, _ = await api.post(message(1))
    path = f"/v1/messages/{answer['id']}"
    for _ in range(2):
        status, body, _ = await api.call("DELETE", path)
        assert (status, body) == (200, {"id": answer["id"], "state": "cancelled"})
    _, record, _ = await api.call("GET", path)
    assert (record["state"], record["final"]) == ("cancelled", True)


async def test_a_claimed_message_cannot_be_cancelled(api: Api) -> None:
    _, answer, _ = await api.post(message(1))
    await api.store.heartbeat(0, first=True)
    assert len(await claim(api.store, channel="a", route="cn")) == 1
    status, problem, _ = await api.call("DELETE", f"/v1/messages/{answer['id']}")
    assert (status, problem["code"]) == (409, "too_late")


async def test_ids_of_others_and_of_nobody_look_the_same(api: Api) -> None:
    _, answer, _ = await api.post(message(1))
    answers = []
    for name in (answer["id"], str(uuid.uuid4()), "x", "", "a/b", "%00", answer["id"] + "0", "{" + answer["id"] + "}"):
        for method in ("GET", "DELETE"):
            answers.append((await api.call(method, f"/v1/messages/{name}", key=OTHER_KEY))[:2])
    assert all(status == 404 and body == answers[0][1] for status, body in answers)
    status, record, _ = await api.call("GET", f"/v1/messages/{answer['id']}")
    assert (status, record["state"]) == (200, "queued")


# --- who may ask


@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1]])
async def test_without_a_key_nothing_is_told(api: Api, key: str | None) -> None:
    for method, path in (("POST", "/v1/messages"), ("GET", "/v1/messages?to=1"), ("DELETE", "/v1/messages/x")):
        status, problem, headers = await api.call(method, path, key=key)
        assert (status, problem["code"], headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")


async def test_many_wrong_keys_are_slowed_right_ones_are_not(api: Api) -> None:
    statuses = [(await api.call("GET", "/v1/messages?to=1", key="wrong"))[0] for _ in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert (await api.post(message(1)))[0] == 202


async def test_a_key_in_the_url_is_refused_before_it_is_looked_at(api: Api) -> None:
    for path in (f"/v1/messages?key={KEY}", f"/v1/messages?x={KEY}", f"/v1/messages/x?token={KEY}"):
        status, problem, _ = await api.call("POST" if "/x" not in path else "GET", path, message(1), key=None)
        assert (status, problem["code"]) == (400, "key_in_query")
        assert KEY not in str(problem)


async def test_rate_of_an_account(api: Api) -> None:
    answers = [await api.post(message(i), key=LIMITED_KEY) for i in range(8)]
    assert [status for status, _, _ in answers] == [202] * 5 + [429] * 3
    _, problem, headers = answers[-1]
    assert (problem["code"], problem["outcome"], headers["Retry-After"]) == ("rate_limited", "not_stored", "1")
    assert (await api.post(message(1)))[0] == 202


async def test_counters_know_what_happened(api: Api) -> None:
    await api.post(message(1, ref="a"))
    await api.post(message(1, ref="a"))
    await api.post(message(to="x"))
    await api.post(b"{")
    cells = {(name, *labels): n for name, labels, n in api.metrics.snapshot()["cells"]}
    assert cells["messages_total", "notification", "cn", "queued", ""] == 1
    assert cells["messages_total", "notification", "", "refused", "invalid_number"] == 1
    assert cells["http_requests_total", "messages_post_v1", "202"] == 2
    assert cells["http_requests_total", "messages_post_v1", "400"] == 1
