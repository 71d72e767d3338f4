"""Pictures of the console: docs/console.png for the README, and every page in every form for whoever looks it over.

    python -m tools.screenshots [--only overview,channels] [--seconds 75]        # or: make screenshots

Runs a gateway of its own with simulated carriers and a minute of mixed traffic, in which a carrier goes, and
photographs the pages: laptop and phone, light and dark, English and Chinese, into build/screenshots. With `--only` no
picture of the README is taken. Needs Chromium and, for Chinese, fonts that have it (Debian: fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support.chromium import chromium, missing
from tests.support.console import LAPTOP, PAGES, PHONE, Console, World, console_page, console_world
from tests.support.lively import liven
from tests.support.until import until

if TYPE_CHECKING:
    from playwright.async_api import Browser

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = ROOT / "docs" / "console.png"
FOLDER: Final = ROOT / "build" / "screenshots"
SIZES: Final = {"wide": LAPTOP, "narrow": PHONE}
CATEGORIES: Final = ("verification", "notification", "notification", "notification", "marketing")
FAILURES: Final = (("UNDELIV", "001"), ("UNDELIV", "001"), ("EXPIRED", "027"), ("UNDELIV", "032"), ("UNDELIV", "013"))
"""How some messages fail: number not in use, handset away, handset full, barred (GSM MAP)."""
EVERY_S: Final = 0.05
REFUSED: Final = 0x0E
"""SMPP 3.4 §5.1.3, ESME_RINVPASWD: the carrier takes the password no more."""
SETTLED_S: Final = 8.0


@contextlib.asynccontextmanager
async def lively_world() -> AsyncIterator[World]:
    """Run a gateway with messages on their way, some of which fail at the carrier, for a block."""
    over = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="smsgw-pictures-") as folder:
        async with console_world(Path(folder)) as world:
            for one in world.carriers.values():
                one.options.latency_s, one.options.receipt_jitter_s = 0.02, 0.4
                one.options.failed_rate, one.options.failed_states = 0.04, FAILURES
            sending = asyncio.create_task(traffic(world, over))
            try:
                yield world
            finally:
                over.set()
                await sending


async def traffic(world: World, over: asyncio.Event) -> None:
    """Send until it is over, faster and slower as people do."""
    random_ = random.Random(4)
    for n in itertools.count():
        if over.is_set():
            return
        category = random_.choice(CATEGORIES)
        text = f"A message of {category}, number {n}"
        await world.gateway.post({"to": f"+861380{n:07d}", "text": text, "category": category})
        await asyncio.sleep(EVERY_S * random_.random() * (3 if (n // 100) % 3 == 0 else 1))


async def picture(browser: Browser, seconds: float) -> None:
    """Take the README's: the overview, a minute after the start and some seconds after the primary carrier went."""
    async with lively_world() as world:
        cookie, primary = await world.session("admin"), world.carriers["cm-a"]
        async with console_page(browser, world.gateway.origin, cookie=cookie, size=(1360, 1190)) as console:
            await console.open("overview")  # its charts grow while it is open
            await asyncio.sleep(seconds)
            primary.options.bind_status = REFUSED
            primary.drop_sessions()
            await until(lambda: _tells_of(console, "cm-a"), timeout_s=30, every_s=0.2)
            await asyncio.sleep(SETTLED_S)
            await console.page.screenshot(path=PICTURE)


async def every_page(browser: Browser, only: list[str], seconds: float) -> None:
    """Take the others, with something on every page and several things wrong."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with lively_world() as world:
        ids, cookie, origin = await liven(world), await world.session("admin"), world.gateway.origin
        await asyncio.sleep(seconds)
        await world.carriers["cm-b"].stop(timeout_s=0.5)
        await asyncio.sleep(SETTLED_S)
        for theme, language, (kind, size) in itertools.product(("light", "dark"), ("en", "zh"), SIZES.items()):
            form: dict[str, Any] = {"theme": theme, "language": language, "size": size}
            async with console_page(browser, origin, cookie=cookie, **form) as console:
                for place in _places(ids):
                    if only and place[0] not in only:
                        continue
                    await console.open(*place)
                    await asyncio.sleep(0.3)  # a frame or two of the charts
                    name = place[0] + "-of-one" * (len(place) > 1)
                    path = FOLDER / f"{name}-{kind}-{theme}-{language}.png"
                    await console.page.screenshot(path=path, full_page=True)
            async with console_page(browser, origin, **form) as door:
                await door.page.goto(f"{origin}/console/")
                await door.page.locator("main.door").wait_for()
                await door.page.screenshot(path=FOLDER / f"door-{kind}-{theme}-{language}.png")


async def _tells_of(console: Console, channel: str) -> bool:
    """Whether the page has noticed that a carrier is gone."""
    told = console.page.locator(".problem", has_text=channel)
    return await told.count() > 0 and "refuse" in await told.first.inner_text()


def _places(ids: dict[str, str]) -> list[tuple[str, ...]]:
    one = [
        ("messages", ids["long"]),
        ("channels", "cm-a"),
        ("accounts", "shop"),
        ("routes", "cn"),
        ("webhooks", "shop"),
    ]
    return [(page,) for page in PAGES] + one


async def run(only: list[str], seconds: float) -> None:
    """Take all that is asked for."""
    async with chromium() as browser:
        if not only:
            await picture(browser, seconds)
        await every_page(browser, only, seconds)


def main() -> None:
    """Take the pictures and say where they are."""
    parser = argparse.ArgumentParser(description="Pictures of the console.")
    parser.add_argument("--only", default="", help="Pages, with commas; docs/console.png is left alone then.")
    parser.add_argument("--seconds", type=float, default=75.0, help="How long messages are sent before.")
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    asyncio.run(run([one for one in given.only.split(",") if one], given.seconds))
    print(f"pictures are in {FOLDER.relative_to(ROOT)}" + ("" if given.only else f" and {PICTURE.relative_to(ROOT)}"))


if __name__ == "__main__":
    main()
