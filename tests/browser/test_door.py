"""The door in a browser: what is refused is said, delays hold, a session that ended elsewhere leads back."""

from __future__ import annotations

import re
from typing import Any

from tests.support.console import BROWSER, NAMES, PASSWORDS, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

REFUSED = "status of 40|status of 429"


def is_try(answer: Any) -> bool:
    return str(answer.url).endswith("/console/api/session") and answer.request.method == "POST"


async def fill_in(console: Console, name: str, password: str) -> None:
    page = console.page
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_without_a_user_only_the_right_token_opens(consoles: Any, world: World) -> None:
    file = world.gateway.data_dir / "console-setup-token"
    await until(file.exists)
    assert file.stat().st_mode & 0o777 == 0o600
    console: Console = await consoles(role=None)
    console.expected(REFUSED)
    page = console.page
    await page.goto(f"{console.origin}/console/")
    await page.get_by_label("Set-up token").fill("not the token")
    await page.get_by_label("Name").fill("root")
    await page.get_by_label("Password", exact=True).fill("a horse that is correct 1")
    await page.get_by_label("The same password again").fill("a horse that is correct 2")
    create = page.get_by_role("button", name="Create the first administrator")
    await create.click()
    await expect(page.get_by_text("The two passwords differ.")).to_be_visible()
    await page.get_by_label("The same password again").fill("a horse that is correct 1")
    await create.click()
    await expect(page.get_by_text(re.compile("set-up token is not right", re.I))).to_be_visible()
    assert await page.get_by_label("Set-up token").get_attribute("aria-invalid") == "true"

    # The right one makes the administrator, signs them in, and is gone.
    await page.get_by_label("Set-up token").fill(file.read_text().strip())
    await create.click()
    await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    assert not file.exists()
    (cookie,) = await console.context.cookies()
    assert (cookie["name"][:7], cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (
        "__Host-", True, True, "Strict"
    )  # fmt: skip
    stored = await page.evaluate("() => JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
    assert cookie["value"] not in stored
    assert "horse" not in stored
    later: Console = await consoles(role=None)
    await later.page.goto(f"{console.origin}/console/")
    await expect(later.page.get_by_role("button", name="Sign in")).to_be_visible()
    await expect(later.page.get_by_label("Set-up token")).to_have_count(0)


async def test_signing_out_and_a_session_that_ends_elsewhere(consoles: Any, world: World) -> None:
    await world.session("operator")
    one: Console = await consoles(role=None)
    await one.page.goto(f"{one.origin}/console/#/channels")
    await fill_in(one, NAMES["operator"], PASSWORDS["operator"])
    await one.shown("channels")  # where they wanted to go
    await expect(one.page.get_by_text("live", exact=True)).to_be_visible()

    # 1. It ends on the server: the page stands at the door again by itself, its stream is over.
    one.expected("status of 401|events")
    status, said = await world.gateway.admin("DELETE", f"/console/api/sessions?user={NAMES['operator']}")
    assert status == 200, said
    await expect(one.page.get_by_role("button", name="Sign in")).to_be_visible(timeout=15_000)
    await expect(one.page.get_by_role("navigation", name="Pages")).to_have_count(0)

    # 2. In again, and out by the button; what was there is not there by going back.
    await fill_in(one, NAMES["operator"], PASSWORDS["operator"])
    await one.shown("channels")
    await one.page.get_by_role("button", name="Sign out").click()
    await expect(one.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert await one.context.cookies() == []
    await one.page.reload()
    await expect(one.page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_wrong_passwords_are_refused_and_then_delayed(consoles: Any, world: World) -> None:
    await world.session("viewer")
    console: Console = await consoles(role=None)
    console.expected(REFUSED)
    page = console.page
    await page.goto(f"{console.origin}/console/")
    answers = []
    while len(answers) < 6 and 429 not in answers:  # an address has its tries too, and a wrong token took one of them
        async with page.expect_response(is_try) as answer:
            await fill_in(console, NAMES["viewer"], "wrong")
        answers.append((await answer.value).status)
        said = "name or the password is not right" if answers[-1] == 401 else "Try again in"
        await expect(page.get_by_role("alert")).to_contain_text(said)
    assert answers[:3] == [401, 401, 401]
    assert answers[-1] == 429
    # The right one has to wait as well, and the page says how long.
    async with page.expect_response(is_try) as answer:
        await fill_in(console, NAMES["viewer"], PASSWORDS["viewer"])
    assert (await answer.value).status == 429
    await expect(page.get_by_role("alert")).to_contain_text(re.compile(r"Try again in \d+ s"))
    await expect(page.get_by_role("navigation", name="Pages")).to_have_count(0)
