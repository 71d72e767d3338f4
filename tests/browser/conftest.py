"""Fixtures of the tests in a browser: a gateway with carriers and one Chromium for each file, a fresh context a test.

A file of such tests says `pytestmark = BROWSER` (tests/support/console.py). Its tests then take

    world      the running gateway with its carriers and its webhook sink (`World`), shared by the tests of the file:
               what a test changes (a paused channel, an entry of the blacklist) it puts back
    console    a page signed in as an admin, in English, on a laptop (`Console`): `await console.open("channels")`
    phone      the same at 360 × 740 with touch
    chinese    the same in Chinese
    consoles   makes others: `await consoles(role="viewer", theme="dark", language="zh", size=PHONE)`

When the test ends, every page must have kept quiet: `Console` says what is collected and how a test excuses what it
provokes. Without Chromium or playwright the tests are skipped, which fails the run where CI is set.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.chromium import chromium, missing
from tests.support.console import PHONE, Console, World, console_page, console_world

if TYPE_CHECKING:
    from playwright.async_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, before anything is started for it."""
    reason = missing()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("needs_browser") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with console_world(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def consoles(browser: Browser, world: World) -> AsyncIterator[Callable[..., Awaitable[Console]]]:
    """A function that opens further pages, each in a context of its own: signed in as the user of `role` (None: nobody,
    at the door); other arguments as for `console_page`."""
    opened: list[Console] = []
    async with contextlib.AsyncExitStack() as stack:

        async def make(role: str | None = "admin", **options: Any) -> Console:
            cookie = None if role is None else await world.session(role)
            one = await stack.enter_async_context(console_page(browser, world.gateway.origin, cookie=cookie, **options))
            opened.append(one)
            return one

        yield make
    faults = [fault for one in opened for fault in one.unexcused()]
    assert not faults, "\n".join(faults)


@pytest_asyncio.fixture(loop_scope="module")
async def console(consoles: Callable[..., Awaitable[Console]]) -> Console:
    return await consoles()


@pytest_asyncio.fixture(loop_scope="module")
async def phone(consoles: Callable[..., Awaitable[Console]]) -> Console:
    return await consoles(size=PHONE)


@pytest_asyncio.fixture(loop_scope="module")
async def chinese(consoles: Callable[..., Awaitable[Console]]) -> Console:
    return await consoles(language="zh")
