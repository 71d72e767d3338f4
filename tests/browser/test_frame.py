"""The console's frame in a real browser: it is served, loads under its own policy, and speaks both languages."""

from __future__ import annotations

from typing import Any

from loadtests.console_render import measure
from tests.support.console import BROWSER, Console, expect

pytestmark = BROWSER


async def test_the_frame_is_there(console: Console) -> None:
    await console.page.goto(f"{console.origin}/console")
    await expect(console.page).to_have_url(f"{console.origin}/console/")
    await expect(console.page.get_by_role("navigation", name="Pages")).to_be_visible()
    await expect(console.page.locator("html")).to_have_attribute("lang", "en")


async def test_the_frame_is_there_in_chinese(chinese: Console) -> None:
    await chinese.page.goto(f"{chinese.origin}/console/")
    await expect(chinese.page.get_by_role("link", name="总览")).to_be_visible()
    await expect(chinese.page.locator("html")).to_have_attribute("lang", "zh-CN")


async def test_a_phone_has_a_menu(phone: Console) -> None:
    await phone.page.goto(f"{phone.origin}/console/")
    channels = phone.page.get_by_role("link", name="Channels", exact=True)
    await expect(channels).not_to_be_visible()
    await phone.page.get_by_role("button", name="Menu").click()
    await expect(channels).to_be_visible()
    await phone.page.keyboard.press("Escape")
    await expect(channels).not_to_be_visible()
    await expect(phone.page.get_by_role("button", name="Menu")).to_be_focused()


async def test_how_soon_a_page_shows_itself_is_measured() -> None:
    """The program that measures, at work; what it finds depends on the machine, and is not judged here."""
    found = await measure(channels=10, runs=1)
    assert set(found["milliseconds"]) == {"overview first", "overview again", "channels first", "channels again"}
    for row in found["milliseconds"].values():
        assert row["shown"] > row["page_read"] > 0
        assert 20 < row["requests"] < 40


async def test_a_wrong_password_is_said_in_the_language_of_the_page(consoles: Any) -> None:
    door = await consoles(role=None, language="zh")
    door.expected("status of 401")
    await door.page.goto(f"{door.origin}/console/")
    await door.page.get_by_label("用户名").fill("nobody-of-this-name")
    await door.page.get_by_label("密码").fill("wrong horse battery")
    await door.page.get_by_role("button", name="登录").click()
    await expect(door.page.get_by_role("alert")).to_have_text("用户名或密码不正确。")


async def test_a_second_visit_asks_for_no_file_again(console: Console) -> None:
    await console.open("channels")
    await console.page.goto("about:blank")
    await console.open("channels")
    sizes = await console.page.evaluate(
        "() => performance.getEntriesByType('resource').filter(e => e.name.includes('/static/'))"
        ".map(e => e.transferSize)"
    )
    assert len(sizes) > 20
    assert set(sizes) == {0}
