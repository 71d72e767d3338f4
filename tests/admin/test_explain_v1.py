"""`/admin/v1/explain` and `smsgw explain`: each rule that refuses or holds, each channel's state, on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.model import Category, Secret
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
)
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.messages import accept, blacklisted, message

TOKEN = "a-long-admin-token"
TO = "+8613800138000"


@pytest.fixture
async def url(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    channels = tuple(
        ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p")) for name in ("a", "b")
    )
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        channels=channels,
        routes=(
            RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0), RankedChannel("b", 1))),
        ),
        accounts=(
            AccountSettings(
                id="shop", senders=("1069",), categories=frozenset((Category.VERIFICATION, Category.NOTIFICATION))
            ),
        ),
        number_segments_files={"CN": Path("config/number_segments/cn.csv")},
    )  # fmt: skip
    async with admin_listener(own, store, tmp_path, build_router(own)) as address:
        yield f"http://{address}/admin/v1/explain"


async def ask(url: str, **query: str) -> tuple[int, Any]:
    values = {"to": TO, "category": "verification", "account": "shop", **query}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params={k: v for k, v in values.items() if v}, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def effects(found: Any) -> list[tuple[str, str]]:
    return [(rule["rule"], rule["effect"]) for rule in found["rules"]]


async def test_a_message_that_would_go(url: str, store: Store) -> None:
    await store.heartbeat(0, first=True, channels=["a", "b"])
    status, found = await ask(url)
    assert status == 200
    assert found["number"] == {"e164": TO, "country": "CN"}
    assert found["carrier"] == {"name": "china-mobile", "known_from": "segment"}
    assert (found["route"], found["verdict"], found["rules"]) == ("cn", "sent by a", [])
    assert [(c["id"], c["takes_it"]) for c in found["channels"]] == [("a", True), ("b", False)]
    assert found["channels"][1]["why"] == "a channel of an earlier rank can submit"


async def test_shares_by_weight_and_by_quality(store: Store, settings: Settings, tmp_path: Path) -> None:
    channels = tuple(
        ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p")) for name in ("a", "b")
    )
    ranked = (RankedChannel("a", 0, 3), RankedChannel("b", 0, 1))
    for order, shares in (("weight", [0.75, 0.25]), ("quality", [0.6, 0.4])):
        own = replace(
            settings,
            admin=AdminSettings(port=0, token=Secret(TOKEN)),
            channels=channels,
            routes=(RouteSettings("cn", RouteMatch(country="CN"), ranked, order=order),),
            accounts=(AccountSettings(id="shop"),),
            number_segments_files={"CN": Path("config/number_segments/cn.csv")},
        )
        told = {"shares": {"a": 0.6, "b": 0.4}, "moving": True, "why": "moving", "inputs": {"a": {"rated": 7}}}
        await store.set_shares({"cn\x1f0\x1f0\x1fchina-mobile": orjson.dumps(told)})
        async with admin_listener(own, store, tmp_path, build_router(own)) as address:
            _, found = await ask(f"http://{address}/admin/v1/explain")
        assert (found["order"], [c["share"] for c in found["channels"]]) == (order, shares)
        if order == "quality":
            assert found["quality"] == {"moving": True, "why": "moving"}
            assert found["channels"][0]["rating"] == {"rated": 7}


async def test_the_live_state_of_the_channels_decides(url: str, store: Store) -> None:
    _, found = await ask(url)
    assert (effects(found), found["verdict"]) == ([("channels", "wait")], "accepted, and waits: channels")
    await store.heartbeat(0, first=True, channels=["a", "b"])
    await store.health([("a", "open:refusals", 0)])
    _, found = await ask(url)
    assert found["verdict"] == "sent by b"
    assert "breaker is open: refusals" in found["channels"][0]["why"]
    await store.health([("b", "pause", 0)])
    _, found = await ask(url)
    assert found["verdict"] == "accepted, and waits: channels"


async def test_every_rule_that_refuses_is_named(url: str, store: Store) -> None:
    await store.heartbeat(0, first=True, channels=["a"])
    await accept(store, message(store, TO[1:], category=0))
    _, found = await ask(url)
    assert effects(found) == [("per_number", "refuse")]
    assert "1 of 1 in 60 s" in found["rules"][0]["why"]
    await blacklisted(store, "*", TO[1:], categories=[Category.NOTIFICATION])
    _, found = await ask(url, category="notification")
    assert (effects(found), found["verdict"]) == ([("blacklist", "refuse")], "refused: blacklist")
    _, found = await ask(url, category="marketing", sender="9999")
    assert effects(found)[:2] == [("sender", "refuse"), ("category", "refuse")]
    await store.set_gate("account", "shop", "hold")
    _, found = await ask(url, to="+8613800138001")
    assert (effects(found), found["verdict"]) == ([("gate", "wait")], "accepted, and waits: gate")
    await store.set_gate("account", "shop", "open")
    _, found = await ask(url, to="+4917012345678")
    assert found["verdict"] == "refused: route"
    _, found = await ask(url, to="12")
    assert found["verdict"] == "refused: invalid_number"
    assert "12" not in str(found["rules"])


@pytest.mark.parametrize(
    ("query", "field"),
    [({"to": ""}, "to"), ({"account": "nobody"}, "account"), ({"category": "spam"}, "category"), ({"x": "1"}, None)],
)
async def test_what_is_asked_wrongly(url: str, query: dict[str, str], field: str | None) -> None:
    status, problem = await ask(url, **query)
    assert (status, problem.get("field")) == (422, field)


async def test_window_caps_and_lists_are_told(store: Store, settings: Settings, tmp_path: Path) -> None:
    """Hours that are closed now, a limit by signature, a list by signature, and a text without its opt-out words."""
    hour = datetime.now(UTC).hour
    hours = dict(settings.categories)
    shut = ((hour + 4) % 22 * 60, (hour + 4) % 22 * 60 + 120)
    hours[Category.MARKETING] = replace(
        hours[Category.MARKETING],
        send_hours=shut,
        per_number=((2, 60),),
        per_signature=((1, 600),),
        per_tag=(("t", ((9, 60),)),),
    )
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        channels=(ChannelSettings(id="a", host="h", port=1, system_id="s", password=Secret("p")),),
        routes=(RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0),)),),
        accounts=(AccountSettings(id="shop", senders=("1069",)),),
        categories=hours,
        number_segments_files={"CN": Path("config/number_segments/cn.csv")},
    )
    caps = "\x1eshop\x1f2,60\x1eshop#s:Acme\x1f1,600"
    await accept(store, message(store, TO[1:], category=2, caps=caps))
    await blacklisted(store, "shop/Acme", TO[1:])
    async with admin_listener(own, store, tmp_path, build_router(own)) as address:
        url = f"http://{address}/admin/v1/explain"
        _, found = await ask(url, category="marketing", text="【Acme】sale", tag="t", zone="Etc/UTC")
        _, elsewhere = await ask(url, category="marketing", signature="Other", local_window="00:00-24:00")
        _, code = await ask(url)
        _, wrong = await ask(url, category="marketing", zone="Mars/Base")
    assert found["scopes"] == ["*", "shop", "shop/1069", "shop/Acme"]
    assert [(c["key"], c["limit"], c["window_s"], c["sent"]) for c in found["caps"]] == [
        ("per_number", 2, 60, 1), ("per_signature", 1, 600, 1), ("per_tag", 9, 60, 0),
    ]  # fmt: skip
    assert found["window"]["open"] is False
    assert found["window"]["clocks"] == ["Etc/UTC"]
    assert found["window"]["opens_at"][11:16] == f"{shut[0] // 60:02}:00"
    told = {rule["rule"]: rule for rule in found["rules"]}
    assert told.keys() >= {"blacklist", "per_signature", "missing_optout_text", "window"}
    assert "for Acme: td" in told["blacklist"]["why"]
    assert told["window"]["effect"] == "wait"
    assert found["verdict"] == "refused: blacklist"
    assert {"blacklist", "per_signature"} & {rule["rule"] for rule in elsewhere["rules"]} == set()
    assert (code["window"], [c["key"] for c in code["caps"]]) == (None, ["per_number"] * 3)
    assert "zone" in str(wrong["rules"])


async def test_a_number_in_the_body(url: str, store: Store) -> None:
    """What pages ask: no number in an address, a country that completes it, and a code for every reason."""
    await store.heartbeat(0, first=True, channels=["a"])
    await blacklisted(store, "*", TO[1:], categories=[Category.NOTIFICATION])
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = {"to": "13800138000", "country": "cn", "category": "notification", "account": "shop"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(url, json=body) as answer:
            found = await answer.json()
        assert (answer.status, found["number"]) == (200, {"e164": TO, "country": "CN"})
        assert found["rules"] == [
            {"rule": "blacklist", "effect": "refuse", "why": "on the list of all accounts: td",
             "code": "on_list", "facts": {"scope": "*", "reason": "td"}}
        ]  # fmt: skip
        for wrong, field in (({"to": 1}, "to"), ({"to": ""}, "to"), ({"sender": []}, "sender"), ({"x": "1"}, None)):
            async with session.post(url, json=body | wrong) as answer:
                assert (answer.status, (await answer.json()).get("field")) == (422, field)
