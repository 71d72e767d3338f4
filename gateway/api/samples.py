"""An example of every call in `curl` and in Python: they stand in the specification and in docs/http_api.md.

Owns texts only. Each runs as it is with SMSGW_URL and SMSGW_KEY (and ID, a message's id, where it names one) in the
environment, and the Python ones behind PRELUDE; tests/docs/test_http_api.py runs every one of them.
"""

from __future__ import annotations

from typing import Final

PRELUDE: Final = """\
import os
from gateway.client import Client, Feedback, Message

client = Client(os.environ["SMSGW_URL"], os.environ["SMSGW_KEY"])
"""

_AUTH = '-H "Authorization: Bearer $SMSGW_KEY"'
_JSON = '-H "Content-Type: application/json"'


def _curl(path: str, *options: str) -> str:
    return " \\\n  ".join((f'curl -sS --fail-with-body "$SMSGW_URL{path}"', _AUTH, *options))


CURL: Final[dict[str, str]] = {
    "sendMessage": _curl(
        "/v1/messages",
        _JSON,
        """-d '{"to": "+8613800138000", "category": "verification", "text": "【Acme】Your code is 482913", """
        """"ref": "login-7781"}'""",
    ),
    "findMessages": _curl("/v1/messages", "-G --data-urlencode to=+8613800138000"),
    "sendBatch": _curl(
        "/v1/messages/batch",
        _JSON,
        '-H "Idempotency-Key: orders-2026-11-22-0001"',
        """-d '{"defaults": {"category": "notification"}, "messages": [\n"""
        """    {"to": "+8613800138001", "text": "【Acme】Order 1001 is on its way"},\n"""
        """    {"to": "+8613800138002", "text": "【Acme】Order 1002 is on its way"}]}'""",
    ),
    "checkMessages": _curl(
        "/v1/messages/check",
        _JSON,
        """-d '{"messages": [{"to": "+8613800138003", "category": "notification", "text": "【Acme】Hello"}]}'""",
    ),
    "getMessage": _curl("/v1/messages/$ID"),
    "cancelMessage": _curl("/v1/messages/$ID", "-X DELETE"),
    "sendFeedback": _curl(
        "/v1/messages/$ID/feedback",
        _JSON,
        """-d '{"outcome": "converted", "event_id": "order-1001", "amount": "19.90", "currency": "CNY"}'""",
    ),
    "getBlacklist": _curl("/v1/blacklist/+8613800138009"),
    "putBlacklist": _curl(
        "/v1/blacklist/+8613800138009",
        "-X PUT",
        _JSON,
        """-d '{"categories": ["marketing"], "reason": "operator"}'""",
    ),
    "deleteBlacklist": _curl("/v1/blacklist/+8613800138009", "-X DELETE"),
    "getStats": _curl("/v1/stats", "-G -d by=day,category -d zone=Asia/Shanghai"),
    "getHealth": _curl("/v1/health"),
}

PYTHON: Final[dict[str, str]] = {
    "sendMessage": """\
accepted = client.send(
    Message(to="+8613800138000", category="verification", text="【Acme】Your code is 482913", ref="login-7781")
)
print(accepted.id, accepted.state, accepted.parts)
""",
    "findMessages": """\
for status in client.find("+8613800138000"):
    print(status.id, status.state, status.accepted_at)
""",
    "sendBatch": """\
from gateway.client import Accepted

messages = [Message(f"+86138001380{i:02}", text=f"【Acme】Order {1000 + i} is on its way") for i in (1, 2)]
for answer in client.send_batch(messages, defaults={"category": "notification"}, idempotency_key="orders-0001"):
    print(answer.id if isinstance(answer, Accepted) else answer.code)
""",
    "checkMessages": """\
for seen in client.check([Message("+8613800138003", "notification", "【Acme】Hello")]):
    print(seen.refused.code if seen.refused else seen.state, seen.route, seen.parts, seen.price)
""",
    "getMessage": """\
status = client.get(os.environ["ID"])
print(status.state, status.reason.code if status.reason else "", [one.channel for one in status.attempts])
""",
    "cancelMessage": """\
print(client.cancel(os.environ["ID"]).state)
""",
    "sendFeedback": """\
told = Feedback("converted", event_id="order-1001", amount="19.90", currency="CNY")
print("new" if client.feedback(os.environ["ID"], told) else "told before")
""",
    "getBlacklist": """\
for entry in client.blacklist_get("+8613800138009"):
    print(entry.scope, entry.categories, entry.reason)
""",
    "putBlacklist": """\
entry = client.blacklist_put("+8613800138009", categories=["marketing"])
print(entry.scope, entry.since)
""",
    "deleteBlacklist": """\
print(len(client.blacklist_delete("+8613800138009")), "entries removed")
""",
    "getStats": """\
report = client.stats(by=["day", "category"], zone="Asia/Shanghai")
for row in report.rows:
    print(row["day"], row["category"], row["accepted"], row["delivery_ratio"])
""",
    "getHealth": """\
print(client.health().account)
""",
}


def samples(operation: str) -> list[dict[str, str]]:
    """Return the examples of an operation as the extension `x-codeSamples` has them."""
    return [
        {"lang": "bash", "label": "curl", "source": CURL[operation]},
        {"lang": "python", "label": "Python", "source": PYTHON[operation]},
    ]
