"""`GET /v1/stats` on a real store: an account sees itself, as JSON or CSV; what it may not ask is named."""

from __future__ import annotations

import time

from gateway.store.statistics import Statistics
from gateway.store.stats_table import US
from tests.api.conftest import OTHER_KEY, Api, message


def counter(account: str, outcome: str, reason: str = "", campaign: str = "") -> str:
    return US.join((account, "cm", "cn", "", campaign, "", "1", "a", outcome, reason))


async def test_an_account_sees_what_it_sent(api: Api) -> None:
    status, answer, _ = await api.batch([message(i, origin={"campaign": "=spring"}) for i in range(3)])
    assert (status, answer["accepted"]) == (202, 3)
    await api.batch([message(7)], key=OTHER_KEY)  # refused or not: another account's
    hour = int(time.time()) // 3_600
    await api.store.client.execute("HINCRBY", f"{api.store.prefixes[0]}stats:{hour - 3}", counter("shop", "s"), 5)
    await api.store.client.execute("HINCRBY", f"{api.store.prefixes[0]}stats:{hour - 3}", counter("bank", "s"), 90)
    for _ in range(2):
        status, found, headers = await api.call("GET", f"/v1/stats?from={_day(-1)}&by=campaign")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert [(row["campaign"], row["accepted"], row["submitted"]) for row in found["rows"]] == [
            ("", 0, 5),
            ("=spring", 3, 0),
        ]
        assert (found["total"]["accepted"], found["total"]["submitted"]) == (3, 5)
        assert found["where"] == {"account": ["shop"]}
        await Statistics(api.store).fold()
    status, raw, headers = await api.call("GET", f"/v1/stats?from={_day(-1)}&by=campaign", Accept="text/csv")
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert headers["Content-Disposition"] == 'attachment; filename="stats.csv"'
    lines = raw.decode().splitlines()
    assert lines[0].startswith("campaign,accepted,submitted,delivered,")
    assert lines[2].startswith("'=spring,3,0,0,")
    assert (await api.call("GET", f"/v1/stats?format=csv&from={_day(-1)}&by=campaign"))[1] == raw
    status, found, _ = await api.call("GET", "/v1/stats", Accept="text/csv, application/json")
    assert found["total"]["accepted"] == 3


async def test_opt_outs_by_signature(api: Api) -> None:
    day = int(time.time()) // 86_400
    for account, n in (("shop", 4), ("bank", 9)):
        name = US.join((account, "spring", "Acme", "td"))
        await api.store.client.execute("HINCRBY", f"{api.store.prefixes[0]}td:{day}", name, n)
    status, found, _ = await api.call("GET", f"/v1/stats?from={_day(-1)}&by=signature,campaign")
    assert status == 200
    assert found["rows"] == [{"signature": "Acme", "campaign": "spring", "td": 4, "complaints": 0}]
    _, found, _ = await api.call("GET", "/v1/stats?signature=Other")
    assert (found["rows"], found["total"]) == ([], {"td": 0, "complaints": 0})


async def test_what_it_may_not_ask_is_named(api: Api) -> None:
    for query, field in (
        ("account=bank", "account"),
        ("by=account", "by"),
        ("by=route&by=channel", "by"),
        ("from=last-week", "from"),
        ("zone=Nowhere%2FHere", "zone"),
        ("category=otp", "category"),
        ("format=pdf", "format"),
    ):
        status, problem, _ = await api.call("GET", f"/v1/stats?{query}")
        assert (status, problem["code"], problem["field"]) == (400, "invalid_parameter", field)
    status, problem, _ = await api.call("GET", "/v1/stats", key=None)
    assert (status, problem["code"]) == (401, "unauthorized")
    status, _, headers = await api.call("POST", "/v1/stats", {})
    assert (status, headers["Allow"]) == (405, "GET")


async def test_more_rows_than_are_answered(api: Api) -> None:
    hour = int(time.time()) // 3_600
    flat = [x for i in range(10_001) for x in (counter("shop", "s", campaign=f"c{i}"), 1)]
    for i in range(0, len(flat), 4_000):
        await api.store.client.execute("HSET", f"{api.store.prefixes[0]}stats:{hour}", *flat[i : i + 4_000])
    status, problem, _ = await api.call("GET", f"/v1/stats?from={_day(-1)}&by=campaign")
    assert (status, problem["code"], problem["field"]) == (422, "too_many_rows", "by")
    status, found, _ = await api.call("GET", f"/v1/stats?from={_day(-1)}&by=campaign&campaign=c5,c77")
    assert (status, [row["campaign"] for row in found["rows"]]) == (200, ["c5", "c77"])
    status, found, _ = await api.call("GET", f"/v1/stats?from={_day(-1)}")
    assert found["total"]["submitted"] == 10_001


def _day(back: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + back * 86_400))
