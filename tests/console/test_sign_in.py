"""Signing in and out over real sockets: the cookie, wrong answers, delays, set-up, expiry, what the audit has."""

from __future__ import annotations

import asyncio
import hashlib
import re
import stat
import time
from http.cookies import SimpleCookie
from pathlib import Path

import pyotp
import pytest

from gateway.console.parts import Parts
from gateway.console.sessions import COOKIE
from gateway.console.setup_token import FILE, SetupToken
from gateway.store.audit import Audit
from gateway.store.console_sessions import id_of
from gateway.store.console_users import ConsoleUsers
from gateway.store.store import Store
from tests.console.conftest import Open, World
from tests.support.door import PASSWORD, quick


async def test_a_user_signs_in_and_out(world: World) -> None:
    await world.user("li", "operator")
    browser = await world.browser()
    assert (await browser.ask("GET", "/console/api/session"))[1]["state"] == "signed_out"
    status, said = await browser.sign_in("li")
    assert (status, said["state"], said["name"], said["role"]) == (200, "signed_in", "li", "operator")
    assert said["totp"] is False
    assert 290 <= said["reauth_s"] <= 300
    assert 1700 < said["idle_s"] <= 1800
    line = browser.headers["Set-Cookie"]
    kept: SimpleCookie = SimpleCookie(line)
    morsel = kept[COOKIE]
    assert len(morsel.value) == 43
    assert (morsel["secure"], morsel["httponly"], morsel["path"], morsel["samesite"]) == (True, True, "/", "Strict")
    assert morsel["domain"] == morsel["max-age"] == morsel["expires"] == ""

    status, again = await browser.ask("GET", "/console/api/session")
    assert (status, again["state"], again["csrf"]) == (200, "signed_in", said["csrf"])
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200
    assert (await browser.ask("PUT", "/admin/v1/gates", {"kind": "tag", "name": "x", "state": "hold"}))[0] == 200
    (entry,) = await world.entries("gate.set")
    assert entry.actor == "console:li@127.0.0.1"

    old = browser.cookie
    assert (await browser.ask("DELETE", "/console/api/session"))[1]["state"] == "signed_out"
    browser.cookie = old
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await browser.ask("GET", "/console/api/session"))[1]["state"] == "signed_out"
    assert [e.action for e in reversed(await world.entries())] == ["console.sign_in", "gate.set", "console.sign_out"]


async def test_the_store_has_only_hashes(world: World) -> None:
    browser = await world.browser("li")
    with world.raw() as client:
        (id_,) = client.hkeys("gw:{console}:sessions")
        assert id_.decode() == id_of(browser.cookie) == hashlib.sha256(browser.cookie.encode()).hexdigest()
        dump = b"".join(
            repr(client.hgetall(key)).encode() for key in client.keys("gw:{console}:*") if client.type(key) == b"hash"
        )
    for secret in (browser.cookie, browser.csrf, PASSWORD):
        assert secret.encode() not in dump


@pytest.mark.parametrize(
    ("name", "password"), [("li", "wrong-password-x"), ("wu", PASSWORD), ("LI", PASSWORD), ("", ""), ("li\n", PASSWORD)]
)
async def test_a_wrong_name_and_a_wrong_password_look_alike(world: World, name: str, password: str) -> None:
    await world.user("li")
    browser = await world.browser()
    status, said = await browser.sign_in(name, password)
    assert (status, said["code"]) == (401, "wrong_password")
    assert said["detail"] == "the name or the password is not right"
    assert "Set-Cookie" not in browser.headers


async def test_an_unknown_name_costs_a_comparison_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.user("li")
    compared = []
    fits = world.parts.passwords.fits

    async def counted(kept: str | None, password: str) -> bool:
        compared.append(kept is None)
        return await fits(kept, password)

    monkeypatch.setattr(world.parts.passwords, "fits", counted)
    browser = await world.browser()
    await browser.sign_in("li", "wrong-password-x")
    await browser.sign_in("nobody", "wrong-password-x")
    assert compared == [False, True]


async def test_a_disabled_user_looks_like_none(world: World) -> None:
    await world.user("li")
    await world.parts.users.change(world.users["li"].changed(enabled=False))
    status, said = await (await world.browser()).sign_in("li")
    assert (status, said["code"]) == (401, "wrong_password")


# --- delays


async def test_failures_delay_by_name_and_by_address(opened: Open) -> None:
    world: World = await opened(trusted_proxies=("127.0.0.1",))
    await world.user("li")
    browser = await world.browser(address="203.0.113.7")
    for _ in range(5):
        assert (await browser.sign_in("li", "wrong-password-x"))[0] == 401
    status, said = await browser.sign_in("li")
    assert (status, said["code"]) == (429, "too_many_tries")
    assert 1 <= int(browser.headers["Retry-After"]) <= 2
    # By name from elsewhere, by address for another name; nobody else is delayed.
    elsewhere = await world.browser(address="203.0.113.8")
    assert (await elsewhere.sign_in("li"))[0] == 429
    assert (await browser.sign_in("wu"))[0] == 429
    await world.user("wu")
    assert (await elsewhere.sign_in("wu"))[0] == 200
    # Each further failure doubles it, up to the longest; tries meanwhile do not count.
    waits = []
    for _ in range(12):
        world.move_tries(901)
        assert (await browser.sign_in("li", "wrong-password-x"))[0] == 401
        assert (await browser.sign_in("li", "wrong-password-x"))[0] == 429
        waits.append(int(browser.headers["Retry-After"]))
    assert waits[:4] == [4, 8, 16, 32]
    assert waits[-1] == 900
    # Who knows the password gets in once the time is over, and starts anew by name.
    world.move_tries(901)
    assert (await elsewhere.sign_in("li"))[0] == 200
    for _ in range(5):
        assert (await elsewhere.sign_in("li", "wrong-password-x"))[0] == 401


async def test_an_ipv6_network_is_one_address(opened: Open) -> None:
    world: World = await opened(trusted_proxies=("127.0.0.1",))
    for n in range(5):
        browser = await world.browser(address=f"2001:db8::{n + 1}")
        assert (await browser.sign_in(f"u{n}"))[0] == 401
    assert (await (await world.browser(address="2001:db8::99")).sign_in("u9"))[0] == 429
    assert (await (await world.browser(address="2001:db8:0:1::1")).sign_in("u9"))[0] == 401


async def test_many_tries_at_once_count_each(world: World) -> None:
    await world.user("li")
    browsers = [await world.browser() for _ in range(12)]
    said = await asyncio.gather(*(one.sign_in("li", "wrong-password-x") for one in browsers))
    assert sorted(status for status, _ in said) == [401] * 5 + [429] * 7


async def test_who_comes_in_leaves_the_tries_of_others_from_the_address(world: World) -> None:
    await world.user("li")
    browser = await world.browser()
    for _ in range(4):
        assert (await browser.sign_in("root", "wrong-password-x"))[0] == 401
        assert (await browser.sign_in("li"))[0] == 200
    assert (await browser.sign_in("root", "wrong-password-x"))[0] == 401
    assert (await browser.sign_in("li"))[0] == 429


async def test_an_admin_lets_a_name_try_again(world: World) -> None:
    await world.user("li")
    browser = await world.browser()
    for _ in range(5):
        await browser.sign_in("li", "wrong-password-x")
    assert (await browser.sign_in("li"))[0] == 429
    body = {"unlock": True, "address": "127.0.0.1"}
    assert (await world.token("PUT", "/console/api/users/li", body))[0] == 200
    assert (await browser.sign_in("li"))[0] == 200
    assert (await world.entries("console.unlocked"))[0].actor == "admin@127.0.0.1"


async def test_many_failures_do_not_fill_the_audit(world: World) -> None:
    for n in range(45):
        if n % 5 == 0:
            await world.parts.sessions.kept.forget_tries("a:127.0.0.1", "n:hunter2-is-my-password")
        assert (await (await world.browser()).sign_in("hunter2-is-my-password"))[0] == 401
    found = await world.entries("console.sign_in")
    assert len(found) == 30
    assert {(e.actor, e.object, e.more["result"]) for e in found} == {("nobody@127.0.0.1", "unknown", "refused: 401")}


# --- one-time codes


async def test_one_time_codes(world: World) -> None:
    browser = await world.browser("li")
    status, said = await browser.ask("POST", "/console/api/totp")
    assert status == 200
    assert said["uri"].startswith("otpauth://totp/smsgw:li%40127.0.0.1?secret=")
    app = pyotp.TOTP(said["secret"])
    assert (await browser.ask("PUT", "/console/api/totp", {"code": "000000"}))[1]["code"] == "wrong_code"
    # It is not wanted before it was shown once.
    other = await world.browser()
    assert (await other.sign_in("li"))[0] == 200
    now = int(time.time())
    status, said = await browser.ask("PUT", "/console/api/totp", {"code": app.at(now - 30)})
    assert (status, said["totp"]) == (200, True)

    status, said = await other.sign_in("li")
    assert (status, said["code"], said["field"]) == (401, "otp_required", "otp")
    assert (await other.sign_in("li", otp=app.at(now - 30)))[1]["code"] == "wrong_code"  # it was used
    assert (await other.sign_in("li", otp="123456x"))[1]["code"] == "wrong_code"
    assert (await other.sign_in("li", otp=app.at(now + 300)))[1]["code"] == "wrong_code"
    code = app.at(now)
    assert (await other.sign_in("li", otp=code))[0] == 200
    assert (await other.sign_in("li", otp=code))[1]["code"] == "wrong_code"
    # The same code at two doors at the same time: one opens.
    await world.parts.sessions.kept.forget_tries("n:li", "a:127.0.0.1")
    later = app.at(now + 30)
    two = [await world.browser(), await world.browser()]
    said_twice = await asyncio.gather(*(one.sign_in("li", otp=later) for one in two))
    assert sorted(status for status, _ in said_twice) == [200, 401]

    assert (await browser.ask("DELETE", "/console/api/totp"))[1]["totp"] is False
    assert (await other.sign_in("li"))[0] == 200
    actions = [entry.action for entry in await world.entries()]
    assert actions.count("console.totp_on") == actions.count("console.totp_off") == 1


async def test_an_admin_takes_a_lost_authenticator_off(world: World) -> None:
    user = await world.user("li")
    await world.parts.users.change(user.changed(totp="A" * 32))
    browser = await world.browser()
    assert (await browser.sign_in("li"))[1]["code"] == "otp_required"
    assert (await world.token("PUT", "/console/api/users/li", {"totp": True}))[0] == 422
    status, said = await world.token("PUT", "/console/api/users/li", {"totp": False})
    assert (status, said["totp"]) == (200, False)
    assert (await browser.sign_in("li"))[0] == 200


# --- the first user


async def test_the_first_user_comes_with_the_token(world: World, tmp_path: Path) -> None:
    await world.parts.token.at_start()
    path = tmp_path / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    assert len(token) == 43
    browser = await world.browser()
    assert (await browser.ask("GET", "/console/api/session"))[1]["state"] == "setup"
    body = {"token": token, "name": "root", "password": PASSWORD}
    for changed, status, code in (
        ({"token": "x" * 43}, 401, "wrong_token"),
        ({"password": "short"}, 422, "weak_password"),
        ({"name": "Root"}, 422, "invalid_field"),
        ({"role": "admin"}, 422, "unknown_field"),
    ):
        answered, said = await browser.ask("POST", "/console/api/setup", {**body, **changed})
        assert (answered, said["code"]) == (status, code)
    assert path.exists()
    status, said = await browser.ask("POST", "/console/api/setup", body)
    assert (status, said["state"], said["role"]) == (200, "signed_in", "admin")
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200
    assert not path.exists()
    with world.raw() as client:
        assert not client.exists("gw:{console}:setup")
    status, said = await browser.ask("POST", "/console/api/setup", {**body, "name": "second"})
    assert (status, said["code"]) == (409, "already_set_up")
    assert (await world.entries("console.setup"))[0].actor == "console:root@127.0.0.1"
    await world.parts.token.at_start()
    assert not path.exists()


async def test_of_two_set_ups_at_once_one_wins(world: World) -> None:
    made = await world.parts.token.make()
    assert made is not None
    browsers = [await world.browser() for _ in range(4)]
    said = await asyncio.gather(
        *(
            one.ask("POST", "/console/api/setup", {"token": made[0], "name": f"root{n}", "password": PASSWORD})
            for n, one in enumerate(browsers)
        )
    )
    assert sorted(status for status, _ in said) == [200, 409, 409, 409]
    assert await world.parts.users.count() == 1


async def test_a_set_up_token_has_its_time_and_each_machine_its_own(world: World, store: Store, tmp_path: Path) -> None:
    other = SetupToken(ConsoleUsers(store), tmp_path / "other")
    other.data_dir.mkdir()
    await asyncio.gather(world.parts.token.at_start(), other.at_start())
    first, second = world.parts.token.read(), other.read()
    assert first != second
    await world.parts.token.at_start()  # started again: the one that was shown still counts
    assert world.parts.token.read() == first
    with world.raw() as client:
        for digest in client.hkeys("gw:{console}:setup"):
            client.hset("gw:{console}:setup", digest, 1000)
    browser = await world.browser()
    body = {"token": first, "name": "root", "password": PASSWORD}
    assert (await browser.ask("POST", "/console/api/setup", body))[1]["code"] == "wrong_token"
    await world.parts.token.at_start()
    assert world.parts.token.read() != first
    status, said = await world.token("POST", "/console/api/setup-token")
    assert status == 200
    assert (await browser.ask("POST", "/console/api/setup", {**body, "token": said["token"]}))[0] == 200
    assert (await world.token("POST", "/console/api/setup-token"))[1]["code"] == "already_set_up"


# --- how a session ends


async def test_sessions_end_by_time(world: World) -> None:
    browser = await world.browser("li")
    world.move_sessions(3, 1700)
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200  # used: the half hour begins anew
    world.move_sessions(3, 1700)
    assert (await browser.ask("GET", "/console/api/session"))[1]["idle_s"] <= 100  # asking how long keeps none alive
    assert (await browser.ask("GET", "/admin/v1/gates", X_Background="1"))[0] == 200
    world.move_sessions(3, 101)
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401

    browser = await world.browser("li")
    world.move_sessions(2, 43_100)
    status, said = await browser.ask("GET", "/console/api/session")
    assert (status, said["state"]) == (200, "signed_in")
    assert said["idle_s"] <= 100
    world.move_sessions(2, 101)
    assert (await browser.ask("GET", "/console/api/session"))[1]["state"] == "signed_out"
    assert "Max-Age=0" in browser.headers["Set-Cookie"]
    with world.raw() as client:
        assert client.hlen("gw:{console}:sessions") == 0


async def test_lives_are_configured(opened: Open) -> None:
    world: World = await opened(idle_s=60, session_s=120)
    browser = await world.browser("li")
    assert (await browser.ask("GET", "/console/api/session"))[1]["idle_s"] <= 60
    world.move_sessions(3, 61)
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401


async def test_a_new_sign_in_is_a_new_session_and_ends_the_old_one(world: World) -> None:
    browser = await world.browser("li")
    first, first_csrf = browser.cookie, browser.csrf
    assert (await browser.sign_in("li"))[0] == 200
    assert browser.cookie != first
    assert browser.csrf != first_csrf
    browser.cookie = first
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401


async def test_a_password_change_ends_all_other_sessions(world: World) -> None:
    here, there = await world.browser("li"), await world.browser("li")
    body = {"old": PASSWORD, "new": "another-long-secret-1"}
    assert (await here.ask("POST", "/console/api/password", {**body, "old": "wrong-password-x"}))[0] == 401
    assert (await here.ask("POST", "/console/api/password", {**body, "new": "short"}))[1]["field"] == "new"
    assert (await here.ask("POST", "/console/api/password", {**body, "new": PASSWORD}))[1]["code"] == "weak_password"
    assert (await there.ask("GET", "/admin/v1/gates"))[0] == 200
    assert (await here.ask("POST", "/console/api/password", body))[0] == 200
    assert (await here.ask("GET", "/admin/v1/gates"))[0] == 200
    assert (await there.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await there.sign_in("li"))[0] == 401
    assert (await there.sign_in("li", "another-long-secret-1"))[0] == 200


@pytest.mark.parametrize(
    "change", [{"role": "viewer"}, {"enabled": False}, {"password": "another-long-secret-1"}, None], ids=str
)
async def test_a_user_that_is_changed_or_removed_is_out(world: World, change: dict[str, object] | None) -> None:
    browser = await world.browser("li")
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200
    method = "PUT" if change is not None else "DELETE"
    status, said = await world.token(method, "/console/api/users/li", change)
    assert (status, said["sessions_ended"]) == (200, 1)
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401


async def test_what_another_machine_ended_is_over_within_two_seconds(
    world: World, store: Store, tmp_path: Path
) -> None:
    browser = await world.browser("li")
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200
    elsewhere = Parts.over(store, Audit(store), tmp_path, quick())
    await elsewhere.sessions.kept.close(name="li")
    ended_at = time.monotonic()
    while (await browser.ask("GET", "/admin/v1/gates"))[0] == 200:
        assert time.monotonic() - ended_at < 2
        await asyncio.sleep(0.05)


async def test_sessions_are_listed_and_ended(world: World) -> None:
    here, there, other = await world.browser("li"), await world.browser("li"), await world.browser("wu")
    found = (await here.ask("GET", "/console/api/sessions"))[1]["sessions"]
    assert [one["name"] for one in found] == ["li", "li"]
    assert sorted(one["here"] for one in found) == [False, True]
    assert all(one["browser"].startswith("Python") for one in found)
    assert here.cookie not in str(found)
    assert (await here.ask("GET", "/console/api/sessions?user=all"))[0] == 403
    assert (await here.ask("GET", "/console/api/sessions?user=wu"))[0] == 403
    (theirs,) = (await other.ask("GET", "/console/api/sessions"))[1]["sessions"]
    assert (await here.ask("DELETE", f"/console/api/sessions/{theirs['id']}"))[0] == 404
    (mine,) = (one for one in found if not one["here"])
    assert (await here.ask("DELETE", f"/console/api/sessions/{mine['id']}"))[1] == {"ended": 1}
    assert (await there.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await other.ask("GET", "/admin/v1/gates"))[0] == 200
    root = await world.browser("admin")
    assert len((await root.ask("GET", "/console/api/sessions?user=all"))[1]["sessions"]) == 3
    assert (await root.ask("DELETE", f"/console/api/sessions/{theirs['id']}"))[1] == {"ended": 1}
    assert (await other.ask("GET", "/admin/v1/gates"))[0] == 401
    again = await world.browser("li")
    assert (await again.ask("DELETE", "/console/api/sessions"))[1] == {"ended": 1}
    assert (await here.ask("GET", "/admin/v1/gates"))[0] == 401
    assert (await again.ask("GET", "/admin/v1/gates"))[0] == 200


async def test_a_session_works_on_every_machine_and_survives_a_reload(world: World, opened: Open) -> None:
    browser = await world.browser("li")
    second: World = await opened(idle_s=600)
    browser.base = second.base
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 200


async def test_the_oldest_sessions_of_a_user_make_room(world: World) -> None:
    browser = await world.browser("li")
    for _ in range(20):
        await world.browser("li")
    with world.raw() as client:
        assert client.hlen("gw:{console}:sessions") == 20
    world.parts.sessions.forget()
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401


async def test_a_token_has_no_session(world: World) -> None:
    for method, path, body in (
        ("DELETE", "session", None), ("POST", "reauth", {"password": PASSWORD}), ("POST", "totp", None),
        ("POST", "password", {"old": PASSWORD, "new": PASSWORD}),
    ):  # fmt: skip
        assert (await world.token(method, f"/console/api/{path}", body))[1]["code"] == "no_session"


def test_no_file_of_the_package_holds_a_password() -> None:
    for path in (Path(__file__).parents[2] / "gateway" / "console").rglob("*.py"):
        assert not re.search(r"password\s*=\s*\"[^\"]{8,}", path.read_text())
