"""What strangers write is shown as text and does nothing, in a real browser.

Everything that an application, a recipient, a carrier or an operator can choose is chosen badly here and sent through
the real API and by a simulated carrier; then every page is opened. A page that runs, loads or opens anything fails by
the fixture; a page that swallows or interprets a text fails here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from gateway.simulator.behaviour import IdMaker
from tests.support.console import BROWSER, PAGES, Console, World
from tests.support.until import until

pytestmark = BROWSER

SCRIPT = "<script>window.__xss=1</script>"
PICTURE = '<img src=x onerror="window.__xss=2">'
BREAKOUT = "\"'><svg onload=window.__xss=3>"
FRAME = "<iframe srcdoc='<script>parent.__xss=4</script>'></iframe>"
LINK = '<a href="https://evil.example/">win</a>'
ADDRESS = "https://evil.example/?x=1"
SCHEME = "javascript:window.__xss=5"
TEMPLATE = '{{constructor.constructor("window.__xss=6")()}}${window.__xss=7}'
STYLE = "<style>@import 'https://evil.example/s.css'</style>"
ENTITY = "&lt;b&gt;&#60;script&#62;"
BIDI = "pay \u202egnp.exe\u202c \u2066now\u2069"
BIDI_SEEN = "pay U+202Egnp.exeU+202C U+2066nowU+2069"
SHORT = "<svg/onload=window.__xss=8>"  # where a blank ends the field

TEXTS = (SCRIPT, PICTURE, BREAKOUT, FRAME, LINK, ADDRESS, SCHEME, TEMPLATE, STYLE, ENTITY, BIDI)

# Elements that no page of the console ever has; pictures are inline SVG of our own making.
STRANGE = """() => [...document.querySelectorAll(
  "img, iframe, object, embed, video, audio, base, meta[http-equiv], body style, body link, body script," +
  "form[action], [srcdoc], [onerror], [onload], [onclick], [onmouseover], [style*='evil']"
)].map(e => e.outerHTML.slice(0, 120)).concat(
  [...document.querySelectorAll("a[href]")].filter(a => !a.href.startsWith(location.origin + "/"))
    .map(a => a.outerHTML))"""


@dataclass
class Planted:
    """Ids of the hostile messages, by the text they were sent with; the rest by what they are."""

    messages: dict[str, str] = field(default_factory=dict)
    failed: str = ""


class HostileIds(IdMaker):
    """Names messages as an attacker would; each id is another one."""

    def new(self) -> tuple[bytes, bytes]:
        number, _ = super().new()
        octets = b"<b>%s</b>%s" % (number.lstrip(b"0"), SHORT.encode())
        return octets, octets


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def planted(world: World) -> Planted:
    found = Planted()
    world.carriers["cm-a"]._ids = HostileIds("decimal")
    for n, text in enumerate(TEXTS):
        found.messages[text] = await world.send(
            f"+861380000{n:04d}", text, ref=text[:128], tags=[text[:64]], meta=text,
            origin={"campaign": text[:64]}, contact=text[:128],
        )  # fmt: skip
    for id_ in found.messages.values():
        await world.until_state(id_, "delivered")

    carrier = world.carriers["cm-a"]
    carrier.options.failed_rate = 1.0
    carrier.options.failed_states = (("UNDELIV", SHORT),)
    found.failed = await world.send("+8613800001111", "The carrier's code is hostile")
    await world.until_state(found.failed, "undeliverable", "failed", "rejected")
    carrier.options.failed_rate = 0.0

    # Recipients: an answer, and a STOP with more behind it.
    for n, text in enumerate(TEXTS):
        carrier.send_mo(f"861380000{n:04d}", "106900001", text.encode("utf-16-be"), data_coding=8)
    carrier.send_mo("8613800000001", "106900001", f"TD {SCRIPT}".encode(), data_coding=0)

    async def answered() -> bool:
        _, body = await world.gateway.admin("GET", "/admin/v1/inbound")
        return len(body.get("messages", ())) > len(TEXTS)

    await until(answered, timeout_s=15, every_s=0.1)

    # Operators: gates, templates, imports, notes, and objects that are refused.
    admin = world.gateway.admin
    for text in (SCRIPT, PICTURE, TEMPLATE, LINK):
        await admin("PUT", "/admin/v1/gates", {"kind": "tag", "name": text[:64], "state": "hold"})
        await admin("PUT", "/admin/v1/channels", {"id": text, "action": "pause"})
        await admin("POST", "/admin/v1/webhooks", {"account": text, "action": "test"})
        await admin("POST", "/admin/v1/blacklist/imports", {"name": text, "scope": "global", "reason": "operator"})
    await admin("POST", "/admin/v1/config/reload", {"note": SCRIPT, "force": True})
    return found


async def look(console: Console, *place: str) -> str:
    """Open a place, check that nothing of it is strange, and return its text, hidden parts unfolded."""
    await console.open(*place)
    return await look_again(console, "/".join(place))


async def look_again(console: Console, name: str) -> str:
    """The same for the page that is open."""
    await console.page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert await console.page.evaluate("() => window.__xss") is None, f"{name} ran what it shows"
    assert await console.page.evaluate(STRANGE) == [], f"{name} made elements of what it shows"
    text = await console.text()
    assert "\u202e" not in text, f"{name} obeys a control of direction"
    assert "\u2066" not in text, f"{name} obeys a control of direction"
    return text


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_obeys_what_it_shows(console: Console, planted: Planted, page: str) -> None:
    await look(console, page)


async def test_the_audit_tells_hostile_objects_as_text(console: Console, planted: Planted) -> None:
    text = await look(console, "audit")
    assert f"tag:{SCRIPT}" in text
    assert f"tag:{PICTURE}" in text


async def test_gates_with_hostile_names_are_shown_as_text(console: Console, planted: Planted) -> None:
    text = await look(console, "queues")
    for name in (SCRIPT, PICTURE, TEMPLATE[:64], LINK):
        assert name in text


async def test_a_message_shows_its_texts_literally(console: Console, planted: Planted) -> None:
    for text, id_ in planted.messages.items():
        seen = BIDI_SEEN if text == BIDI else text
        assert seen in await look(console, "messages", id_), text  # ref, tags and campaign
        await console.page.get_by_role("button", name="Show text and number").click()
        await console.quiet()
        found = await look_again(console, f"messages of {text}")
        assert found.count(seen[:64]) >= 3, text
        assert SHORT in found, "the carrier's id of the message"


async def test_a_failed_message_shows_the_carriers_code_literally(console: Console, planted: Planted) -> None:
    assert SHORT in await look(console, "messages", planted.failed)


async def test_replies_are_shown_as_they_were_written(console: Console, planted: Planted) -> None:
    await look(console, "inbound")
    await console.page.get_by_text("All replies").click()
    await console.page.locator("#texts").click()
    await console.quiet()
    found = await look_again(console, "inbound")
    for text in TEXTS:
        assert (BIDI_SEEN if text == BIDI else text) in found, text


async def test_imports_with_hostile_names_are_shown_as_text(console: Console, planted: Planted) -> None:
    text = await look(console, "blacklist")
    assert SCRIPT in text
    assert PICTURE in text


async def test_notes_of_the_configuration_are_shown_as_text(console: Console, planted: Planted) -> None:
    assert SCRIPT in await look(console, "config")
