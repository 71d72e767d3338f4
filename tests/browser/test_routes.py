"""Routes and the explain tool in a real browser: channels with their states, and every step of one message in words."""

from __future__ import annotations

from tests.support.console import BROWSER, Console, World, expect
from tests.support.gateway import ADMIN_TOKEN

pytestmark = BROWSER

SLOW_MS = 20_000
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def test_routes_show_their_channels_as_they_are(console: Console) -> None:
    await console.open("routes")
    page = console.page
    routes = page.locator(".route")
    await expect(routes).to_have_count(2)
    await expect(routes.first).to_contain_text("to China (CN)")
    await expect(routes.first.locator(".ranked li").first).to_contain_text("cm-a", timeout=SLOW_MS)
    channels = f"{console.origin}/admin/v1/channels"
    assert (await page.context.request.put(channels, data={"id": "cm-a", "action": "pause"}, headers=BEARER)).ok
    await expect(routes.first).to_contain_text("paused", timeout=SLOW_MS)
    await expect(routes.first).to_contain_text("1 of 2 channels can submit")
    assert (await page.context.request.put(channels, data={"id": "cm-a", "action": "resume"}, headers=BEARER)).ok
    await expect(routes.first).not_to_contain_text("paused", timeout=SLOW_MS)
    await routes.first.get_by_role("link", name="cn", exact=True).click()
    await console.shown("routes")
    await expect(page.get_by_role("table", name="Channels by rank")).to_contain_text("backup 1")
    await console.open("routes", "nowhere")
    await expect(page.get_by_text("There is no route “nowhere”.")).to_be_visible()


async def test_a_number_is_explained_step_by_step(console: Console, world: World) -> None:
    await console.open("routes")
    page = console.page
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    await page.get_by_role("textbox", name="Number").fill("13800000201")
    await page.get_by_role("textbox", name="Country").fill("cn")
    await page.get_by_role("combobox", name="Category").select_option("notification")
    await page.get_by_role("combobox", name="Account").select_option("shop")
    await page.get_by_role("button", name="Explain").click()
    await expect(page.locator(".verdict")).to_contain_text("It would be sent now, by cm-a")
    steps = page.locator(".trail > li")
    number = steps.filter(has_text="Number").first
    await expect(number).to_contain_text("+8613800000201, China (CN)")
    for text in ("On none of the lists", "cn · The first that matches", "No gate of the account", "takes it"):
        await expect(page.locator(".trail")).to_contain_text(text)
    await expect(page.locator(".takers li").nth(1)).to_contain_text("in reserve: an earlier rank can submit")
    assert not [one for one in addresses if "3800000201" in one], "a number in an address"
    assert "3800000201" not in page.url

    # What refuses it is named, and the carrier's state is the live one.
    body = {"number": "+8613800000201", "scope": "shop", "categories": ["notification"], "reason": "complaint"}
    assert (await page.context.request.put(f"{console.origin}/admin/v1/blacklist", data=body, headers=BEARER)).ok
    await page.get_by_role("button", name="Explain").click()
    verdict = page.locator(".verdict.bad")
    await expect(verdict).to_contain_text("It would be refused: On the list of account shop: complaint.")
    await expect(page.locator(".step.bad")).to_have_count(1)
    gone = {"number": "+8613800000201", "scope": "shop"}
    assert (await page.context.request.delete(f"{console.origin}/admin/v1/blacklist", data=gone, headers=BEARER)).ok


async def test_problems_stand_at_their_fields(chinese: Console) -> None:
    await chinese.open("routes")
    page = chinese.page
    number = page.get_by_role("textbox", name="号码")
    await page.get_by_role("button", name="解释", exact=True).click()
    await expect(number).to_have_attribute("aria-invalid", "true")
    await expect(number).to_be_focused()
    await number.fill("+8612")
    await page.keyboard.press("Enter")
    await expect(page.locator(".verdict")).to_contain_text("会被拒绝：这不是可发送的号码。")
    await expect(page.locator(".step.bad")).to_contain_text("号码")
