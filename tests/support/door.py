"""A browser at the console, as far as HTTP goes: keeps its cookie, sends the origin and the page's token."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any, Self

import aiohttp
from argon2 import PasswordHasher

from gateway.console.passwords import Passwords
from gateway.console.sessions import COOKIE

PASSWORD = "correct-horse-battery"


def quick() -> Passwords:
    """Return passwords that take a millisecond each: their strength is the subject of test_passwords alone."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class Browser:
    """One browser. `ask` returns status and JSON; `headers` has the latest answer's."""

    def __init__(self, base: str, address: str = "") -> None:
        self.base = base
        self.cookie = ""
        self.csrf = ""
        self.address = address
        self.headers: Any = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        drop: tuple[str, ...] = (),
        data: bytes | None = None,
        **more: str,
    ) -> tuple[int, Any]:
        """Send a request as the console's page does, without the headers in `drop` and with `more` (`_` for `-`)."""
        headers = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"}
        if self.cookie:
            headers["Cookie"] = f"{COOKIE}={self.cookie}"
        if self.csrf and method not in ("GET", "HEAD"):
            headers["X-CSRF-Token"] = self.csrf
        if self.address:
            headers["X-Forwarded-For"] = self.address
        headers = {k: v for k, v in headers.items() if k not in drop}
        headers |= {k.replace("_", "-"): v for k, v in more.items()}
        sent: dict[str, Any] = {"data": data} if data is not None else {"json": body} if body is not None else {}
        assert self._session is not None
        async with self._session.request(
            method, self.base + path, headers=headers, allow_redirects=False, **sent
        ) as answer:
            self.headers = answer.headers
            self._keep(answer.headers)
            text = await answer.text()
            found = await answer.json() if "json" in answer.headers.get("Content-Type", "") and text else text
            if path.startswith("/console/api") and isinstance(found, dict) and "state" in found:
                self.csrf = found.get("csrf") or ""
            return answer.status, found

    def _keep(self, headers: Any) -> None:
        for line in headers.getall("Set-Cookie", ()):
            kept: SimpleCookie = SimpleCookie(line)
            if COOKIE in kept:
                self.cookie = kept[COOKIE].value

    async def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> tuple[int, Any]:
        return await self.ask("POST", "/console/api/session", {"name": name, "password": password, **more})
