"""The blacklist in a browser: a number is added and its next message refused; an import, its way back, an export."""

from __future__ import annotations

from pathlib import Path

from tests.support.console import BROWSER, Console, World, expect

pytestmark = BROWSER

NUMBER = "+8613871946205"
BODY = {"to": NUMBER, "text": "hello", "category": "notification"}


async def test_a_number_is_added_refused_and_taken_off(world: World, console: Console) -> None:
    await world.send(NUMBER)
    await console.open("blacklist")
    page = console.page
    await page.get_by_label("Number", exact=True).fill("138 7194-6205")
    await page.get_by_role("button", name="Look up").click()
    entries = page.locator("#entries")
    await expect(entries).to_contain_text("On no list.")
    add = page.get_by_role("form", name="Put this number on a list")
    await add.get_by_label("marketing").uncheck()
    await add.get_by_role("button", name="Add").click()
    await expect(add).to_contain_text("One category at least.")
    await add.get_by_label("notification").check()
    await add.get_by_label("Holds for").select_option("shop")
    await add.get_by_role("button", name="Add").click()
    await expect(entries.get_by_role("list", name="Entries of this number")).to_contain_text("shop · operator")
    status, refused = await world.gateway.post(BODY)
    assert (status, refused["code"]) == (422, "blocked_recipient")
    await entries.get_by_role("button", name="Remove from: shop").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(entries).to_contain_text("On no list.")
    assert (await world.gateway.post(BODY))[0] == 202
    assert "7194" not in await page.evaluate("() => location.href + document.title + JSON.stringify(localStorage)")


async def test_a_file_is_tried_imported_and_taken_back(world: World, console: Console, tmp_path: Path) -> None:
    rows = [f"+86139{n:08d}" for n in range(6000)]  # more than two pieces
    file = tmp_path / "dnd.csv"
    head = "number,categories,reason\n# a comment\n"
    file.write_text(head + "12,,\n" + '"broken\n' + f"'{NUMBER},notification,complaint\n" + "\n".join(rows) + "\n")
    await console.open("blacklist")
    page, state = console.page, console.page.locator("#import-state")
    form = page.get_by_role("form", name="Import")
    await form.get_by_label("File").set_input_files(file)
    await form.get_by_role("button", name="Try the file").click()
    await expect(state).to_contain_text("This is what it would do")
    await expect(state).to_contain_text("6,001 added")
    await expect(state).to_contain_text("2 bad rows")
    bad = state.locator(".rows-bad li")
    await expect(bad.nth(0)).to_contain_text("Line 3:")
    await expect(bad.nth(1)).to_have_text("Line 4: not a line of CSV in UTF-8")
    assert (await world.gateway.post(BODY))[0] == 202, "a trial changes nothing"
    await page.locator("#import-do").click()
    await expect(state).to_contain_text("dnd.csv is imported.")
    await expect(page.get_by_role("heading", name="Listed: 6,001")).to_be_visible()
    assert (await world.gateway.post(BODY))[1]["code"] == "blocked_recipient"

    # Whole numbers go out as they came in, and can be imported again; masked ones are the rule.
    form = page.get_by_role("form", name="Export")
    for whole in (False, True):
        await form.get_by_label("Whole numbers").set_checked(whole)
        async with page.expect_download() as found:
            await form.get_by_role("button", name="Export").click()
        saved = tmp_path / f"{whole}.csv"
        await (await found.value).save_as(saved)
        text = saved.read_text(encoding="utf-8-sig")
        assert text.splitlines()[0] == "number,categories,reason,since,source"
        assert len(text.splitlines()) == 6002
        assert (NUMBER[1:] in text) == whole
        assert ("86138****6205,notification,complaint," in text) != whole
    await expect(page.locator("#export-state")).to_have_text("6,001 rows written.")

    await page.get_by_role("button", name="Take back dnd.csv").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    await expect(page.locator("#say")).to_contain_text("6,001 removed")
    await expect(page.locator("#imports")).to_contain_text("taken back")
    assert (await world.gateway.post(BODY))[0] == 202


async def test_cells_that_are_formulas_are_defused(console: Console) -> None:
    await console.open("blacklist")
    found = await console.page.evaluate(
        """async () => {
          const { toCsv, readLine } = await import("/console/static/lib/csv.js");
          const cells = ["=1+1", "+86", "-2", "@a", "\\tb", "\\rc", 'say "x", y', "plain"];
          const line = toCsv([cells]).slice(0, -2);
          return [line, readLine(line), readLine('a"b,c'), readLine('"open'), readLine('"x"y')];
        }"""
    )
    line, back, odd, opened, after = found
    assert line == '\'=1+1,\'+86,\'-2,\'@a,\'\tb,"\'\rc","say ""x"", y",plain'
    assert back == ["'=1+1", "'+86", "'-2", "'@a", "'\tb", "'\rc", 'say "x", y', "plain"]
    assert odd == ['a"b', "c"]
    assert opened is None
    assert after is None


async def test_a_viewer_looks_and_changes_nothing(world: World, consoles: object) -> None:
    viewer: Console = await consoles(role="viewer")  # type: ignore[operator]
    await viewer.open("blacklist")
    page = viewer.page
    await page.get_by_label("Number", exact=True).fill(NUMBER)
    await page.get_by_role("button", name="Look up").click()
    await expect(page.locator("#entries")).to_contain_text("On no list.")
    for name in ("Add", "Try the file", "Export"):
        await expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)


async def test_national_numbers_of_a_file_are_read_as_those_of_accounts(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "national.csv"
    file.write_text("13871946206\n138x\n")
    await console.open("blacklist")
    page, state = console.page, console.page.locator("#import-state")
    form = page.get_by_role("form", name="Import")
    await expect(form.get_by_label("Country")).to_have_value("CN")
    await form.get_by_label("File").set_input_files(file)
    await form.get_by_role("button", name="Try the file").click()
    await expect(state.locator(".rows-bad")).to_have_text("Line 2: digits only are wanted, or '+' and digits")
    await page.locator("#import-do").click()
    await expect(state).to_contain_text("national.csv is imported.")
    # The next file begins with what this one began with.
    await expect(form.get_by_label("Reason")).to_have_value("do-not-disturb")
    await expect(form.get_by_label("Country")).to_have_value("CN")
    await expect(form.get_by_label("marketing")).to_be_checked()
    await page.get_by_label("Number", exact=True).fill("+8613871946206")
    await page.get_by_role("button", name="Look up").click()
    await expect(page.locator("#entries")).to_contain_text("do not disturb")
    await page.get_by_role("button", name="Take back national.csv").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    await expect(page.locator("#say")).to_contain_text("1 removed")
