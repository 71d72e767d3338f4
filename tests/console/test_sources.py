"""The console's files as they lie in the package: nothing in them makes markup of text, runs text, or comes from afar.

What the Content-Security-Policy would stop in a browser is stopped here before it is shipped; what it would not stop
(markup made of a hostile text) is stopped here alone. tests/browser/test_hostile.py shows the same in Chromium.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gateway.console.files import FOLDER

FILES = sorted(p for p in FOLDER.rglob("*") if p.is_file())
SCRIPTS = [p for p in FILES if p.suffix == ".js"]
SHEETS = [p for p in FILES if p.suffix == ".css"]
PAGE = FOLDER / "index.html"

MARKUP = re.compile(
    r"\b(innerHTML|outerHTML|insertAdjacentHTML|setHTML\w*|srcdoc|createContextualFragment|DOMParser|parseFromString)\b"
    r"|\bdocument\s*\.\s*write(ln)?\b"
)
RUNS_TEXT = re.compile(
    r"\beval\s*\(|\bnew\s+Function\b|\bFunction\s*\(|\bset(Timeout|Interval)\s*\(\s*[\"'`]|javascript:|\bimportScripts\b"
)
INLINE = re.compile(r"setAttribute(NS)?\s*\(\s*[\"'`](style|on\w+)[\"'`]|\bcssText\b")
SVG = "http://www.w3.org/2000/svg"
AFAR = re.compile(r"\b(?:https?|wss?|ftp):\\?/\\?/|[\"'(`]//[a-z]")


def name(path: Path) -> str:
    return path.resolve().relative_to(FOLDER.resolve()).as_posix()


def code(path: Path) -> str:
    """A script without its comments; strings stay as they are."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"(^|\s)//[^\n]*", r"\1", text)


def imports(path: Path) -> set[Path]:
    """The modules that a module names, those in import() too; pages by their names are not among them."""
    named = re.findall(r"\b(?:from|import)\s*\(?\s*[\"'](\.[^\"']+)[\"']", code(path))
    return {(path.parent / one).resolve() for one in named}


def page_names() -> set[str]:
    """The pages of which app.js makes the list."""
    groups = re.search(r"const GROUPS = \[(.*?)\n\];", (FOLDER / "app.js").read_text(), re.DOTALL)
    assert groups is not None
    return {word for word in re.findall(r'"([a-z]+)"', groups.group(1)) if not word.startswith("group")}


class Page(HTMLParser):
    """What index.html names, and what it holds that it may not."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[str] = []
        self.inline: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag if tag in ("script", "style") else ""
        for key, value in attrs:
            if key in ("src", "href"):
                self.named.append(value or "")
            if key == "style" or key.startswith("on"):
                self.inline.append(f"<{tag} {key}>")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in and data.strip():
            self.inline.append(f"<{self._in}>{data[:40]}")


def read_page() -> Page:
    page = Page()
    page.feed(PAGE.read_text(encoding="utf-8"))
    return page


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_makes_no_markup_and_runs_no_text(path: Path) -> None:
    text = code(path)
    for forbidden in (MARKUP, RUNS_TEXT, INLINE):
        found = forbidden.search(text)
        assert found is None, f"{name(path)} holds {found.group()!r}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    if path.suffix not in (".js", ".css", ".html", ".svg"):
        return
    text = code(path) if path.suffix == ".js" else path.read_text(encoding="utf-8")
    if path.name.endswith(".words.js"):  # words may name an address; they are only ever shown
        return
    found = AFAR.search(text.replace(SVG, ""))
    assert found is None, f"{name(path)} names {text[found.start() : found.start() + 60]!r}"
    assert "@import" not in text
    assert not re.search(r"url\(\s*[\"']?data:", text), "the policy allows no data: address"


@pytest.mark.parametrize("path", [*SCRIPTS, *SHEETS], ids=name)
def test_each_file_begins_with_what_it_owns(path: Path) -> None:
    first = path.read_text(encoding="utf-8").lstrip()
    assert re.match(r"//\s*\w|/\*\s*\w", first), f"{name(path)} begins with no comment"


def test_the_page_holds_nothing_inline_and_names_files_that_exist() -> None:
    page = read_page()
    assert page.inline == []
    for one in page.named:
        assert one.startswith("static/"), one
        assert (FOLDER / one.removeprefix("static/")).is_file(), one
    preloaded = re.findall(r'rel="modulepreload" href="static/([^"]+)"', PAGE.read_text())
    assert preloaded, "the modules of the frame are asked for at once"


def closure(path: Path) -> set[Path]:
    """A module and all that it imports, those in import() left out."""
    seen: set[Path] = set()
    todo = [path.resolve()]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            static = re.findall(r"\bfrom\s*[\"'](\.[^\"']+)[\"']", code(at))
            todo += [(at.parent / one).resolve() for one in static]
    return seen


def test_all_modules_of_a_page_are_asked_for_at_once() -> None:
    at_once = {
        (FOLDER / one).resolve() for one in re.findall(r'modulepreload" href="static/([^"]+)"', PAGE.read_text())
    }
    assert closure(FOLDER / "app.js") <= at_once
    early = (FOLDER / "lib/early.js").read_text(encoding="utf-8")
    for page in sorted(page_names()):
        row = re.search(rf"^    {page}: \[([^\]]*)\]", early, re.MULTILINE)
        assert row is not None, page
        more = {f"lib/{one}.js" for one in re.findall(r'"([^"]+)"', row.group(1))}
        wanted = closure(FOLDER / f"pages/{page}.js") - at_once
        assert {f"pages/{page}.js", f"pages/{page}.words.js"} | more == {name(one) for one in wanted}, page


def test_what_a_module_imports_exists_and_every_module_is_reached() -> None:
    names = page_names()
    assert len(names) > 10
    # app.js imports pages by their names, so they are reached by its list.
    todo = [FOLDER / "app.js", *(FOLDER / one.removeprefix("static/") for one in read_page().named)]
    todo += [path for one in sorted(names) if (path := FOLDER / f"pages/{one}.js").exists()]
    seen: set[Path] = set()
    while todo:
        path = todo.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        if path.suffix == ".js":
            for one in imports(path):
                assert one.is_file(), f"{name(path)} imports {one.name}, which does not exist"
                todo.append(one)
    left = {name(p) for p in FILES if p.resolve() not in seen} - {name(PAGE)}
    assert not left, f"nothing leads to {sorted(left)}"


def test_sheets_name_pictures_that_exist() -> None:
    for sheet in SHEETS:
        for one in re.findall(r"url\(\s*[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8")):
            assert (sheet.parent / one).is_file(), f"{name(sheet)} names {one}"


def test_the_checks_see_what_they_forbid() -> None:
    assert MARKUP.search("node.innerHTML = text")
    assert MARKUP.search("document . write(x)")
    assert RUNS_TEXT.search("setTimeout('go()', 1)")
    assert RUNS_TEXT.search("new Function('x')")
    assert INLINE.search("a.setAttribute('onclick', x)")
    assert AFAR.search('import x from "https://cdn.example/x.js"')
    assert AFAR.search('src="//cdn.example/x.js"')
    assert not MARKUP.search("node.textContent = text")


def test_the_sheets_of_pages_do_not_dress_each_others_classes() -> None:
    """A class of one page's sheet is no other sheet's: all sheets are always there."""
    owners: dict[str, set[str]] = {}
    for sheet in SHEETS:
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        rules = re.findall(r"(?:^|[{};])\s*([^{};@]+?)\s*\{", text)
        for one in (one.strip() for rule in rules for one in rule.split(",")):
            if re.fullmatch(r"\.[\w-]+", one):
                owners.setdefault(one, set()).add(sheet.name)
    pages = {"now.css", "traffic.css", "desk.css"}
    shared = {one: sorted(files) for one, files in owners.items() if len(files) > 1 and files & pages}
    assert not shared, shared
