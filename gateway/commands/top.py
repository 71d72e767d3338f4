"""`smsgw top`: the gateway live in a terminal; `--once` for one frame, for scripts.

Owns the loop, the keys and where figures come from (admin API and /metrics of the admin listener). Refuses to know what
they mean (`top_data`) and how they are drawn (`top_frame`).
"""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.commands.common import DEFAULT_CONFIG, EXIT_USE, AsJson, ConfigDir, find_admin, say, stop, with_advice

if TYPE_CHECKING:
    from gateway.commands.top_data import Sample

_ANSWERS: Final = {
    "channels": "/admin/v1/channels",
    "queues": "/admin/v1/queues?top=1",
    "gates": "/admin/v1/gates",
    "webhooks": "/admin/v1/webhooks",
}

_OVER_S: Final = 4.0
"""Rates are taken over at least so long: workers publish their counters once a second."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.2, max=60, help="Seconds between frames; with --once, over which rates are taken.")
    ] = 2.0,
    sort: Annotated[str, typer.Option(help="Channels by n(ame), r(ate), e(rrors), w(indow) or s(tate).")] = "n",
    config: ConfigDir = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show rates, channels, queues, webhooks, gates and alarms, live. Keys: q quits, p pauses, n r e w s sort."""
    from gateway.client.admin import AdminError
    from gateway.commands.top_frame import SORTS

    if sort[:1] not in SORTS:
        stop(f"--sort: one of {', '.join(SORTS)} is wanted", code=EXIT_USE)
    where = find_admin(config)
    try:
        if once or as_json or not sys.stdout.isatty():
            _once(where, interval, sort[0], as_json)
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _live(where, interval, sort[0])
    except AdminError as exc:
        raise with_advice(exc, config) from None


def _read(where: tuple[str, str]) -> Sample:
    """Ask everything at once.

    Raises:
        AdminError: nobody answers, it refuses, or what it says cannot be read.
    """
    from gateway.client.admin import AdminError, ask, read_text
    from gateway.commands.top_data import Sample

    async def all_of_it() -> Sample:
        base, token = where
        asked = [ask(base, token, "GET", path) for path in _ANSWERS.values()]
        metrics, *answers = await asyncio.gather(read_text(base, token, "/metrics"), *asked)
        return Sample.of(time.monotonic(), metrics, dict(zip(_ANSWERS, answers, strict=True)))

    try:
        return asyncio.run(all_of_it())
    except ValueError as exc:
        raise AdminError(f"the admin listener at {where[0]} gave metrics that cannot be read") from exc


def _once(where: tuple[str, str], interval: float, sort: str, as_json: bool) -> None:
    from rich.console import Console

    from gateway.commands.top_data import view_of
    from gateway.commands.top_frame import frame

    before = _read(where)
    time.sleep(interval)
    view = view_of(_read(where), before)
    if as_json:
        say(json.dumps(view.as_json(), ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(frame(view, width=console.width, height=console.height, sort=sort, title=where[0]))


def _live(where: tuple[str, str], interval: float, sort: str) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from gateway.client.admin import AdminError
    from gateway.commands.top_data import View, alarms_of, keep_last, view_of
    from gateway.commands.top_frame import SORTS, frame

    console = Console(highlight=False)
    kept: deque[Sample] = deque()
    view, alarms, paused, trouble = View(), [""][:0], False, ""
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        due = 0.0
        while True:
            if not paused and time.monotonic() >= due:
                due = time.monotonic() + interval
                try:
                    now = _read(where)
                    while len(kept) > 1 and now.at - kept[1].at >= _OVER_S:
                        kept.popleft()
                    view, trouble = view_of(now, kept[0] if kept else None), ""
                    if kept:  # what was counted before this view began is no news
                        alarms = keep_last(alarms, alarms_of(now, kept[-1]), time.strftime("%H:%M:%S"))
                    kept.append(now)
                except AdminError as exc:
                    trouble = str(exc)
            view.alarms = [trouble, *alarms] if trouble else alarms
            size = console.size
            title = f"{time.strftime('%H:%M:%S')} {where[0]}"
            drawn = frame(view, width=size.width, height=size.height, sort=sort, title=title, paused=paused)
            live.update(drawn if view.seconds or trouble else Text("reading …"), refresh=True)
            key = pressed(max(0.05, min(0.5, due - time.monotonic())) if not paused else 0.5)
            if key == "q":
                return
            if key == "p":
                paused = not paused
            elif key in SORTS:
                sort = key


class _Pressed:
    """Waits for one key."""

    def __call__(self, timeout_s: float) -> str:
        """Return the key that was pressed within the time, '' for none."""
        if not sys.stdin.isatty():
            time.sleep(timeout_s)
            return ""
        ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
        if not ready:
            return ""
        # Past Python's buffer, which select does not see: what it kept back would come with the next key.
        found = os.read(sys.stdin.fileno(), 64)
        if not found:
            raise KeyboardInterrupt  # the terminal is gone
        if found.startswith(b"\x1b"):
            return ""  # an arrow or the like
        return "q" if b"q" in found else chr(found[-1])


@contextlib.contextmanager
def _keys() -> Iterator[_Pressed]:
    """Take keys as they are pressed, without Enter and without showing them; the terminal is as it was afterwards."""
    if not sys.stdin.isatty():
        yield _Pressed()
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    as_it_was = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Pressed()
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, as_it_was)
