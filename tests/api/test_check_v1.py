"""POST /v1/messages/check on a real server and store: it says what accepting then does, and stores nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from gateway.model import Category
from gateway.settings import AccountSettings, RankedChannel, Settings
from gateway.settings.values import default_categories
from gateway.store.store import Store
from tests.api.conftest import KEY, LIMITED_KEY, Api, api_settings, start_api
from tests.support.messages import blacklisted
from tests.support.valkey import ValkeyServer

SIGNED = "【Acme】周末八折，拒收请回复R"


def settings_of_rules() -> Settings:
    plain = api_settings()
    categories = {c: replace(rules, per_number=()) for c, rules in default_categories().items()}
    categories[Category.NOTIFICATION] = replace(categories[Category.NOTIFICATION], per_number=((2, 3600),))
    categories[Category.MARKETING] = replace(
        categories[Category.MARKETING], send_hours=(0, 1440), per_tag=(("t", ((1, 60),)),)
    )
    shop, _, slow = plain.accounts
    priced = (replace(plain.channels[0], price=0.045), replace(plain.channels[0], id="b", price=0.05))
    cn = replace(plain.routes[0], channels=(RankedChannel("a", 0), RankedChannel("b", 1)))
    return replace(
        plain,
        categories=categories,
        channels=priced,
        routes=(cn, *plain.routes[1:]),
        accounts=(shop, replace(slow, when_capped="defer", max_per_s=0, daily_quota=0), AccountSettings("nobody")),
    )


@pytest.fixture
async def ruled(valkey: ValkeyServer) -> AsyncIterator[Api]:
    settings = settings_of_rules()
    store = await Store.open(settings, valkey.url, incarnation="api00001")
    async with aiohttp.ClientSession() as session:
        running = await start_api(store, settings, session)
        yield running
        await running.server.stop()
    await store.close()


async def look(api: Api, *messages: dict[str, Any], key: str = KEY, **rest: Any) -> list[dict[str, Any]]:
    status, body, _ = await api.call("POST", "/v1/messages/check", {"messages": list(messages), **rest}, key=key)
    assert status == 200, body
    assert body["accepted"] + body["rejected"] == len(messages) == len(body["results"])
    return list(body["results"])


def window_in(hours: int) -> str:
    opens = time.gmtime(time.time() + hours * 3600).tm_hour
    return f"{opens:02}:00-{(opens + 2) % 24:02}:00"


def at(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def words(result: dict[str, Any]) -> tuple[Any, ...]:
    """What check and accept must agree on; times to a few seconds, what is spread to its half hour."""
    error = result.get("error")
    if error:
        return (error["code"], error["status"], error.get("field"), bool(error.get("retry_at")))
    return (result["state"], result["parts"], result["encoding"], result["route"], result.get("replayed", False))


NUMBERS = itertools.count(1)
FIELDS: list[dict[str, Any]] = [
    {},
    {"category": "verification"},
    {"category": "marketing", "text": SIGNED},
    {"category": "marketing", "text": "no signature"},
    {"category": "marketing", "text": "【Acme】no opt-out"},
    {"category": "marketing", "text": SIGNED, "tags": ["t"]},
    {"send_at": at(3600)},
    {"local_window": window_in(4), "zone": "Etc/UTC"},
    {"local_window": window_in(4), "zone": "Etc/UTC", "not_after": at(60)},
    {"category": "verification", "local_window": "10:00-12:00"},
    {"not_after": at(-60)},
    {"text": "长" * 200},
    {"text": "长" * 700},
    {"to": "nonsense"},
    {"to": "+4917012345678"},
    {"sender": "Nobody"},
    {"test": True},
    {"zone": "Mars"},
]


@pytest.mark.parametrize("key", [KEY, LIMITED_KEY], ids=["refuses", "defers"])
async def test_it_says_what_accepting_then_does(ruled: Api, key: str) -> None:
    """Each kind of message three times to one number: so the second and third meet limits, blacklists and replays."""
    for fields in FIELDS:
        to = f"+86138{next(NUMBERS):08d}"
        for turn in range(3):
            sent = {"to": to, "category": "notification", "text": "hello", "ref": str(turn // 2), **fields}
            (foreseen,) = await look(ruled, sent, key=key)
            status, body, _ = await ruled.batch([sent], key=key)
            assert status == 202
            (done,) = body["results"]
            assert words(foreseen) == words(done), (fields, turn)
            if "error" not in done and done["expires_at"] and not foreseen.get("spread_s"):
                assert abs(_seconds(foreseen["expires_at"]) - _seconds(done["expires_at"])) < 3
            if "replayed" in done:
                assert foreseen["id"] == done["id"]


def _seconds(iso: str) -> float:
    return time.mktime(time.strptime(iso[:19], "%Y-%m-%dT%H:%M:%S"))


async def test_a_whole_batch_is_seen_as_one(ruled: Api) -> None:
    """What earlier items of the same request would count, and which ref they would take, is counted."""
    to = f"+86138{next(NUMBERS):08d}"
    batch = [
        {"to": to, "text": "a", "ref": "1"}, {"to": to, "text": "a", "ref": "1"}, {"to": to, "text": "b", "ref": "1"},
        {"to": to, "text": "c"}, {"to": to, "text": "d"}, {"to": to, "text": "e", "category": "verification"},
    ]  # fmt: skip
    defaults = {"category": "notification"}
    foreseen = await look(ruled, *batch, defaults=defaults)
    assert len(await ruled.store.find(to[1:], "shop")) == 0
    _, body, _ = await ruled.batch(batch, defaults=defaults)
    assert [words(one) for one in foreseen] == [words(one) for one in body["results"]]
    assert [one["error"]["code"] if "error" in one else one["state"] for one in foreseen] == [
        "queued", "queued", "ref_conflict", "queued", "frequency_capped", "queued",
    ]  # fmt: skip


async def test_what_else_is_told(ruled: Api) -> None:
    to = f"+86138{next(NUMBERS):08d}"
    (plain, long) = await look(
        ruled,
        {"to": to, "category": "verification", "text": "长" * 3},
        {"to": to, "category": "verification", "text": "x" * 161},
    )
    assert {k: plain[k] for k in ("parts", "encoding", "route", "price", "send_at", "blacklisted", "capped_until")} == {
        "parts": 1, "encoding": "ucs2", "route": "cn", "price": "0.045", "send_at": None, "blacklisted": False,
        "capped_until": None,
    }  # fmt: skip
    assert (long["parts"], long["price"]) == (2, "0.09")
    (later,) = await look(
        ruled, {"to": to, "category": "notification", "text": "x", "local_window": window_in(4), "zone": "Etc/UTC"}
    )
    assert (later["state"], later["spread_s"]) == ("deferred", 1800)
    assert _seconds(later["window_until"]) - _seconds(later["send_at"]) == 7200
    await blacklisted(ruled.store, "shop/Acme", to[1:])
    (listed, other) = await look(
        ruled,
        {"to": to, "category": "marketing", "text": SIGNED},
        {"to": to, "category": "marketing", "text": SIGNED.replace("Acme", "Zzz")},
    )
    assert (listed["error"]["code"], listed["blacklisted"]) == ("blocked_recipient", True)
    assert (other["state"], other["blacklisted"]) == ("queued", False)
    _, body, _ = await ruled.batch([{"to": to, "category": "marketing", "text": SIGNED}])
    assert words(body["results"][0]) == words(listed)


async def test_a_capped_number_has_its_time(ruled: Api) -> None:
    message = {"to": f"+86138{next(NUMBERS):08d}", "category": "notification", "text": "x"}
    await ruled.batch([message, message])
    (capped,) = await look(ruled, message)
    assert capped["error"]["retry_at"] == capped["capped_until"]
    assert 3590 <= capped["error"]["retry_after_s"] <= 3601
    status, problem, headers = await ruled.post(message)
    assert (status, problem["retry_at"]) == (422, capped["capped_until"])
    assert 3590 <= int(headers["Retry-After"]) <= 3601


async def test_it_takes_nothing_from_the_accounts_limits(api: Api) -> None:
    message = {"to": "+8613800000001", "category": "notification", "text": "x"}
    for _ in range(8):
        (one,) = await look(api, message, key=LIMITED_KEY)  # 5 a second, 100 a day
        assert one["state"] == "queued"
    many = [{**message, "to": f"+86138{i:08d}"} for i in range(1000)]
    started = time.monotonic()
    assert len(await look(api, *many, key=LIMITED_KEY)) == 1000
    assert time.monotonic() - started < 5
    waiting = await api.store.client.execute("GET", f"{api.store.prefixes[0]}waiting")
    assert int(waiting or 0) == 0


async def test_a_store_that_is_not_ready_is_503(api: Api) -> None:
    message = {"to": "+8613800000001", "category": "notification", "text": "x"}
    api.store.set_problems(["not now"])
    status, problem, headers = await api.call("POST", "/v1/messages/check", {"messages": [message]})
    assert (status, problem["code"], problem["outcome"]) == (503, "store_unavailable", "not_stored")
    assert headers["Retry-After"]


async def test_what_is_wrong_with_the_body(api: Api) -> None:
    status, problem, _ = await api.call("POST", "/v1/messages/check", {"messages": []})
    assert (status, problem["field"]) == (422, "messages")
    assert (await api.call("POST", "/v1/messages/check", {"messages": [{}]}, key=None))[0] == 401
    (bad,) = await look(api, {"to": "+8613800000001"})
    assert bad["error"]["code"] == "missing_field"
    assert "parts" not in bad


async def test_several_at_once_wait_for_each_other(api: Api) -> None:
    many = [{"to": f"+86138{i:08d}", "category": "notification", "text": "x"} for i in range(200)]
    answers = await asyncio.gather(*(look(api, *many) for _ in range(6)))
    assert {one["state"] for answer in answers for one in answer} == {"queued"}
