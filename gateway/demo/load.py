"""The demonstration's traffic: verification, notification and marketing to distinct numbers of three networks.

Owns what is posted and remembers what was answered: this is the client's ledger. Speaks HTTP like any application.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.client import Accepted, AsyncClient, Message, Refused, Retry

BATCH = 100
POSTERS = 4
_PREFIXES = ("138", "186", "189", "159", "130", "133", "188", "176", "199", "151")
_VERIFICATION_EVERY, _NOTIFICATION_EVERY = 10, 3  # of 30 messages: 3 codes, 9 notifications, 18 adverts
_INVALID_EVERY = 250


@dataclass(slots=True)
class Sent:
    """One message as the client knows it; `posted_at` is monotonic, at the start of its call."""

    msisdn: str
    category: str
    posted_at: float
    id: str = ""
    accepted_at: float = 0.0


@dataclass(slots=True)
class ClientLedger:
    """Everything posted: accepted by number, refused by code."""

    accepted: dict[str, Sent] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    posted: int = 0


def messages(count: int) -> Iterator[Message]:
    """Yield `count` messages, categories and networks well mixed, no number twice, a few of them no numbers."""
    for number in range(count):
        row, column = divmod(number, len(_PREFIXES))
        to = f"+86{_PREFIXES[(column * 7 + row) % len(_PREFIXES)]}{row + 10_000_000:08}"
        if number % _INVALID_EVERY == _INVALID_EVERY - 1:
            to = f"+86100{number}"
        yield _message(number, to)


def _message(number: int, to: str) -> Message:
    ref = f"demo-{number}"
    if number % _VERIFICATION_EVERY == 0:
        return Message(to, "verification", f"【Demo】Your code is {number % 1_000_000:06}.", ref=ref)
    if number % _NOTIFICATION_EVERY == 0:
        return Message(to, "notification", f"【Demo】您的订单 {number} 已发货，预计明天送达。", ref=ref)
    if number % 20 == 1:
        text = f"【Demo】会员专享 {number}：" + "全场八折，老客户再减二十元，欢迎光临本店选购。" * 4 + "拒收请回复R"
        return Message(to, "marketing", text, ref=ref)
    return Message(to, "marketing", "【Demo】周末特惠，全场八折，欢迎光临。拒收请回复R", ref=ref)


async def post(
    url: str, key: str, count: int, per_s: float, ledger: ClientLedger, progress: Callable[[], None]
) -> None:
    """Post `count` messages in batches, not faster than `per_s`, and enter every answer in the ledger."""
    batches = _batches(messages(count))
    started = time.monotonic()
    taken = 0

    async def poster(client: AsyncClient) -> None:
        nonlocal taken
        for batch in batches:  # one iterator, shared: each batch is posted once
            due = started + taken / per_s
            taken += len(batch)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            posted_at = time.monotonic()
            answers = await client.send_batch(batch)
            _enter(ledger, batch, answers, posted_at)
            progress()

    async with AsyncClient(url, key, retry=Retry(deadline_s=60.0), connections=POSTERS) as client:
        await asyncio.gather(*(poster(client) for _ in range(POSTERS)))


def _batches(source: Iterator[Message]) -> Iterator[list[Message]]:
    batch: list[Message] = []
    for message in source:
        batch.append(message)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _enter(ledger: ClientLedger, batch: list[Message], answers: list[Accepted | Refused], posted_at: float) -> None:
    now = time.monotonic()
    ledger.posted += len(batch)
    for message, answer in zip(batch, answers, strict=True):
        if isinstance(answer, Accepted):
            sent = Sent(message.to.removeprefix("+"), message.category or "", posted_at, answer.id, now)
            ledger.accepted[sent.msisdn] = sent
        else:
            ledger.refused[answer.code] = ledger.refused.get(answer.code, 0) + 1
