"""A typed asynchronous client of the HTTP API, safe to retry.

    async with Client("http://127.0.0.1:8080", key) as client:
        accepted = await client.send(Message(to="+8613800138000", category="verification", text="…"))

Stands beside the gateway: it knows the HTTP interface and nothing of what is behind it.
"""

from gateway.client.client import Client, Retry
from gateway.client.model import Accepted, ApiError, Feedback, Message, Refused, Status, Unreachable

__all__ = ["Accepted", "ApiError", "Client", "Feedback", "Message", "Refused", "Retry", "Status", "Unreachable"]
