"""How one frame of `smsgw top` is drawn: tables that fit the terminal, the most telling rows first.

Owns columns, colours and what is left out where there is no room. Pure: knows neither the terminal's keys nor the
admin listener. Without a terminal nothing is coloured (rich does that).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.commands.common import plain
from gateway.commands.top_data import Channel, View

SORTS: Final[dict[str, tuple[str, Callable[[Channel], Any]]]] = {
    "n": ("name", lambda c: c.id),
    "r": ("rate", lambda c: (-c.per_s, c.id)),
    "e": ("errors", lambda c: (-(c.errors or 0.0), c.id)),
    "w": ("window", lambda c: (-(c.window_used / max(1, c.window)), c.id)),
    "s": ("state", lambda c: (c.state == "up", c.id)),
}
"""Keys by which channels are sorted."""
_WIDE: Final = 110
_CHROME: Final = 6  # lines of head, foot and rates


def frame(view: View, *, width: int, height: int, sort: str = "n", title: str = "", paused: bool = False) -> Group:
    """Draw what fits into `width` × `height` characters."""
    wide = width >= _WIDE
    rest = max(6, height - _CHROME)
    small: list[RenderableType] = []
    if view.gates:
        small.append(_text(f"gates: {', '.join(_gate(g) for g in view.gates)}", style="yellow"))
    hooks = [w for w in view.webhooks if w["backlog"] or w["state"] != "enabled"]
    if hooks:
        small.append(_text("webhooks: " + ", ".join(_hook(w) for w in hooks)))
    for alarm in view.alarms[: max(1, rest // 6)]:
        small.append(_text(f"! {alarm}", style="red"))
    rest -= len(small)
    n_queues = min(len(view.queues), max(2, rest // 3)) if view.queues else 0
    rest -= n_queues + 2 if n_queues else 0
    n_channels = max(1, min(len(view.channels), rest - 1))
    parts: list[RenderableType] = [_head(view, title, paused), _rates(view)]
    parts.append(_channels(view, SORTS[sort][1], n_channels, wide))
    if n_queues:
        parts.append(_queues(view, n_queues))
    parts += small
    keys = " ".join(f"{key}:{name}" for key, (name, _) in SORTS.items())
    parts.append(Text(f"q quit  p pause  sort by {keys}  (now {SORTS[sort][0]})", style="dim", no_wrap=True))
    return Group(*parts)


def _head(view: View, title: str, paused: bool) -> Text:
    p99 = "-" if view.verification_p99_s is None else f"≤ {_seconds(view.verification_p99_s)}"
    text = _text(f"smsgw top  {title}  ", style="bold")
    text.append(f"{view.waiting} waiting  codes wait p99 {p99}")
    if paused:
        text.append("  PAUSED", style="yellow")
    return text


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, expand=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify="left" if justify == "l" else "right", no_wrap=True)
    return table


def _rates(view: View) -> Table:
    table = _table(
        ("messages a second", "l"), ("accepted", "r"), ("submitted", "r"), ("delivered", "r"), ("failed", "r")
    )
    for r in view.rates:
        failed = Text(_rate(r.failed), style="red" if r.failed else "")
        table.add_row(r.category, _rate(r.accepted), _rate(r.submitted), _rate(r.delivered), failed)
    return table


def _channels(view: View, key: Callable[[Channel], Any], most: int, wide: bool) -> Table:
    columns = [("channel", "l"), ("state", "l"), ("sess", "r"), ("window", "r"), ("rate", "r"), ("limit", "r"),
               ("err", "r"), ("receipt", "r")]  # fmt: skip
    table = _table(*columns, *([("cause", "l")] if wide else []))
    shown = sorted(view.channels, key=key)
    for c in shown[:most]:
        style = "green" if c.state == "up" else "yellow" if c.state in ("pause", "drain") else "red"
        limit = f"{c.limit_per_s:.0f}" if c.limit_per_s else "-"
        if c.max_tps and round(c.limit_per_s) != c.max_tps:
            limit += f"/{c.max_tps}"
        row: list[str | Text] = [
            _text(c.id),
            Text(c.state, style=style),
            f"{c.sessions}/{c.binds}",
            f"{c.window_used}/{c.window}",
            _rate(c.per_s),
            limit,
            "-" if c.errors is None else f"{c.errors:.0%}",
            "-" if c.receipt_delay_s is None else f"≤{_seconds(c.receipt_delay_s)}",
        ]
        table.add_row(*row, *([_text(c.cause)] if wide else []))
    if len(shown) > most:
        table.add_row(f"… {len(shown) - most} more")
    return table


def _queues(view: View, most: int) -> Table:
    table = _table(("queue", "l"), ("rank", "r"), ("category", "l"), ("depth", "r"), ("oldest", "r"), ("deepest", "l"))
    for q in view.queues[:most]:
        deepest = q["accounts"][0]["account"] if q["accounts"] else ""
        place = (_text(q["route"]), str(q["rank"]), q["category"], str(q["depth"]))
        table.add_row(*place, _seconds(q["oldest_age_s"]), _text(deepest))
    return table


def _text(words: str, style: str = "") -> Text:
    """Return words of others as they are: no markup is read in them, and no control character gets through."""
    return Text(plain(words), style=style, no_wrap=True, overflow="ellipsis")


def _gate(g: dict[str, Any]) -> str:
    sweep = g.get("sweep")
    left = f", {sweep['left']} left" if sweep and not sweep["done"] else ""
    return f"{g['kind']} {g['name']} {g['state']} ({g['held']} held, {g['closed']} closed{left})"


def _hook(w: dict[str, Any]) -> str:
    return f"{w['account']} {w['state']} {w['backlog']} waiting"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"
