"""Webhooks in a browser: a test call, what is wrong since when, disable and enable, a replay to a real sink."""

from __future__ import annotations

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER


async def test_events_are_replayed_to_their_application(world: World, console: Console) -> None:
    id_ = await world.send("+8613871946205")
    await world.until_state(id_, "delivered")

    async def told() -> bool:
        return len(world.sink.calls) > 0

    await until(told)
    (event,) = world.sink.ids
    await console.open("webhooks")
    page = console.page
    card = page.locator("#hook-shop")
    await expect(card).to_contain_text("enabled")
    await page.locator("#replay-shop").click()
    asked = page.get_by_role("dialog", name="Replay events of shop")
    await asked.get_by_label("corrected").check()
    await asked.get_by_label("delivered").check()
    await asked.get_by_role("button", name="Begin replay").click()
    await expect(page.locator("#replay-state-shop")).to_contain_text("replay done")
    await expect(page.locator("#replay-state-shop")).to_contain_text("1 events")

    async def again() -> bool:
        return world.sink.ids == [event, event]

    await until(again)


async def test_a_test_call_says_what_came_back(world: World, console: Console) -> None:
    await console.open("webhooks", "shop")
    page = console.page
    before = len(world.sink.calls)
    await page.locator("#test-shop").click()
    await expect(page.locator("#tested-shop")).to_contain_text("Test call: delivered (status 204")
    assert world.sink.calls[before].body["type"] == "webhook.test"
    world.sink.respond = 500
    try:
        await page.locator("#test-shop").click()
        await expect(page.locator("#tested-shop")).to_contain_text("Test call: it answered 5xx (status 500")
    finally:
        world.sink.respond = 204


async def test_a_disabled_one_says_so_and_delivers_when_it_is_enabled(world: World, console: Console) -> None:
    await console.open("webhooks")
    page, card = console.page, console.page.locator("#hook-shop")
    await page.locator("#disable-shop").click()
    await page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    await expect(card).to_contain_text("Disabled by an operator since")
    before = len(world.sink.ids)
    id_ = await world.send("+8613871946206")
    await world.until_state(id_, "delivered")
    await expect(card.locator(".facts")).to_contain_text("Oldest")  # read again by itself
    assert len(world.sink.ids) == before
    await page.locator("#enable-shop").click()
    await page.get_by_role("dialog").get_by_role("button", name="Enable").click()
    await expect(card).not_to_contain_text("Disabled by")

    async def delivered() -> bool:
        return len(world.sink.ids) > before

    await until(delivered)


async def test_a_viewer_has_no_buttons_and_a_stranger_no_webhook(consoles: object, world: World) -> None:
    viewer: Console = await consoles(role="viewer")  # type: ignore[operator]
    await viewer.open("webhooks")
    await expect(viewer.page.locator("#hook-shop")).to_contain_text("This is for the role operator.")
    await expect(viewer.page.locator("#hook-shop button")).to_have_count(0)
    await viewer.open("webhooks", "bank")
    await expect(viewer.page.get_by_text("The account bank has no webhook.")).to_be_visible()
