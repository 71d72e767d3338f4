"""Statistics in a browser: figures, charts and a table of a report; its link and its CSV say the same as the page."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.support.console import BROWSER, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

FORMULA = "=1+cmd|' /C calc'!A0"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(world: World) -> None:
    """Five messages that end: four delivered, one not; one of a campaign whose name is a formula."""
    ids = [await world.send(f"+861380000030{i}") for i in range(3)]
    ids.append(await world.send("+8613800000303", category="marketing", origin={"campaign": FORMULA}))
    ids.append(await world.send("+8613800900320"))  # the carrier reports UNDELIV
    for one in ids:
        await world.until_state(one, "delivered", "undeliverable")

    async def counted() -> bool:
        _, found = await world.gateway.admin("GET", "/admin/v1/stats?from=2026-01-01")
        total = found["total"]
        return bool(total.get("delivered") == 4 and total.get("failed") == 1)

    await until(counted, timeout_s=15)


def rows_of(file: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(file).read_text(encoding="utf-8-sig"))))


def figure(console: Console, name: str) -> Any:
    return console.page.locator(".figure", has=console.page.get_by_text(name, exact=True))


async def test_a_report_is_figures_charts_and_a_table(console: Console, sent: None) -> None:
    page = console.page
    await console.open("stats", period="7d")
    await expect(figure(console, "Submitted")).to_contain_text("5")
    await expect(figure(console, "Delivered")).to_contain_text("80%")
    failures = page.get_by_role("region", name="Why messages failed")
    await expect(failures).to_contain_text("100%")
    table = page.get_by_role("table", name="Table")
    await expect(table.get_by_role("row")).to_have_count(4)  # head, notification, marketing, total
    await expect(table.get_by_role("row", name="Total")).to_contain_text("5")
    await expect(page.get_by_role("heading", name="Submitted by category, by day")).to_be_visible()

    # A choice changes what is shown, keeps the focus, and stands in the address.
    split = page.get_by_label("Split by")
    await split.focus()
    await split.select_option("channel")
    await expect(table.get_by_role("row", name="cm-a")).to_be_visible()
    await expect(split).to_be_focused()
    assert "split=channel" in page.url
    await page.go_back()
    await expect(table.get_by_role("row", name="marketing")).to_be_visible()

    # A name in the table narrows the report.
    await table.get_by_role("link", name="marketing").click()
    await expect(figure(console, "Submitted")).to_contain_text("1")
    assert "category=marketing" in page.url


async def test_a_link_leads_to_the_same_report(console: Console, consoles: Any, sent: None) -> None:
    await console.open("stats", period="7d", time="none", split="campaign", measure="delivered", account="shop")
    await expect(console.page.get_by_role("table", name="Delivered by campaign")).to_contain_text(FORMULA)
    other = await consoles(language="zh")
    await other.page.goto(console.page.url)
    await other.shown("stats")
    await expect(other.page.get_by_label("分组", exact=True)).to_have_value("campaign")
    await expect(other.page.get_by_label("账户", exact=True)).to_have_value("shop")
    await expect(other.page.get_by_role("table", name="明细")).to_contain_text(FORMULA)


async def test_names_that_objects_have_of_themselves_are_names(console: Console, sent: None) -> None:
    await console.open("stats")
    for name in ("constructor", "__proto__", "toString"):
        found = await console.page.evaluate(
            "async name => (await import('/console/static/lib/chart.js')).slotOf(name, 2)", name
        )
        assert found == 3, name


async def test_the_csv_is_what_is_shown_and_no_formula(console: Console, sent: None) -> None:
    page = console.page
    await console.open("stats", period="7d", time="none", split="campaign")
    await expect(page.get_by_role("table", name="Table")).to_be_visible()
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Save as CSV").click()
    rows = rows_of(await (await started.value).path())
    assert {row["campaign"]: row["submitted"] for row in rows} == {"": "4", f"'{FORMULA}": "1"}


async def test_cells_of_our_own_csv_are_guarded(console: Console) -> None:
    await console.open("stats")
    text = await console.page.evaluate(
        "async () => (await import('/console/static/lib/csv.js')).toCsv("
        "[['=a', '+a', '-a', '@a', '\\ta', '\\ra', 'a,b', 'a\"b', -1, null]])"
    )
    assert text == '\'=a,\'+a,\'-a,\'@a,\'\ta,"\'\ra","a,b","a""b",-1,\r\n'


async def test_cost_by_month(console: Console, sent: None) -> None:
    await console.open("stats")
    await console.page.get_by_role("button", name="Show the months").click()
    months = console.page.get_by_role("region", name="Cost by month")
    await expect(months.get_by_role("table").last.get_by_role("row")).to_have_count(2)


async def test_by_signature_there_are_opt_outs_alone(console: Console, sent: None) -> None:
    await console.open("stats", split="signature", period="7d")
    await expect(console.page.get_by_text("By signature the gateway counts opt-outs")).to_be_visible()
    await expect(console.page.locator(".figure")).to_have_count(2)
