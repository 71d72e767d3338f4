"""Intake: whose signature a text may carry, and the lane it waits in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.api.views import record_view, taken_view
from gateway.intake import Intake, ItemResult, Taken
from gateway.metrics import Metrics
from gateway.model import ValidMessage
from gateway.routing.loader import build_router
from gateway.settings import AccountSettings, RankedChannel, RouteMatch, RouteSettings, Settings, SignatureSettings
from gateway.store.limits import AccountLimiter
from gateway.store.store import Store
from tests.api.conftest import api_settings

FREE = AccountSettings("shop")
OWN = AccountSettings("own", signature=("【Acme】", "Bank"))


def signed_settings(**lists: str) -> Settings:
    """Channels by id with the signatures they list; all on route `cn`, ranks in order; `gb` lists none."""
    plain = api_settings()
    channels = [
        replace(plain.channels[0], id=name, signatures=tuple(SignatureSettings(one) for one in names.split()))
        for name, names in lists.items()
    ]
    ranked = tuple(RankedChannel(channel.id, rank) for rank, channel in enumerate(channels))
    routes = (
        RouteSettings("cn", RouteMatch(country="CN"), ranked),
        RouteSettings("gb", RouteMatch(prefix="44"), (RankedChannel("gb", 0),)),
    )
    return replace(plain, channels=(*channels, replace(plain.channels[0], id="gb")), routes=routes)


async def take(
    store: Store, settings: Settings, account: AccountSettings, *texts: str, to: str = ""
) -> list[ItemResult]:
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), Metrics("api", "0"))
    items = [
        ValidMessage({"to": to or f"+86138{i:08d}", "category": "notification", "text": text})
        for i, text in enumerate(texts)
    ]
    return await intake.accept(account, items, None)


def told(results: list[ItemResult]) -> list[Any]:
    return [
        result.route.partition("~")[0] if isinstance(result, Taken) else (result.code, result.field)  # type: ignore[attr-defined]
        for result in results
    ]


async def test_an_account_speaks_in_its_own_name_only(store: Store) -> None:
    texts = ("【Acme】x", "x【Bank】", "【ＡＣＭＥ】x", "【Ｂank】x", "x", "【】x")
    assert told(await take(store, api_settings(), OWN, *texts)) == [
        "cn",
        "cn",
        ("signature_not_allowed", "text"),
        "cn",
        ("missing_signature", "text"),
        ("missing_signature", "text"),
    ]
    assert told(await take(store, api_settings(), FREE, *texts)) == ["cn"] * 6


async def test_only_what_a_channel_of_the_route_carries_is_taken(store: Store) -> None:
    settings = signed_settings(a="Acme Bank", b="Acme")
    results = await take(store, settings, FREE, "【Acme】x", "x【Bank】", "【Other】x", "x")
    assert told(results) == ["cn", "cn", ("signature_not_registered", "text"), ("missing_signature", "text")]
    acme, bank = results[:2]
    assert isinstance(acme, Taken)
    assert isinstance(bank, Taken)
    assert acme.route != bank.route
    assert b'"route":"cn"' in taken_view(acme, "fsync")
    record = await store.get(acme.id)
    assert record is not None
    assert (
        record.route
        == acme.route
        == build_router(settings).table.lane(build_router(settings).table.routes["cn"], "Acme").id
    )  # type: ignore[union-attr]
    assert record_view(record)["route"] == "cn"


async def test_any_other_signature(store: Store) -> None:
    results = await take(store, signed_settings(a="Acme *", b="Acme"), FREE, "【Acme】x", "【Other】x", "x")
    assert told(results) == ["cn", "cn", ("missing_signature", "text")]


async def test_a_route_that_lists_nothing_asks_for_nothing(store: Store) -> None:
    (result,) = await take(store, signed_settings(a="Acme"), FREE, "hello", to="+447700900123")
    assert isinstance(result, Taken)
    assert result.route == "gb"


async def test_messages_are_counted_under_the_configured_route(store: Store) -> None:
    settings = signed_settings(a="Acme Bank", b="Acme")
    metrics = Metrics("api", "0")
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), metrics)
    items = [
        ValidMessage({"to": f"+86138{i:08d}", "category": "notification", "text": text})
        for i, text in enumerate(("【Acme】x", "【Bank】x"))
    ]
    await intake.accept(FREE, items, None)
    labels = {"category": "notification", "route": "cn", "state": "queued", "reason": ""}
    assert metrics.counter("messages_total", **labels).n == 2


@pytest.mark.parametrize("text", ["【Acme】x", "x"])
async def test_the_same_message_twice_is_told_the_same_route(store: Store, text: str) -> None:
    settings = signed_settings(a="Acme")
    intake = Intake(settings, build_router(settings), store, AccountLimiter(store), Metrics("api", "0"))
    item = ValidMessage({"to": "+8613800000001", "category": "notification", "text": text, "ref": "r"})
    first, second = [(await intake.accept(FREE, [item], None))[0] for _ in range(2)]
    if text == "x":
        assert told([first, second]) == [("missing_signature", "text")] * 2
    else:
        assert isinstance(first, Taken)
        assert isinstance(second, Taken)
        assert (second.id, second.route, second.replayed) == (first.id, first.route, True)
