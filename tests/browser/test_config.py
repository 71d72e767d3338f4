"""Configuration in a browser: a bad file is refused and read why, a good one runs everywhere, an old one comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER


@pytest_asyncio.fixture(loop_scope="module")
async def routes(world: World) -> AsyncIterator[Path]:
    path = world.gateway.config_dir / "routes.toml"
    before = read(path)
    await until(lambda: in_force(world, 1), timeout_s=20)
    yield path
    write(path, before)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def read(path: Path) -> str:
    return path.read_text()


async def in_force(world: World, least: int) -> bool:
    _, found = await world.gateway.admin("GET", "/admin/v1/config")
    return bool(found["revision"] >= least and all(one["in_force"] for one in found["members"] if one["lives"]))


async def test_from_a_bad_file_to_a_good_one_and_back(console: Console, world: World, routes: Path) -> None:
    page = console.page
    sound = read(routes)
    console.expected("status of 422")
    await console.open("config")
    await expect(page.get_by_text("run revision 1, and the files say the same")).to_be_visible()

    # 1. A bad file: what it changes is shown, and why it is refused.
    write(routes, sound.replace("rank = 0", "rnk = 0", 1))
    changes = page.get_by_role("region", name="What the files change")
    await expect(changes.locator("tr.add")).to_contain_text("rnk = 0", timeout=15_000)
    await expect(changes.locator("tr.remove .sign")).to_contain_text("removed:")
    await page.get_by_role("button", name="Reload").click()
    problems = page.get_by_role("table", name="Problems")
    await expect(
        problems.get_by_role("row", name="routes.toml route[cn].channels[cm-a].rnk unknown key")
    ).to_be_visible()
    assert await in_force(world, 1)

    # 2. A file that is no TOML is still compared line by line.
    write(routes, sound.replace('id = "hk"', 'id = "hk', 1))
    await expect(changes.locator("tr.add")).to_contain_text('id = "hk', timeout=15_000)
    await expect(changes.locator("tr.add")).to_have_count(1)
    await expect(changes).to_contain_text("not valid TOML")

    # 3. A good one: checked by all, then in force on all.
    write(routes, sound.replace('id = "hk"', 'id = "hk-2"', 1))
    await expect(changes.locator("tr.add")).to_contain_text('id = "hk-2"', timeout=15_000)
    await page.get_by_role("button", name="Reload").click()
    dialog = page.get_by_role("dialog", name="Put the files in force?")
    await expect(dialog).to_contain_text("hk-2")
    await dialog.get_by_label("Note").fill("another name")
    await dialog.get_by_role("button", name="Reload now").click()
    await expect(page.get_by_text("Revision 2 is in force on every worker.")).to_be_visible(timeout=20_000)
    assert await in_force(world, 2)
    history = page.get_by_role("table", name="History")
    await expect(history.get_by_role("row", name="another name")).to_contain_text("in force")

    # 4. Back to the first, into the files too.
    await history.get_by_role("button", name="Roll back to revision 1").click()
    dialog = page.get_by_role("dialog", name="Back to revision 1?")
    await expect(dialog.locator("tr.add")).to_contain_text('id = "hk"')
    await dialog.get_by_label("Write it into the files too").check()
    await dialog.get_by_role("button", name="Roll back").click()
    await expect(page.get_by_text("run revision 3, and the files say the same")).to_be_visible(timeout=20_000)
    assert read(routes) == sound

    # 5. Any two are compared.
    await history.get_by_role("button", name="Compare revision 2").click()
    await expect(page.get_by_text("From revision 2 to revision 3")).to_be_visible()


async def test_files_from_before_a_roll_back_are_taken_when_told_so_and_put_back(
    console: Console, world: World, routes: Path
) -> None:
    page, sound = console.page, read(routes)
    await console.open("config")
    now = (await world.gateway.admin("GET", "/admin/v1/config"))[1]["revision"]
    await expect(page.get_by_text(f"run revision {now}, and the files say the same")).to_be_visible(timeout=20_000)
    write(routes, sound.replace('id = "hk"', 'id = "hk-3"', 1))
    assert (await world.gateway.admin("POST", "/admin/v1/config/reload", {}))[0] == 200
    await until(lambda: in_force(world, now + 1), timeout_s=20)
    assert (await world.gateway.admin("POST", "/admin/v1/config/rollback", {"revision": now}))[0] == 200
    await until(lambda: in_force(world, now + 2), timeout_s=20)

    # 1. The next reload says that they are older, and takes them all the same.
    console.expected("status of 409")
    await page.get_by_role("button", name="Reload", exact=True).click()
    await expect(page.locator("#outcome")).to_contain_text("They are not based on what is in force")
    await page.get_by_role("button", name="Reload all the same").click()
    dialog = page.get_by_role("dialog", name="Put files in force that are not based on it?")
    await expect(dialog).to_contain_text("hk-3")
    await dialog.get_by_role("button", name="Reload all the same").click()
    await expect(page.get_by_text(f"run revision {now + 3}, and the files say the same")).to_be_visible(timeout=20_000)

    # 2. What was said of the files goes when they are put back.
    console.expected("status of 422")
    good = read(routes)
    write(routes, good.replace("rank = 0", "rnk = 0", 1))
    await page.get_by_role("button", name="Check the files").click()
    await expect(page.locator("#outcome")).to_contain_text("What was in force stays in force.")
    await page.get_by_role("button", name="Restore files").click()
    await page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    await expect(page.locator("#say")).to_contain_text("Written: routes.toml.")
    await expect(page.locator("#outcome")).to_be_empty()
    assert read(routes) == good


async def test_a_viewer_changes_nothing_and_no_secret_is_shown(consoles: Any, world: World) -> None:
    console = await consoles(role="viewer")
    await console.open("config")
    await expect(console.page.get_by_role("table", name="History")).to_be_visible()
    for name in ("Reload", "Restore files …", "Roll back …"):
        await expect(console.page.get_by_role("button", name=name)).to_have_count(0)
    await console.page.get_by_role("button", name="Files of revision 1").click()
    dialog = console.page.get_by_role("dialog")
    await dialog.get_by_text("channels.toml").click()
    await expect(dialog).to_contain_text("${env:SMSC_PASSWORD}")
