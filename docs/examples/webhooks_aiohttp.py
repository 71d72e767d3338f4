"""A receiver of webhooks on aiohttp: `SMSGW_WEBHOOK_SECRETS="whsec_…" python webhooks_aiohttp.py` listens on port 8090.

Two secrets with a space between them while one replaces the other. `SEEN` stands for a table of your own with a unique
key on the id, written in one transaction with what the event changes, and kept for three days at least.
"""

import os

from aiohttp import web

from gateway.client import BadSignature, MessageDelivered, MessageFailed, verify

SECRETS = os.environ["SMSGW_WEBHOOK_SECRETS"].split()
SEEN: dict[str, str] = {}


async def receive(request: web.Request) -> web.Response:
    body = await request.read()
    try:
        events = verify(request.headers, body, SECRETS)
    except BadSignature:
        return web.Response(status=401)
    for event in events:
        if event.id in SEEN:  # told again: nothing is done twice
            continue
        match event:
            case MessageDelivered(message=message):
                SEEN[event.id] = f"{message.ref} delivered"
            case MessageFailed(message=message):
                SEEN[event.id] = f"{message.ref} {message.state}: {message.reason.code if message.reason else ''}"
            case _:
                SEEN[event.id] = event.type
    return web.Response(status=204)


def application() -> web.Application:
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/sms", receive)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8090)
