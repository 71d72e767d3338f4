"""`/admin/v1/accounts`: honest usage, keys that are told apart without being shown, a new key, a test message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin import trial_v1
from gateway.admin.accounts_v1 import AccountsApi
from gateway.admin.messages_v1 import MessagesApi
from gateway.admin.trial_v1 import TrialApi
from gateway.admin.webhooks_v1 import WebhookRoutes
from gateway.api.auth import KeyRing
from gateway.apikey import key_hash, key_id, new_key
from gateway.errors import StoreUnavailable
from gateway.model import Secret, message_id
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
from gateway.store.audit import Audit
from gateway.store.blacklists import Blacklists
from gateway.store.key_uses import KeyUses
from gateway.store.limits import AccountLimiter
from gateway.store.outbox import Outbox
from gateway.store.store import Store
from tests.support.admin import admin_listener
from tests.support.messages import accept, message

NUMBER, TEXT = "+8613871946205", "zanzibarcanary 739164"
KEY, HASH = new_key()
SHOP = AccountSettings("shop", key_hashes=(HASH,), senders=("1069",), daily_quota=50_000)


@pytest.fixture
async def ask(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[Any]:
    own = replace(
        settings,
        admin=AdminSettings(token=Secret("the-token")),
        channels=(ChannelSettings("cm-a", "127.0.0.1", 2775, "esme", Secret("x")),),
        routes=(RouteSettings("r", RouteMatch(country="CN"), (RankedChannel("cm-a", 0),)),),
        accounts=(SHOP, AccountSettings("lab", daily_quota=100, max_per_s=2)),
    )
    audit = Audit(store)
    more = [
        *AccountsApi(own, store, WebhookRoutes(own, Outbox(store)), audit).routes(),
        *TrialApi(own, store, build_router(own), audit).routes(),
        *MessagesApi(store, audit, own).routes(),
    ]
    trial_v1._sent.clear()
    async with (
        admin_listener(own, store, tmp_path, more=more) as address,
        aiohttp.ClientSession(headers={"Authorization": "Bearer the-token"}) as session,
    ):

        async def one(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            async with session.request(method, f"http://{address}/admin/v1/{path}", json=body) as answer:
                return answer.status, await answer.json()

        yield one


async def test_usage_is_what_was_accepted_and_draws_are_told_apart(store: Store, ask: Any) -> None:
    limiter = AccountLimiter(store)
    for category in (0, 1, 1):
        assert (await limiter.take(SHOP, 1)).granted == 1
        await accept(store, message(store, category=category))
    status, said = await ask("GET", "accounts?account=shop")
    (shop,) = said["accounts"]
    assert status == 200
    assert (shop["quota_used"], shop["today"]) == (3, {"verification": 1, "notification": 2, "marketing": 0})
    assert shop["quota_reserved"] == 500 - 3, "a worker drew a hundredth of the quota, and has the rest in hand"
    await limiter.close([SHOP])
    (shop,) = (await ask("GET", "accounts?account=shop"))[1]["accounts"]
    assert (shop["quota_used"], shop["quota_reserved"]) == (3, 0)
    assert [a["id"] for a in (await ask("GET", "accounts"))[1]["accounts"]] == ["shop", "lab"]
    assert (await ask("GET", "accounts?account=none"))[0] == 404


async def test_keys_are_told_apart_by_their_last_use(store: Store, ask: Any) -> None:
    (shop,) = (await ask("GET", "accounts?account=shop"))[1]["accounts"]
    assert shop["key_list"] == [{"hash": HASH[7:15], "id": None, "last_used_at": None}]
    ring = KeyRing([SHOP])
    assert ring.account(f"Bearer {KEY}") is SHOP
    assert ring.account("Bearer another") is None
    used = ring.take_used()
    assert used == {"shop": {HASH[7:]: key_id(KEY)}}
    assert ring.take_used() == {}
    assert ring.account(f"Bearer {KEY}") is SHOP
    anew = KeyRing([SHOP], ring)
    assert anew.take_used() == used, "a reload between a use and its noting"
    assert KeyRing([], ring).take_used() == {}, "the key is no key any more"
    await KeyUses(store).note(used, now_s=1_795_000_000)
    (shop,) = (await ask("GET", "accounts?account=shop"))[1]["accounts"]
    assert shop["key_list"][0] == {
        "hash": HASH[7:15], "id": key_id(KEY), "last_used_at": "2026-11-18T11:06:40.000Z"
    }  # fmt: skip
    assert HASH[7:] not in json.dumps(shop)


async def test_a_new_key_is_answered_once_and_kept_nowhere(store: Store, ask: Any) -> None:
    status, made = await ask("POST", "accounts/shop/key", {})
    assert status == 200
    assert key_hash(made["key"]) == made["key_hash"]
    assert made["line"] == f'key_hashes = ["{HASH}", "{made["key_hash"]}"]'
    assert (made["keys"], made["key_id"]) == (2, key_id(made["key"]))
    (entry,) = await Audit(store).read()
    assert (entry.action, entry.object, entry.more["key"]) == ("account.key", "shop", made["key_id"])
    assert made["key"] not in repr(entry)
    assert made["key_hash"][7:] not in repr(entry)
    assert (await ask("POST", "accounts/shop/key", {"x": 1}))[1]["code"] == "unknown_field"
    assert (await ask("POST", "accounts/none/key", {}))[0] == 404


async def test_a_test_message_goes_the_way_of_every_other(store: Store, ask: Any) -> None:
    body = {"to": "13871946205", "country": "CN", "category": "notification", "text": TEXT}
    status, said = await ask("POST", "accounts/shop/test-send", body)
    assert (status, said["state"], said["route"], said["parts"]) == (200, "queued", "r", 1)
    shown = (await ask("GET", f"messages/{said['id']}?full=1"))[1]
    assert (shown["test"], shown["to"], shown["text"], shown["sender"]) == (True, NUMBER, TEXT, "1069")
    (shop,) = (await ask("GET", "accounts?account=shop"))[1]["accounts"]
    assert (shop["quota_used"], shop["quota_reserved"]) == (0, 1), "the quota has it, the statistics have not"
    noted = [e for e in await Audit(store).read() if e.action == "account.test_send"]
    assert [(e.object, e.more["message"]) for e in noted] == [("shop", said["id"])]
    assert TEXT not in repr(noted)
    assert NUMBER[3:] not in repr(noted)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"to": "12"}, "invalid_number", "to"),
        ({"category": "news"}, "invalid_field", "category"),
        ({"text": ""}, "missing_field", "text"),
        ({"text": "a\x07b"}, "invalid_field", "text"),
        ({"text": "\ud83d"}, "invalid_json", None),
        ({"sender": "12345"}, "sender_not_allowed", "sender"),
        ({"to": "+4915123456789"}, "no_route", "to"),
        ({"text": "汉" + "a" * 700}, "text_too_long", "text"),
    ],
)
async def test_what_refuses_it_names_the_field(ask: Any, change: dict[str, Any], code: str, field: str | None) -> None:
    body = {"to": NUMBER, "category": "notification", "text": TEXT, **change}
    status, said = await ask("POST", "accounts/shop/test-send", body)
    assert 400 <= status < 500
    assert (said["code"], said.get("field")) == (code, field)


async def test_blacklists_and_limits_hold_for_test_messages_too(store: Store, ask: Any) -> None:
    body = {"to": NUMBER, "category": "notification", "text": TEXT}
    await Blacklists(store).put(NUMBER[1:], "*", 2, "operator", source="operator", actor="li")
    status, said = await ask("POST", "accounts/shop/test-send", body)
    assert (status, said["code"]) == (422, "blocked_recipient")
    many = [await ask("POST", "accounts/lab/test-send", {**body, "category": "verification"}) for _ in range(4)]
    assert [status for status, _ in many].count(429) >= 1, "two a second are the account's"
    for _ in range(trial_v1.MOST_A_MINUTE):
        status, said = await ask("POST", "accounts/shop/test-send", {**body, "category": "notification"})
    assert (status, said["code"]) == (429, "rate_limited")
    assert "test messages" in said["detail"]


async def test_a_message_that_went_is_told_though_the_audit_is_out_of_reach(
    store: Store, ask: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error would have the operator send it once more: to a real recipient, at its cost."""

    async def no_answer(*args: Any, **more: Any) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(Audit, "note", no_answer)
    body = {"to": NUMBER, "category": "notification", "text": TEXT}
    status, said = await ask("POST", "accounts/shop/test-send", body)
    assert (status, said["state"]) == (200, "queued")
    assert said["id"] in caplog.text
    assert TEXT not in caplog.text
    assert NUMBER[1:] not in caplog.text


async def test_a_refused_test_message_is_stored_nowhere(store: Store, ask: Any) -> None:
    before = await store.waiting()
    assert (await ask("POST", "accounts/shop/test-send", {"to": NUMBER, "category": "x", "text": "y"}))[0] == 422
    assert await store.waiting() == before
    m = message(store)
    await accept(store, m)
    assert (await ask("GET", f"messages/{message_id(m.id)}"))[1]["test"] is False
