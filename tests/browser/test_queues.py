"""Queues and gates in a browser: a gate says beforehand what it concerns, what it holds, what closing ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.console import BROWSER, Console, World, expect

pytestmark = BROWSER


def later() -> str:
    return (datetime.now(UTC) + timedelta(hours=20)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def set_gate(console: Console, kind: str, name: str, what: str) -> Any:
    """Ask for a gate on the page; returns the dialog that shows what it concerns."""
    page = console.page
    await page.get_by_role("button", name="Set a gate").click()
    await page.get_by_label("Kind").select_option(kind)
    await page.get_by_role("dialog").get_by_label("Name").fill(name)
    await page.get_by_label(what).check()
    await page.get_by_role("button", name="Count what it concerns").click()
    dialog = page.get_by_role("dialog", name=f"campaign “{name}”?")
    await expect(dialog).to_be_visible()
    return dialog


async def test_a_campaign_is_held_closed_and_opened(console: Console, world: World) -> None:
    page = console.page
    ids = [
        await world.send(f"+861380000010{i}", category="marketing", send_at=later(), origin={"campaign": "spring"})
        for i in range(3)
    ]
    await console.open("queues")
    gates = page.get_by_role("table", name="Gates")
    await expect(gates).to_contain_text("All gates are open.")

    dialog = await set_gate(console, "campaign", "spring", "Hold")
    await expect(dialog).to_contain_text("3 messages wait behind it now (3 scheduled)")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(gates).to_contain_text("All gates are open.")

    dialog = await set_gate(console, "campaign", "spring", "Hold")
    await dialog.get_by_role("button", name="Hold 3 messages").click()
    row = gates.get_by_role("row", name="spring")
    await expect(row).to_contain_text("held")

    await row.get_by_role("button", name="Close the gate spring").click()
    dialog = page.get_by_role("dialog", name="Close campaign “spring”?")
    await expect(dialog).to_contain_text("cannot be undone")
    await dialog.get_by_role("button", name="End 3 messages").click()
    await expect(row).to_contain_text("closed")
    for one in ids:
        await world.until_state(one, "cancelled")
    await expect(row).to_contain_text("swept", timeout=20_000)  # the page reads again by itself

    await row.get_by_role("button", name="Open the gate spring").click()
    await page.get_by_role("dialog").get_by_role("button", name="Open").click()
    await expect(gates).to_contain_text("All gates are open.")
    assert (await world.message(ids[0]))["state"] == "cancelled"


async def test_a_viewer_sets_no_gate(consoles: Any) -> None:
    console = await consoles(role="viewer")
    await console.open("queues")
    await expect(console.page.get_by_role("table", name="Gates")).to_be_visible()
    await expect(console.page.get_by_role("button", name="Set a gate")).to_have_count(0)
