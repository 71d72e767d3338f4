"""Every page of the console, in both languages, both colours and both sizes: what any page must be, whatever it shows.

One gateway with something on every page; each test walks through all pages and tells everything that is wrong at once.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.support import looks
from tests.support.console import BROWSER, PAGES, PHONE, Console, World
from tests.support.lively import liven

pytestmark = BROWSER

Consoles = Callable[..., Awaitable[Console]]

CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for text of every size."""
TOUCH_PX = 32

# Words that stand in Chinese as they are: names of protocols, fields, units and of this program; values of the
# configuration that the tests' own gateway has.
SAME_IN_CHINESE = [
    "smsgw", "SMPP", "SMSC", "HTTP", "HTTPS", "API", "CSV", "TPS", "URL", "ID", "id", "IP", "TLS", "JSON", "TOML",
    "UTC", "GMT", "SSE", "CNY", "webhook", "webhooks", "p99", "p", "ms", "s", "min", "h", "d", "UTF", "GB", "KB", "MB",
    "OK", "TD", "START", "STOP", "MSISDN", "ASCII", "UCS", "GSM", "USSD", "TOTP", "QR", "SHA", "CIDR", "DNS",
    "MAP", "SGIP", "SMGP", "CMPP",
    # processes, as the command line and the logs name them
    "supervisor", "dispatch", "events", "api",
    # of the tests themselves
    "csv", socket.gethostname(), "transceiver", "transmitter", "receiver",
    "shop", "bank", "cm-a", "cm-b", "hk-a", "cn", "hk", "mo", "admin", "anna", "vera", "olga", "Asia", "Shanghai",
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lively(world: World) -> AsyncIterator[dict[str, str]]:
    yield await liven(world)


@pytest.fixture
def places(lively: dict[str, str]) -> list[tuple[str, ...]]:
    """Every page, and those that show one thing of many."""
    found: list[tuple[str, ...]] = [(page,) for page in PAGES]
    found += [("messages", lively["failed"]), ("messages", lively["long"]), ("messages", lively["waiting"])]
    found += [("channels", "cm-a"), ("channels", "hk-a"), ("accounts", "shop"), ("routes", "cn"), ("webhooks", "shop")]
    return found


async def walk(console: Console, places: list[tuple[str, ...]], *asked: tuple[str, list[Any]]) -> list[str]:
    """Open every place and ask these questions of `looks.js` there; returns what is wrong, with its place."""
    wrong = []
    for place in places:
        await console.open(*place)
        for question, args in asked:
            wrong += [f"{'/'.join(place)} {question}: {one}" for one in await looks.ask(console, question, *args)]
    return wrong


def told(wrong: list[str]) -> str:
    return f"{len(wrong)} things\n" + "\n".join(dict.fromkeys(wrong))


async def test_structure_names_and_contrast_in_the_light(console: Console, places: list[tuple[str, ...]]) -> None:
    wrong = await walk(
        console, places, ("structure", []), ("contrast", [CONTRAST]), ("wide", []), ("cut", []), ("unfilled", [])
    )
    for place in places:
        await console.open(*place)
        wrong += [f"{'/'.join(place)}: {one}" for one in await looks.unnamed(console)]
    assert not wrong, told(wrong)


async def test_contrast_in_the_dark(consoles: Consoles, places: list[tuple[str, ...]]) -> None:
    dark = await consoles(theme="dark")
    wrong = await walk(dark, places, ("contrast", [CONTRAST]))
    ground = await dark.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in ground.removeprefix("rgb(").rstrip(")").split(",")) < 60, ground
    assert not wrong, told(wrong)


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_a_phone_shows_it_all(consoles: Consoles, places: list[tuple[str, ...]], language: str) -> None:
    phone = await consoles(size=PHONE, language=language)
    wrong = await walk(phone, places, ("wide", []), ("cut", []), ("targets", [TOUCH_PX]))
    assert not wrong, told(wrong)


async def test_chinese_pages_are_chinese(chinese: Console, places: list[tuple[str, ...]]) -> None:
    wrong = await walk(chinese, places, ("keys", [[]]), ("unfilled", []), ("english", [SAME_IN_CHINESE]))
    assert not wrong, told(wrong)


async def test_no_key_is_shown_in_place_of_its_word(console: Console, places: list[tuple[str, ...]]) -> None:
    wrong = await walk(console, places, ("keys", [[]]))
    assert not wrong, told(wrong)


async def test_the_keyboard_reaches_everything_and_the_focus_shows(
    console: Console, places: list[tuple[str, ...]]
) -> None:
    wrong = []
    for place in places:
        await console.open(*place)
        stops = await looks.ask(console, "beginTabs")
        for _ in range(stops + 3):
            await console.page.keyboard.press("Tab")
            now = await looks.ask(console, "focusNow")
            if now is None:  # past the last one
                break
            if not now["ring"]:
                wrong.append(f"{'/'.join(place)}: the focus does not show on {now['what']}")
            if not now["inView"]:
                wrong.append(f"{'/'.join(place)}: the focus is out of sight on {now['what']}")
        wrong += [f"{'/'.join(place)}: Tab does not reach {one}" for one in await looks.ask(console, "unreached")]
    assert not wrong, told(wrong)


@pytest.mark.skipif(not looks.axe_is_there(), reason="no axe-core: `make peers` installs it (it needs node and npm)")
@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["laptop", "phone"])
async def test_axe_finds_nothing(consoles: Consoles, places: list[tuple[str, ...]], size: tuple[int, int]) -> None:
    console = await consoles(size=size)
    wrong = []
    for place in places:
        await console.open(*place)
        wrong += [f"{'/'.join(place)}: {one}" for one in await looks.axe(console)]
    assert not wrong, told(wrong)
