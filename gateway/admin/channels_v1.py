"""`/admin/v1/channels`: how the channels are, and what an operator wants of them.

    GET                                     → {"channels": [{id, bound, breaker, cause, operator, left_out, ...}]}
    PUT {"id": "cm-a", "action": "pause"}   → these fields of the channel, as it is from then on

`pause`: nothing more is claimed for it, its sessions stay for receipts. `drain`: the same, and it unbinds when nothing
is in flight. `resume`: back to work. `left_out`: fields that its SMSC refused and that this machine's workers no longer
send. A running gateway's GET has more: state, why and since when, figures (`channels_view`). Owns the shapes; refuses
to know sessions: the workers read what is agreed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from aiohttp import web

from gateway.admin.problem import json_answer
from gateway.admin.requests import read_object, unknown_field
from gateway.errors import RequestError
from gateway.settings import ChannelSettings
from gateway.store.moves import Health

ACTIONS: Final = ("pause", "drain", "resume")


class ChannelStore(Protocol):
    """The part of the store that agrees on channels."""

    async def health(self, events: Iterable[tuple[str, str, int]] = ()) -> dict[str, Health]: ...
    async def channels_bound(self) -> set[str]: ...


LeftOut = Sequence[tuple[str, ...]]
"""(channel, field) where a worker leaves a field out."""


async def get_channels(
    store: ChannelStore, channels: tuple[ChannelSettings, ...], left_out: LeftOut = ()
) -> web.Response:
    """List the configured channels as they are now."""
    health, bound = await store.health(), await store.channels_bound()
    return json_answer({"channels": [plain_view(c, health.get(c.id, Health()), bound, left_out) for c in channels]})


async def put_channel(
    request: web.Request, store: ChannelStore, channels: tuple[ChannelSettings, ...], left_out: LeftOut = ()
) -> web.Response:
    """Pause, drain or resume one channel.

    Raises:
        RequestError: the body is not what is wanted; the field says what.
    """
    body = await read_object(request)
    unknown_field(body, {"id", "action"})
    known = {c.id: c for c in channels}
    if body.get("action") not in ACTIONS:
        raise RequestError("invalid_field", f"one of {', '.join(ACTIONS)} is wanted", field="action")
    channel = known.get(body["id"]) if isinstance(body.get("id"), str) else None
    if channel is None:
        raise RequestError("invalid_field", "no such channel is configured", field="id")
    health = await store.health([(channel.id, body["action"], 0)])
    return json_answer(plain_view(channel, health[channel.id], await store.channels_bound(), left_out))


def plain_view(channel: ChannelSettings, health: Health, bound: set[str], left_out: LeftOut) -> dict[str, Any]:
    """Return what workers, breaker and operators agreed on about a channel, and its settings."""
    return {
        "id": channel.id,
        "bound": channel.id in bound,
        "breaker": health.state,
        "cause": health.cause,
        "since_ms": health.since_ms,
        "operator": health.operator,
        "left_out": sorted(field for name, field in left_out if name == channel.id),
        "binds": channel.binds,
        "window": channel.window,
        "max_tps": channel.max_tps,
    }
