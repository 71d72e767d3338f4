"""What the console is told agrees with what was sent, and says what is wrong within seconds, while it is wrong."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import MARKETING, NOTIFICATION, VERIFICATION, AuditedGateway
from tests.support.live import reading
from tests.support.scenario import carrier
from tests.support.until import until

SECONDS = 20


async def test_figures_problems_and_changes_of_a_running_gateway(tmp_path: Path) -> None:
    """One gateway for all of it: traffic, a carrier that goes, a pause, a gate, a reload, a worker that dies."""
    async with (
        carrier(receipt_delay_s=0.05) as primary,
        carrier() as backup,
        AuditedGateway(tmp_path, {"cm-a": primary.port, "cm-b": backup.port}) as gateway,
        reading(f"127.0.0.1:{gateway.admin_port}", headers=_TOKEN) as page,
    ):
        await until(lambda: page.last and all(c["state"] == "up" for c in page.last["channels"]), timeout_s=SECONDS)
        await _figures_are_what_was_sent(gateway, page)
        await _a_channel_that_goes_says_why(gateway, page, primary)
        await _what_operators_stop_can_be_started_where_it_is_shown(gateway, page)
        await _a_worker_that_dies_stands_in_the_changes(gateway)
        await _a_reload_ends_streams_and_the_next_has_the_new_settings(gateway, page, tmp_path)


async def _figures_are_what_was_sent(gateway: AuditedGateway, page: Any) -> None:
    sent = {VERIFICATION: 30, NOTIFICATION: 20, MARKETING: 10}
    await until(lambda: page.last["history"]["points"], timeout_s=SECONDS)
    before = page.last["history"]["points"][-1][0]
    for category, n in sent.items():
        bodies = [gateway.message(category) for _ in range(n)]
        assert all(a.status == 202 for a in await gateway.send_batch(bodies))
    await gateway.until_final()

    def summed(what: str) -> dict[str, float]:
        """Rates times their seconds are the messages again."""
        history = page.last["history"]
        points = history["points"]
        totals: dict[str, float] = {}
        for earlier, later in pairwise(points):
            if later[0] > before:
                for category in sent:
                    at = history["columns"].index(f"{category}.{what}")
                    totals[category] = totals.get(category, 0.0) + later[at] * (later[0] - earlier[0]) / 1000
        return {category: round(n) for category, n in totals.items()}

    await until(lambda: summed("delivered") == sent, timeout_s=SECONDS)
    assert summed("accepted") == summed("submitted") == sent
    await until(lambda: page.last["verification_wait"]["n"] == sent[VERIFICATION], timeout_s=SECONDS)
    assert 0 < page.last["verification_wait"]["p99_s"] < 5
    assert (page.last["queues"]["waiting"], page.last["problems"]) == (0, [])
    (one, _) = page.named("channels")[-1]["channels"]
    assert (one["sessions"], one["window_total"], one["routes"]) == (1, 50, [{"route": "cn", "rank": 0, "weight": 1}])
    assert (one["errors"]["submits"], one["errors"]["top"]) == (60, [])
    assert one["receipt_delay"]["n"] == 60

    async def counted() -> bool:
        # Statistics are of all machines, and read every ten seconds.
        _, overview = await gateway.admin("GET", "/admin/v1/overview")
        return bool(overview["delivery"]["total"]["delivered"] == 60)

    await until(counted, timeout_s=SECONDS, every_s=0.2)


async def _a_channel_that_goes_says_why(gateway: AuditedGateway, page: Any, primary: Any) -> None:
    port = primary.port
    await primary.stop_listening()
    primary.drop_sessions()
    found = await _problem(page, "channel_down", "cm-a", lambda p: p["facts"]["cause"] == "refused")
    assert abs(found["since_ms"] - time.time() * 1000) < 30_000
    assert (found["action"], found["alert"]) == (None, "SmsgwChannelDown")
    assert not [p for p in page.last["problems"] if p["kind"] == "route_without_channel"], "the backup takes it"
    _, listed = await gateway.admin("GET", "/admin/v1/channels")
    assert listed["channels"][0]["trouble"]["kind"] == "refused"
    assert primary.port == port
    await primary.start()
    await until(lambda: not _problems(page, "channel_down"), timeout_s=40)
    kinds = await _changes(gateway)
    assert [k for k in kinds if k[1] == "cm-a"][:2] == [("channel_up", "cm-a"), ("channel_down", "cm-a")]


async def _what_operators_stop_can_be_started_where_it_is_shown(gateway: AuditedGateway, page: Any) -> None:
    assert (await gateway.admin("PUT", "/admin/v1/channels", {"id": "cm-b", "action": "pause"}))[0] == 200
    paused = await _problem(page, "channel_paused", "cm-b")
    gate = {"kind": "category", "name": "verification", "state": "hold"}
    assert (await gateway.admin("PUT", "/admin/v1/gates", gate))[0] == 200
    held = await _problem(page, "gate_hold", "category:verification")
    assert held["severity"] == "warning", "codes are held"
    for problem in (paused, held):
        call = problem["action"]
        assert (await gateway.admin(call["method"], call["path"], call["body"]))[0] == 200
    await until(lambda: not page.last["problems"], timeout_s=SECONDS)
    changes = [c for c in await _changes(gateway) if c[0] == "operator"]
    assert ("operator", "cm-b") in changes
    assert ("operator", "category:verification") in changes


async def _a_worker_that_dies_stands_in_the_changes(gateway: AuditedGateway) -> None:
    (victim,) = gateway.workers("api")
    victim.kill()

    async def noted() -> bool:
        return ("worker_restarted", "api-0") in await _changes(gateway)

    await until(noted, timeout_s=SECONDS, every_s=0.1)


async def _a_reload_ends_streams_and_the_next_has_the_new_settings(
    gateway: AuditedGateway, page: Any, folder: Path
) -> None:
    routes = next(gateway.config_dir.glob("channels.toml"))
    text = routes.read_text(encoding="utf-8")
    routes.write_text(text.replace('id = "cm-b"', 'id = "cm-b"\nprice = 0.05', 1), encoding="utf-8")

    async def ready() -> bool:
        return not (await gateway.readyz())[1]

    await until(ready, timeout_s=SECONDS)
    status, answer = await gateway.admin("POST", "/admin/v1/config/reload", {})
    assert (status, answer["result"]) == (200, "applied")
    await until(lambda: page.ended, timeout_s=SECONDS)
    assert page.seen[-1][::2] == ("end", {"why": "reload"})
    async with reading(f"127.0.0.1:{gateway.admin_port}", headers=_TOKEN) as again:
        await until(lambda: again.named("channels"), timeout_s=SECONDS)
        assert again.named("channels")[0]["channels"][1]["price"] == 0.05
        assert await gateway.terminate() == 0
        await until(lambda: again.ended, timeout_s=SECONDS)
        assert again.seen[-1][::2] == ("end", {"why": "stopping"})


_TOKEN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def _problem(page: Any, kind: str, object_: str, so: Any = lambda problem: True) -> dict[str, Any]:
    """Wait until a problem is said, and return it."""
    found: list[dict[str, Any]] = []

    def said() -> bool:
        found[:] = [p for p in _problems(page, kind) if p["object"]["id"] == object_ and so(p)]
        return bool(found)

    await until(said, timeout_s=SECONDS)
    return found[0]


def _problems(page: Any, kind: str) -> list[dict[str, Any]]:
    return [p for p in page.last["problems"] if p["kind"] == kind]


async def _changes(gateway: AuditedGateway) -> list[tuple[str, str]]:
    status, found = await gateway.admin("GET", "/admin/v1/changes")
    assert status == 200
    await asyncio.sleep(0)
    return [(c["kind"], c["object"]) for c in found["changes"]]
