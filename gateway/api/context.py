"""What every endpoint is given: the parts of the worker it may use.

Owns nothing; it only holds them together, so that an endpoint is a plain function of a context and a request.
Stands between the server, which builds one, and the endpoint files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp.web import BaseRequest

from gateway.api.answer import Answer
from gateway.api.request import BodyReader
from gateway.intake import Intake, MessageStore
from gateway.metrics import Hist
from gateway.precheck import Precheck
from gateway.settings import AccountSettings
from gateway.store.blacklists import Blacklists
from gateway.store.moves import Feedback
from gateway.store.records import Record
from gateway.store.statistics import Shards, Statistics


class QueryStore(MessageStore, Shards, Protocol):
    """The part of the store that the endpoints use."""

    async def find(self, msisdn: str, account: str) -> list[Record]: ...
    async def find_ref(self, msisdn: str, idem: bytes) -> Record | None: ...
    async def cancel(self, sid: bytes, account: str) -> str: ...
    async def feedback(self, sid: bytes, account: str, told: Feedback) -> str: ...


@dataclass(frozen=True, slots=True)
class Context:
    """The worker's parts, as the endpoints see them."""

    intake: Intake
    store: QueryStore
    bodies: BodyReader
    durability: str  # as every 202 states it: fsync | replicated | relaxed
    accept_seconds: Hist
    statistics: Statistics
    precheck: Precheck
    blacklists: Blacklists


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has been let in: who asks, and what the path and the query say."""

    request: BaseRequest
    account: AccountSettings
    name: str  # the id in the path, where there is one
    parameters: dict[str, str]  # of the query, only those the endpoint knows


Endpoint = Callable[[Context, Call], Awaitable[Answer]]
