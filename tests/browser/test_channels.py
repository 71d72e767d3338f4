"""Channels in a real browser: the list, one channel, and one paused by keys alone while its backup takes over."""

from __future__ import annotations

import re
from typing import Any

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

SLOW_MS = 20_000


async def test_the_list_is_sorted_and_filtered(console: Console) -> None:
    await console.open("channels")
    page = console.page
    rows = page.locator(".channels-table tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("up", timeout=SLOW_MS)
    header = page.get_by_role("columnheader", name="Channel")
    await header.get_by_role("button").click()
    await expect(header).to_have_attribute("aria-sort", "ascending")
    await header.get_by_role("button").click()
    await expect(rows.first).to_contain_text("hk-a")
    await page.get_by_role("searchbox", name="Filter").fill("hk")
    await expect(rows).to_have_count(1)
    await expect(page.get_by_text("1 of 3 channels")).to_be_visible()
    await page.get_by_role("searchbox", name="Filter").fill("")
    await page.get_by_role("combobox", name="State").select_option("trouble")
    await expect(page.get_by_text("No channel is like that.")).to_be_visible()
    await page.get_by_role("combobox", name="State").select_option("")


async def press_until(console: Console, selector: str) -> None:
    """Go on with Tab until the focus is on what is meant."""
    for _ in range(80):
        await console.page.keyboard.press("Tab")
        if await console.page.evaluate("what => document.activeElement.matches(what)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


async def test_a_channel_is_paused_by_keys_alone_and_the_backup_takes_over(console: Console, world: World) -> None:
    await console.open("channels")
    page = console.page
    await expect(page.locator("a[href='#/channels/cm-a']")).to_be_visible()
    await press_until(console, "a[href='#/channels/cm-a']")
    await page.keyboard.press("Enter")
    await console.shown("channels")
    await expect(page.get_by_role("heading", level=1)).to_have_text("cm-a")
    first = await world.send("+8613800000101")
    await world.until_state(first, "delivered")
    before = {name: len(one.ledger.submits) for name, one in world.carriers.items()}

    await press_until(console, "#do-pause")
    await page.keyboard.press("Enter")
    question = page.get_by_role("dialog", name="Pause cm-a?")
    await expect(question).to_contain_text("Its sessions stay bound")
    await expect(question).to_contain_text("Route cn: cm-b takes over")
    await press_until(console, "dialog button.main")
    await page.keyboard.press("Enter")
    await expect(page.locator(".channel-title .badge")).to_contain_text("paused")
    await expect(page.locator("#do-resume")).to_be_focused()
    await expect(page.get_by_text("cm-a is paused.")).to_be_visible()

    def submits(name: str) -> int:
        return len(world.carriers[name].ledger.submits)

    async def taken_over() -> bool:
        await world.until_state(await world.send("+8613800000102"), "delivered")
        return submits("cm-b") > before["cm-b"]

    await until(taken_over, timeout_s=20, every_s=0.1)  # a worker hears of it within a second
    by_then = submits("cm-a")
    for number in range(5):
        await world.until_state(await world.send(f"+86138000002{number:02d}"), "delivered")
    assert submits("cm-a") == by_then

    await page.keyboard.press("Enter")  # resume needs no question
    await expect(page.locator(".channel-title .badge")).to_contain_text("up", timeout=SLOW_MS)

    async def back() -> bool:
        await world.until_state(await world.send("+8613800000103"), "delivered")
        return submits("cm-a") > by_then

    await until(back, timeout_s=20, every_s=0.2)


async def test_pausing_the_only_channel_of_a_route_warns(console: Console) -> None:
    await console.open("channels", "hk-a")
    page = console.page
    await expect(page.locator(".channel-title .badge")).to_contain_text("up", timeout=SLOW_MS)
    await page.get_by_role("button", name="Drain").click()
    question = page.get_by_role("dialog")
    await expect(question).to_contain_text("Route hk: nobody takes over.")
    await expect(question.get_by_role("button", name="Drain")).to_have_class(re.compile("danger"))
    await page.keyboard.press("Escape")
    await expect(page.locator(".channel-title .badge")).to_contain_text("up")


async def test_one_channel_has_everything_and_a_viewer_may_look_only(consoles: Any, world: World) -> None:
    viewer = await consoles(role="viewer", language="zh")
    await viewer.open("channels", "cm-b")
    page = viewer.page
    await expect(page.locator("#do-pause")).to_be_disabled()
    await expect(page.get_by_text("此操作需要“操作员”角色。")).to_be_visible()
    await expect(page.locator("main")).to_contain_text(f"127.0.0.1:{world.carriers['cm-b'].port}")
    await expect(page.get_by_role("table", name="使用它的路由")).to_contain_text("备用 1")
    await expect(page.get_by_role("table", name="使用它的路由")).to_contain_text("cm-a")
    await viewer.open("channels", "nothing<b>")
    await expect(page.get_by_text("没有通道“nothing<b>”。")).to_be_visible()
