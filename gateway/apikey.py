"""What an application's API key looks like, and the hash that stands for it in accounts.toml.

Owns the form: `sg_live_` (secret scanners know it), eight hex digits that tell keys apart in a list, 256
random bits. A fast hash is right for a random key of this length; there is no dictionary to try.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

_FORM: Final = re.compile(r"sg_live_([0-9a-f]{8})_")


def new_key() -> tuple[str, str]:
    """Return (key, its `key_hashes` entry). The key is not kept anywhere."""
    random_part = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    key = f"sg_live_{secrets.token_hex(4)}_{random_part}"
    return key, key_hash(key)


def key_hash(key: str) -> str:
    """Return `sha256:` and the hex SHA-256 of the whole key as sent."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def key_id(key: str) -> str:
    """Return the digits that tell keys apart in a list, '' where a key is not of our form. They are no secret."""
    found = _FORM.match(key)
    return found[1] if found else ""
