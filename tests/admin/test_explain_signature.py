"""`/admin/v1/explain`: which signature is asked about, who carries it, and under which number it would be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.model import Secret
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
    SignatureSettings,
)
from gateway.store.store import Store
from tests.support.admin import admin_listener

TOKEN = "a-long-admin-token"


def channel(name: str, **more: Any) -> ChannelSettings:
    return ChannelSettings(id=name, host="h", port=1, system_id="s", password=Secret("p"), **more)


@pytest.fixture
async def url(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    listed = (SignatureSettings("Acme", "01"), SignatureSettings("Bank", "02"))
    own = replace(
        settings,
        admin=AdminSettings(port=0, token=Secret(TOKEN)),
        channels=(
            channel("a", access_number="10690000", signatures=listed),
            channel("b", signatures=listed[:1], source=(("1069", "2069"),)),
            channel("c", source=(("*", "3069"),)),
        ),
        routes=(
            RouteSettings("cn", RouteMatch(country="CN"), (RankedChannel("a", 0), RankedChannel("b", 1))),
            RouteSettings("gb", RouteMatch(prefix="44"), (RankedChannel("b", 0), RankedChannel("c", 1))),
        ),
        accounts=(
            AccountSettings("shop", senders=("1069",), signature=("【Acme】", "Bank", "Club")),
            AccountSettings("free", senders=("1069",)),
        ),
        number_segments_files={"CN": Path("config/number_segments/cn.csv")},
    )
    await store.heartbeat(0, first=True, channels=["a", "b", "c"])
    async with admin_listener(own, store, tmp_path, build_router(own)) as address:
        yield f"http://{address}/admin/v1/explain"


async def ask(url: str, **query: str) -> Any:
    values = {"to": "+8613800138000", "category": "notification", "account": "shop", **query}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session, session.get(url, params=values, headers=headers) as answer:
        assert answer.status == 200
        return await answer.json()


def carried(found: Any) -> list[tuple[str, bool, str | None]]:
    return [(c["id"], c["carries"], c["source_addr"]) for c in found["channels"]]


async def test_the_accounts_first_signature_is_asked_about_where_nothing_is_said(url: str) -> None:
    found = await ask(url)
    assert found["signature"] == {"name": "【Acme】", "known_from": "account"}
    assert (found["route"], found["verdict"]) == ("cn", "sent by a")
    assert carried(found) == [("a", True, "1069000001"), ("b", True, "206901")]


async def test_a_channel_that_does_not_carry_it_does_not_take_it(url: str, store: Store) -> None:
    for query in ({"signature": "【Bank】"}, {"signature": "Bank"}, {"text": "hello【Ｂank】"}):
        found = await ask(url, **query)
        assert found["signature"]["name"] == "【Bank】"
        assert found["verdict"] == "sent by a"
        assert carried(found) == [("a", True, "1069000002"), ("b", False, None)]
        assert found["channels"][1]["why"] == "the signature is not registered on it"
        assert "hello" not in str(found)
    await store.health([("a", "pause", 0)])
    found = await ask(url, signature="Bank")
    assert found["verdict"] == "accepted, and waits: channels"
    assert (await ask(url))["verdict"] == "sent by b"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"signature": "Club"}, "it is not registered on any channel of the route"),
        ({"text": "no signature"}, "the text must begin or end with a signature in 【】"),
        (
            {"account": "free"},
            "channels of the route list their signatures: the text must begin or end with one in 【】",
        ),
        ({"account": "free", "text": "【Other】x"}, "it is not registered on any channel of the route"),
    ],
)
async def test_what_is_refused(url: str, query: dict[str, str], why: str) -> None:
    found = await ask(url, **query)
    rule = found["rules"][0]
    assert (rule["rule"], rule["effect"], rule["why"]) == ("signature", "refuse", why)
    assert rule["code"] == ("signature_not_registered" if "not registered" in why else "signature_wanted")
    assert found["verdict"] == "refused: signature"
    assert not any(c["takes_it"] for c in found["channels"])


async def test_a_strangers_signature(url: str) -> None:
    found = await ask(url, signature="Other")
    assert [rule["why"] for rule in found["rules"]][:2] == [
        "not among the account's signatures",
        "it is not registered on any channel of the route",
    ]


async def test_a_channel_without_a_list_carries_everything(url: str) -> None:
    found = await ask(url, to="+447700900123", account="free", text="【Other】x")
    assert carried(found) == [("b", False, None), ("c", True, "3069")]
    assert found["verdict"] == "sent by c"
