"""Signatures: the name in 【】 at the start or the end of a text, by which China's carriers know who is speaking.

Owns how one is found in a text and when two spellings are the same. Refuses to know who may use which (intake, by
account) and which channel carries which (`settings`, `routing.table`). Pure; stands beside `model`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from unicodedata import is_normalized, normalize

ANY: Final = "*"
"""In a channel's list: every signature that is not named there."""


@lru_cache(maxsize=1024)  # few, and asked for once a message
def clean(written: str) -> str:
    """Return a signature as signatures are compared: without its brackets, in NFKC, so that ＡＢＣ is ABC."""
    name = written.removeprefix("【").removesuffix("】")
    if not is_normalized("NFKC", name):
        name = normalize("NFKC", name)
    return name.strip()


def shown(signature: str) -> str:
    """Return a signature as people write it, in its brackets."""
    return f"【{signature}】" if signature != ANY else "any other signature"


def signature_of(text: str) -> str:
    """Return a text's signature as `clean` does: the one it begins with, else the one at its end, else ''."""
    if text.startswith("【"):
        end = text.find("】")
        if end > 1:
            return clean(text[1:end])
    if text.endswith("】"):
        start = text.rfind("【")
        return clean(text[start + 1 : -1]) if start >= 0 else ""
    return ""
