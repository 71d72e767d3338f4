"""What the console asks of the store is within the rights that a server of one's own gives the gateway's user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pyotp
import pytest

from gateway.settings import Settings
from gateway.store.store import Store
from tests.console.conftest import World
from tests.support.door import PASSWORD
from tests.support.valkey import ValkeyServer

RIGHTS: Final = (
    "~gw:* resetchannels &gw:* -@all +@read +@write +@scripting -script|flush +@connection +@pubsub -@dangerous"
    " +info +time +role +config|get +wait +waitaof +cluster|slots"
)


@pytest.fixture
async def store(valkey: ValkeyServer, settings: Settings) -> AsyncIterator[Store]:
    """The store as a user with these rights opens it, in place of one who may do everything."""
    with valkey.sync() as client:
        client.execute_command("ACL", "SETUSER", "gateway", "reset", "on", ">secret", *RIGHTS.split())
        client.execute_command("ACL", "LOG", "RESET")
    opened = await Store.open(settings, f"unix://gateway:secret@{valkey.socket}", incarnation="worker01")
    yield opened
    await opened.close()


async def test_the_console_needs_no_more_rights(world: World, valkey: ValkeyServer) -> None:
    made = await world.parts.token.make()
    assert made is not None
    root = await world.browser()
    set_up = {"token": made[0], "name": "root", "password": PASSWORD}
    li = {"name": "li", "role": "viewer", "password": PASSWORD}
    asked: list[tuple[str, str, Any, int]] = [
        ("POST", "setup", set_up, 200), ("POST", "users", li, 201), ("GET", "users", None, 200),
        ("POST", "reauth", {"password": "wrong-password-x"}, 401), ("POST", "reauth", {"password": PASSWORD}, 200),
        ("POST", "password", {"old": PASSWORD, "new": "another-long-secret-1"}, 200),
        ("GET", "sessions?user=all", None, 200), ("DELETE", "sessions?user=li", None, 200),
        ("PUT", "users/li", {"role": "operator", "unlock": True}, 200), ("DELETE", "users/li", None, 200),
    ]  # fmt: skip
    for method, path, body, status in asked:
        assert (await root.ask(method, f"/console/api/{path}", body))[0] == status, (method, path)
    _, secret = await root.ask("POST", "/console/api/totp")
    code = {"code": pyotp.TOTP(secret["secret"]).now()}
    assert (await root.ask("PUT", "/console/api/totp", code))[0] == 200
    assert (await root.ask("DELETE", "/console/api/session"))[0] == 200
    with valkey.sync() as client:
        assert client.execute_command("ACL", "LOG") == []
        assert not [key for key in client.keys("*") if not key.startswith(b"gw:")]
