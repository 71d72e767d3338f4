"""A batch over HTTP, on a real store: items in order, each by itself; an error for all only when none is decided."""

from __future__ import annotations

import pytest

from gateway.api.messages_batch_v1 import undecided
from gateway.errors import Backpressure, RequestError, StoreUnavailable
from gateway.intake import Taken
from tests.api.conftest import LIMITED_KEY, Api, message


async def test_items_stand_or_fall_alone_in_order(api: Api) -> None:
    status, body, _ = await api.batch(
        [message(1), message(2, to="x"), 5, message(3, ttl_s=0), message(4, sender="Acme")]
    )
    assert status == 202
    assert (body["accepted"], body["rejected"]) == (2, 3)
    codes = [one.get("error", {}).get("code") for one in body["results"]]
    assert codes == [None, "invalid_number", "invalid_field", "invalid_field", None]
    assert body["results"][3]["error"]["field"] == "ttl_s"
    for i in (0, 4):
        _, record, _ = await api.call("GET", f"/v1/messages/{body['results'][i]['id']}")
        assert record["to"] == f"+861380000000{1 if i == 0 else 4}"


async def test_a_thousand_messages(api: Api) -> None:
    status, body, _ = await api.batch([message(i, ref=f"r{i}") for i in range(1000)])
    assert (status, body["accepted"], body["rejected"]) == (202, 1000, 0)
    ids = [one["id"] for one in body["results"]]
    assert len(set(ids)) == 1000
    for i in (0, 99, 100, 999):
        _, record, _ = await api.call("GET", f"/v1/messages/{ids[i]}")
        assert record["ref"] == f"r{i}"
    status, again, headers = await api.batch([message(i, ref=f"r{i}") for i in range(1000)])
    assert [one["id"] for one in again["results"]] == ids
    assert headers["Idempotent-Replayed"] == "true"
    assert all(one["replayed"] for one in again["results"])


async def test_defaults(api: Api) -> None:
    defaults = {"category": "marketing", "text": "sale", "tags": ["t"]}
    _, body, _ = await api.batch([{"to": "13800000001"}, {"to": "13800000002", "tags": []}], defaults=defaults)
    tags = [(await api.call("GET", f"/v1/messages/{one['id']}"))[1]["tags"] for one in body["results"]]
    assert tags == [["t"], []]
    status, problem, _ = await api.batch([{"to": "13800000001"}], defaults={"txt": 1})
    assert (status, problem["code"], problem["field"]) == (422, "unknown_field", "defaults.txt")


async def test_an_idempotency_key_names_each_item(api: Api) -> None:
    messages = [message(1), message(1), message(2)]
    _, first, _ = await api.batch(messages, Idempotency_Key="k")
    assert len({one["id"] for one in first["results"]}) == 3
    _, second, headers = await api.batch(messages, Idempotency_Key="k")
    assert [one["id"] for one in second["results"]] == [one["id"] for one in first["results"]]
    assert headers["Idempotent-Replayed"] == "true"
    messages[1] = message(1, text="other")
    _, third, headers = await api.batch([*messages, message(3)], Idempotency_Key="k")
    assert third["results"][1]["error"]["code"] == "idempotency_mismatch"
    assert "replayed" not in third["results"][3]
    assert "Idempotent-Replayed" not in headers


async def test_a_ref_given_twice_in_one_batch_is_one_message(api: Api) -> None:
    _, body, _ = await api.batch([message(1, ref="a"), message(1, ref="a"), message(1, ref="a", text="x")])
    first, second, third = body["results"]
    assert first["id"] == second["id"]
    assert third["error"]["code"] == "ref_conflict"


async def test_the_rate_lets_the_first_items_pass(api: Api) -> None:
    status, body, _ = await api.batch([message(i) for i in range(8)], key=LIMITED_KEY)
    codes = [one.get("error", {}).get("code") for one in body["results"]]
    assert (status, codes) == (202, [None] * 5 + ["rate_limited"] * 3)
    assert body["results"][7]["error"]["retry_after_s"] >= 1
    status, problem, headers = await api.batch([message(i) for i in range(8)], key=LIMITED_KEY)
    assert (status, problem["code"]) == (429, "rate_limited")
    assert int(headers["Retry-After"]) >= 1


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"messages":[]}', b'{"messages":5}', b'"x"', b"null"])
async def test_a_wrong_envelope(api: Api, body: bytes) -> None:
    status, problem, _ = await api.call("POST", "/v1/messages/batch", body)
    assert (status, problem["outcome"]) == (422, "not_stored")


def test_the_whole_fails_only_when_nothing_was_decided() -> None:
    taken = Taken("x", "queued", 1, "gsm7", "cn", 0)
    refused = RequestError("invalid_number", "no", field="to")
    full = Backpressure("overloaded", "full", retry_after_s=1)
    unknown = StoreUnavailable("gone")
    known = StoreUnavailable("gone", outcome="not_stored")
    assert undecided([taken, unknown]) is None
    assert undecided([refused, full]) is None
    assert undecided([full, known]) is full
    assert undecided([full, known, unknown]) is unknown
