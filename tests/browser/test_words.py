"""The console's words, as the browser reads them: every word in both languages, and every word that a script asks for.

The modules are served from the folder itself: no gateway is wanted for them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from gateway.console.files import FOLDER
from tests.support.console import BROWSER

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route

pytestmark = BROWSER

ORIGIN = "http://127.0.0.1:9"
WORDS = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.words.js"))
SCRIPTS = {
    p.relative_to(FOLDER).as_posix(): re.sub(
        r"/\*.*?\*/|(^|\s)//[^\n]*", " ", p.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    for p in sorted(FOLDER.rglob("*.js"))
    if not p.name.endswith(".words.js")
}
"""What each script says, without its comments."""
COMMON = "lib/common.words.js"
HAN = re.compile(r"[\u3400-\u9fff]")
# Words that are the same in both: names, units, signs. A value of these alone needs no translation.
SAME = re.compile(r"(?:[\W\d_]|\{\w+\}|smsgw|id|p\d\d|ms|s|[A-Z]{2,6}|webhook)*")

Words = dict[str, dict[str, dict[str, str]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def words(browser: Browser) -> AsyncIterator[Words]:
    """What each module of words exports, by its name: {"en": {...}, "zh": {...}}."""

    async def from_folder(route: Route) -> None:
        path = FOLDER / route.request.url.removeprefix(f"{ORIGIN}/")
        if path.is_file():
            await route.fulfill(body=path.read_text(encoding="utf-8"), content_type="text/javascript")
        else:
            await route.fulfill(body="<!doctype html>", content_type="text/html")

    context = await browser.new_context()
    await context.route("**/*", from_folder)
    page = await context.new_page()
    await page.goto(f"{ORIGIN}/")
    read = "name => import('/' + name).then(m => Object.values(m).find(v => v.en && v.zh))"
    yield {name: await page.evaluate(read, name) for name in WORDS}
    await context.close()


def places(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


async def test_every_word_is_there_in_both_languages(words: Words) -> None:
    wrong = []
    for name, both in words.items():
        en, zh = both["en"], both["zh"]
        wrong += [f"{name}: {key} is there in one language only" for key in sorted(set(en) ^ set(zh))]
        for key in sorted(set(en) & set(zh)):
            if bool(en[key].strip()) != bool(zh[key].strip()):
                wrong.append(f"{name}: {key} is empty in one language")
            if places(en[key]) != places(zh[key]):
                wrong.append(f"{name}: {key} has other places: {en[key]!r}, {zh[key]!r}")
            if HAN.search(en[key]):
                wrong.append(f"{name}: {key} is Chinese on the English page: {en[key]!r}")
            if not HAN.search(zh[key]) and not SAME.fullmatch(zh[key]):
                wrong.append(f"{name}: {key} is not Chinese: {zh[key]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_asks_for_words_that_exist(name: str, words: Words) -> None:
    text = SCRIPTS[name]
    known: dict[str, Any] = dict(words[COMMON]["en"])
    for one in re.findall(r"from \"([^\"]+\.words\.js)\"", text):
        known |= words[posixpath.normpath(posixpath.join(posixpath.dirname(name), one))]["en"]
    asked = set(re.findall(r"\bt(?:\.has)?\(\s*\"([^\"]+)\"", text))
    assert asked <= set(known), f"no words for {sorted(asked - set(known))}"
    for family in set(re.findall(r"\bt\.of\(\s*\"([^\"]+)\"", text)):
        assert any(key.startswith(f"{family}.") for key in known), f"no words for values of {family}"


async def test_the_overview_and_the_audit_have_words_for_the_same_actions(words: Words) -> None:
    told = {key.removeprefix("audit.") for key in words["pages/overview.words.js"]["en"] if key.startswith("audit.")}
    known = {key.removeprefix("action.") for key in words["pages/audit.words.js"]["en"] if key.startswith("action.")}
    assert told == known
