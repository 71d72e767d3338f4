"""A typed client of the HTTP API, safe to retry: `AsyncClient` for asyncio, `Client` for everybody else.

    with Client("http://127.0.0.1:8080", key) as client:
        accepted = client.send(Message(to="+8613800138000", category="verification", text="…"))

`verify` checks and reads a webhook call. Stands beside the gateway: it knows the HTTP interface and nothing of what is
behind it; of the rest of the package it imports the base of the errors alone.
"""

from gateway.client.aio import AsyncClient
from gateway.client.errors import (
    ApiError,
    BadRequest,
    BadSignature,
    Busy,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    RecipientRefused,
    TextRefused,
    Unauthorized,
    Unreachable,
)
from gateway.client.exchange import Retry
from gateway.client.model import (
    Accepted,
    Attempt,
    Cancelled,
    Feedback,
    Foreseen,
    Health,
    Listed,
    Message,
    Origin,
    Reason,
    Refused,
    Report,
    StatsRow,
    Status,
    Told,
)
from gateway.client.sync import Client
from gateway.client.webhooks import (
    Event,
    InboundMessage,
    MessageCorrected,
    MessageDelivered,
    MessageEvent,
    MessageFailed,
    MessageSubmitted,
    OptedOut,
    WebhookTest,
    verify,
)

__all__ = [
    "Accepted",
    "ApiError",
    "AsyncClient",
    "Attempt",
    "BadRequest",
    "BadSignature",
    "Busy",
    "Cancelled",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "Feedback",
    "Forbidden",
    "Foreseen",
    "Health",
    "InboundMessage",
    "Listed",
    "Message",
    "MessageCorrected",
    "MessageDelivered",
    "MessageEvent",
    "MessageFailed",
    "MessageSubmitted",
    "NotFound",
    "OptedOut",
    "Origin",
    "Reason",
    "RecipientRefused",
    "Refused",
    "Report",
    "Retry",
    "StatsRow",
    "Status",
    "TextRefused",
    "Told",
    "Unauthorized",
    "Unreachable",
    "WebhookTest",
    "verify",
]
