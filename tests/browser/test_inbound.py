"""Replies in a browser: those that a person has to read are read and decided; a number stands in no address."""

from __future__ import annotations

from typing import Any

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

PLEASE = "好的，请不要再发了"
HOSTILE = "<img src=x onerror=alert(1)> \u202egpj.exe"
NUMBERS = [f"861380000020{i}" for i in range(3)]


async def wrote(world: World, number: str, text: str) -> None:
    """Have a handset write, and wait until it is kept."""
    world.carriers["cm-a"].send_mo(number, "106900001", text.encode("utf-16-be"), data_coding=8)

    async def kept() -> bool:
        _, found = await world.gateway.admin("POST", "/admin/v1/inbound/search", {"number": f"+{number}"})
        return bool(found["messages"])

    await until(kept, timeout_s=15)


async def test_replies_are_read_and_decided(console: Console, world: World) -> None:
    page = console.page
    for number, text in zip(NUMBERS, (PLEASE, PLEASE, HOSTILE), strict=True):
        await wrote(world, number, text)
    await console.open("inbound")
    replies = page.get_by_role("article")
    await expect(replies).to_have_count(2)
    await expect(replies.first).to_contain_text("may be an opt-out")
    assert PLEASE not in await console.text(), "texts are shown when they are asked for"
    assert NUMBERS[0] not in await console.text()

    await page.get_by_role("button", name="Show texts and numbers").click()
    await expect(replies.first).to_contain_text(PLEASE)
    first = page.get_by_role("article", name=f"Reply from {NUMBERS[0]}")
    await first.get_by_role("button", name="Opt out").click()
    await page.get_by_role("dialog").get_by_role("button", name="Opt out").click()
    await expect(replies).to_have_count(1)
    _, found = await world.gateway.admin("POST", "/admin/v1/blacklist/search", {"number": f"+{NUMBERS[0]}"})
    assert [one["reason"] for one in found["entries"]] == ["td"]

    await replies.first.get_by_role("button", name="Not an opt-out").click()
    await expect(page.get_by_text("Nothing waits to be read.")).to_be_visible()
    _, found = await world.gateway.admin("POST", "/admin/v1/blacklist/search", {"number": f"+{NUMBERS[1]}"})
    assert found["entries"] == []

    await page.get_by_label("Number of the handset").fill(f"+{NUMBERS[2]}")
    await page.get_by_role("button", name="Search").click()
    await expect(replies).to_have_count(1)
    await expect(replies.first).to_contain_text("<img src=x onerror=alert(1)> U+202Egpj.exe")
    assert NUMBERS[2] not in page.url
    await page.get_by_role("button", name="Back to the lists").click()
    await page.get_by_role("button", name="All replies").click()
    await expect(replies).to_have_count(3)


async def test_a_viewer_sees_neither_texts_nor_numbers(consoles: Any) -> None:
    console = await consoles(role="viewer")
    await console.open("inbound", list="all")
    await expect(console.page.get_by_role("article").first).to_be_visible()
    await expect(console.page.get_by_role("button", name="Show texts and numbers")).to_have_count(0)
    await expect(console.page.get_by_role("button", name="Opt out")).to_have_count(0)
    text = await console.text()
    assert not any(number in text for number in NUMBERS)
