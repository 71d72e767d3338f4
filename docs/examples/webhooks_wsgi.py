"""A receiver of webhooks as a WSGI application: `SMSGW_WEBHOOK_SECRETS="whsec_…" gunicorn webhooks_wsgi:application`.

Two secrets with a space between them while one replaces the other. `SEEN` stands for a table of your own with a unique
key on the id, written in one transaction with what the event changes, and kept for three days at least.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from gateway.client import BadSignature, verify

SECRETS = os.environ["SMSGW_WEBHOOK_SECRETS"].split()
MAX_BYTES = 4 << 20
SEEN: dict[str, str] = {}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    if size > MAX_BYTES:
        start_response("413 Content Too Large", [("Content-Length", "0")])
        return [b""]
    body = environ["wsgi.input"].read(size)
    headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    try:
        events = verify(headers, body, SECRETS)
    except BadSignature:
        start_response("401 Unauthorized", [("Content-Length", "0")])
        return [b""]
    for event in events:
        SEEN.setdefault(event.id, event.type)  # told again: nothing is done twice
    start_response("204 No Content", [])
    return [b""]
