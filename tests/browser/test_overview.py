"""The overview in a real browser: what is wrong appears with its cause and its button and goes again by itself, figures
move under load without a reload, what stands there stays the same node, and 100 channels are shown at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from gateway.admin.figures import COLUMNS
from tests.support.console import BROWSER, Console, World, expect
from tests.support.gateway import ADMIN_TOKEN
from tests.support.until import until

pytestmark = BROWSER

SLOW_MS = 20_000
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def put(console: Console, path: str, body: dict[str, str]) -> None:
    """Change something over the API, as somebody else would."""
    answer = await console.page.context.request.put(f"{console.origin}{path}", data=body, headers=BEARER)
    assert answer.ok, await answer.text()


async def test_all_is_well_and_the_figures_move(console: Console, world: World) -> None:
    await console.open("overview")
    page = console.page
    await expect(page.locator(".well")).to_contain_text("3 of 3 channels up", timeout=SLOW_MS)
    await expect(page.locator(".channel-grid a")).to_have_count(3)
    accepted = page.locator(".tile", has_text="Accepted").locator(".tile-value")
    # The same nodes are told the news: nothing that is read or focused is taken away.
    await page.evaluate("() => { window.kept = [...document.querySelectorAll('.tile, .channel-grid a, .chart svg')]; }")
    chart = page.get_by_role("slider", name=re.compile("Messages a second"))
    await chart.focus()
    sent = await asyncio.gather(*(world.send(f"+861380000{i:04d}") for i in range(30)))
    await expect(accepted).to_have_text(re.compile(r"[1-9]"), timeout=SLOW_MS)
    for id_ in sent:
        await world.until_state(id_, "delivered")
    await expect(chart).to_be_focused()
    assert await page.evaluate("() => window.kept.every((node) => node.isConnected)")
    await page.keyboard.press("End")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile(r"verification .*notification .*marketing "))
    await page.get_by_role("button", name=re.compile("Show as a table.*Messages a second")).click()
    table = page.get_by_role("table", name=re.compile("Messages a second by category, as of"))
    await expect(table.get_by_role("columnheader", name="notification")).to_be_visible()


async def test_a_paused_channel_is_resumed_by_its_button(console: Console, world: World) -> None:
    page = console.page
    await console.open("overview")
    await put(console, "/admin/v1/channels", {"id": "cm-b", "action": "pause"})
    card = page.locator(".problem", has_text="cm-b")
    await expect(card).to_contain_text("An operator paused it", timeout=SLOW_MS)
    await expect(page.locator(".channel-grid li").first).to_contain_text("paused")
    button = card.get_by_role("button", name="Resume cm-b")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("cm-b is back in service.")).to_be_visible()
    await expect(card).to_have_count(0, timeout=SLOW_MS)
    changes = page.locator(".changes")
    await expect(changes).to_contain_text("anna told the channel cm-b resume", timeout=SLOW_MS)
    await expect(changes).to_contain_text("cm-b pause")


async def test_a_viewer_is_told_why_a_button_is_off(consoles: Any, world: World) -> None:
    admin, viewer = await consoles(), await consoles(role="viewer")
    await admin.open("overview")
    await put(admin, "/admin/v1/channels", {"id": "cm-b", "action": "drain"})
    await viewer.open("overview")
    card = viewer.page.locator(".problem", has_text="cm-b")
    await expect(card.get_by_role("button", name="Resume cm-b")).to_be_disabled(timeout=SLOW_MS)
    await expect(card).to_contain_text("This is for the role operator.")
    await put(admin, "/admin/v1/channels", {"id": "cm-b", "action": "resume"})


async def test_a_carrier_that_dies_is_a_problem_with_its_cause(
    console: Console, chinese: Console, world: World
) -> None:
    carrier = world.carriers["hk-a"]
    await console.open("overview")
    await chinese.open("overview")
    page = console.page
    await carrier.stop_listening()
    carrier.drop_sessions()
    try:
        critical = page.locator(".problem.bad", has_text="A route has no channel")
        await expect(critical).to_contain_text("hk", timeout=SLOW_MS)
        card = page.locator(".problem", has_text="A channel is down")
        await expect(card).to_contain_text("The carrier's host refuses the connection.", timeout=SLOW_MS)
        await expect(card).to_contain_text(re.compile(r"0 of \d sessions"))
        await expect(card.locator("time").first).to_be_visible()
        await expect(page.locator(".problem").first).to_contain_text("Critical")
        await expect(page.locator("a.alarm")).to_contain_text(re.compile(r"[1-9]"))
        await expect(chinese.page.locator(".problem", has_text="通道中断")).to_contain_text("运营商主机拒绝连接")
        await card.get_by_role("link", name="Open the channel").click()
        await console.shown("channels")
        await expect(page.get_by_role("heading", level=1)).to_have_text("hk-a")
        await page.go_back()
        await console.shown("overview")
    finally:
        await carrier.start()
    await expect(page.locator(".problem.bad")).to_have_count(0, timeout=SLOW_MS)
    await expect(page.locator(".changes")).to_contain_text("hk-a is up again", timeout=SLOW_MS)
    await expect(page.locator(".changes")).to_contain_text("hk-a went down")


async def test_a_gate_is_opened_after_a_question(console: Console, world: World) -> None:
    page = console.page
    await console.open("overview")
    await put(console, "/admin/v1/gates", {"kind": "campaign", "name": "spring", "state": "hold"})
    held = await world.send(origin={"campaign": "spring"})
    card = page.locator(".problem", has_text="campaign:spring")
    await expect(card).to_contain_text("1 messages wait behind it", timeout=SLOW_MS)
    await card.get_by_role("button", name="Open the gate").click()
    question = page.get_by_role("dialog")
    await expect(question).to_contain_text("1 message that it holds leaves at once")
    await page.keyboard.press("Escape")
    await expect(question).to_have_count(0)
    assert (await world.message(held))["state"] == "queued"
    await card.get_by_role("button", name="Open the gate").click()
    await question.get_by_role("button", name="Open the gate").click()
    await expect(page.get_by_text("The gate campaign:spring is open.")).to_be_visible()
    await world.until_state(held, "delivered")


def hundred_channels(overview: dict[str, Any]) -> dict[str, Any]:
    """The same overview with 100 channels, ten of them down, and a full quarter of an hour behind it."""
    one = overview["channels"][0]
    states = ["down" if i % 10 == 3 else "up" for i in range(100)]
    down = {"kind": "refused", "detail": ""}
    channels = [
        one | {"id": f"channel-{i:03d}", "state": state, "cause": down if state == "down" else None}
        for i, state in enumerate(states)
    ]
    problems = [
        {
            "id": f"channel_down:{c['id']}", "severity": "warning", "kind": "channel_down",
            "object": {"type": "channel", "id": c["id"]}, "since_ms": overview["at_ms"] - 60_000,
            "facts": {"cause": "refused", "detail": "", "sessions": 0, "binds": 2}, "action": None,
            "alert": "SmsgwChannelDown", "runbook": "docs/operations.md#smsgwchanneldown", "here": False,
        }
        for c in channels if c["state"] == "down"
    ]  # fmt: skip
    row = [1.0] * (len(COLUMNS) - 1)
    points = [[overview["at_ms"] - (180 - i) * 5000, *row] for i in range(180)]
    history = overview["history"] | {"points": points}
    return overview | {"channels": channels, "problems": problems, "history": history}


async def test_a_hundred_channels_are_shown_at_once(console: Console) -> None:
    page = console.page
    real = await page.context.request.get(f"{console.origin}/admin/v1/overview")
    body = json.dumps(hundred_channels(await real.json()))

    async def hundred(route: Any) -> None:
        await route.fulfill(body=body, content_type="application/json")

    async def told_live(route: Any) -> None:
        event = f"retry: 60000\n\nevent: overview\ndata: {body}\n\n"
        await route.fulfill(body=event, content_type="text/event-stream")

    await page.route("**/admin/v1/overview", hundred)
    await page.route("**/admin/v1/events?*", told_live)
    await console.open("profile")
    # Its own time, without the network's: what is asked is there at once.
    took = await page.evaluate(
        """async (told) => {
          const { show } = await import("/console/static/pages/overview.js");
          const { translator } = await import("/console/static/lib/words.js");
          const main = document.querySelector("main"), real = window.fetch, took = [];
          window.fetch = async (path, options) =>
            String(path).includes("/overview") ? new Response(told) : real(path, options);
          for (let i = 0; i < 5; i += 1) {
            const over = new AbortController(), began = performance.now();
            const query = new URLSearchParams();
            await show({ main, params: [], query, signal: over.signal, go() {}, t: translator() });
            main.getBoundingClientRect();
            took.push(performance.now() - began);
            over.abort();
          }
          window.fetch = real;
          return took;
        }""",
        body,
    )
    assert min(took) < 200, took
    await console.open("overview")
    await expect(page.locator(".channel-grid a")).to_have_count(100)
    await expect(page.locator(".channel-grid a").nth(9)).to_contain_text("channel-093")  # those in trouble stand first
    await expect(page.locator(".problem")).to_have_count(8)
    await page.get_by_role("button", name="Show 2 more").click()
    await expect(page.locator(".problem")).to_have_count(10)
    await until(lambda: page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"))
