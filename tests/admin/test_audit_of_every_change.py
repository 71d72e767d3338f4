"""The audit has every operator's action: the admin server's own routes, each asked, done and refused; and the roles."""

from __future__ import annotations

import asyncio
import pkgutil
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import gateway.admin
from gateway.admin import server as admin_server
from gateway.admin import steering
from gateway.admin.config_v1 import ConfigApi
from gateway.admin.door import Door
from gateway.admin.operators import ADMIN, ONLY_LOOKS, OPERATOR, VIEWER, Operators, role_for
from gateway.admin.steering import endpoints
from gateway.metrics import Metrics
from gateway.model import Secret, message_id
from gateway.reload.keeper import ConfigKeeper
from gateway.reload.machine import begin
from gateway.reload.publisher import Publisher
from gateway.routing.loader import build_router
from gateway.settings import (
    AccountSettings,
    AdminSettings,
    ChannelSettings,
    OperatorSettings,
    RankedChannel,
    RouteMatch,
    RouteSettings,
    Settings,
    WebhookSettings,
)
from gateway.store.audit import Audit, Entry
from gateway.store.keys import new_id
from gateway.store.revisions import Revisions
from gateway.store.store import Store
from gateway.store.templates import TemplateStore
from gateway.templates.registry import Templates
from tests.support.admin import admin_listener
from tests.support.config import ENV, GATEWAY, ROUTES, write_config
from tests.support.messages import accept, message
from tests.support.until import until

NUMBER, TEXT = "+8613871946205", "zanzibarcanary 739164"
TOKENS = {
    "root": "token-of-an-admin",
    "li": "token-of-an-operator",
    "wu": "token-of-a-viewer",
    "admin": "the-plain-token",
}
ROLES = {"root": "admin", "li": "operator", "wu": "viewer"}


@dataclass
class Admin:
    """The admin server with all its parts over a real store."""

    base: str
    store: Store
    session: aiohttp.ClientSession
    config: Path
    routes: set[tuple[str, str]] = field(default_factory=set)

    async def ask(self, method: str, path: str, body: Any = None, *, who: str = "admin") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKENS[who]}"} if who else {}
        async with self.session.request(method, self.base + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def entries(self) -> list[Entry]:
        """Return what operators did, without what the gateway published when it started."""
        return [entry for entry in await Audit(self.store).read(1000) if entry.actor != "start"]


@pytest.fixture
async def admin(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    hook = WebhookSettings("https://hooks.example/in", (Secret("whsec_" + "A" * 43 + "="),))
    settings = replace(
        Settings(tmp_path),
        admin=AdminSettings(
            token=Secret(TOKENS["admin"]),
            operators=tuple(OperatorSettings(n, Secret(TOKENS[n]), role) for n, role in ROLES.items()),
        ),
        channels=(ChannelSettings("cm-a", "127.0.0.1", 2775, "esme", Secret("x")),),
        routes=(RouteSettings("r", RouteMatch(country="CN"), (RankedChannel("cm-a", 0),)),),
        accounts=(AccountSettings("shop", webhook=hook),),
    )
    # The configuration's own endpoints: one machine, which has published what it started with.
    folder = write_config(tmp_path / "config", gateway=GATEWAY.replace('"var"', f'"{tmp_path / "var"}"'))
    begun, metrics = begin(folder, ENV), Metrics("admin", "0", "a")
    keeper = ConfigKeeper(
        Revisions(store), begun, _take, config_dir=folder, role="admin", number=0, incarnation="a", metrics=metrics,
        on_broken=lambda: None, env=ENV,
    )  # fmt: skip
    audit = Audit(store)
    publisher = Publisher(keeper, audit.note, begun.started)
    await keeper.beat()
    tasks = [asyncio.create_task(keeper.run()), asyncio.create_task(publisher.run())]

    async def published() -> bool:
        return keeper.mark.number == 1 and len(await audit.read(10)) == 1

    await until(published)
    made: list[web.Application] = []

    class Noted(web.AppRunner):
        def __init__(self, app: web.Application, **options: Any) -> None:
            made.append(app)
            super().__init__(app, **options)

    monkeypatch.setattr(admin_server.web, "AppRunner", Noted)
    router, templates = build_router(settings), Templates([], TemplateStore(store), hold_s=0.0)
    more = endpoints(settings, store, router, templates, audit, ConfigApi(publisher))
    async with (
        admin_listener(settings, store, tmp_path, router, more) as address,
        aiohttp.ClientSession() as session,
    ):
        (app,) = made
        found = {
            (route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None
        }
        yield Admin(f"http://{address}", store, session, folder, found)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _take(settings: Settings) -> Callable[[], None]:
    del settings
    return lambda: None


@dataclass(frozen=True)
class Change:
    """One route that changes something: how it is asked, what the audit then says, and how it is refused for cause."""

    method: str
    path: str
    body: dict[str, Any]
    action: str
    object: str
    status: int = 200
    result: str = "done"
    refused: tuple[str, dict[str, Any], int] | None = None
    """(path, body, status) of a request that is well formed and refused."""
    refused_as: str = ""
    """What the audit says of that; left out: its status."""
    files: str = ""
    """What routes.toml has before it is asked."""
    route: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.route or self.path


MESSAGE = new_id(0)
KEPT = message_id(MESSAGE)
C = "/admin/v1/config"
TEMPLATE = {"category": "verification", "text": "Code {{ code }}", "params": {"code": {"type": "code"}}}
UNKNOWN = "019ab2c4-7a1f-7000-8abc-0123456789ab"
KEY = "/admin/v1/accounts/x/key"
B, T = "/admin/v1/blacklist", "/admin/v1/templates"
CHANGES = (
    Change("PUT", "/admin/v1/gates", {"kind": "tag", "name": "spring", "state": "hold"}, "gate.set", "tag:spring"),
    Change("PUT", "/admin/v1/channels", {"id": "cm-a", "action": "pause"}, "channel.set", "cm-a"),
    Change("POST", "/admin/v1/ported/forget", {"number": NUMBER}, "ported.forget", "one number"),
    Change(
        "POST", "/admin/v1/webhooks", {"account": "shop", "action": "disable"}, "webhook", "shop",
    ),
    Change("PUT", B, {"number": NUMBER, "scope": "shop"}, "blacklist.add", "shop"),
    Change("DELETE", B, {"number": NUMBER, "scope": "shop"}, "blacklist.remove", "shop"),
    Change(
        "POST", f"{B}/imports", {"scope": "shop", "id": "one"}, "blacklist.import_begun", "shop",
        refused=(f"{B}/imports", {"scope": "global", "id": "one"}, 409),
    ),
    Change(
        "POST", f"{B}/imports/one/end", {"added": 1}, "blacklist.import", "shop", route=f"{B}/imports/{{id}}/end",
        refused=(f"{B}/imports/none/end", {}, 404),
    ),
    Change(
        "POST", f"{B}/undo", {"import": "one"}, "blacklist.undo", "shop", refused=(f"{B}/undo", {"import": "x"}, 404),
    ),
    Change(
        "PUT", f"{T}/otp", TEMPLATE, "template.put", "template:otp", route=f"{T}/{{id}}",
        refused=(f"{T}/otp", {**TEMPLATE, "version": 1, "text": "Other {{ code }}"}, 409),
    ),
    Change(
        "POST", f"{T}/otp/retire", {}, "template.retire", "template:otp", route=f"{T}/{{id}}/retire",
        refused=(f"{T}/13871946205/retire", {}, 404),
    ),
    Change(
        "POST", "/admin/v1/inbound/reviewed", {"id": UNKNOWN, "decision": "dismiss"}, "inbound.reviewed", UNKNOWN,
        status=404, result="refused: 404 not_found",
        refused=("/admin/v1/inbound/reviewed", {"id": UNKNOWN, "decision": "dismiss"}, 404),
    ),
    Change(
        "POST", f"/admin/v1/messages/{UNKNOWN}", {"action": "cancel"}, "message", UNKNOWN,
        status=404, result="refused: 404 not_found", route="/admin/v1/messages/{id}",
    ),
    Change(
        "POST", f"/admin/v1/messages/{KEPT}", {"action": "cancel"}, "message.cancel", KEPT,
        route="/admin/v1/messages/{id}",
    ),
    Change(
        "POST", f"/admin/v1/messages/{KEPT}", {"action": "resend"}, "message.resend", KEPT, status=409,
        result="refused: 409 final", route="/admin/v1/messages/{id}",
    ),
    Change(
        "POST", "/admin/v1/accounts/shop/key", {}, "account.key", "shop", route="/admin/v1/accounts/{id}/key",
        refused=("/admin/v1/accounts/none/key", {}, 404),
    ),
    Change(
        "POST", "/admin/v1/accounts/shop/test-send",
        {"to": "+8613900000002", "category": "notification", "text": TEXT}, "account.test_send", "shop",
        route="/admin/v1/accounts/{id}/test-send",
        refused=("/admin/v1/accounts/none/test-send", {"to": NUMBER, "category": "marketing", "text": "x"}, 404),
    ),
    Change(
        "POST", f"{C}/reload", {"note": "why"}, "config.reload", "config", files=ROUTES.replace('"cn"', '"de"'),
        refused=(f"{C}/reload", {}, 422), refused_as="refused: invalid",
    ),
    Change(
        "POST", f"{C}/rollback", {"revision": 1}, "config.rollback", "config", files=ROUTES,
        refused=(f"{C}/rollback", {"revision": 99}, 404), refused_as="refused: unknown_revision",
    ),
    Change("POST", f"{C}/write", {}, "config.write", "config", files=ROUTES + "# a word more"),
    Change(
        "POST", "/admin/v1/erase", {"number": NUMBER, "rewrite": False}, "number.erase", "number",
        refused=("/admin/v1/erase", {"number": "+8613900000001"}, 409),
    ),
)  # fmt: skip
LOOKS = {
    ("POST", f"{B}/search"), ("POST", "/admin/v1/inbound/search"), ("POST", f"{T}/{{id}}/preview"),
    ("POST", f"{B}/imports/{{id}}/rows"), ("POST", "/admin/v1/gates/preview"), ("POST", "/admin/v1/messages/find"),
    ("POST", "/admin/v1/explain"),
}  # fmt: skip
"""POSTs that change nothing; and the rows of an import, whose begin and end are noted."""


async def test_every_route_that_changes_something_is_noted(admin: Admin) -> None:
    changing = {(method, path) for method, path in admin.routes if method not in ("GET", "HEAD")}
    assert changing == {change.key for change in CHANGES} | LOOKS, "a new route needs a line in this file's table"
    assert {path for _, path in LOOKS} == set(admin_server._NOT_NOTED)
    await accept(admin.store, message(admin.store, "8613900000001"), message(admin.store, id=MESSAGE))

    for change in CHANGES:
        if change.files:
            (admin.config / "routes.toml").write_text(change.files)
        before = len(await admin.entries())
        status, said = await admin.ask(change.method, change.path, change.body, who="root")
        assert status == change.status, (change.path, said)
        added = (await admin.entries())[: len(await admin.entries()) - before]
        assert [(e.action, e.object, e.more["result"]) for e in added] == [
            (change.action, change.object, change.result)
        ]
        assert added[0].actor == "root@127.0.0.1"
        if change.refused is not None:
            path, body, wanted = change.refused
            if change.files:
                (admin.config / "routes.toml").write_text("[[route]]\nid = 1\n")
            status, said = await admin.ask(change.method, path, body, who="root")
            assert status == wanted, (path, said)
            last = (await admin.entries())[0]
            assert (last.action, last.actor) == (change.action, "root@127.0.0.1")
            assert last.more["result"].startswith(change.refused_as or f"refused: {wanted}")
        # What is not well formed changed nothing, and is not noted.
        now = len(await admin.entries())
        status, _ = await admin.ask(change.method, change.path, {TEXT: NUMBER}, who="root")
        assert status in (400, 409, 422), change.path
        assert len(await admin.entries()) - now == (status == 409)

    written = repr(await admin.entries())
    for canary in (NUMBER[1:], NUMBER[3:], TEXT, *TOKENS.values()):
        assert canary not in written
    assert "+86138****6205" in written
    status, verdict = await admin.ask("GET", "/admin/v1/audit?verify=1")
    assert (status, verdict["sound"]) == (200, True)
    assert sum(chain["entries"] for chain in verdict["chains"]) >= len(CHANGES)


def test_the_role_serves_all_parts() -> None:
    """A part that brings routes is among those that an admin worker serves, and so in the table above."""
    bringing, served = set(), set(vars(steering))
    for module in pkgutil.iter_modules(gateway.admin.__path__):
        for name, thing in vars(import_module(f"gateway.admin.{module.name}")).items():
            ours = isinstance(thing, type) and thing.__module__.startswith("gateway.admin.")
            if ours and hasattr(thing, "routes") and thing is not Door:  # the console brings its own, from above
                bringing.add(name)
    assert bringing <= served, "admin/steering.py does not serve it"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("PUT", B, {"number": NUMBER}), ["done", "nothing to change"]),
        (("DELETE", B, {"number": NUMBER, "scope": "shop"}), ["nothing there", "nothing there"]),
        (("PUT", f"{T}/otp", TEMPLATE), ["done", "was there"]),
        (("POST", f"{C}/reload", {}), ["nothing to change", "nothing to change"]),
        (("POST", f"{C}/write", {}), ["nothing to change", "nothing to change"]),
        (("POST", f"{B}/imports", {"scope": "shop", "id": "i", "dry_run": True}), ["dry run", "dry run"]),
    ],
)
async def test_what_changed_nothing_says_so(
    admin: Admin, change: tuple[str, str, dict[str, Any]], words: list[str]
) -> None:
    for _ in words:
        assert (await admin.ask(*change))[0] == 200
    assert [e.more["result"] for e in reversed(await admin.entries())] == words


# --- roles


async def test_what_each_role_may(admin: Admin) -> None:
    hold, add = {"kind": "tag", "name": "x", "state": "hold"}, {"number": NUMBER}
    for who, look, act, whole, remove in (
        ("wu", 200, 403, 403, 403), ("li", 200, 200, 200, 403),
        ("root", 200, 200, 200, 200), ("admin", 200, 200, 200, 200),
    ):  # fmt: skip
        assert (await admin.ask("GET", "/admin/v1/gates", who=who))[0] == look
        assert (await admin.ask("PUT", "/admin/v1/gates", hold, who=who))[0] == act
        assert (await admin.ask("PUT", B, add, who=who))[0] == act
        assert (await admin.ask("GET", f"{B}/entries", who=who))[0] == whole
        assert (await admin.ask("GET", "/admin/v1/inbound?full=1", who=who))[0] == whole
        assert (await admin.ask("POST", "/admin/v1/erase", {**add, "rewrite": False}, who=who))[0] == remove
    assert (await admin.ask("GET", "/admin/v1/gates", who=""))[0] == 401
    status, said = await admin.ask("POST", "/admin/v1/erase", add, who="li")
    assert (status, said["code"], said["detail"]) == (403, "forbidden", "this is for operators of the role admin")
    actors = {entry.actor.partition("@")[0] for entry in await admin.entries()}
    assert actors == {"li", "root", "admin"}  # a viewer changed nothing


async def test_every_route_of_the_server_asks_for_its_role(admin: Admin) -> None:
    ways = sorted({(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in admin.routes})
    ways += [(method, path) for _, path in ways for method in ("OPTIONS", "PATCH", "TRACE")]
    looking_posts = {re.sub(r"\{[^}]*\}", "x", path) for path in ONLY_LOOKS}
    for method, path in ways:
        if path in ("/livez", "/readyz") or (path == "/metrics" and method not in ("GET", "HEAD")):
            continue
        looks = method in ("GET", "HEAD")
        url = admin.base + path
        for who, may in (
            ("", path == "/metrics" and looks),
            ("wu", (looks and path != f"{B}/entries") or (method == "POST" and path in looking_posts)),
            ("li", looks or not (path.startswith((C, "/admin/v1/erase")) or (method, path) == ("POST", KEY))),
        ):
            headers = {"Authorization": f"Bearer {TOKENS[who]}"} if who else {}
            if may and who:
                continue  # what it does then is another test's
            async with admin.session.request(method, url, json={}, headers=headers) as answer:
                wanted = 200 if may else 403 if who else 401
                assert answer.status == wanted, (method, path, who)
                said = await answer.text()
                assert not any(token in said + repr(answer.headers) for token in TOKENS.values())
    assert await admin.entries() == []


def test_the_table_of_roles() -> None:
    assert role_for("GET", "/admin/v1/config/history") == VIEWER
    assert role_for("POST", "/admin/v1/config/reload") == ADMIN
    assert role_for("POST", "/admin/v1/blacklist/search") == VIEWER
    assert role_for("POST", "/admin/v1/messages/find", full=True) == OPERATOR
    assert role_for("GET", "/console/api/users") == ADMIN
    assert role_for("HEAD", "/metrics") == VIEWER
    assert role_for("PATCH", "/whatever/comes") == OPERATOR


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Bearer  the-plain-token", "bearer the-plain-token",
                                  "Basic the-plain-token", "Bearer the-plain-token2", "Bearer \udcff"])  # fmt: skip
def test_no_other_token_is_anybodys(sent: str | None) -> None:
    assert Operators(AdminSettings(token=Secret("the-plain-token"))).find(sent) is None
    assert Operators(AdminSettings()).find(sent) is None


def test_a_token_names_its_operator() -> None:
    known = Operators(
        AdminSettings(token=Secret("a" * 20), operators=(OperatorSettings("li", Secret("b" * 20), "viewer"),))
    )
    first, second = known.find("Bearer " + "a" * 20), known.find("Bearer " + "b" * 20)
    assert first is not None
    assert second is not None
    assert (first.name, first.role, second.name, second.role) == ("admin", "admin", "li", "viewer")


async def test_many_at_once_keep_the_chain_whole(admin: Admin) -> None:
    hold = {"kind": "tag", "name": "x", "state": "hold"}
    who = ["li", "root", "admin"] * 5
    await asyncio.gather(*(admin.ask("PUT", "/admin/v1/gates", hold, who=one) for one in who))
    assert (await admin.ask("GET", "/admin/v1/audit?verify=1"))[1]["sound"] is True
    assert len(await admin.entries()) == 15
