"""What a reader sees on an open page, measured in the browser: `looks.js` says how, this asks.

Each function answers with a list of what is wrong in words for a person, empty when nothing is. `unnamed` reads the
accessibility tree as the browser gives it to a screen reader; `axe` runs axe-core, where `make peers` installed it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.interop.peer import INSTALLED, installed
from tests.support.console import Console

SCRIPT: Final = Path(__file__).with_suffix(".js")
AXE: Final = INSTALLED / "node_modules" / "axe-core" / "axe.min.js"
_CONTROLS: Final = frozenset(
    {
        "button", "link", "textbox", "searchbox", "combobox", "listbox", "checkbox", "radio", "switch", "slider",
        "spinbutton", "tab", "menuitem", "option", "dialog", "region", "img", "table", "form", "navigation",
    }
)  # fmt: skip
"""Roles that say nothing without a name."""


async def ask(console: Console, function: str, *args: Any) -> Any:
    """Call one function of looks.js in the page. Evaluated by the debugger, so the page's policy does not forbid it."""
    if not await console.page.evaluate("() => '__looks' in window"):
        await console.page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    return await console.page.evaluate(f"args => window.__looks[{json.dumps(function)}](...args)", list(args))


async def unnamed(console: Console) -> list[str]:
    """Return the controls and pictures that a screen reader could only call by their kind."""
    session = await console.context.new_cdp_session(console.page)
    try:
        nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    finally:
        await session.detach()
    found = []
    for node in nodes:
        role = node.get("role", {}).get("value", "")
        if node.get("ignored") or role not in _CONTROLS or node.get("name", {}).get("value", "").strip():
            continue
        found.append(f"{role} without a name (node {node.get('backendDOMNodeId')})")
    return found


def axe_is_there() -> bool:
    """Tell whether `make peers` has installed axe-core."""
    return installed() and AXE.exists()


async def axe(console: Console) -> list[str]:
    """Return what axe-core calls a violation of WCAG 2.2 A and AA."""
    if not await console.page.evaluate("() => 'axe' in window"):
        await console.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await console.page.evaluate(
        """() => axe.run(document, {resultTypes: ["violations"],
             runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
           .then(({violations}) => violations.flatMap(v => v.nodes.map(
             n => `${v.id}: ${n.target.join(" ")} ${n.failureSummary.split("\\n").slice(1, 2).join(" ").trim()}`)))"""
    )
    return [str(one) for one in found]
