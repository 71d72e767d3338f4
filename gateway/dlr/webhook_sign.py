"""Standard Webhooks signatures: what proves to an application that a call is ours and unchanged.

Owns the three headers. Refuses to know clocks and HTTP: the time of the attempt comes in, headers go out. Pure. Stands
between the event's bytes and the call; how a secret is written stands in `settings.webhook_form`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from gateway.settings.webhook_form import secret_key


class Signer:
    """Signs for one endpoint; with two secrets (rotation) every call carries both signatures."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Take plain secrets (`whsec_…`). Raises ValueError where one is none."""
        # A keyed HMAC is copied for each call: its key schedule is half the cost of signing a small body.
        self._keyed = [hmac.new(secret_key(secret), digestmod=hashlib.sha256) for secret in secrets]

    def headers(self, webhook_id: str, at_s: int, body: bytes) -> dict[str, str]:
        """Return the three headers for `body`, the very bytes that are sent, at `at_s` (epoch seconds of the attempt).

        Ids are ours alone; nothing an application chose may stand in one (its dots would shift what is signed).
        """
        signed = f"{webhook_id}.{at_s}.".encode() + body
        signatures = []
        for keyed in self._keyed:
            mac = keyed.copy()
            mac.update(signed)
            signatures.append("v1," + base64.b64encode(mac.digest()).decode())
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": " ".join(signatures),
        }
