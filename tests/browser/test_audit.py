"""The audit in a browser: who did what, filters that stand in the address, pages, the verdict on its chain, a CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.support.console import BROWSER, Console, World, expect

pytestmark = BROWSER


def rows_of(file: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(file).read_text(encoding="utf-8-sig"))))


async def test_what_was_done_is_found_and_proven(console: Console, world: World) -> None:
    page = console.page
    for i in range(110):
        state = "hold" if i % 2 == 0 else "open"
        gate = {"kind": "tag", "name": "autumn", "state": state}
        status, _ = await world.gateway.admin("PUT", "/admin/v1/gates", gate)
        assert status == 200
    blacklist = {"number": "+8613800000401", "scope": "shop", "reason": "complaint"}
    status, _ = await world.gateway.admin("PUT", "/admin/v1/blacklist", blacklist)
    assert status == 200

    await console.open("audit")
    table = page.get_by_role("table", name="Audit")
    first = table.get_by_role("row").nth(1)
    await expect(first).to_contain_text("Number listed")
    await expect(first).to_contain_text("+86138****0401")
    await expect(first).to_contain_text("complaint for")
    assert "13800000401" not in await console.text()
    await expect(table.get_by_role("row")).to_have_count(101)
    await page.get_by_role("button", name="Earlier").click()
    await expect(page.get_by_text("entries shown")).not_to_contain_text("100 entries")
    assert await table.get_by_role("row").count() >= 112

    await page.get_by_label("What").fill("blacklist")
    await page.get_by_role("button", name="Filter").click()
    await expect(table.get_by_role("row")).to_have_count(2)
    assert "action=blacklist" in page.url

    await page.get_by_role("button", name="Verify the chain").click()
    await expect(page.get_by_text("The audit is whole.")).to_be_visible()

    async with page.expect_download() as started:
        await page.get_by_role("button", name="Save as CSV").click()
    (row,) = rows_of(await (await started.value).path())
    assert (row["action"], row["number"]) == ("blacklist.add", "'+86138****0401")


async def test_somebody_who_did_nothing_has_no_entries(console: Console) -> None:
    await console.open("audit", actor="nobody-of-this-name")
    await expect(console.page.get_by_role("table", name="Audit")).to_contain_text("Nothing here.")
    await expect(console.page.get_by_label("Who")).to_have_value("nobody-of-this-name")
