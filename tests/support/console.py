"""The console under test: a whole gateway with three simulated carriers, and pages of it in Chromium.

`ConsoleGateway` is `GatewayProcess` with the configuration that the tests of the console share: accounts `shop` (with
a webhook) and `bank`, routes `cn` (cm-a, then cm-b) and `hk` (hk-a). `Console` is one
page of it: it opens pages by their names and collects what no page may ever do. tests/browser/conftest.py makes
fixtures of both.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import pytest

from gateway.apikey import new_key
from gateway.console.sessions import COOKIE
from gateway.simulator.smsc import Smsc
from tests.support.gateway import GatewayProcess
from tests.support.scenario import carrier
from tests.support.sink import Sink
from tests.support.until import until

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request

try:
    from playwright.async_api import expect
except ImportError:  # the tests are skipped then, with the reason of chromium.missing
    expect = None  # type: ignore[assignment]

BROWSER: Final = [pytest.mark.needs_browser, pytest.mark.asyncio(loop_scope="module")]
"""What each file of tests in a browser sets as `pytestmark`: the gateway and Chromium live for a file, on its loop."""

NAMES: Final = {"viewer": "vera", "operator": "olga", "admin": "anna"}
"""The console's user of each role."""
PASSWORDS: Final = {role: f"the password of {name}" for role, name in NAMES.items()}

LAPTOP: Final = (1280, 900)
PHONE: Final = (360, 740)

PAGES: Final = (
    "overview", "channels", "routes", "queues", "messages", "inbound", "blacklist", "webhooks", "stats", "accounts",
    "config", "audit", "users", "profile",
)  # fmt: skip
"""Every page behind the door."""

# Nothing waits for the hour of the day or for a person's patience.
_CATEGORIES: Final = """
[categories.verification]
per_number = []
[categories.notification]
per_number = []
[categories.marketing]
per_number = []
send_hours = ""
require_signature = []
require_optout_text = {}
"""


class ConsoleGateway(GatewayProcess):
    """One supervised gateway as the console's tests want it; `more` are further lines of gateway.toml."""

    def __init__(self, directory: Path, channels: dict[str, int], *, webhook_port: int = 9, more: str = "") -> None:
        self._more = more
        self._webhook_port = webhook_port
        self.bank_key, self._bank_hash = new_key()
        super().__init__(directory, channels, store="shards = 1", categories=_CATEGORIES)

    @property
    def origin(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.admin_port}"

    def _write_config(self, channels: dict[str, int], *args: Any) -> None:
        super()._write_config(channels, *args)
        gateway = self.config_dir / "gateway.toml"
        text = gateway.read_text().replace("[categories.notification]\nper_number = []\n\n", "")
        gateway.write_text(text + self._more)
        ranked = ", ".join(f'{{ id = "{n}", rank = {i} }}' for i, n in enumerate(c for c in channels if c != "hk-a"))
        routes = f'[[route]]\nid = "cn"\nmatch = {{ country = "CN" }}\nchannels = [{ranked}]\n'
        if "hk-a" in channels:
            routes += '[[route]]\nid = "hk"\nmatch = { country = "HK" }\nchannels = [{ id = "hk-a", rank = 0 }]\n'
        (self.config_dir / "routes.toml").write_text(routes)
        accounts = (self.config_dir / "accounts.toml").read_text()
        (self.config_dir / "accounts.toml").write_text(
            f'{accounts}[account.webhook]\nurl = "http://127.0.0.1:{self._webhook_port}/hook"\n'
            'secret = "${env:SHOP_SECRET}"\nallow_insecure = true\nallow_private = true\n'
            f"allow_ports = [{self._webhook_port}]\n"
            f'[[account]]\nid = "bank"\nkey_hashes = ["{self._bank_hash}"]\nsenders = ["106900002"]\n'
            "max_per_s = 50\ndaily_quota = 100000\n"
        )

    async def start(self, *, ready: bool = True, **env: str) -> None:
        secret = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        await super().start(ready=False, **{"SHOP_SECRET": secret, **env})
        if ready:  # beside browsers a start takes longer than alone
            await until(self._ready_or_dead, timeout_s=60)
            assert self.process is not None
            assert self.process.returncode is None, self.log()


@dataclass
class World:
    """A running gateway and what is around it. `carriers` are those of cm-a, cm-b and hk-a, in the test's own process:
    change their `.options`, read their `.ledger`; `sink` is the webhook of the account shop."""

    gateway: ConsoleGateway
    carriers: dict[str, Smsc]
    sink: Sink
    _sessions: dict[str, str] = field(default_factory=dict)

    async def session(self, role: str) -> str:
        """Sign the user of a role in, once, and return what their cookie holds. The first call makes the user."""
        if role not in self._sessions:
            who = {"name": NAMES[role], "password": PASSWORDS[role]}
            status, said = await self.gateway.admin("POST", "/console/api/users", {**who, "role": role})
            assert status == 201, said
            http = self.gateway.session
            assert http is not None
            async with http.post(f"{self.gateway.origin}/console/api/session", json=who) as answer:
                assert answer.status == 200, await answer.text()
                self._sessions[role] = answer.cookies[COOKIE].value
            http.cookie_jar.clear()
        return self._sessions[role]

    async def send(self, to: str = "+8613800000001", text: str = "Your code is 4711", **more: Any) -> str:
        """Send one message of the account shop, which must be taken; returns its id."""
        status, body = await self.gateway.post({"to": to, "text": text, "category": "notification", **more})
        assert status == 202, body
        return str(body["id"])

    async def message(self, id_: str) -> dict[str, Any]:
        """Return a message as its account sees it."""
        status, body = await self.gateway.get(f"/v1/messages/{id_}")
        assert status == 200, body
        return body

    async def until_state(self, id_: str, *states: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait until a message is in one of these states, and return it."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            nonlocal found
            found = await self.message(id_)
            return found["state"] in states

        await until(there, timeout_s=timeout_s, every_s=0.05)
        return found


@contextlib.asynccontextmanager
async def console_world(folder: Path, **options: Any) -> AsyncIterator[World]:
    """Run carriers, sink and gateway for a block."""
    async with contextlib.AsyncExitStack() as stack:
        sink = await stack.enter_async_context(Sink())
        carriers = {
            name: await stack.enter_async_context(carrier(receipt_delay_s=0.05, by_number=True))
            for name in ("cm-a", "cm-b", "hk-a")
        }
        ports = {name: one.port for name, one in carriers.items()}
        gateway = await stack.enter_async_context(ConsoleGateway(folder, ports, webhook_port=sink.port, **options))
        yield World(gateway, carriers, sink)


@dataclass
class Console:
    """One page of the console in a browser context of its own.

    `page` is playwright's page, for `get_by_role` and `expect`. `open` goes to a page by its name. Whatever a console
    may never do is collected in `faults`: an error in the browser's console, an exception, a violation of the
    Content-Security-Policy, a dialog of the browser, a request to anywhere else. The fixtures assert that there is
    none; `expected` excuses what a test provokes, as the browser's own line about a refused request:
    `console.expected("status of 409")`.
    """

    page: Page
    context: BrowserContext
    origin: str
    faults: list[str] = field(default_factory=list)
    _asking: set[Request] = field(default_factory=set)
    _excused: list[re.Pattern[str]] = field(default_factory=list)

    async def open(self, name: str = "overview", *params: str, **query: str) -> None:
        """Show a page and wait until it has shown itself and what it asked the gateway for."""
        tail = f"?{urlencode(query)}" if query else ""
        path = "/".join(quote(p, safe="") for p in (name, *params))
        await self.page.goto(f"{self.origin}/console/#/{path}{tail}")
        await self.shown(name)
        await self.quiet()

    async def shown(self, name: str) -> None:
        """Wait until a page is the one that is shown, and is not reading any more."""
        await self.page.wait_for_function(
            "name => { const m = document.querySelector('main.page-' + name);"
            " return m && m.querySelector('h1') && !m.querySelector('.loading'); }",
            arg=name,
        )

    async def quiet(self, for_s: float = 0.05) -> None:
        """Wait until nothing is being asked any more, for so long; the stream of events is not counted."""
        since = time.monotonic()

        def still() -> bool:
            nonlocal since
            if self._asking:
                since = time.monotonic()
            return time.monotonic() - since >= for_s

        await until(still)

    def expected(self, pattern: str) -> None:
        """Excuse faults whose text matches."""
        self._excused.append(re.compile(pattern))

    def unexcused(self) -> list[str]:
        """Return the faults that nobody expected."""
        return [one for one in self.faults if not any(p.search(one) for p in self._excused)]

    async def text(self) -> str:
        """Return the text that is visible on the page."""
        return str(await self.page.evaluate("() => document.body.innerText"))

    def _hear(self) -> None:
        page = self.page
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("dialog", self._dialog)
        self.context.on("request", self._asked)
        for over in ("requestfinished", "requestfailed"):
            self.context.on(over, self._answered)
        self.context.on("page", lambda other: self.faults.append(f"another page was opened: {other.url}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} ({message.location.get('url', '')})")

    async def _dialog(self, dialog: Dialog) -> None:
        if dialog.type != "beforeunload":
            self.faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _answered(self, request: Request) -> None:
        self._asking.discard(request)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", f"blob:{self.origin}/")):
            self.faults.append(f"request to elsewhere: {request.url}")
        elif "/admin/v1/events" not in request.url:
            self._asking.add(request)


# What a policy refused is also said in the browser's console, but not for every directive.
_WATCH: Final = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("policy violated: " + event.violatedDirective + " " + event.blockedURI + " " + event.sample));
"""


@contextlib.asynccontextmanager
async def console_page(
    browser: Browser,
    origin: str,
    *,
    cookie: str | None = None,
    bearer: str | None = None,
    language: str = "en",
    theme: str = "light",
    size: tuple[int, int] = LAPTOP,
    **options: Any,
) -> AsyncIterator[Console]:
    """Open a context with one page for a block; nothing is shown yet.

    `cookie` is what a session's cookie holds (`World.session`), `bearer` a token of the configuration; without either
    the page stands at the door.
    `language` is "en" or "zh", `theme` "light" or "dark" as the system would ask for it; `options` are playwright's for
    a new context.
    """
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        locale="zh-CN" if language == "zh" else "en-GB",
        color_scheme="dark" if theme == "dark" else "light",
        timezone_id="Asia/Shanghai",
        has_touch=width <= PHONE[0],
        **options,
    )
    try:
        context.set_default_timeout(10_000)
        if bearer is not None:
            await context.set_extra_http_headers({"Authorization": f"Bearer {bearer}"})
        if cookie is not None:
            kept = {
                "name": COOKIE,
                "value": cookie,
                "url": origin.replace("http:", "https:") + "/",
                "secure": True,
                "httpOnly": True,
            }
            await context.add_cookies([{**kept, "sameSite": "Strict"}])  # type: ignore[typeddict-item]
        await context.add_init_script(_WATCH)
        page = await context.new_page()
        console = Console(page, context, origin)
        console._hear()
        yield console
    finally:
        await context.close()
