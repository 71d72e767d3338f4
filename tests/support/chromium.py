"""Headless Chromium for tests: the machine's own program, driven by playwright, never a download of its own.

`async with chromium() as browser:` starts one for a block and ends it with everything it started. Owns which program
and with which arguments; refuses to know what is shown in it. `missing` says why there can be none on this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.async_api import Browser

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Its own errands: on a network that answers nothing they fill the log, and its connections wait for each other.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name but this machine's leads anywhere, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program() -> str | None:
    """Return the Chromium of this machine: SMSGW_CHROMIUM, or the first of NAMES that is in PATH."""
    named = os.environ.get("SMSGW_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str:
    """Return what is missing here for tests in a browser; empty when nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "no playwright: it is among the development requirements"
    if program() is None:
        return "no Chromium: install the package chromium, or name one in SMSGW_CHROMIUM"
    return ""


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser for a block."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program(),
            args=list(ARGUMENTS),
            chromium_sandbox=os.geteuid() != 0,  # it refuses to start as root with one
        )
        try:
            yield browser
        finally:
            await browser.close()
