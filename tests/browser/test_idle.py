"""A page that nobody sits at: what it asks by itself keeps no session alive, and after 30 minutes it has ended."""

from __future__ import annotations

from tests.support.console import BROWSER, Console
from tests.support.until import until

pytestmark = BROWSER

LATER = "() => { const now = Date.now; Date.now = () => now() + 60000; }"


async def test_what_a_page_asks_by_itself_is_marked(console: Console) -> None:
    marks: list[str | None] = []
    console.page.on(
        "request",
        lambda asked: (
            marks.append(asked.headers.get("x-background")) if asked.url.endswith("/admin/v1/webhooks") else None
        ),
    )
    await console.open("webhooks")
    await until(lambda: len(marks) > 0)
    assert set(marks) == {None}, "somebody has just come"
    await console.page.evaluate(LATER)
    marks.clear()
    await until(lambda: len(marks) > 1, timeout_s=20)
    assert marks[-1] == "1", "nobody has touched it for a minute"
    await console.page.keyboard.press("Shift")
    marks.clear()
    await until(lambda: len(marks) > 1, timeout_s=20)
    assert marks[-1] is None, "somebody is there again"
