"""Passwords: which are taken, how they are kept, how many are worked on at once; and what is believed of proxies."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from gateway.console.addresses import Proxies, delayed_as, is_ours, stays_signed_in
from gateway.console.passwords import HASHER, LONGEST, SHORTEST, Passwords, check_new
from gateway.errors import RequestError
from tests.console.conftest import World
from tests.support.door import PASSWORD, quick


@pytest.mark.parametrize(
    "password",
    ["correct-horse-battery", "пароль-для-консоли", "网关控制台的登录密码是随便写的", "x7#Kq92!mzPw",
     "a" * 250 + "bcdefg", "password is not what this is"],
)  # fmt: skip
def test_good_passwords_are_taken(password: str) -> None:
    assert check_new(password, "li", "password") == password


@pytest.mark.parametrize(
    "password",
    [None, 5, "", "short", "elevenchars", "a" * (LONGEST + 1), "aaaaaaaaaaaa", "abababababab", "123456789012",
     "1234567890123", "abcdefghijkl", "qwertyuiopas", "passwordpassword", "Password1234", "P@ssw0rd2026!",
     "admin-admin-1", "smsgwsmsgw123", "1q2w3e4r5t6y", "wang-xiaoming", "Wang.Xiaoming1", "with\nnewlines-in",
     "with\x00nul-inside"],
)  # fmt: skip
def test_bad_passwords_are_not_and_are_not_repeated(password: Any) -> None:
    with pytest.raises(RequestError) as refused:
        check_new(password, "wang-xiaoming" if password == "wang-xiaoming" else "wang.xiaoming", "new")
    assert refused.value.field == "new"
    assert not isinstance(password, str) or not password or password not in str(refused.value)


def test_the_shortest_is_measured_as_it_is_compared() -> None:
    with pytest.raises(RequestError):
        check_new("ﬀ" * 3 + "xyzw", "li", "new")
    assert check_new("ﬁﬂxyz7Kq92!", "li", "new")  # 13 characters once they are spelt out
    assert SHORTEST == 12


async def test_it_is_argon2id_with_these_parameters() -> None:
    passwords = Passwords()
    kept = await passwords.hash(PASSWORD)
    found = extract_parameters(kept)
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (Type.ID, 65_536, 3, 1)
    assert found.salt_len == 16
    assert await passwords.fits(kept, PASSWORD)
    assert not await passwords.fits(kept, PASSWORD + "x")
    assert not await passwords.fits(None, PASSWORD)
    assert not await passwords.fits("nonsense", PASSWORD)
    assert not HASHER.check_needs_rehash(kept)


async def test_one_spelling_is_as_good_as_another() -> None:
    passwords = quick()
    assert await passwords.fits(await passwords.hash("Ａｂｃdef-ghi-jkl-é"), "Abcdef-ghi-jkl-e\u0301")


async def test_two_at_once_are_the_most() -> None:
    running, most, lock = 0, 0, threading.Lock()
    go = threading.Event()

    class Slow(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                if running == 2:
                    go.set()
            go.wait(5)
            with lock:
                running -= 1
            return "kept"

    passwords = Passwords(Slow(time_cost=1, memory_cost=8, parallelism=1))
    assert await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(12))) == ["kept"] * 12
    assert most == 2


async def test_a_password_of_older_parameters_is_hashed_anew(world: World) -> None:
    user = await world.user("li")
    older = PasswordHasher(time_cost=2, memory_cost=16, parallelism=2).hash(PASSWORD)
    await world.parts.users.change(user.changed(password=older))
    browser = await world.browser()
    assert (await browser.sign_in("li"))[0] == 200
    found = await world.parts.users.get("li")
    assert found is not None
    assert found.password != older
    assert not world.parts.passwords.is_old(found.password)
    assert (await browser.sign_in("li"))[0] == 200


# --- proxies and origins


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "10.9.9.9", "203.0.113.9"),  # nobody we trust: what it says is its own
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # what the client wrote stands left
        ("10.0.0.1", "203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", "10.0.0.8, 10.0.0.7", "10.0.0.8"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fd00::1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("", "203.0.113.9", "unknown"),
        ("10.0.0.1", "x," * 5000 + "203.0.113.9", "203.0.113.9"),
    ],
)  # fmt: skip
def test_the_client_behind_proxies(peer: str, forwarded: str, client: str) -> None:
    assert Proxies(("10.0.0.0/24", "fd00::/8")).client(peer, forwarded) == client


def test_tls_is_believed_of_proxies_only() -> None:
    proxies = Proxies(("10.0.0.0/24",))
    assert proxies.is_tls("10.0.0.1", "https")
    assert proxies.is_tls("10.0.0.1", "http, https")
    assert not proxies.is_tls("10.0.0.1", "https, http")
    assert not proxies.is_tls("10.0.1.1", "https")
    assert not proxies.is_tls("10.0.0.1", "")


def test_what_shares_its_delay() -> None:
    assert delayed_as("203.0.113.9") == "203.0.113.9"
    assert delayed_as("2001:db8::1") == delayed_as("2001:db8::ffff:1:2:3") != delayed_as("2001:db8:0:1::1")
    assert delayed_as("unknown") == "unknown"


def test_a_page_of_ours() -> None:
    host = {"Host": "sms.example.com"}
    assert is_ours({**host, "Origin": "https://sms.example.com"}, (), must_say=True)
    assert is_ours({**host, "Origin": "https://SMS.example.com"}, (), must_say=True)
    assert is_ours({**host, "Sec-Fetch-Site": "same-origin"}, (), must_say=True)
    assert is_ours(host, (), must_say=False)
    assert not is_ours(host, (), must_say=True)
    assert not is_ours({"Origin": "https://"}, (), must_say=True)
    assert not is_ours({"Host": "", "Origin": "null"}, (), must_say=True)
    assert not is_ours({**host, "Origin": "https://sms.example.com", "Sec-Fetch-Site": "same-site"}, (), must_say=True)


@pytest.mark.parametrize(
    ("origin", "stays"),
    [
        ("http://127.0.0.1:8081", True), ("http://127.9.9.9", True), ("http://localhost:1", True),
        ("http://[::1]:8081", True), ("http://a.localhost", True), ("https://sms.example.com", True), (None, True),
        ("http://10.0.0.5:8081", False), ("http://sms.example.com", False), ("http://localhost.example.com", False),
        ("http://128.0.0.1", False),
    ],
)  # fmt: skip
def test_where_a_secure_cookie_stays(origin: str | None, stays: bool) -> None:
    assert stays_signed_in(origin) is stays
