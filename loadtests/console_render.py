"""How long the console's first picture takes: from the start of the navigation to the painted content, in Chromium.

    python loadtests/console_render.py --channels 100 --runs 9        # or: make bench-console-render

Starts a gateway of its own, all of whose channels are bound to one simulated carrier, and opens pages of the console:
`first` with an empty cache, as on a new machine, `again` as a reload that asks for every file whether it is still the
same. A page is shown when every channel stands on it and the frame after that was painted. Prints one JSON object:
milliseconds (the middle of all runs, and the longest), the browser's own first paint, and how much was asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from loadtests.console_streams import is_ready, share_channels
from tests.support.chromium import chromium, missing
from tests.support.console import Console, console_page
from tests.support.gateway import ADMIN_TOKEN
from tests.support.gateway_process import AuditedGateway
from tests.support.scenario import carrier
from tests.support.until import until

if TYPE_CHECKING:
    from playwright.async_api import Browser

SHOWN: Final = {"overview": ".channel-grid a", "channels": ".channels-table tbody tr"}
"""Pages that show every channel, and what stands there for each."""
QUIET_S: Final = 1.0
"""Between two openings: what the last one left behind is over."""

# A task of its own after the next frame: by then what the frame drew is painted.
_WATCH: Final = """
(([selector, count]) => {
  let over = false;
  new MutationObserver((_, observer) => {
    if (over || document.querySelectorAll(selector).length < count) return;
    over = true;
    observer.disconnect();
    requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { window.shownAt = performance.now(); }; port2.postMessage(0); });
  }).observe(document, { childList: true, subtree: true });
})(%s);
"""
_READ: Final = """() => {
  const files = performance.getEntriesByType("resource");
  return { shown: window.shownAt, paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
    html: performance.getEntriesByType("navigation")[0].responseEnd, requests: files.length + 1,
    octets: files.reduce((n, f) => n + f.encodedBodySize, 0), last: Math.max(...files.map((f) => f.responseEnd)) };
}"""


async def measure(channels: int, runs: int, waterfall: bool = False) -> dict[str, Any]:
    """Return the figures of one gateway."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smsgw-bench-")))
        one = await stack.enter_async_context(carrier(receipt_delay_s=0.2))
        gateway = AuditedGateway(folder, {f"ch-{i:03d}": one.port for i in range(channels)}, wait=False)
        share_channels(gateway, [f"ch-{i:03d}" for i in range(channels)])
        await stack.enter_async_context(gateway)
        await until(lambda: is_ready(gateway), timeout_s=120, every_s=0.5)
        await until(lambda: one.counters.sessions >= channels, timeout_s=60)
        browser = await stack.enter_async_context(chromium())
        origin = f"http://127.0.0.1:{gateway.admin_port}"
        found: dict[str, Any] = {"channels": channels, "runs": runs, "milliseconds": {}}
        for page, selector in SHOWN.items():
            rows = [await _open(browser, origin, page, selector, channels) for _ in range(runs)]
            for i, when in enumerate(("first", "again")):
                found["milliseconds"][f"{page} {when}"] = _told([row[i] for row in rows])
        if waterfall:
            found["waterfall"] = await _waterfall(browser, origin, channels)
        return found


async def _open(browser: Browser, origin: str, page: str, selector: str, channels: int) -> tuple[Any, Any]:
    """Open a page in a context of its own, and once more in the same; returns both measurements."""
    async with console_page(browser, origin, bearer=ADMIN_TOKEN) as console:
        await console.context.add_init_script(_WATCH % json.dumps([selector, channels]))
        await console.page.goto(f"{origin}/console/#/{page}")
        first = await _shown(console)
        await asyncio.sleep(QUIET_S)
        await console.page.reload()
        again = await _shown(console)
        assert not console.unexcused(), console.unexcused()
    await asyncio.sleep(QUIET_S)
    return first, again


async def _shown(console: Console) -> Any:
    await console.page.wait_for_function("() => window.shownAt !== undefined")
    return await console.page.evaluate(_READ)


async def _waterfall(browser: Browser, origin: str, channels: int) -> list[str]:
    """Return when each file of the overview was asked for and there, for who looks for what is slow."""
    async with console_page(browser, origin, bearer=ADMIN_TOKEN) as console:
        await console.context.add_init_script(_WATCH % json.dumps([SHOWN["overview"], channels]))
        await console.page.goto(f"{origin}/console/#/overview")
        await _shown(console)
        rows: list[str] = await console.page.evaluate(
            "() => performance.getEntriesByType('resource').map(f => `${Math.round(f.startTime)} "
            "${Math.round(f.requestStart)} ${Math.round(f.responseEnd)} ${new URL(f.name).pathname}`)"
        )
        return rows


def _told(rows: list[dict[str, float]]) -> dict[str, float]:
    def middle(name: str) -> float:
        return round(statistics.median(row[name] for row in rows if row[name] is not None), 1)

    return {
        "shown": middle("shown"),
        "longest": round(max(row["shown"] for row in rows), 1),
        "first_paint": middle("paint"),
        "page_read": middle("html"),
        "requests": middle("requests"),
        "octets": middle("octets"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time from the navigation to the console's painted content.")
    parser.add_argument("--channels", type=int, default=100, help="At least 10.")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--waterfall", action="store_true", help="Also when each file was asked for and there (ms).")
    given = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(asyncio.run(measure(given.channels, given.runs, given.waterfall)), indent=1))


if __name__ == "__main__":
    main()
