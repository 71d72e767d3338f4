"""One channel of the gateway, bound to a simulated SMSC, without store and dispatcher: what it sends and hears."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from gateway.metrics import Metrics
from gateway.simulator.smsc import Smsc
from gateway.smpp.channel import Channel, Inbound, Outbound
from tests.support.line import channel_to
from tests.support.until import until

NUMBER = b"8613800000001"


@dataclass
class Heard:
    """What a channel told its owner: answers as (context, part, kind, status, smsc_id), and what came in."""

    answers: list[tuple[Any, int, str, int, str]] = field(default_factory=list)
    inbound: list[Inbound] = field(default_factory=list)

    def on_answer(
        self, context: Any, part: int, kind: str, status: int, smsc_id: str, seconds: float, late: bool
    ) -> None:
        self.answers.append((context, part, kind, status, smsc_id))


def make_channel(smsc: Smsc, heard: Heard, **settings: Any) -> Channel:
    """Return a channel to `smsc` that is not connected yet."""
    return Channel(
        channel_to(smsc, "a", **settings),
        Metrics("dispatch", "test", "test"),
        on_answer=heard.on_answer,
        on_inbound=heard.inbound.extend,
        on_progress=lambda: None,
        on_change=lambda _: None,
        guard=lambda: True,
    )


@contextlib.asynccontextmanager
async def bound_channel(smsc: Smsc, heard: Heard, *, slots: int = 1, **settings: Any) -> AsyncIterator[Channel]:
    """Run a channel that has bound its slots."""
    channel = make_channel(smsc, heard, **settings)
    channel.set_slots(list(range(slots)))
    try:
        await until(lambda: channel.window == channel.settings.window * slots)
        yield channel
    finally:
        await channel.stop()


def outbound(text: str = "hello", **changes: Any) -> Outbound:
    """Return a message to NUMBER from 1069."""
    values: dict[str, Any] = {
        "destination": NUMBER,
        "sender": "1069",
        "text": text,
        "encoding": "gsm7",
        "reference": 0x1234,
        "validity_s": 300.0,
    }
    return Outbound(**(values | changes))
