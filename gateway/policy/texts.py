"""What a text must have: a signature in 【】 and the words that say how to get no more, where a country asks for them.

Owns the comparison of opt-out wordings: `spelt` takes out what people vary (case, width, spaces, punctuation). Refuses
to know which account may use which signature (intake) and what a reply means (`optout`). Pure. No error repeats a text.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from gateway.errors import RequestError
from gateway.settings import CategorySettings

MAX_SIGNATURE_CHARS: Final = 32
"""As in the configuration. What is longer in brackets is no signature that a carrier would have registered."""
_ACCENTS = range(0x300, 0x370)


class _Spelling(dict[int, str]):
    """For `str.translate`: each character as it is compared, worked out when it is met."""

    def __missing__(self, point: int) -> str:
        kept = []
        for one in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(point)).casefold()):
            # Separators, punctuation, symbols, control and format characters, and accents on Latin letters.
            if unicodedata.category(one)[0] not in "ZPSC" and ord(one) not in _ACCENTS:
                kept.append(one)
        self[point] = "".join(kept)
        return self[point]


_SPELLING: Final = _Spelling()


def spelt(text: str) -> str:
    """Return a text as words are looked for in it: NFKD and casefolded, letters and digits alone."""
    return text.translate(_SPELLING)


class TextRules:
    """What a category asks of texts, by the recipient's country."""

    def __init__(self, rules: CategorySettings) -> None:
        self._signed = rules.require_signature
        self._wordings = {
            country: (wordings, tuple(dict.fromkeys(spelt(one) for one in wordings)))
            for country, wordings in rules.require_optout_text
        }
        self.countries = self._signed | self._wordings.keys()
        """Where anything is asked; elsewhere `check` need not be called."""

    def check(self, text: str, signature: str, country: str) -> None:
        """Look at a text to a number of `country`; `signature` as `signature_of` found it, '' for none.

        Raises:
            RequestError: missing_signature or missing_optout_text, field `text`.
        """
        if country in self._signed and not 0 < len(signature) <= MAX_SIGNATURE_CHARS:
            detail = f"the text must begin or end with a signature in 【】, of at most {MAX_SIGNATURE_CHARS} characters"
            raise RequestError("missing_signature", detail, field="text")
        asked = self._wordings.get(country)
        if asked is None:
            return
        plain, compared = asked
        for wording in plain:  # nearly always one of the first, as it stands
            if wording in text:
                return
        whole = spelt(text)
        if not any(wording in whole for wording in compared):
            detail = f"the text must say how to get no more, as {plain[0]}"
            raise RequestError("missing_optout_text", detail, field="text")
