"""Users and profiles in a browser, with real sign-ins: set up, add, change, remove; password and authenticator."""

from __future__ import annotations

from typing import Any

import pyotp

from tests.support.console import BROWSER, Console, World, expect
from tests.support.gateway import ADMIN_TOKEN
from tests.support.until import until

pytestmark = BROWSER

ROOT, PASSWORD, NEXT = "root", "a horse that is correct 1", "a battery that is stapled 2"


async def signed_in(consoles: Any, name: str, password: str, otp: str = "") -> Console:
    console: Console = await consoles(role=None)
    page = console.page
    await page.goto(f"{console.origin}/console/")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    if otp:
        await page.get_by_label("Code of the authenticator").fill(otp)
    await page.get_by_role("button", name="Sign in").click()
    return console


async def set_up(consoles: Any, world: World) -> Console:
    """Make the first administrator; returns their page."""
    file = world.gateway.data_dir / "console-setup-token"
    await until(file.exists)
    token = file.read_text().strip()
    console: Console = await consoles(role=None)
    page = console.page
    await page.goto(f"{console.origin}/console/")
    await page.get_by_label("Set-up token").fill(token)
    await page.get_by_label("Name").fill(ROOT)
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("The same password again").fill(PASSWORD)
    await page.get_by_role("button", name="Create the first administrator").click()
    await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    return console


async def look_after_oneself(console: Console, password: str) -> None:
    """Change the password and turn an authenticator on."""
    page = console.page
    await console.open("profile")
    await page.get_by_label("Password now").fill(password)
    await page.get_by_label("New password").fill(NEXT)
    await page.get_by_label("The same again").fill("something else entirely")
    await page.get_by_role("button", name="Change the password").click()
    await expect(page.get_by_text("The two passwords differ.")).to_be_visible()
    await page.get_by_label("The same again").fill(NEXT)
    await page.get_by_role("button", name="Change the password").click()
    await expect(page.get_by_text("The password is changed")).to_be_visible()
    await page.get_by_role("button", name="Set up").click()
    secret = (await page.locator("#totp-secret").inner_text()).replace(" ", "")
    await page.get_by_label("Code", exact=True).fill(pyotp.TOTP(secret).now())
    await page.get_by_role("button", name="Turn on").click()
    await expect(page.get_by_role("button", name="Turn off")).to_be_visible()
    await expect(page.get_by_role("table", name="Sessions")).to_contain_text("this one")


async def test_the_life_of_a_user(consoles: Any, world: World) -> None:
    console = await set_up(consoles, world)
    page = console.page

    # 1. Add one; the password is shown once.
    await console.open("users")
    await page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog", name="Add a user")
    await dialog.get_by_label("Name").fill("wang")
    made = await dialog.get_by_label("New password").input_value()
    assert len(made) == 20
    await dialog.get_by_role("button", name="Add", exact=True).click()
    handed = page.get_by_role("dialog", name="The password of wang")
    await expect(handed).to_contain_text(made)
    await handed.get_by_role("button", name="Close").click()
    row = page.get_by_role("row", name="wang")
    await expect(row).to_contain_text("operator")

    # 2. They sign in.
    other = await signed_in(consoles, "wang", made)
    await expect(other.page.get_by_role("navigation", name="Pages")).to_be_visible()
    await expect(other.page.get_by_role("link", name="Users")).to_have_count(0)
    await look_after_oneself(other, made)

    # 3. The administrator takes the authenticator off, then their place.
    await console.open("audit")
    await console.open("users")
    await row.get_by_role("button", name="Change wang").click()
    dialog = page.get_by_role("dialog", name="Change wang")
    await dialog.get_by_label("Forget the authenticator").check()
    await dialog.get_by_label("Role").select_option("viewer")
    await dialog.get_by_label("May sign in").uncheck()
    await dialog.get_by_role("button", name="Save").click()
    await expect(row).to_contain_text("disabled")
    await expect(row).to_contain_text("viewer")
    other.expected("status of 401|events")
    await other.page.reload()
    await expect(other.page.get_by_role("button", name="Sign in")).to_be_visible()

    await row.get_by_role("button", name="Remove wang").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row).to_have_count(0)
    assert made not in await console.text()


async def test_who_is_no_administrator_is_told_so(consoles: Any) -> None:
    console = await consoles(role="operator")
    await console.open("users")
    await expect(console.page.get_by_text("This is for the role admin.")).to_be_visible()


async def test_a_token_has_a_profile_without_password(consoles: Any) -> None:
    console: Console = await consoles(role=None, bearer=ADMIN_TOKEN)
    await console.open("profile")
    await expect(console.page.get_by_text("You came with a token of the configuration.")).to_be_visible()
    await console.page.locator("#profile-language").select_option("zh")
    await expect(console.page.get_by_role("heading", name="个人设置")).to_be_visible()
    await console.page.locator("#profile-language").select_option("en")
    await expect(console.page.get_by_role("heading", name="Your profile")).to_be_visible()
