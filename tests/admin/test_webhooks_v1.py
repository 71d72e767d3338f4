"""`/admin/v1/webhooks` and `smsgw webhooks` over HTTP on a real store, with a worker that does what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admin.store_gauges import StoreGauges
from gateway.dlr import webhook as worker_module
from gateway.dlr import webhook_replay
from gateway.model import Secret, message_id
from gateway.settings import AccountSettings, AdminSettings, Settings
from gateway.store.audit import Audit
from gateway.store.outbox import GIVEN_UP, Outbox, Verdict
from gateway.store.record_log import attempt_log
from gateway.store.store import Store
from tests.store.test_repeat import settle, settlement
from tests.support.admin import admin_listener
from tests.support.messages import accept, apply, claim, ids_of, message, receipt_row
from tests.support.outbox import empty, hook, push_many, serving, with_hooks
from tests.support.sink import Sink
from tests.support.until import until
from tests.test_cli_admin import smsgw

TOKEN = "a-long-admin-token"


@dataclass
class Admin:
    base: str
    sink: Sink
    settings: Settings
    config: Path

    async def call(self, method: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.base}/admin/v1/webhooks", json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def post(self, action: str, **more: Any) -> tuple[int, Any]:
        return await self.call("POST", {"account": "shop", "action": action, **more})

    async def entry(self) -> dict[str, Any]:
        status, body = await self.call("GET")
        assert status == 200
        (found,) = body["webhooks"]
        return dict(found)


@pytest.fixture
async def admin(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Admin]:
    monkeypatch.setattr(worker_module, "BEAT_S", 0.1)
    monkeypatch.setattr(worker_module, "POLL_S", 0.02)
    async with Sink() as sink:
        own = with_hooks(settings, shop=hook(sink.url + "/a-secret-path"))
        own = replace(
            own,
            admin=AdminSettings(port=0, token=Secret(TOKEN)),
            accounts=(*own.accounts, AccountSettings(id="without")),
        )
        async with admin_listener(own, store, tmp_path) as address:
            (tmp_path / "gateway.toml").write_text(
                f'[admin]\nlisten = "{address}"\ntoken = "${{env:SMSGW_ADMIN_TOKEN}}"\n'
            )
            yield Admin(f"http://{address}", sink, own, tmp_path)


async def test_what_waits_is_visible_and_moves_as_operators_say(admin: Admin, store: Store) -> None:
    ids = await push_many(store, 5)
    assert (await admin.post("disable"))[1]["state"] == "disabled"
    async with serving(admin.settings, store) as worker:
        entry = await admin.entry()
        assert (entry["state"], entry["disabled_by"], entry["backlog"], entry["waiting"]) == (
            "disabled", "operator", 5, 5,
        )  # fmt: skip
        assert entry["host"] == "127.0.0.1"
        assert "a-secret-path" not in json.dumps(entry)
        assert entry["oldest_age_s"] >= 0
        gauges = {(g.name, g.labels): g.value for g in await StoreGauges(admin.settings, store).read()}
        assert gauges["webhook_backlog", ("shop",)] == 5
        assert not admin.sink.calls
        status, entry = await admin.post("enable")
        assert (status, entry["disabled_by"]) == (200, None)
        await until(lambda: empty(store))
        assert sorted(admin.sink.ids) == sorted(ids)

        async def told() -> bool:
            return (await admin.entry())["last_success_at"] is not None

        await until(told)
        # A running endpoint stops as well.
        assert (await admin.post("disable"))[0] == 200
        await until(lambda: not worker._served)
        ids = await push_many(store, 2)
        assert (await admin.entry())["backlog"] == 2


async def test_dead_letters_have_reasons_and_go_back_in_line(admin: Admin, store: Store) -> None:
    await push_many(store, 3)
    box = Outbox(store)
    await box.beat("me", ["shop"])
    taken = await box.take(0, "shop", 1, "a", 9)
    reasons = ("timeout", "timeout", "tls")
    await box.settle(
        0, "shop", 1, [Verdict(t.number, GIVEN_UP, reason=why) for t, why in zip(taken, reasons, strict=True)]
    )
    entry = await admin.entry()
    assert (entry["dead"], entry["dead_reasons"]) == (3, {"timeout": 2, "tls": 1})
    status, entry = await admin.post("retry-dead")
    assert (status, entry["revived"], entry["dead"], entry["waiting"]) == (200, 3, 0, 3)


async def finished(store: Store, *states: str) -> list[str]:
    """Send messages to their ends; returns the ids of the final events."""
    await accept(store, *(message(store) for _ in states))
    claimed = await claim(store)
    log = attempt_log(1, "ch", 0, "sent", [(0, "x1")])
    await settle(store, *(settlement(c, log=log) for c in claimed), ids=[i for c in claimed for i in ids_of(c)])
    rows = [receipt_row(c, state) for c, state in zip(claimed, states, strict=True)]
    assert set(await apply(store, *rows)) == {"f"}
    return [
        f"{message_id(c.id)}.{'delivered' if state == 'D' else 'failed'}"
        for c, state in zip(claimed, states, strict=True)
    ]


async def test_a_replay_sends_the_same_ids_again(admin: Admin, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """F75: from the records, by account, time and type; the bodies are the same as those of the first time."""
    monkeypatch.setattr(webhook_replay, "LINE_ROOM", 3)
    await store.set_consumers(admin.settings.consumers)
    ids = await finished(store, "D", "U", "D", "D", "R", "D")
    await accept(store, message(store, account="without"), message(store))  # another account's, and one not ended
    async with serving(admin.settings, store):
        await until(lambda: len(admin.sink.calls) == 6)
        assert sorted(admin.sink.ids) == sorted(ids)
        bodies = {call.id: call.body for call in admin.sink.calls}
        status, entry = await admin.post("replay")
        assert (status, entry["replay"]["done"]) == (200, False)
        await until(lambda: len(admin.sink.calls) == 12)
        assert sorted(admin.sink.ids) == sorted(ids * 2)
        assert {call.id: call.body for call in admin.sink.calls[6:]} == bodies

        async def done() -> bool:
            return bool((await admin.entry())["replay"]["done"])

        await until(done)
        await admin.post("replay", types=["message.failed"])
        await until(lambda: len(admin.sink.calls) == 14)
        await until(done)
        assert sorted(admin.sink.ids[12:]) == sorted(i for i in ids if i.endswith("failed"))
        await admin.post("replay", to="2020-01-01T00:00:00+00:00")
        await until(done)
        assert (await admin.entry())["replay"]["events"] == 0
        assert len(admin.sink.calls) == 14


async def test_a_test_call_says_what_became_of_it(admin: Admin) -> None:
    status, found = await admin.post("test")
    assert (status, found["result"], found["status"]) == (200, "delivered", 204)
    (call,) = admin.sink.calls
    assert call.body["type"] == "webhook.test"
    admin.sink.respond = 500
    assert (await admin.post("test"))[1]["result"] == "http_5xx"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"account": "shop", "action": "reset"}, "action"),
        ({"account": "nobody", "action": "enable"}, "account"),
        ({"account": "without", "action": "enable"}, "account"),
        ({"account": ["shop"], "action": "enable"}, "account"),
        ({"account": "shop", "action": "enable", "from": "2026-01-01T00:00:00Z"}, "from"),
        ({"account": "shop", "action": "replay", "from": "yesterday"}, "from"),
        ({"account": "shop", "action": "replay", "from": "2026-01-01T00:00:00"}, "from"),
        ({"account": "shop", "action": "replay", "from": "2999-01-01T00:00:00Z"}, "to"),
        ({"account": "shop", "action": "replay", "types": ["message.inbound"]}, "types"),
        ({"account": "shop", "action": "replay", "types": ["message.submitted"]}, "types"),
        ({"account": "shop", "action": "enable", "colour": "red"}, "colour"),
    ],
)
async def test_bodies_that_are_refused(admin: Admin, body: dict[str, Any], field: str) -> None:
    status, found = await admin.call("POST", body)
    assert (status, found["field"]) == (422, field)


async def test_changes_are_audited_and_looks_are_not(admin: Admin, store: Store) -> None:
    change = {"kind": "gate", "name": "spring", "state": "hold"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session:
        for method, body in (("HEAD", change), ("HEAD", None), ("PUT", {**change, "state": "shut"}), ("PUT", change)):
            url = f"{admin.base}/admin/v1/gates"
            async with session.request(method, url, json=body, headers=headers) as answer:
                assert answer.status == (422 if body and body["state"] == "shut" else 200)
    assert (await admin.post("disable"))[0] == 200
    assert (await admin.post("explode"))[0] == 422
    await admin.entry()
    noted = [(one.action, one.object, one.after) for one in await Audit(store).read()]
    assert noted == [("webhook", "shop", "disable"), ("gate.set", "gate:spring", "hold")]


async def test_the_command_line(admin: Admin, store: Store) -> None:
    await push_many(store, 2)
    code, out, err = await smsgw(admin.config, "webhooks", "list")
    assert (code, err) == (0, "")
    assert "shop (127.0.0.1): enabled; 2 events to deliver" in out
    code, out, _ = await smsgw(admin.config, "webhooks", "disable", "shop", "--json")
    assert (code, json.loads(out)["state"]) == (0, "disabled")
    code, out, _ = await smsgw(admin.config, "webhooks", "replay", "shop", "--from", "2026-01-01T00:00:00Z")
    assert code == 0
    assert "replay running" in out
    code, out, err = await smsgw(admin.config, "webhooks", "replay", "shop")
    assert code == 4
    assert "not done yet" in err
    code, out, _ = await smsgw(admin.config, "webhooks", "test", "shop")
    assert (code, "delivered (status 204)" in out) == (0, True)
