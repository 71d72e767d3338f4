"""Pictures of the console: docs/console.png for the README, and every page in every form for whoever looks it over.

    python -m tools.screenshots [--only overview,channels] [--seconds 75]        # or: make screenshots

Runs a gateway of its own with simulated carriers and a minute of mixed traffic, in which a carrier goes, and
photographs the pages: laptop and phone, light and dark, English and Chinese, into build/screenshots. With `--only` no
picture of the README is taken. Needs Chromium and, for Chinese, fonts that have it (Debian: fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.support.chromium import chromium, missing
from tests.support.console import LAPTOP, PAGES, PHONE, Console, World, console_page, console_world
from tests.support.lively import liven
from tests.support.until import until

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = ROOT / "docs" / "console.png"
FOLDER: Final = ROOT / "build" / "screenshots"
SIZES: Final = {"wide": LAPTOP, "narrow": PHONE}
CATEGORIES: Final = ("verification", "notification", "notification", "notification", "marketing")
ENDS: Final = ("320", "321", "329", "322")
"""How some messages fail: see gateway/simulator/behaviour.py."""
EVERY_S: Final = 0.05
REFUSED: Final = 0x0E
"""SMPP 3.4 §5.1.3, ESME_RINVPASWD: the carrier takes the password no more."""
SETTLED_S: Final = 8.0


async def traffic(world: World, over: asyncio.Event) -> None:
    """Send until it is over, faster and slower as people do; one of thirty fails at the carrier."""
    random_, number = random.Random(4), itertools.count()
    while not over.is_set():
        n = next(number)
        to = f"+8613{random_.randrange(4, 10)}{n % 10}0900{random_.choice(ENDS)}" if n % 30 == 7 else f"+861380{n:07d}"
        category = random_.choice(CATEGORIES)
        await world.gateway.post({"to": to, "text": f"A message of {category}, number {n}", "category": category})
        await asyncio.sleep(EVERY_S * random_.random() * (3 if (n // 100) % 3 == 0 else 1))


async def photograph(world: World, only: list[str], seconds: float) -> None:
    """Let the gateway live for a while, then take every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    primary = world.carriers["cm-a"]
    primary.options.latency_s = 0.02
    over = asyncio.Event()
    sending = asyncio.create_task(traffic(world, over))
    try:
        async with chromium() as browser:
            origin, cookie = world.gateway.origin, await world.session("admin")
            if not only:
                async with console_page(browser, origin, cookie=cookie, size=(1360, 1130)) as first:
                    await first.open("overview")  # its charts grow while it is open
                    await asyncio.sleep(seconds)
                    primary.options.bind_status = REFUSED
                    primary.drop_sessions()
                    await until(lambda: _tells_of(first, "cm-a"), timeout_s=30, every_s=0.2)
                    await asyncio.sleep(SETTLED_S)
                    await first.page.screenshot(path=PICTURE)
                    primary.options.bind_status = 0
                    await until(lambda: primary.counters.sessions, timeout_s=60, every_s=0.2)
            ids = await liven(world)
            await world.carriers["cm-b"].stop(timeout_s=0.5)
            await asyncio.sleep(SETTLED_S)
            for theme, language, (kind, size) in itertools.product(("light", "dark"), ("en", "zh"), SIZES.items()):
                async with console_page(
                    browser, origin, cookie=cookie, theme=theme, language=language, size=size
                ) as console:
                    for place in _places(ids):
                        if only and place[0] not in only:
                            continue
                        await console.open(*place)
                        await asyncio.sleep(0.3)  # a frame or two of the charts
                        name = "-of-one".join((place[0], "")) if len(place) > 1 else place[0]
                        await console.page.screenshot(
                            path=FOLDER / f"{name}-{kind}-{theme}-{language}.png", full_page=True
                        )
                async with console_page(browser, origin, theme=theme, language=language, size=size) as door:
                    await door.page.goto(f"{origin}/console/")
                    await door.page.locator("main.door").wait_for()
                    await door.page.screenshot(path=FOLDER / f"door-{kind}-{theme}-{language}.png")
    finally:
        over.set()
        await sending


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
    """Start everything, photograph, and end everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smsgw-pictures-")))
        world = await stack.enter_async_context(console_world(folder))
        await photograph(world, only, seconds)


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
