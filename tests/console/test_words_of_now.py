"""Overview and channels have words, in both languages, for all that the gateway may tell: problems, states, causes.

What the gateway can say is read from its own tables and from the source of `admin/problems.py`; what the pages can say
from their files of words. A kind that is added there without words here fails this test, not the operator at night.
"""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from gateway import reasons
from gateway.admin import changes_v1, channel_state, explain_v1, problems
from gateway.console.files import FOLDER
from gateway.smpp import trouble

LANGUAGES = ("en", "zh")
KEY = re.compile(r'"((?:[^"\\]|\\.)+)":\s*"((?:[^"\\]|\\.)*)"')
FACT = re.compile(r"\{(\w+)\}")


def words(*files: str) -> dict[str, dict[str, str]]:
    """The words of these files together, by language."""
    found: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for file in files:
        english, _, chinese = (FOLDER / file).read_text(encoding="utf-8").partition("\n  zh: {")
        found["en"] |= dict(KEY.findall(english))
        found["zh"] |= dict(KEY.findall(chinese))
    assert all(len(one) > 10 for one in found.values()), files
    return found


def strings(node: ast.expr) -> set[str]:
    """The texts that an expression may be: a constant, or one of two."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=body, orelse=other):
            return strings(body) | strings(other)
        case _:
            return set()


def kinds_and_actions() -> tuple[set[str], set[str]]:
    """Every kind of problem and every label of an action in the source of `problems`."""
    tree = ast.parse(inspect.getsource(problems))
    kinds: set[str] = set()
    labels: set[str] = set()
    named: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, set()).update(strings(node.value))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            for value in values:
                if isinstance(value, ast.Tuple):
                    for target, one in zip(node.targets[0].elts, value.elts, strict=False):
                        if isinstance(target, ast.Name):
                            named.setdefault(target.id, set()).update(strings(one))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Problem":
                kind = node.args[1]
                found = named.get(kind.id, set()) if isinstance(kind, ast.Name) else strings(kind)
                assert found, f"line {node.lineno}: no kind can be read from the source"
                kinds |= found
            elif node.func.id == "action":
                labels |= strings(node.args[0])
    return kinds, labels


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_has_words(language: str) -> None:
    known = words("pages/overview.words.js")[language]
    kinds, labels = kinds_and_actions()
    assert len(kinds) > 30
    assert {"channel_down", "breaker_open", "route_without_channel", "gate_closed", "channel_draining"} <= kinds
    wanted = {f"k.{kind}{part}" for kind in kinds for part in ("", ".why", ".do")}
    wanted |= {f"act.{label}{part}" for label in labels for part in ("", ".done")}
    wanted |= {f"severity.{one}" for one in problems.SEVERITIES}
    assert wanted <= known.keys(), sorted(wanted - known.keys())
    stale = {key for key in known if key.startswith("k.")} - wanted
    assert not stale, f"nothing says these any more: {sorted(stale)}"


def test_both_languages_use_the_same_facts() -> None:
    for file in ("pages/overview.words.js", "pages/channels.words.js", "pages/routes.words.js", "lib/now.words.js"):
        known = words(file)
        differ = [
            key
            for key, text in known["en"].items()
            if sorted(FACT.findall(text)) != sorted(FACT.findall(known["zh"][key]))
        ]
        assert not differ, (file, differ)


@pytest.mark.parametrize("language", LANGUAGES)
def test_states_and_causes_have_words(language: str) -> None:
    known = words("lib/now.words.js")[language]
    wanted = {f"channel.{state}" for state in channel_state.STATES}
    wanted |= {f"cause.{kind}" for kind in (*trouble.KINDS, "no_worker", "breaker")}
    wanted |= {"cause.operator.pause", "cause.operator.drain"}
    wanted |= {f"cause.breaker.{why}" for why in ("refusals", "no answers", "a probe failed")}
    assert wanted <= known.keys(), sorted(wanted - known.keys())


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasons_have_words(language: str) -> None:
    known = words("lib/reasons.words.js")[language]
    names = {*reasons.BY_CARRIERS, *reasons.BY_GATEWAY}
    assert {key.removeprefix("reason.") for key in known if not key.startswith("reason.says.")} == names
    assert {key.removeprefix("reason.says.") for key in known if key.startswith("reason.says.")} == names


@pytest.mark.parametrize("language", LANGUAGES)
def test_changes_have_words(language: str) -> None:
    known = words("pages/overview.words.js")[language]
    told = re.search(r"else one of (.*?), whose", (changes_v1.__doc__ or "").replace("\n", " "))
    assert told is not None
    kinds = re.findall(r"(\w+) \{", told.group(1))
    assert len(kinds) >= 5
    assert {f"c.{kind}" for kind in kinds} <= known.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rule_of_explain_has_words(language: str) -> None:
    known = words("pages/routes.words.js")[language]
    tree = ast.parse(inspect.getsource(explain_v1))
    codes = {
        text
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_rule"
        for text in strings(node.args[3])
    }
    assert len(codes) > 10
    # What the rules on texts refuse with (policy/texts.py, policy/content.py), and numbers and hours.
    codes |= {"missing_signature", "missing_optout_text", "link_not_allowed", "invalid_number", "outside_window"}
    assert {f"why.{code}" for code in codes} <= known.keys(), sorted(c for c in codes if f"why.{c}" not in known)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_audit_notes_has_words(language: str) -> None:
    """Actions are spelt in many places: what is found of them in the sources is compared."""
    known = words("pages/overview.words.js")[language]
    root = FOLDER.parents[1]
    sources = [*root.glob("console/*.py"), *root.glob("admin/*_v1.py"), root / "admin/server.py"]
    areas = "console|gate|channel|blacklist|number|inbound|ported|template|account"
    spelt = re.compile(rf'"((?:{areas})\.[a-z_]+)"')
    actions = {found for path in sources for found in spelt.findall(path.read_text(encoding="utf-8"))}
    assert len(actions) > 20
    missing = {f"audit.{action}" for action in actions} - known.keys()
    assert not missing, sorted(missing)
