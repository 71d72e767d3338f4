"""Send windows: what comes too early leaves after the opening, spread; what the closing meets in a queue waits.

The first tests run a worker in this process with windows of their own; the last a whole gateway, to whose clock a
recipient at whose place it is 23 o'clock can be found at any time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from gateway.model import NewMessage, State
from gateway.store.records import pack_body, pack_content
from gateway.store.store import Store
from tests.support.gateway import GatewayProcess
from tests.support.line import channel_to, line_settings, worker
from tests.support.messages import message
from tests.support.scenario import MARKETING, VERIFICATION, accepted, carrier, end_as, record, submits
from tests.support.until import until
from tests.support.valkey import ValkeyServer


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def window_in(hours: int) -> str:
    """Return two hours of UTC that begin on the hour, `hours` ahead."""
    opens = (datetime.now(UTC) + timedelta(hours=hours)).hour
    return f"{opens:02}:00-{(opens + 2) % 24:02}:00"


def with_window(store: Store, window: str, **changes: Any) -> NewMessage:
    carried = orjson.dumps({"w": window, "z": "Etc/UTC"})
    return message(store, body=pack_body("gsm7", pack_content("hello", "", carried)), **changes)


async def _all_due(store: Store, sids: list[bytes]) -> bool:
    return all([(await record(store, sid)).send_at_ms > now_ms() for sid in sids])


async def test_what_waited_leaves_after_the_opening_spread_over_time(valkey: ValkeyServer) -> None:
    async with carrier() as one, worker(line_settings([channel_to(one, "a")]), valkey) as w:
        opens, spread = now_ms() + 700, 1_500
        shared = {"category": MARKETING, "state": State.DEFERRED, "send_at_ms": opens, "spread_ms": spread, "caps": ""}
        sids = await accepted(w.store, [message(w.store, **shared) for _ in range(60)])
        await end_as(w.store, sids, f=60)
        assert not one.ledger.submits
        await end_as(w.store, sids, D=60)
        times = [row.at_ms - opens for row in one.ledger.submits]
        assert min(times) >= 0
        assert max(times) < spread + 1_000
        thirds = {time_ms * 3 // spread for time_ms in times if time_ms < spread}
        assert thirds == {0, 1, 2}
        assert max(submits(one).values()) == 1


async def test_what_the_closing_meets_in_the_queue_waits_for_the_next_opening(valkey: ValkeyServer) -> None:
    async with carrier() as one, worker(line_settings([channel_to(one, "a")]), valkey) as w:
        await one.stop_listening()
        one.drop_sessions()
        await until(lambda: not w.dispatcher.channels["a"].up)
        closes = now_ms() + 400
        window = window_in(4)
        shared = {"category": MARKETING, "ttl_ms": 172_800_000, "window_until_ms": closes, "caps": ""}
        late = await accepted(w.store, [with_window(w.store, window, **shared) for _ in range(20)])
        codes = await accepted(w.store, [message(w.store, category=VERIFICATION, window_until_ms=0) for _ in range(5)])
        await until(lambda: now_ms() > closes)
        await one.start()  # the carrier is back when the window has closed
        await end_as(w.store, codes, D=5)
        await end_as(w.store, late, f=20)
        assert len(one.ledger.submits) == 5
        # The claim keeps them back; a moment later the rules say until when.
        await until(lambda: _all_due(w.store, late))
        opening = None
        for sid in late:
            due = datetime.fromtimestamp((await record(w.store, sid)).send_at_ms / 1000, UTC)
            opening = opening or due.replace(minute=0, second=0, microsecond=0)
            assert f"{opening:%H:%M}" == window[:5]
            assert opening > datetime.now(UTC)
            assert timedelta(0) <= due - opening < timedelta(minutes=30)
        assert len({(await record(w.store, sid)).send_at_ms for sid in late}) > 1


async def test_posted_at_23_00_of_the_recipient_it_waits_for_the_morning(tmp_path: Path) -> None:
    async with carrier() as one, GatewayProcess(tmp_path, {"cm-a": one.port}) as gateway:
        now = datetime.now(UTC)
        ahead = (23 - now.hour + 12) % 24 - 12  # of UTC, where it is 23 o'clock; POSIX names count westwards
        asked = {
            "to": "+8613800000001", "category": "notification", "text": "Hello",
            "zone": f"Etc/GMT{-ahead:+d}" if ahead else "Etc/UTC", "local_window": "08:00-20:00",
        }  # fmt: skip
        status, body = await gateway.post(asked)
        assert (status, body["state"]) == (202, "deferred")
        _, shown = await gateway.get(f"/v1/messages/{body['id']}")
        assert (shown["zone"], shown["local_window"]) == (asked["zone"], "08:00-20:00")
        leaves = datetime.fromisoformat(shown["send_at"]) + timedelta(hours=ahead)
        assert (leaves.hour, leaves.minute < 30) == (8, True)
        assert timedelta(hours=8) < leaves - timedelta(hours=ahead) - now < timedelta(hours=9.5)
        assert datetime.fromisoformat(body["expires_at"]) > datetime.fromisoformat(shown["send_at"])
        # One whose window is open, and a code, leave at once.
        around = f"{(now.hour - 1) % 24:02}:00-{(now.hour + 2) % 24:02}:00"
        _, opened = await gateway.post({**asked, "to": "+8613800000002", "zone": "Etc/UTC", "local_window": around})
        _, code = await gateway.post({"to": "+8613800000003", "category": "verification", "text": "123456"})
        assert (opened["state"], code["state"]) == ("queued", "queued")
        await until(lambda: one.counters.submits == 2)
        assert sorted(submits(one)) == ["8613800000002", "8613800000003"]
        _, still = await gateway.get(f"/v1/messages/{body['id']}")
        assert still["state"] == "deferred"
