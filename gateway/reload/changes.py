"""What differs between two configurations: ids and keys for logs and people, lines for `smsgw config diff`.

Owns how secrets that were typed in clear are masked in a shown text. Pure. A text whose secrets cannot be found again
by their spelling is not shown at all; of one that is no TOML a difference shows the lines that cannot hold one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final

from gateway.settings.bundle import Bundle
from gateway.settings.loading import ACCOUNTS, CHANNELS, GATEWAY, ROUTES, TEMPLATES, parse_toml
from gateway.settings.local_keys import without_local

_LISTS: Final = ((CHANNELS, "channel"), (ROUTES, "route"), (ACCOUNTS, "account"), (TEMPLATES, "template"))
MASK: Final = "***"
_NOT_SHOWN: Final = "(not shown: it is no valid TOML)"
_HIDDEN: Final = "(not shown: it holds secrets in clear whose spelling cannot be followed)"

_SECRET_KEYS: Final = ("password", "outbind_password", "secret", "token", "url")
_STRING = r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
_STRINGS = re.compile(_STRING, re.DOTALL)
_ASSIGNED = re.compile(
    rf"(?P<head>(?<![\w-])[\"']?(?P<key>{'|'.join(_SECRET_KEYS)})[\"']?\s*=\s*)"
    rf"(?P<value>\[(?:[^\]\"'#]|#[^\n]*|{_STRING})*\]|{_STRING})",
    re.DOTALL,
)
_USERINFO = re.compile(r"(?<=://)[^/@]*@")
_PATH = re.compile(r"^(https?://[^/?#]+)[/?#].+$", re.DOTALL)
_HEADERS = re.compile(rf"(?P<head>(?<![\w-])headers\s*=\s*)(?P<value>\{{(?:[^{{}}\"']|{_STRING})*\}})", re.DOTALL)
_HEADER = re.compile(rf"(?P<head>=\s*)(?P<value>{_STRING})", re.DOTALL)
# Of a line that stands in no valid TOML: a plain key and one value, or no value at all.
_PLAIN_LINE = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=(?P<value>[^={}\\]*)")
_TABLE_LINE = re.compile(r"\s*\[{1,2}(?P<name>[^\[\]=\"'#]*)\]{1,2}\s*")
_OPEN_TABLE = re.compile(r"\s*\[{1,2}\s*(?:channel|route|account|template)\s*\]?\s*")
_HOLDERS: Final = (*_SECRET_KEYS, "headers")
_HOLDER = re.compile("|".join(_HOLDERS), re.IGNORECASE)
_LONG_STRING = re.compile(r'"""|\'\'\'')
_REFERENCE = re.compile(r"file:.*|(?:[^$]{0,3}\$\{env:[A-Za-z_][A-Za-z0-9_]*\})+", re.DOTALL)


def changes(old: Bundle, new: Bundle) -> dict[str, list[str]]:
    """Return what a change does: `channels added` → ids; `settings changed` → keys; `tables changed` → names.

    Never a value, so never a secret.
    """
    found: dict[str, list[str]] = {}

    def note(what: str, names: list[str]) -> None:
        if names:
            found[what] = sorted(names)

    for file, kind in _LISTS:
        before, after = _entries(old, file, kind), _entries(new, file, kind)
        note(f"{kind}s added", [name for name in after if name not in before])
        note(f"{kind}s removed", [name for name in before if name not in after])
        note(f"{kind}s changed", [name for name in after if name in before and after[name] != before[name]])
    before, after = (_leaves(without_local(one.trees.get(GATEWAY) or {})) for one in (old, new))
    note("settings changed", [key for key in {*before, *after} if before.get(key, _leaves) != after.get(key, _leaves)])
    tables = [n for n in {*old.files, *new.files} if n.endswith(".csv") and old.files.get(n) != new.files.get(n)]
    note("tables changed", tables)
    return found


def _entries(bundle: Bundle, file: str, kind: str) -> dict[str, Any]:
    """Return id → entry; entries of one id (a template's versions) together."""
    found: dict[str, Any] = {}
    listed = (bundle.trees.get(file) or {}).get(kind, [])
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict):
            found.setdefault(str(entry.get("id", "?")), []).append(entry)
    return found


def _leaves(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return dotted key → value of gateway.toml, tables opened two levels down (`categories.marketing.ttl_s`)."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{above}.{key}" if above else key
        if isinstance(value, dict) and name.count(".") < 2:
            found |= _leaves(value, name)
        else:
            found[name] = value
    return found


# --- texts for people


def unified(old: Bundle, new: Bundle, names: tuple[str, str]) -> list[str]:
    """Return the difference as lines, file by file, as `diff -u` writes it; `names` are what the two sides are called.

    Lines are compared as they are and shown masked: a secret that changed shows as changed, and not what it is.
    """
    lines: list[str] = []
    for name in sorted({*old.files, *new.files}):
        if old.files.get(name) == new.files.get(name):
            continue
        lines += [f"--- {names[0]}/{name}", f"+++ {names[1]}/{name}"]
        if name not in new.files:
            lines.append(f"({name} is not there any more)")
        for side, one in zip(names, (old, new), strict=True):
            if (fault := _fault(name, one.files.get(name, b""))) is not None:
                lines.append(f"({side}: {fault})")
        before, shown_before = _lines(name, old.files.get(name, b""))
        after, shown_after = _lines(name, new.files.get(name, b""))
        for group in difflib.SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(3):
            lines += _hunk(group, shown_before, shown_after)
    return lines


def _hunk(group: list[tuple[str, int, int, int, int]], before: list[str], after: list[str]) -> Iterator[str]:
    first, last = group[0], group[-1]
    yield f"@@ -{first[1] + 1},{last[2] - first[1]} +{first[3] + 1},{last[4] - first[3]} @@"
    for tag, a, b, c, d in group:
        if tag == "equal":
            yield from (f" {line}" for line in before[a:b])
        else:
            yield from (f"-{line}" for line in before[a:b])
            yield from (f"+{line}" for line in after[c:d])


def _lines(name: str, data: bytes) -> tuple[list[str], list[str]]:
    """Return a file's lines, to compare and to show (of the same number)."""
    text = data.decode(errors="replace").removesuffix("\n")
    shown = masked(name, text)
    real, safe = (one.split("\n") if one else [] for one in (text, shown))
    if shown == _NOT_SHOWN and not _LONG_STRING.search(text):
        safe = list(_salvaged(real))  # a long string could hold a secret in a line that looks like any other
    return (real, safe) if len(real) == len(safe) else (safe, safe)


def _fault(name: str, data: bytes) -> str | None:
    """Say why a file is no TOML; None where it is."""
    if name.endswith(".toml"):
        try:
            parse_toml(data)
        except ValueError as exc:
            return str(exc)
    return None


def _salvaged(lines: list[str]) -> Iterator[str]:
    """Yield lines of a text that is no TOML, everything in them masked that may be a secret, or a part of one."""
    hidden = False  # below a table whose values are secrets
    for line in lines:
        remark = line.lstrip().startswith("#") and not _HOLDER.search(line)
        if not line.strip() or remark or _OPEN_TABLE.fullmatch(line):
            yield line
        elif (table := _TABLE_LINE.fullmatch(line)) is not None:
            hidden = _HOLDER.search(table["name"]) is not None
            yield line
        elif (found := _PLAIN_LINE.fullmatch(line)) is not None and not hidden and not _HOLDER.search(line):
            yield line
        elif found is not None:
            yield f"{line[: found.start('value')]} {MASK}"
        else:
            yield f"{line[: len(line) - len(line.lstrip())]}{MASK}"


def masked(name: str, text: str) -> str:
    """Return a file's text with every secret that stands in it masked; references stay.

    What is no TOML, or has secrets that were not found, is replaced by a word about that.
    """
    if not name.endswith(".toml"):
        return text
    try:
        parse_toml(text.encode())
    except ValueError:
        return _NOT_SHOWN
    shown = _ASSIGNED.sub(lambda match: match["head"] + _STRINGS.sub(_mask_of(match["key"]), match["value"]), text)
    shown = _HEADERS.sub(lambda match: match["head"] + _HEADER.sub(_masked_header, match["value"]), shown)
    try:
        clear = any(not _is_safe(key, value) for key, value in _secrets(parse_toml(shown.encode())))
    except ValueError:
        clear = True
    return _HIDDEN if clear else shown


def _mask_of(key: str) -> Any:
    def mask(match: re.Match[str]) -> str:
        text = match[0]
        quotes = text[:3] if text[:3] in ('"""', "'''") else text[:1]
        inner = text[len(quotes) : -len(quotes)]
        return f"{quotes}{_masked_value(key, inner)}{quotes}"

    return mask


def _masked_header(match: re.Match[str]) -> str:
    return match["head"] + _STRINGS.sub(_mask_of("headers"), match["value"])


def _masked_value(key: str, value: str) -> str:
    if key == "url":
        return _PATH.sub(rf"\1/{MASK}", _USERINFO.sub(_masked_userinfo, value))
    return value if not value or _REFERENCE.fullmatch(value) else MASK + "\n" * value.count("\n")


def _masked_userinfo(match: re.Match[str]) -> str:
    user, colon, password = match[0][:-1].partition(":")
    if not colon or not password or _REFERENCE.fullmatch(password):
        return match[0]
    return f"{user}:{MASK}@"


def _is_safe(key: str, value: str) -> bool:
    """Tell whether a shown value is a reference, masked, or nothing."""
    return _masked_value(key, value) == value or not value.strip("*\n")


def _secrets(node: Any) -> Iterator[tuple[str, str]]:
    """Yield key and text of everything that may be a secret, wherever it stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _SECRET_KEYS:
                yield from (
                    (key, one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)
                )
            if key == "headers" and isinstance(value, dict):
                yield from ((key, one) for one in value.values() if isinstance(one, str))
            yield from _secrets(value)
    elif isinstance(node, list):
        for one in node:
            yield from _secrets(one)


__all__ = ["MASK", "changes", "masked", "unified"]
