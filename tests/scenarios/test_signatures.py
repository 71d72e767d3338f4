"""A signature that only one channel of a route carries: never by another, not in failover nor after a change of lists.

It waits for its channel instead, while the rest of the traffic goes on by the backup.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.dispatch import outcome, timers
from gateway.routing.loader import build_router
from gateway.routing.table import RouteTable
from gateway.settings import Settings, SignatureSettings
from gateway.simulator.ledger import Submit
from gateway.simulator.smsc import Smsc
from gateway.store.records import pack_body, pack_content
from gateway.store.store import Store
from tests.support.gateway import GatewayProcess
from tests.support.inbound import messages
from tests.support.line import Worker, channel_to, line_settings, worker
from tests.support.messages import body, message
from tests.support.scenario import accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer

A, B = "【Acme】hello", "hello【Bank】"
PRIMARY = (
    'access_number = "10690000"\nsignatures = { "Acme" = "01", "Bank" = { extension = "02", mo_account = "shop" } }\n'
)
BACKUP_BOTH = 'access_number = "10691111"\nsignatures = { "Acme" = "1", "Bank" = "2" }\n'
BACKUP_ONE = 'access_number = "10691111"\nsignatures = { "Acme" = "1" }\n'


def sent(smsc: Smsc) -> list[tuple[str, str]]:
    """Return (source address, text) of what a carrier saw."""
    return sorted((row.source, text_of(row)) for row in smsc.ledger.submits)


def text_of(row: Submit) -> str:
    return row.short_message.decode("utf-16-be")


class Gateway(GatewayProcess):
    """`smsgw run` on two channels of its own configuration each, a before b."""

    def lists(self, a: str, b: str) -> None:
        """Write what the channels list."""
        path = self.config_dir / "channels.toml"
        tables = re.split(r"(?=\[\[channel\]\])", path.read_text())
        kept = [re.sub(r"(?m)^(access_number|signatures) = .*\n", "", table) for table in tables if "id = " in table]
        path.write_text("".join(table + lines for table, lines in zip(kept, (a, b), strict=True)))

    async def send(self, *texts: str) -> list[tuple[int, dict[str, Any]]]:
        return [
            await self.post({"to": f"+86138{i:08d}", "category": "notification", "text": text})
            for i, text in enumerate(texts)
        ]

    async def shown(self, answers: list[tuple[int, dict[str, Any]]]) -> list[str]:
        return [(await self.get(f"/v1/messages/{body['id']}"))[1]["state"] for _, body in answers]


async def test_a_message_waits_for_the_channel_that_carries_its_signature(tmp_path: Path) -> None:
    async with carrier() as primary, carrier() as backup:
        for one in (primary, backup):
            await one.stop_listening()
        gateway = Gateway(tmp_path, {"a": primary.port, "b": backup.port})
        gateway.lists(PRIMARY, BACKUP_BOTH)
        async with gateway:
            # Both are down, and both carry both: each message may go to either.
            before = await gateway.send(*[A, B] * 20)
            assert {(status, body.get("route")) for status, body in before} == {(202, "cn")}
            refused = await gateway.send("【Other】hello", "hello")
            assert [(status, body["code"]) for status, body in refused] == [
                (422, "signature_not_registered"),
                (422, "missing_signature"),
            ]

            # Bank's registration ends on the backup, which comes up; the primary stays down.
            assert await gateway.terminate() == 0
            gateway.lists(PRIMARY, BACKUP_ONE)
            await backup.start()
            await gateway.start()
            during = await gateway.send(*[A, B] * 20)
            answers = before + during
            await until(lambda: len(backup.ledger.submits) == 40, timeout_s=30)
            await until(lambda: gateway_waits(gateway, 40), timeout_s=10)
            assert sent(backup) == [("106911111", A)] * 40
            assert await gateway.shown(answers[1::2]) == ["queued"] * 40
            assert primary.ledger.submits == []

            _, text = await gateway.admin("GET", "/metrics")
            assert 'route="cn"' in text
            assert "cn~" not in text
            _, found = await gateway.admin("GET", "/admin/v1/explain?to=%2B8613800138000&category=notification"
                                                  "&account=shop&signature=Bank")  # fmt: skip
            assert found["verdict"] == "accepted, and waits: channels"
            assert [(c["id"], c["carries"], c["source_addr"]) for c in found["channels"]] == [
                ("a", True, "1069000002"),
                ("b", False, None),
            ]

            await primary.start()
            await until(lambda: len(primary.ledger.submits) == 40, timeout_s=30)
            assert sent(primary) == [("1069000002", B)] * 40
            await until(lambda: gateway_waits(gateway, 0), timeout_s=10)
            assert len(backup.ledger.submits) == 40


async def gateway_waits(gateway: GatewayProcess, n: int) -> bool:
    return await gateway.metric("smsgw_queue_depth", route="cn", category="notification") == n


def settings_of(primary: Smsc, backup: Smsc, *backups: str, **more: Any) -> Settings:
    """Channel a carries Acme and Bank, b what `backups` names; both of one rank where `ranks` says so."""
    listed = {"a": ("Acme", "Bank"), "b": backups}
    channels = [
        channel_to(
            smsc,
            name,
            access_number="10690000",
            signatures=tuple(SignatureSettings(one, str(i), "shop") for i, one in enumerate(listed[name], 1)),
        )
        for name, smsc in (("a", primary), ("b", backup))
    ]
    return line_settings(channels, **more)


def lane_of(settings: Settings, signature: str) -> str:
    table = RouteTable(settings.routes, settings.channels)
    lane = table.lane(table.routes["r"], signature)
    assert lane is not None
    return lane.id


async def test_a_primary_that_goes_and_returns_takes_its_own_signatures_along(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = settings_of(primary, backup, "Acme")
        slow = (replace(settings.channels[0], max_tps=100), settings.channels[1])
        async with worker(replace(settings, channels=slow), valkey) as w:
            ms = [
                message(
                    w.store,
                    category=i // 2 % 3,
                    route=lane_of(settings, ("Acme", "Bank")[i % 2]),
                    body=body((A, B)[i % 2], "ucs2"),
                )
                for i in range(240)
            ]
            sids = await accepted(w.store, ms)
            await until(lambda: len(primary.ledger.submits) >= 40)
            await primary.stop_listening()
            primary.drop_sessions()
            acme, bank = [m.msisdn for m in ms[::2]], {m.msisdn for m in ms[1::2]}
            await until(lambda: set(acme) <= set(submits(primary)) | set(submits(backup)))
            await until(lambda: w.dispatcher.claims == 0)
            assert not bank & set(submits(backup))
            waiting = bank - set(submits(primary))
            assert waiting
            # Those of the primary's own signature wait for it; in flight at the cut means that some may go again.
            assert await w.store.waiting() >= len(waiting)
            await primary.start()
            await until(lambda: bank <= set(submits(primary)))
            await until(lambda: w.dispatcher.claims == 0)
            assert not bank & set(submits(backup))
            assert {row.source for row in backup.ledger.submits} == {"106900001"}
            found = [await record(w.store, sid) for sid in sids]
            assert {r.state for r in found} <= {"D", "s", "u"}


async def test_what_was_meant_for_a_channel_by_name_leaves_it_when_its_registration_ends(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is asked for no route, so the channel itself looks again before the wire."""
    monkeypatch.setattr(timers, "SWEEP_S", 0.1)
    monkeypatch.setattr(outcome, "AROUND_MS", ((50,), (50,), (50,)))
    async with carrier() as primary, carrier() as backup:
        before = settings_of(primary, backup, "Acme", "Bank", ranks=(0, 0))
        store = await Store.open(before, valkey.url, incarnation="worker01")
        lane = lane_of(before, "Bank")
        ms = [message(store, category=i % 3, route=lane, body=body(B, "ucs2")) for i in range(9)]
        sids = await accepted(store, ms)
        with valkey.sync() as client:  # as `settle` leaves those that the other channel of the rank refused
            for category in range(3):
                [queue] = client.keys(f"*:q:{lane}:0:{category}:shop")
                prefix = queue.decode().partition("q:")[0]
                client.rename(queue, f"{prefix}pin:b:{category}")
                client.delete(f"{prefix}ring:{lane}:0:{category}")
                client.srem(f"{prefix}rings", f"{lane}:0:{category}")
        after = settings_of(primary, backup, "Acme", ranks=(0, 0))
        w = Worker(after, store, router=build_router(after))
        await w.start()
        await end_as(store, sids, D=9)
        assert backup.ledger.submits == []
        assert sent(primary) == [("106900002", B)] * 9
        found = [await record(store, sid) for sid in sids]
        assert {r.route for r in found} == {lane_of(after, "Bank")}
        await w.stop()
        await store.close()


async def test_a_signature_that_nobody_carries_any_more_ends_as_no_route(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "SWEEP_S", 0.1)
    async with carrier() as primary, carrier() as backup:
        before = settings_of(primary, backup, "Acme", "Bank", "Club")
        store = await Store.open(before, valkey.url, incarnation="worker01")
        club, plain = lane_of(before, "Club"), "r"  # and what waited before the channels listed anything
        texts = ["【Club】x", "【Acme】x", "no signature", "【Club】x"]
        ms = [message(store, route=club if i == 0 else plain, body=body(text, "ucs2")) for i, text in enumerate(texts)]
        sids = await accepted(store, ms)
        after = settings_of(primary, backup, "Acme", "Bank")
        w = Worker(after, store, router=build_router(after))
        await w.start()
        await end_as(store, sids, D=1, F=3)
        assert [(await record(store, sid)).reason for sid in sids] == ["no_route", "", "no_route", "no_route"]
        assert [text for _, text in sent(primary) + sent(backup)] == ["【Acme】x"]
        assert await store.waiting() == 0
        await w.stop()
        await store.close()


async def test_lists_that_go_leave_nothing_behind(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: from lanes back to a route that takes everything."""
    monkeypatch.setattr(timers, "SWEEP_S", 0.1)
    async with carrier() as primary, carrier() as backup:
        before = settings_of(primary, backup, "Acme")
        store = await Store.open(before, valkey.url, incarnation="worker01")
        ms = [
            message(
                store, category=i % 3, route=lane_of(before, ("Acme", "Bank")[i % 2]), body=body((A, B)[i % 2], "ucs2")
            )
            for i in range(60)
        ]
        sids = await accepted(store, ms)
        plain = tuple(replace(c, signatures=(), access_number="") for c in before.channels)
        after = replace(before, channels=plain)
        w = Worker(after, store, router=build_router(after))
        await w.start()
        await end_as(store, sids, D=60)
        assert {(await record(store, sid)).route for sid in sids} == {"r"}
        assert {row.source for row in primary.ledger.submits} == {"1069"}
        await w.stop()
        await store.close()


async def test_a_reply_is_kept_with_its_account_and_signature(valkey: ValkeyServer) -> None:
    async with carrier() as primary, carrier() as backup:
        settings = settings_of(primary, backup, "Acme")
        store = await Store.open(settings, valkey.url, incarnation="worker01")
        asked = pack_body("ucs2", pack_content(B, carried=b'{"x":"77"}'))  # `ext`: digits of the application's
        [sid] = await accepted(store, [message(store, route=lane_of(settings, "Bank"), body=asked)])
        w = Worker(settings, store, router=build_router(settings))
        await w.start()
        await end_as(store, [sid], D=1)
        [submit] = primary.ledger.submits
        primary.send_mo(submit.destination, submit.source, b"TD")
        assert submit.source == "106900002" + "77"
        primary.send_mo(submit.destination, "106900002", b"TD")
        primary.send_mo(submit.destination, "1", b"TD")
        await until(lambda: primary.counters.mo_acked == 3)
        assert sorted((row["to"], row["account"], row["signature"]) for row in await messages(store)) == [
            ("1", "shop", ""),  # the number tells nothing, the latest message to the handset does
            ("106900002", "shop", "Bank"),
            ("10690000277", "shop", "Bank"),
        ]
        await w.stop()
        await store.close()
