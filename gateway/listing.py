"""What a request may say of a blacklist entry: for which categories it holds, and why.

Owns the two fields for the applications' listener and the operators' alike. Refuses to know scopes, numbers, the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import RequestError
from gateway.model import CATEGORY_BY_LABEL, Category
from gateway.store.blacklists import REASONS, mask_of


def mask_in(body: Mapping[str, Any]) -> int:
    """Return the mask of `categories`, marketing where it is left out. Raises RequestError."""
    written = body.get("categories", [Category.MARKETING.label])
    if (
        not isinstance(written, list)
        or not written
        or not all(isinstance(label, str) and label in CATEGORY_BY_LABEL for label in written)
    ):
        detail = f"a list of some of {', '.join(CATEGORY_BY_LABEL)} is wanted"
        raise RequestError("invalid_field", detail, field="categories")
    return mask_of(CATEGORY_BY_LABEL[label] for label in written)


def reason_in(body: Mapping[str, Any], usual: str) -> str:
    """Return `reason`, `usual` where it is left out. Raises RequestError."""
    reason = body.get("reason", usual)
    if not isinstance(reason, str) or reason not in REASONS:
        raise RequestError("invalid_field", f"one of {', '.join(REASONS)} is wanted", field="reason")
    return reason
