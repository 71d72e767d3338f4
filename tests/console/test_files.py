"""The console's page and its files over a socket: headers, types, validators, and nothing outside the folder."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.console.door import Console
from gateway.console.files import FOLDER, Files
from gateway.console.parts import Parts
from gateway.model import Secret
from gateway.settings import AdminSettings, OperatorSettings, Settings
from gateway.store.audit import Audit
from gateway.store.store import Store
from tests.support.admin import admin_listener

ROOT = Path(__file__).parents[2]
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@pytest.fixture
async def base(store: Store, tmp_path: Path) -> AsyncIterator[str]:
    operators = (OperatorSettings("li", Secret("token-of-an-operator"), "operator"),)
    settings = replace(Settings(tmp_path), admin=AdminSettings(token=Secret("the-plain-token"), operators=operators))
    async with admin_listener(
        settings, store, tmp_path, door=Console(settings.console, Parts.over(store, Audit(store), tmp_path))
    ) as address:
        yield f"http://{address}"


async def get(base: str, path: str, **headers: str) -> tuple[int, bytes, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(base + path, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def test_the_page_is_served_and_led_to(base: str) -> None:
    status, _, headers = await get(base, "/console")
    assert (status, headers["Location"]) == (308, "/console/")
    status, body, headers = await get(base, "/console/")
    version = Files().version.encode()
    assert (status, body.replace(b"/" + version, b"")) == (200, (FOLDER / "index.html").read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"


async def test_what_the_page_names_is_kept_for_good_and_of_one_version(base: str) -> None:
    _, body, _ = await get(base, "/console/")
    version = Files().version
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', body.decode())
    assert len(named) > 20
    for path in named:
        status, _, headers = await get(base, f"/console/{path}")
        assert path.startswith(f"static/{version}/")
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable"), path
        assert headers["Content-Security-Policy"] == CSP
        status, _, headers = await get(base, f"/console/{path.replace(version, '0123456789abcdef')}")
        assert (status, headers["Cache-Control"]) == (404, "no-store")


async def test_another_file_is_another_version(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    before = Files(tmp_path).version
    (tmp_path / "a.js").write_text("2")
    after = Files(tmp_path).version
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({before, after, Files(tmp_path).version}) == 3


async def test_every_file_of_the_package_has_its_type_and_validator(base: str) -> None:
    types = {
        ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
        ".html": "text/html; charset=utf-8",
    }  # fmt: skip
    for path in (one for one in FOLDER.rglob("*") if one.is_file()):
        name = path.relative_to(FOLDER).as_posix()
        status, body, headers = await get(base, f"/console/static/{name}")
        assert (status, body) == (200, path.read_bytes()), name
        assert path.suffix not in types or headers["Content-Type"] == types[path.suffix]
        assert headers["Cache-Control"] == "no-cache"
        assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        for sent in (headers["ETag"], f'"other", W/{headers["ETag"]}'):
            status, body, again = await get(base, f"/console/static/{name}", **{"If-None-Match": sent})
            assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
            assert again["Content-Security-Policy"] == CSP


@pytest.mark.parametrize(
    "path",
    ["", "nothing.js", "../files.py", "..%2ffiles.py", "%2e%2e/files.py", "/etc/passwd", "%2fetc%2fpasswd", "lib",
     "lib/", "..%5cfiles.py", "index.html%00.js", "./index.html/", "..//..//setup.py"],
)  # fmt: skip
async def test_nothing_else_can_be_asked_for(base: str, path: str) -> None:
    host, _, port = base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))  # a client would straighten the path
    writer.write(f"GET /console/static/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"404"), answer
    for inside in (b"root:", b"import ", b"setuptools"):
        assert inside not in answer


async def test_files_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "a.py").write_text("2")
    files = Files(tmp_path)
    (tmp_path / "b.js").write_text("3")
    assert files.names() == ["a.js"]


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/static/index.html", "/console/static/none",
                                  "/console/api/session", "/console/api/none", "/console/none"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_every_answer_of_the_console_has_the_headers(base: str, path: str, method: str) -> None:
    for token in ({}, {"Authorization": "Bearer the-plain-token"}, {"Authorization": "Bearer wrong"}):
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, base + path, headers=token, allow_redirects=False) as answer,
        ):
            assert_safe(answer.headers, CSP)


def assert_safe(headers: Any, policy: str) -> None:
    assert headers["Content-Security-Policy"] == policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Server"] == "smsgw"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/admin/v1/gates", "/admin/v1/openapi.json", "/admin/v1/none"]
)
async def test_the_api_has_the_safe_headers(base: str, path: str) -> None:
    for token in ("the-plain-token", "wrong"):
        _, _, headers = await get(base, path, Authorization=f"Bearer {token}")
        assert_safe(headers, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")


async def test_a_token_is_signed_in_and_nobody_else(base: str) -> None:
    async with aiohttp.ClientSession() as session:
        for token, name, role in (("the-plain-token", "admin", "admin"), ("token-of-an-operator", "li", "operator")):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{base}/console/api/session", headers=headers) as answer:
                said = await answer.json()
            assert (said["state"], said["name"], said["role"], said["csrf"]) == ("signed_in", name, role, None)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with session.get(f"{base}/console/api/session", headers=headers) as answer:
                assert (await answer.json())["state"] != "signed_in"


async def test_without_the_console_no_path_of_it_exists(store: Store, tmp_path: Path) -> None:
    settings = replace(Settings(tmp_path), admin=AdminSettings(token=Secret("the-plain-token")))
    async with admin_listener(settings, store, tmp_path) as address:
        for path in ("/console", "/console/", "/console/static/index.html", "/console/api/session"):
            assert (await get(f"http://{address}", path))[0] == 401
            assert (await get(f"http://{address}", path, Authorization="Bearer the-plain-token"))[0] == 404


def test_the_package_brings_the_page(tmp_path: Path) -> None:
    """What a wheel is made of has every file of the page (`build_py` is the step that gathers it)."""
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    brought = tmp_path / "gateway" / "console" / "static"
    wanted = {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()}
    assert {path.relative_to(brought) for path in brought.rglob("*") if path.is_file()} == wanted
