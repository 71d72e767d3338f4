"""One-time codes (TOTP, RFC 6238) as authenticator apps make them: a secret, its address for the app, and which step a
code belongs to.

Pure but for the secret's randomness; the clock is the caller's. That a code counts once is the store's to say.
"""

from __future__ import annotations

import hmac
from typing import Final

import pyotp

STEP_S: Final = 30
_AROUND: Final = (0, -1, 1)
"""A clock may be half a minute off, either way (RFC 6238 §5.2)."""
DIGITS: Final = 6


def new_secret() -> str:
    """Return a new secret of 160 bits, base32."""
    return pyotp.random_base32(32)


def address(secret: str, name: str, host: str) -> str:
    """Return the otpauth URI that an app reads as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=f"{name}@{host}" if host else name, issuer_name="smsgw")


def step_of(secret: str, code: str, now_s: float) -> int | None:
    """Return the time step that a code belongs to, None where it belongs to none that counts now."""
    code = code.replace(" ", "")
    if len(code) != DIGITS or not code.isascii() or not code.isdigit():
        return None
    made, found = pyotp.TOTP(secret), None
    for offset in _AROUND:
        step = int(now_s // STEP_S) + offset
        if hmac.compare_digest(made.generate_otp(step), code) and found is None:
            found = step
    return found
