"""Who may ask the listener for what: every route by every role, forged requests, the password asked for once more."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from aiohttp import web

from gateway.admin.operators import FULL_IN_BODY, ONLY_LOOKS, role_for, wants_password
from gateway.admin.requests import operator_of
from gateway.console.sessions import COOKIE
from gateway.settings.values import OPERATOR_ROLES
from tests.console.conftest import BEARER, LI, PLAIN, Open, World
from tests.support.door import PASSWORD, Browser

HOLD = {"kind": "tag", "name": "x", "state": "hold"}
OPEN = {("GET", "/console"), ("GET", "/console/"), ("GET", "/console/static/{path}"), ("GET", "/console/api/session"),
        ("POST", "/console/api/session"), ("POST", "/console/api/setup"), ("GET", "/livez"), ("GET", "/readyz"),
        ("GET", "/metrics")}  # fmt: skip
ADMINS_ONLY = ("/admin/v1/erase", "/admin/v1/config", "/admin/v1/operators", "/admin/v1/accounts/{id}/key",
               "/console/api/users", "/console/api/setup-token")  # fmt: skip
OWN = ("/console/api/session", "/console/api/reauth", "/console/api/password", "/console/api/totp")


@pytest.fixture
async def routes(world: World) -> list[tuple[str, str]]:
    """The route table of the listener, as it is served."""
    found: set[tuple[str, str]] = set()
    for route in _routes_of(world):
        assert route.resource is not None
        if route.method != "HEAD":
            found.add((route.method, route.resource.canonical))
    return sorted(found)


def _routes_of(world: World) -> list[web.AbstractRoute]:
    return list(world.app.router.routes())


async def test_every_route_by_every_role(world: World, routes: list[tuple[str, str]]) -> None:
    assert len(routes) > 60
    assert set(routes) >= OPEN - {("GET", "/metrics")}
    nobody = await world.browser()
    browsers = {role: await world.browser(role) for role in OPERATOR_ROLES}
    for method, canonical in routes:
        path = re.sub(r"\{[^}]*\}", "x", canonical)
        wanted = _wanted(method, canonical)
        if (method, canonical) not in OPEN:
            status, _ = await nobody.ask(method, path, {} if method != "GET" else None)
            assert status == 401, (method, path)
        for role, browser in browsers.items():
            if canonical.startswith(OWN) and method != "GET":
                continue  # test_sign_in has these; here they would end the session
            may = OPERATOR_ROLES.index(role) >= OPERATOR_ROLES.index(wanted)
            if may and (canonical == "/admin/v1/events" or canonical.startswith("/console/static")):
                continue
            status, said = await browser.ask(method, path, {"nothing": 1} if method != "GET" else None)
            if (method, canonical) in OPEN:
                assert status != 403, (method, path, role)
            elif may:
                assert status not in (401, 403), (method, path, role, said)
            else:
                assert (status, said["code"]) == (403, "forbidden"), (method, path, role, said)


def _wanted(method: str, canonical: str) -> str:
    """Say it again in other words than `role_for`."""
    if canonical.startswith("/console/api/users"):
        return "admin"
    if method == "GET":
        return "operator" if canonical.endswith("/blacklist/entries") else "viewer"
    if (canonical.startswith(OWN)) or canonical in ONLY_LOOKS:
        return "viewer"
    return "admin" if canonical.startswith(ADMINS_ONLY) else "operator"


@pytest.mark.parametrize("role", OPERATOR_ROLES)
async def test_looking_in_full_is_for_operators_also_by_post(world: World, role: str) -> None:
    browser = await world.browser(role)
    may = 200 if role != "viewer" else 403
    find = {"to": "+8613800138000"}
    assert (await browser.ask("POST", "/admin/v1/messages/find", find))[0] == 200
    assert (await browser.ask("POST", "/admin/v1/messages/find", {**find, "full": False}))[0] == 200
    assert (await browser.ask("POST", "/admin/v1/messages/find", {**find, "full": True}))[0] == may
    number = {"number": "+8613800138000"}
    assert (await browser.ask("POST", "/admin/v1/inbound/search", number))[0] == 200
    assert (await browser.ask("POST", "/admin/v1/inbound/search", {**number, "full": True}))[0] == may
    assert (await browser.ask("POST", "/admin/v1/blacklist/search", number))[0] == 200
    assert (await browser.ask("GET", "/admin/v1/inbound?full=1"))[0] == may
    # What is no flag is refused by the endpoint, or by the role, and never answered.
    for odd in (1, "true", [0]):
        assert (await browser.ask("POST", "/admin/v1/messages/find", {**find, "full": odd}))[0] in (403, 422)
    # Twice the same key: the one that the endpoint reads is the one that is looked at.
    for data in (
        b'{"to":"+8613800138000","full":false,"full":true}',
        b'{"to":"+8613800138000","full":true,"full":false}',
    ):
        status, _ = await browser.ask("POST", "/admin/v1/messages/find", data=data, Content_Type="application/json")
        assert status == (may if data.endswith(b"true}") else 200)


@pytest.mark.parametrize("path", sorted(FULL_IN_BODY))
async def test_a_token_of_a_viewer_cannot_look_in_full_either(opened: Open, path: str) -> None:
    assert role_for("POST", path) == "viewer"
    assert role_for("POST", path, full=True) == "operator"


# --- forged requests


async def test_what_changes_something_needs_the_page(world: World) -> None:
    browser = await world.browser("operator")
    other = await world.browser("wu")
    host = browser.base.removeprefix("http://")
    good = (await browser.ask("PUT", "/admin/v1/gates", HOLD))[0]
    assert good == 200
    for drop, more, code in (
        (("X-CSRF-Token",), {}, "csrf"),
        ((), {"X_CSRF_Token": "wrong"}, "csrf"),
        ((), {"X_CSRF_Token": other.csrf}, "csrf"),
        ((), {"X_CSRF_Token": browser.cookie}, "csrf"),
        ((), {"X_CSRF_Token": ""}, "csrf"),
        ((), {"Origin": "https://evil.example"}, "cross_site"),
        ((), {"Origin": "null"}, "cross_site"),
        ((), {"Origin": f"http://{host}.evil.example"}, "cross_site"),
        ((), {"Origin": f"ftp://{host}"}, "cross_site"),
        ((), {"Origin": "http://127.0.0.1:1"}, "cross_site"),
        ((), {"Sec_Fetch_Site": "cross-site"}, "cross_site"),
        ((), {"Sec_Fetch_Site": "same-site"}, "cross_site"),
        ((), {"Sec_Fetch_Site": "none"}, "cross_site"),
        (("Origin", "Sec-Fetch-Site"), {}, "cross_site"),
    ):
        status, said = await browser.ask("PUT", "/admin/v1/gates", HOLD, drop=drop, **more)
        assert (status, said["code"]) == (403, code), (drop, more)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        data = b'{"kind":"tag","name":"x","state":"hold"}'
        status, said = await browser.ask("PUT", "/admin/v1/gates", data=data, Content_Type=kind)
        assert (status, said["code"]) == (415, "unsupported_media_type")
    # One of the two headers is enough for browsers that do not send the other.
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD, drop=("Sec-Fetch-Site",)))[0] == 200
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD, drop=("Origin",)))[0] == 200
    assert len(await world.entries("gate.set")) == 3
    # A form of another site with method override, or a link, changes nothing.
    assert (await browser.ask("GET", "/admin/v1/gates", Sec_Fetch_Site="cross-site"))[1]["code"] == "cross_site"
    assert (await browser.ask("GET", "/console/", Sec_Fetch_Site="cross-site"))[0] == 200


async def test_every_route_that_changes_something_wants_the_token(world: World, routes: list[tuple[str, str]]) -> None:
    browser = await world.browser("admin")
    before = len(await world.entries())
    for method, canonical in routes:
        if method == "GET" or (method, canonical) in OPEN:
            continue
        path = re.sub(r"\{[^}]*\}", "x", canonical)
        status, said = await browser.ask(method, path, {}, drop=("X-CSRF-Token",))
        assert (status, said["code"]) == (403, "csrf"), (method, path)
        status, said = await browser.ask(method, path, {}, Origin="https://evil.example")
        assert (status, said["code"]) == (403, "cross_site"), (method, path)
    assert len(await world.entries()) == before


async def test_signing_in_is_for_the_own_page(world: World) -> None:
    await world.user("li")
    browser = await world.browser()
    body = {"name": "li", "password": PASSWORD}
    for path in ("session", "setup"):
        for more in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            status, said = await browser.ask("POST", f"/console/api/{path}", body, **more)
            assert (status, said["code"]) == (403, "cross_site")
        status, said = await browser.ask("POST", f"/console/api/{path}", data=b"{}", Content_Type="text/plain")
        assert (status, said["code"]) == (415, "unsupported_media_type")
    assert browser.cookie == ""


async def test_plain_http_from_elsewhere_is_told_why(world: World) -> None:
    await world.user("li")
    browser = await world.browser()
    origin = "http://sms.example.com:8081"
    status, said = await browser.ask(
        "POST", "/console/api/session", {"name": "li", "password": PASSWORD}, Origin=origin, Host="sms.example.com:8081"
    )
    assert (status, said["code"]) == (400, "insecure_origin")
    assert "https or an SSH tunnel" in said["detail"]
    status, _ = await browser.ask(
        "POST", "/console/api/session", {"name": "li", "password": PASSWORD},
        Origin="https://sms.example.com", Host="sms.example.com",
    )  # fmt: skip
    assert status == 200


async def test_a_proxy_that_rewrites_the_host_is_named(opened: Open) -> None:
    world: World = await opened(origins=("https://sms.example.com",))
    browser = await world.browser("operator")
    origin = "https://sms.example.com"
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD, Origin=origin))[0] == 200
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD, Origin=origin + ":8443"))[0] == 403


async def test_browsers_are_told_to_come_by_tls_where_a_trusted_proxy_has_it(opened: Open, world: World) -> None:
    behind: World = await opened(trusted_proxies=("127.0.0.1",))
    for there, sent, told in (
        (behind, "https", "max-age=31536000"), (behind, "http", None), (behind, "", None), (world, "https", None),
    ):  # fmt: skip
        browser = await there.browser()
        for path in ("/console/", "/console/api/session", "/admin/v1/gates", "/console/static/index.html"):
            await browser.ask("GET", path, X_Forwarded_Proto=sent)
            assert browser.headers.get("Strict-Transport-Security") == told


# --- tokens and cookies side by side


async def test_tokens_need_nothing_of_this(world: World) -> None:
    for token, name in ((PLAIN, "admin"), (LI, "li")):
        assert (await world.token("PUT", "/admin/v1/gates", HOLD, token))[0] == 200
        assert (await world.entries("gate.set"))[0].actor == f"{name}@127.0.0.1"
        assert (await world.token("GET", "/admin/v1/blacklist/entries", token=token))[0] == 200
    browser = await world.browser("viewer")
    # A token that is sent is what counts: a wrong one does not fall back to the cookie, a right one needs no page.
    assert (await browser.ask("GET", "/admin/v1/gates", Authorization="Bearer wrong"))[0] == 401
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD, drop=("X-CSRF-Token", "Origin"), **BEARER))[0] == 200


async def test_a_user_is_not_taken_for_an_operator_of_that_name(world: World) -> None:
    await world.user("li", "admin")
    browser = await world.browser("li")
    await browser.ask("PUT", "/admin/v1/gates", HOLD)
    await world.token("PUT", "/admin/v1/gates", HOLD, LI)
    assert [entry.actor for entry in await world.entries("gate.set")] == ["li@127.0.0.1", "console:li@127.0.0.1"]


@pytest.mark.parametrize("value", ["", "x", "x" * 43, "é" * 43, "a b" * 20, "x" * 5000])
async def test_nonsense_in_the_cookie_is_nobody(world: World, value: str) -> None:
    browser = await world.browser()
    status, _ = await browser.ask("GET", "/admin/v1/gates", Cookie=f"{COOKIE}={value}".encode().decode("latin-1"))
    assert status == 401


# --- the password once more


async def test_what_is_sensitive_wants_a_fresh_password(world: World, routes: list[tuple[str, str]]) -> None:
    browser = await world.browser("admin")
    sensitive = [(m, p) for m, p in routes if wants_password(m, p)]
    assert {path for _, path in sensitive} >= {
        "/admin/v1/blacklist/entries", "/admin/v1/erase", "/console/api/users", "/console/api/users/{name}",
        "/console/api/totp", "/console/api/setup-token",
    }  # fmt: skip
    asked = [(m, re.sub(r"\{[^}]*\}", "x", p), {"nothing": 1}) for m, p in sensitive if "totp" not in p]
    asked += [
        ("GET", "/admin/v1/inbound?full=1", None),
        ("HEAD", "/admin/v1/blacklist/entries", None),
        ("POST", "/admin/v1/messages/find", {"to": "+8613800138000", "full": True}),
        ("POST", "/admin/v1/inbound/search", {"number": "+8613800138000", "full": True}),
        ("GET", "/admin/v1/messages/0199c0de-0000-7000-8000-000000000000?full=1", None),
    ]
    assert browser.csrf
    world.move_sessions(4, 301)
    before = len(await world.entries())
    for method, path, body in asked:
        status, said = await browser.ask(method, path, body if method not in ("GET", "HEAD") else None)
        assert status == 403, (method, path)
        assert method == "HEAD" or said["code"] == "reauth_required", (method, path)
    assert len(await world.entries()) == before
    # All else goes on.
    assert (await browser.ask("PUT", "/admin/v1/gates", HOLD))[0] == 200
    assert (await browser.ask("POST", "/admin/v1/messages/find", {"to": "+8613800138000"}))[0] == 200
    assert (await browser.ask("GET", "/console/api/session"))[1]["reauth_s"] == 0

    assert (await browser.ask("POST", "/console/api/reauth", {"password": "wrong-password-x"}))[0] == 401
    assert (await browser.ask("GET", "/admin/v1/inbound?full=1"))[0] == 403
    status, said = await browser.ask("POST", "/console/api/reauth", {"password": PASSWORD})
    assert (status, said["csrf"]) == (200, browser.csrf)
    assert 290 <= said["reauth_s"] <= 300
    for method, path, body in asked:
        if method == "DELETE" or "full" in path:
            continue
        status, _ = await browser.ask(method, path, body if method not in ("GET", "HEAD") else None)
        assert status not in (401, 403), (method, path)
    # In this session only.
    second = await world.browser("admin")
    world.move_sessions(4, 301)
    assert (await browser.ask("POST", "/console/api/reauth", {"password": PASSWORD}))[0] == 200
    assert (await second.ask("GET", "/admin/v1/inbound?full=1"))[1]["code"] == "reauth_required"


def test_the_table_of_passwords() -> None:
    assert wants_password("POST", "/admin/v1/accounts/{id}/key")
    assert wants_password("POST", "/admin/v1/config/rollback")
    assert wants_password("POST", "/admin/v1/config/write")
    assert not wants_password("POST", "/admin/v1/config/reload")
    assert not wants_password("PUT", "/admin/v1/channels")
    assert wants_password("GET", "/admin/v1/messages/{id}", full=True)


# --- users


async def test_users_are_managed(world: World) -> None:
    root = await world.browser("admin")
    body = {"name": "wu", "role": "viewer", "password": "a-long-enough-one"}
    status, said = await root.ask("POST", "/console/api/users", body)
    assert (status, said["name"], said["role"], said["enabled"], said["totp"]) == (201, "wu", "viewer", True, False)
    assert (await root.ask("POST", "/console/api/users", body))[1]["code"] == "exists"
    for wrong, field in (
        ({**body, "name": "Wu"}, "name"), ({**body, "name": "a" * 33}, "name"), ({**body, "name": "wu "}, "name"),
        ({**body, "name": 5}, "name"), ({**body, "name": "xi", "role": "root"}, "role"),
        ({**body, "name": "xi", "password": "short"}, "password"),
        ({**body, "name": "xi", "password": None}, "password"),
        ({**body, "name": "xi", "age": 3}, "age"),
    ):  # fmt: skip
        status, said = await root.ask("POST", "/console/api/users", wrong)
        assert (status, said["field"]) == (422, field)
    wu = await world.browser()
    assert (await wu.sign_in("wu", "a-long-enough-one"))[0] == 200
    found = {one["name"]: one for one in (await root.ask("GET", "/console/api/users"))[1]["users"]}
    assert (found["wu"]["sessions"], found["wu"]["last_address"]) == (1, "127.0.0.1")
    assert not {"password", "hash", "totp_next"} & found["wu"].keys()
    status, said = await root.ask("PUT", "/console/api/users/wu", {"role": "operator", "enabled": False})
    assert (status, said["role"], said["enabled"], said["sessions_ended"]) == (200, "operator", False, 1)
    assert (await root.ask("PUT", "/console/api/users/nobody", {"role": "viewer"}))[0] == 404
    assert (await root.ask("DELETE", "/console/api/users/wu"))[1] == {"removed": "wu", "sessions_ended": 0}
    # Who administrates cannot lock everybody out; who has the token may.
    for method, change in (("PUT", {"role": "viewer"}), ("PUT", {"enabled": False}), ("DELETE", None)):
        assert (await root.ask(method, "/console/api/users/admin", change))[1]["code"] == "last_admin"
    assert (await root.ask("GET", "/console/api/users"))[0] == 200
    assert (await world.token("PUT", "/console/api/users/admin", {"enabled": False}))[0] == 200
    actions = [(e.action, e.object, e.actor.partition("@")[0]) for e in reversed(await world.entries())]
    for entry in (
        ("console.user_added", "wu", "console:admin"), ("console.user_changed", "wu", "console:admin"),
        ("console.user_removed", "wu", "console:admin"), ("console.user_changed", "admin", "admin"),
    ):  # fmt: skip
        assert entry in actions


async def test_two_changes_at_once_do_not_overwrite_each_other(world: World) -> None:
    user = await world.user("li")
    kept = [await world.parts.users.change(user.changed(role=role)) for role in ("viewer", "admin")]
    assert [one.word for one in kept] == ["ok", "moved"]


# --- streams


async def test_a_stream_ends_with_its_session(opened: Open) -> None:
    began = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        operator = operator_of(request)
        assert operator is not None
        began.set()
        while True:
            await answer.write(b": still here\n\n")
            await asyncio.sleep(0.05)

    world: World = await opened(more=[web.get("/admin/v1/test-stream", stream)])
    browser = await world.browser("viewer")

    async def listen(one: Browser) -> None:
        assert one._session is not None
        cookie = {"Cookie": f"{COOKIE}={one.cookie}"}
        async with one._session.get(f"{world.base}/admin/v1/test-stream", headers=cookie) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "smsgw"
            while await answer.content.readany():
                pass

    listening = asyncio.create_task(listen(browser))
    await asyncio.wait_for(began.wait(), 5)
    await asyncio.wait([listening], timeout=1.2)
    assert not listening.done()  # a session that lives keeps its stream
    ended_at = time.monotonic()
    await world.parts.sessions.kept.close(name="viewer")
    await asyncio.wait([listening], timeout=5)
    assert listening.done()
    assert time.monotonic() - ended_at < 2.5
    listening.exception()  # the connection was cut in the middle, or ended: both are an end
    assert (await browser.ask("GET", "/admin/v1/gates"))[0] == 401
