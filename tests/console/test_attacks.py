"""What an attacker, or a user who wants to leave no trace, tries at the console: each of these once worked."""

from __future__ import annotations

import asyncio
import logging
import time

import pyotp
import pytest

from gateway.console import passwords
from gateway.store import blacklists
from tests.console.conftest import LI, Open, World
from tests.support.door import PASSWORD, Browser

SECRET = "JBSWY3DPEHPK3PXP" * 2


async def with_code(world: World, name: str = "li") -> tuple[Browser, pyotp.TOTP]:
    """Return a browser in which a user with an authenticator signed in, and the authenticator."""
    user = await world.user(name)
    world.users[name] = user.changed(totp=SECRET)
    assert (await world.parts.users.change(world.users[name])).word == "ok"
    browser, app = await world.browser(), pyotp.TOTP(SECRET)
    assert (await browser.sign_in(name, otp=app.at(time.time() - 30)))[0] == 200
    return browser, app


# --- the second factor


async def test_who_has_a_session_and_the_password_but_no_code_opens_nothing(world: World) -> None:
    browser, app = await with_code(world)
    new = "another-long-secret-1"
    world.move_sessions(4, 301)
    status, said = await browser.ask("POST", "/console/api/password", {"old": PASSWORD, "new": new})
    assert (status, said["code"]) == (403, "reauth_required")
    assert (await browser.ask("GET", "/admin/v1/inbound?full=1"))[1]["code"] == "reauth_required"
    assert (await browser.ask("DELETE", "/console/api/totp"))[1]["code"] == "reauth_required"
    # With the code it goes, and makes the check no younger than the code is.
    again = {"password": PASSWORD, "otp": app.at(time.time())}
    assert (await browser.ask("POST", "/console/api/reauth", again))[0] == 200
    world.move_sessions(4, 200)
    status, said = await browser.ask("POST", "/console/api/password", {"old": PASSWORD, "new": new})
    assert status == 200
    assert said["reauth_s"] <= 100


async def test_the_own_password_does_not_win_back_tries_of_the_code(opened: Open) -> None:
    world: World = await opened(trusted_proxies=("127.0.0.1",))
    browser, _ = await with_code(world)
    world.move_sessions(4, 301)
    statuses = []
    for n in range(9):
        browser.address = f"203.0.113.{n}"  # as many addresses as it takes
        statuses.append((await browser.ask("POST", "/console/api/reauth", {"password": PASSWORD, "otp": "0"}))[0])
        if n % 3 == 2:
            await browser.ask("POST", "/console/api/password", {"old": PASSWORD, "new": PASSWORD})
    assert statuses == [401] * 5 + [429] * 4


# --- keeping others out


async def test_strangers_who_fail_do_not_keep_the_signed_in_from_their_password(world: World) -> None:
    inside, stranger = await world.browser("li"), await world.browser()
    for _ in range(5):
        assert (await stranger.sign_in("li", "wrong-password-x"))[0] == 401
    assert (await stranger.sign_in("li"))[0] == 429
    assert (await inside.ask("POST", "/console/api/reauth", {"password": PASSWORD}))[0] == 200
    # A session that was taken has its own five tries, and signing in elsewhere gives it no more.
    for _ in range(5):
        assert (await inside.ask("POST", "/console/api/reauth", {"password": "wrong-password-x"}))[0] == 401
    entries = (await world.token("GET", "/admin/v1/audit?action=console&limit=20"))[1]["entries"]
    failed = [e["action"] for e in entries if e["result"] == "refused: 401"]
    assert failed == ["console.reauth"] * 5 + ["console.sign_in"] * 5  # the newest first
    await world.parts.sessions.kept.forget_tries("n:li", "a:127.0.0.1")
    assert (await stranger.sign_in("li"))[0] == 200
    assert (await inside.ask("POST", "/console/api/reauth", {"password": PASSWORD}))[0] == 429
    assert (await inside.ask("POST", "/console/api/password", {"old": PASSWORD, "new": PASSWORD}))[0] == 429
    assert (await world.token("PUT", "/console/api/users/li", {"unlock": True}))[0] == 200
    assert (await inside.ask("POST", "/console/api/reauth", {"password": PASSWORD}))[0] == 200


async def test_a_flood_of_sign_ins_is_turned_away_and_counts_for_nobody(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    world: World = await opened(trusted_proxies=("127.0.0.1",))
    go_on = asyncio.Event()
    compare = asyncio.to_thread

    async def held(*args: object) -> object:
        await go_on.wait()
        return await compare(*args)  # type: ignore[arg-type]

    for n in range(passwords.WAITING_MOST + passwords.AT_ONCE + 10):
        await world.user(f"u{n}")
    monkeypatch.setattr(passwords.asyncio, "to_thread", held)
    names = [f"u{n}" for n in range(passwords.WAITING_MOST + passwords.AT_ONCE + 10)]
    browsers = [await world.browser(address=f"203.0.113.{n}") for n in range(len(names))]
    asked = [asyncio.create_task(one.sign_in(name)) for one, name in zip(browsers, names, strict=True)]
    try:
        # At most so many wait: the others hear so at once, and not after fifteen seconds.
        turned, _ = await asyncio.wait(asked, timeout=3, return_when=asyncio.FIRST_COMPLETED)
        assert {(task.result()[0], task.result()[1]["code"]) for task in turned} <= {
            (503, "busy"),
            (429, "too_many_tries"),
        }
    finally:
        go_on.set()
    assert {status for status, _ in await asyncio.gather(*asked)} == {200, 503}
    # Who was turned away has lost no try, neither by name nor by address.
    assert world.raw().keys("gw:{console}:tries:*") == []


# --- set-up


async def test_a_set_up_token_does_not_come_back_when_the_last_user_goes(world: World) -> None:
    made = await world.parts.token.make()
    assert made is not None
    body = {"name": "root", "role": "admin", "password": PASSWORD}
    assert (await world.token("POST", "/console/api/users", body))[0] == 201
    assert (await world.token("DELETE", "/console/api/users/root"))[0] == 200
    browser = await world.browser()
    body = {"token": made[0], "name": "evil", "password": PASSWORD}
    status, said = await browser.ask("POST", "/console/api/setup", body)
    assert (status, said["code"]) == (401, "wrong_token")


# --- leaving no trace


async def test_no_export_begins_in_the_middle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blacklists, "PAGE", 100)
    lists = [f"+861380013{n:04d}" for n in range(1000)]
    _, begun = await world.token("POST", "/admin/v1/blacklist/imports", {})
    rows = {"rows": [[n, number] for n, number in enumerate(lists)]}
    assert (await world.token("POST", f"/admin/v1/blacklist/imports/{begun['id']}/rows", rows))[1]["added"] == 1000
    browser, place = await world.browser("operator"), "/admin/v1/blacklist/entries"
    for cursor in ("0:0", "0:1", "1:0", "x", "0:0~" + "0" * 32):
        status, said = await browser.ask("GET", f"{place}?cursor={cursor}")
        assert (status, said.get("field")) == (422, "cursor"), cursor
    assert await world.entries("blacklist.export") == []
    found, cursor, n = [], "", 0
    while True:
        status, page = await browser.ask("GET", f"{place}?cursor={cursor}")
        assert status == 200
        found += page["entries"]
        if n == 0:
            first = page["next"]
        cursor, n = page["next"] or "", n + 1
        if not cursor:
            break
    assert {f"+{row[0]}" for row in found} == set(lists)
    assert len(await world.entries("blacklist.export")) == 1
    # What one was told leads nobody else on, and into no other list.
    assert first
    assert (await world.token("GET", f"{place}?cursor={first}", token=LI))[0] == 422
    assert (await browser.ask("GET", f"{place}?cursor={first}"))[0] == 200


async def test_no_erasure_begins_in_the_middle(world: World) -> None:
    body = {"number": "+8613800138000", "cancel": True}
    for place in ("rest:0", "walk:0", "learned:0", "look:0:0:0:0:0", "walk:7"):
        status, said = await world.token("POST", "/admin/v1/erase", {**body, "next": place})
        assert (status, said["field"]) == (422, "next"), place


# --- what is not HTTP as browsers speak it


@pytest.mark.parametrize("origin", ["http://[", "https://[::1", "http://[x]", "https://a]b"])
async def test_an_origin_that_is_none_is_refused_and_no_fault_of_ours(
    world: World, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await world.browser("operator")
    for path in ("/console/api/session", "/console/api/setup"):
        status, said = await browser.ask("POST", path, {}, Origin=origin)
        assert (status, said["code"]) == (403, "cross_site")
    status, said = await browser.ask("PUT", "/admin/v1/gates", {}, Origin=origin)
    assert (status, said["code"]) == (403, "cross_site")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_is_expected_is_not_repeated(world: World) -> None:
    host, _, port = world.base.removeprefix("http://").partition(":")
    for path in ("/console/", "/admin/v1/gates", "/nowhere"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nExpect: <b>me\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), 5)).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 417 ")
        assert "<b>me" not in answer
        assert "application/problem+json" in answer
        for name in ("X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'", "Server: smsgw"):
            assert name in answer


async def test_metrics_are_for_the_machine_itself_and_not_for_who_comes_through_it(world: World) -> None:
    browser = await world.browser()
    assert (await browser.ask("GET", "/metrics"))[0] == 200
    assert (await browser.ask("GET", "/metrics", Host="localhost:8081"))[0] == 200
    # By a proxy on this machine; by a name that a hostile page lets point here (DNS rebinding).
    for more in (
        {"X_Forwarded_For": "203.0.113.9"}, {"X_Forwarded_Proto": "https"}, {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"}, {"Host": "evil.example"}, {"Host": "evil.example:8081"},
        {"Host": "127.0.0.1.evil.example"}, {"Host": "203.0.113.9"}, {"Host": "["},
    ):  # fmt: skip
        assert (await browser.ask("GET", "/metrics", **more))[0] == 401, more
    assert (await world.token("GET", "/metrics"))[0] == 200
