"""Accounts in a browser: a new key works once its line stands in accounts.toml; a test message arrives; usage."""

from __future__ import annotations

import re

import aiohttp

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

BODY = {"to": "+8613871946205", "text": "hello", "category": "notification"}


async def _send(world: World, key: str) -> int:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.post(f"http://127.0.0.1:{world.gateway.api_port}/v1/messages", json=BODY) as answer,
    ):
        return answer.status


async def test_a_new_key_works_after_its_line_is_reloaded(world: World, console: Console) -> None:
    await console.open("accounts")
    page = console.page
    await page.get_by_role("link", name="bank", exact=True).click()
    await console.shown("accounts")
    await page.locator("#new-key").click()
    await page.get_by_role("dialog").get_by_role("button", name="New key").click()
    made = page.get_by_role("dialog", name="A new key for bank")
    key, line = await made.locator("#made-key").inner_text(), await made.locator("#made-line").inner_text()
    assert key.startswith("sg_live_")
    await page.mouse.click(5, 5)  # beside it: what is shown once stays
    await expect(made).to_be_visible()
    await made.get_by_role("button", name="I have copied both").click()
    await expect(made).to_have_count(0)
    assert key not in await page.content()
    assert await _send(world, key) == 401
    accounts = world.gateway.config_dir / "accounts.toml"
    before, bank = accounts.read_text().split('id = "bank"\n')
    accounts.write_text(before + 'id = "bank"\n' + re.sub(r"key_hashes = .*", lambda _: line, bank, count=1))
    status, told = await world.gateway.admin("POST", "/admin/v1/config/reload", {})
    assert status == 200, told

    async def works() -> bool:  # each worker takes a revision within a second of its being in force
        return await _send(world, key) == 202

    await until(works, every_s=0.25)
    assert await _send(world, world.gateway.bank_key) == 202, "the old one goes on working"

    async def used() -> bool:
        (bank,) = (await world.gateway.admin("GET", "/admin/v1/accounts?account=bank"))[1]["accounts"]
        return [k["id"] for k in bank["key_list"]] != [None, None]

    await until(used, every_s=0.2)
    await page.get_by_role("button", name="Read again").click()
    await expect(page.get_by_role("region", name="Keys")).to_contain_text("sg_live_")
    await expect(page.get_by_role("region", name="Today's usage")).to_contain_text("2 of 100,000")
    await expect(page.get_by_role("region", name="Today's usage")).to_contain_text("998 more are reserved")


async def test_a_test_message_arrives_and_is_followed(world: World, console: Console) -> None:
    await console.open("accounts", "shop")
    page = console.page
    form = page.get_by_role("form", name="Test message")
    console.expected("status of 422")
    await form.get_by_label("Number").fill("12")
    await form.get_by_role("button", name="Send test message").click()
    await expect(form).to_contain_text("That is no number.")
    await form.get_by_label("Number").fill("138 7194 6299")
    await form.get_by_label("Text").fill("A line of the console")
    await form.get_by_role("button", name="Send test message").click()
    result = page.locator("#trial-result")
    await expect(result.locator(".state-big")).to_contain_text("delivered")
    await expect(result.locator(".state-big")).to_contain_text("test message")
    rows = [row for row in world.carriers["cm-a"].ledger.submits if row.destination.endswith("13871946299")]
    assert [row.short_message for row in rows] == [b"A line of the console"]
    await result.locator("#trial-link").click()
    await console.shown("messages")
    await expect(page.locator(".state-big")).to_contain_text("test message")
    status, audit = await world.gateway.admin("GET", "/admin/v1/audit")
    assert status == 200
    written = [e for e in audit["entries"] if e["action"] == "account.test_send"]
    assert [(e["actor"].split("@")[0], e["object"]) for e in written] == [("console:anna", "shop")]
    assert "6299" not in str(written)


async def test_an_account_that_is_not_there(console: Console) -> None:
    console.expected("status of 404")
    await console.open("accounts", "nobody")
    await expect(console.page.get_by_role("alert")).to_have_text("No account nobody is configured.")


async def test_who_may_not_is_told(consoles: object, world: World) -> None:
    operator: Console = await consoles(role="operator")  # type: ignore[operator]
    await operator.open("accounts", "shop")
    await expect(operator.page.get_by_role("region", name="Keys")).to_contain_text("This is for the role admin.")
    viewer: Console = await consoles(role="viewer", language="zh")  # type: ignore[operator]
    await viewer.open("accounts", "shop")
    await expect(viewer.page.locator("#test-send")).to_contain_text("此操作需要“操作员”角色")
