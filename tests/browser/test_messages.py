"""Messages in a browser: found by number, read as a timeline, the text after the password, cancel."""

from __future__ import annotations

import re
import time

import redis

from gateway.store.embedded import socket_path
from tests.support.console import BROWSER, PASSWORDS, Console, World, expect
from tests.support.until import until

pytestmark = BROWSER

NUMBER, TEXT = "+8613871946205", "zanzibarcanary 739164 \u202eedoc"
FAR = "2099-01-01T09:00:00Z"


async def test_a_message_is_found_by_its_number_and_its_timeline_read(world: World, console: Console) -> None:
    id_ = await world.send(NUMBER, TEXT, ref="order-77", tags=["vip"])
    await world.until_state(id_, "delivered")
    await console.open("messages")
    page = console.page
    await page.get_by_role("searchbox").fill("138 7194 6205")
    await expect(page.locator("#understood")).to_have_text("Looks for messages to this number of CN.")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("heading", name="Found: 1")).to_be_visible()
    row = page.locator("#found tbody tr").first
    await expect(row).to_contain_text("delivered")
    await expect(row).to_contain_text("+86138****6205")
    await row.get_by_role("link").click()
    await console.shown("messages")
    life = page.get_by_role("list", name="What happened")
    await expect(life.get_by_role("heading")).to_have_text(
        ["Accepted from shop", "Attempt 1 on cm-a", "Receipt from cm-a", "Final state"]
    )
    await expect(life).to_contain_text("0x00000000 ROK")
    await expect(life.locator("time").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d\.\d{3}"))
    assert await life.locator(".gap").count() == 3
    # Nothing of the number in the address, the history or the title.
    told = await page.evaluate("() => [location.href, document.title, JSON.stringify(history.state),"
                               " JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join()")  # fmt: skip
    assert "7194" not in told
    await page.go_back()
    await expect(page.get_by_role("heading", name="Found: 1")).to_be_visible()


async def test_a_search_says_what_it_understood(world: World, console: Console) -> None:
    id_ = await world.send(NUMBER, TEXT, ref="order-78")
    await console.open("messages")
    page, said = console.page, console.page.locator("#understood")
    box = page.get_by_role("searchbox")
    for text, meant in (
        ("order-78", "That is neither an id nor a number."),
        ("13871946205 order-78", "A ref belongs to an account"),
        ("+86 138-7194-6205 shop", "Looks for messages to this number, of the account shop."),
        ("13871946205 shop order-78", "with the ref order-78."),
        (id_.upper(), "Opens the message of this id."),
    ):
        await box.fill(text)
        await expect(said).to_contain_text(meant)
    await box.fill("13871946205 shop order-78")
    await box.press("Enter")
    await expect(page.locator("#message-id")).to_have_text(id_)  # one only: it is opened
    console.expected("status of 404|status of 422")
    await console.open("messages", "019ab2c4-7a1f-7000-8abc-0123456789ab")
    await expect(page.get_by_role("alert")).to_contain_text("No such message is kept")
    await console.open("messages", "13871946205")
    await expect(page.get_by_role("alert")).to_contain_text("This is no id of a message")


async def test_a_message_says_what_it_waits_for_and_is_cancelled(world: World, console: Console) -> None:
    status, _ = await world.gateway.admin(
        "PUT", "/admin/v1/gates", {"kind": "campaign", "name": "summer", "state": "hold"}
    )
    assert status == 200
    held = await world.send(NUMBER, TEXT, origin={"campaign": "summer"})
    timed = await world.send(NUMBER, TEXT, send_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 9999)))
    await console.open("messages", held)
    page = console.page
    await expect(page.locator("#waits")).to_contain_text("The gate campaign:summer holds it")
    await console.open("messages", timed)
    await expect(page.locator("#waits")).to_contain_text("The time it is to be sent at. since")
    await expect(page.locator("#resend")).to_have_count(0)
    # What is still to come stands last, and is gone once it will not come.
    events = page.locator(".timeline .event")
    await expect(events.last).to_contain_text("Due, as its application asked")
    await page.locator("#cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    await expect(page.locator("#waits")).to_be_visible()
    await page.locator("#cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel message").click()
    await expect(page.locator("#say")).to_contain_text("Cancelled.")
    await expect(page.locator(".state-big")).to_contain_text("cancelled")
    await expect(page.locator("#cancel")).to_have_count(0)
    await expect(events.last).to_contain_text("Final state")
    await expect(page.locator(".timeline")).not_to_contain_text("Due, as its application asked")
    assert (await world.message(timed))["state"] == "cancelled"
    # Too late: while the page still offers it, the message leaves.
    await console.open("messages", held)
    await page.locator("#cancel").click()
    body = {"kind": "campaign", "name": "summer", "state": "open"}
    assert (await world.gateway.admin("PUT", "/admin/v1/gates", body))[0] == 200
    await world.until_state(held, "delivered")
    console.expected("status of 409")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel message").click()
    await expect(page.locator("#say")).to_contain_text("Too late. (it has ended: delivered)")
    await expect(page.locator(".state-big")).to_contain_text("delivered")


async def test_the_text_wants_the_password_again(world: World, consoles: object) -> None:
    id_ = await world.send(NUMBER, TEXT)
    await world.until_state(id_, "delivered")
    console: Console = await consoles(role="admin")  # type: ignore[operator]
    page = console.page
    await console.open("messages", id_)
    assert "zanzibar" not in await page.content()
    _age_password_checks(world)

    async def stale() -> bool:  # the gateway remembers a session for a second
        asked = "() => fetch('/console/api/session').then((answer) => answer.json())"
        return bool((await page.evaluate(asked))["reauth_s"] == 0)

    await until(stale, every_s=0.3)
    console.expected("status of 403")
    await page.locator("#show-text").click()
    asked = page.get_by_role("dialog", name="Your password, please")
    await expect(asked).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(asked).not_to_be_visible()
    assert "zanzibar" not in await page.content()
    await page.locator("#show-text").click()
    await asked.get_by_label("Password").fill(PASSWORDS["admin"])
    await asked.get_by_role("button", name="Confirm").click()
    whole = page.locator(".whole")
    await expect(whole).to_contain_text(NUMBER)
    await expect(whole.locator("pre")).to_have_text("zanzibarcanary 739164 U+202Eedoc")
    status, audit = await world.gateway.admin("GET", "/admin/v1/audit")
    assert status == 200
    looked = [(e["action"], e["object"]) for e in audit["entries"] if "anna@" in e["actor"]]
    assert looked[0] == ("message.read_full", id_)
    assert looked.count(looked[0]) == 1, "it was asked for twice and given once"
    await page.locator("#hide-text").click()
    assert "zanzibar" not in await page.content()


def _age_password_checks(world: World) -> None:
    """Put the last password check of every session ten minutes into the past, as the clock would."""
    with redis.Redis(unix_socket_path=str(socket_path(world.gateway.data_dir))) as client:
        sessions = client.hgetall("gw:{console}:sessions")
        assert sessions
        for id_, raw in sessions.items():  # type: ignore[union-attr]
            fields = raw.split(b"\x1f")
            fields[4] = str(int(fields[4]) - 600_000).encode()
            client.hset("gw:{console}:sessions", id_, b"\x1f".join(fields))


async def test_a_viewer_sees_neither_text_nor_buttons(world: World, consoles: object) -> None:
    id_ = await world.send(NUMBER, TEXT, send_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 9999)))
    viewer: Console = await consoles(role="viewer", language="zh")  # type: ignore[operator]
    await viewer.open("messages", id_)
    await expect(viewer.page.locator(".whole")).to_contain_text("此操作需要“操作员”角色")
    await expect(viewer.page.locator("#show-text")).to_have_count(0)
    await expect(viewer.page.locator("#cancel")).to_have_count(0)
    await expect(viewer.page.locator("#waits")).to_contain_text("预定的发送时间")
